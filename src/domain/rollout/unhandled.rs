//! The changes of a target that not all workloads are known to have. They follow from the annotation `bindery.dev/changed`
//! on the target and from `status.rollout.handled`, so an operator finds them again after a restart.

use crate::api::{ConditionType, SecretBindingStatus, condition};
use crate::domain::rollout::changed::{Changes, Times};
use crate::domain::rollout::outcome::{RolloutOutcome, RolloutReport};
use crate::domain::target::ObservedTarget;

/// The changes of a target that not all workloads are known to have.
#[derive(Clone, Debug)]
pub struct UnhandledChanges {
    /// The target.
    pub target: ObservedTarget,
    /// The changes.
    pub changes: Times,
    /// The digest of the changes.
    pub digest: String,
    /// The digest of the changes that all workloads are known to have.
    pub handled: Option<String>,
}

/// The changes of `target` that not all workloads are known to have.
///
/// # Errors
/// The outcome, if there are none.
pub fn unhandled(
    before: &SecretBindingStatus,
    target: Option<ObservedTarget>,
) -> Result<UnhandledChanges, RolloutOutcome> {
    let Some(target) = target else { return Err(RolloutOutcome::AsBefore) };
    let changes = changes_of(&target);
    let digest = changes.digest();
    let handled = before.rollout.as_ref().and_then(|rollout| rollout.handled.clone());
    if changes.is_empty() {
        return Err(RolloutOutcome::Known(RolloutReport::default()));
    }
    if handled.as_ref() != Some(&digest) {
        return Ok(UnhandledChanges { target, changes, digest, handled });
    }
    // The report of the finished rollout names the workloads that opt out.
    Err(if condition::is_true(&before.conditions, ConditionType::RolledOut) {
        RolloutOutcome::AsBefore
    } else {
        RolloutOutcome::Known(RolloutReport { handled, ..RolloutReport::default() })
    })
}

/// When the keys of a target were last changed.
#[must_use]
pub fn changes_of(target: &ObservedTarget) -> Times {
    let changes = target.changed.as_deref().and_then(Changes::parse).unwrap_or_default();
    changes.resolved(target.written.as_ref().map(|time| time.0))
}
