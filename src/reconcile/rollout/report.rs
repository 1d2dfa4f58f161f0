//! Reports a step of a rollout.

use crate::domain::rollout::result::RolloutStep;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;

/// Reports a step. A finished rollout frees its slots.
pub fn report(cx: &Context, at: &Subject<'_>, step: RolloutStep) -> RolloutStep {
    if step.is_finished() {
        cx.state.release_slots(at.name);
    }
    step
}
