//! Starts a step of a rollout: finds the changes that are left to handle.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::rollout::history::RolloutHistory;
use crate::domain::rollout::outcome::RolloutOutcome;
use crate::domain::rollout::result::{RolloutProgress, RolloutStep};
use crate::domain::rollout::unhandled::{UnhandledChanges, unhandled};
use crate::domain::target::{ObservedTarget, TargetState};
use crate::reconcile::binding::observe_target::cached;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;
use crate::settings::Feature;

/// The start of a step.
pub struct RolloutStart {
    /// The changes that are left to handle.
    pub left: UnhandledChanges,
    /// How long the changes still have to settle.
    pub settles: Option<Duration>,
    /// The history with these changes.
    pub history: RolloutHistory,
}

/// Starts a step. Breaks with its result if it needs no observation. `target` is the Secret, if it is known to be
/// published.
pub fn start(
    cx: &Context,
    at: &Subject<'_>,
    target: Option<ObservedTarget>,
    history: &RolloutHistory,
) -> ControlFlow<RolloutStep, RolloutStart> {
    if !at.binding.restart.restarts_any() {
        return ControlFlow::Break(RolloutStep::finished(RolloutOutcome::Off));
    }
    if let Err(off) = cx.settings.features.require(Feature::Restarts) {
        return ControlFlow::Break(RolloutStep::finished(RolloutOutcome::SwitchedOff(off)));
    }
    let left = match unhandled(at.before, target.or_else(|| cached_target(cx, at))) {
        Ok(left) => left,
        Err(outcome) => return ControlFlow::Break(RolloutStep::finished(outcome)),
    };
    let (history, settles) = history.clone().settling(&left.digest, Instant::now().into_std());
    match settles {
        // After a start of the operator other bindings wait until the restarts of this one are counted.
        Some(pause) if cx.state.warmup.rollouts.is_complete() => {
            ControlFlow::Break(RolloutStep::new(&left, RolloutProgress::settling(pause, history)))
        }
        _ => ControlFlow::Continue(RolloutStart { left, settles, history }),
    }
}

/// The target as the cache has it, if it is the binding's.
fn cached_target(cx: &Context, at: &Subject<'_>) -> Option<ObservedTarget> {
    match cached(cx, at) {
        Some(TargetState::Owned(observed)) => Some(observed),
        _ => None,
    }
}
