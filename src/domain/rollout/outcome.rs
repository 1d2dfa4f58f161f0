//! The report on restarts: `status.rollout` and the condition `RolledOut`.

use crate::api::condition;
use crate::api::{ConditionType, Reason, RolloutStatus, SecretBindingStatus, WorkloadReference};
use crate::domain::note::Note;
use crate::settings::FeatureOff;

/// More workloads than this are counted, not named.
const MAX_NAMED: usize = 20;

/// The result of a reconcile for `status.rollout`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RolloutOutcome {
    /// The status stays as it is.
    #[default]
    AsBefore,
    /// The binding restarts nothing.
    Off,
    /// The binding asks for restarts, and the installation makes none.
    SwitchedOff(FeatureOff),
    /// The workloads were observed.
    Known(RolloutReport),
}

/// The state of the workloads of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutReport {
    /// A digest of the changes that all workloads are known to have.
    pub handled: Option<String>,
    /// The workloads without the current values, each with the cause.
    pub pending: Vec<String>,
    /// The workloads whose restart failed, each with the cause.
    pub failed: Vec<String>,
    /// The workloads that opt out of restarts.
    pub opted_out: Vec<WorkloadReference>,
}

impl RolloutReport {
    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.pending.is_empty() && self.failed.is_empty()
    }

    /// The content of `status.rollout`.
    #[must_use]
    pub fn status(&self) -> RolloutStatus {
        RolloutStatus { handled: self.handled.clone(), pending: bounded(&self.pending), failed: bounded(&self.failed) }
    }

    /// The condition: its status, reason and message.
    #[must_use]
    pub fn condition(&self) -> (&'static str, Reason, String) {
        let mut parts = Vec::new();
        if !self.failed.is_empty() {
            parts.push(bounded(&self.failed).join("; "));
        }
        if !self.pending.is_empty() {
            parts.push(format!("not all pods have the current values yet: {}", bounded(&self.pending).join("; ")));
        }
        if parts.is_empty() {
            parts.push("every workload that restarts runs the current values".to_owned());
        }
        if !self.opted_out.is_empty() {
            let names: Vec<String> = self.opted_out.iter().map(ToString::to_string).collect();
            parts.push(format!(
                "not restarted, as their annotation bindery.dev/restart says: {}",
                bounded(&names).join(", ")
            ));
        }
        let message = parts.join("; ");
        match (self.failed.is_empty(), self.pending.is_empty()) {
            (false, _) => ("False", Reason::RolloutFailed, message),
            (true, false) => ("False", Reason::RolloutPending, message),
            (true, true) => ("True", Reason::RolledOut, message),
        }
    }
}

/// The Event for a change of the condition; `None` for a binding that has nothing to restart yet.
#[must_use]
pub fn transition(before: &SecretBindingStatus, after: &SecretBindingStatus) -> Option<Note> {
    let was = condition::find(&before.conditions, ConditionType::RolledOut);
    let now = condition::find(&after.conditions, ConditionType::RolledOut)?;
    let same = was.is_some_and(|was| was.status == now.status && was.reason == now.reason);
    if same || (was.is_none() && now.status == "True") {
        return None;
    }
    let reason = *Reason::ALL.iter().find(|reason| reason.as_str() == now.reason)?;
    Some(Note {
        warning: matches!(reason, Reason::RolloutFailed | Reason::FeatureOff),
        reason,
        text: now.message.clone(),
    })
}

fn bounded(texts: &[String]) -> Vec<String> {
    let mut texts = texts.to_vec();
    texts.sort();
    if texts.len() > MAX_NAMED {
        let more = texts.len() - MAX_NAMED;
        texts.truncate(MAX_NAMED);
        texts.push(format!("and {more} more"));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WorkloadKind;

    #[test]
    fn the_condition_names_what_failed_and_what_is_pending_within_bounds() {
        let done = RolloutReport { handled: Some("d".to_owned()), ..RolloutReport::default() };
        assert_eq!(done.condition().1, Reason::RolledOut);
        let web = WorkloadReference { kind: WorkloadKind::Deployment, name: "web".to_owned() };
        let out = RolloutReport { opted_out: vec![web], ..RolloutReport::default() }.condition();
        assert!(out.0 == "True" && out.2.contains("Deployment web"), "{out:?}");
        let pending =
            RolloutReport { pending: (0..30).map(|i| format!("p{i:02}")).rev().collect(), ..RolloutReport::default() };
        assert_eq!(pending.status().pending.len(), 21);
        assert_eq!(
            (pending.status().pending[0].as_str(), pending.status().pending[20].as_str()),
            ("p00", "and 10 more")
        );
        let both = RolloutReport { failed: vec!["f".to_owned()], ..pending };
        let (status, reason, message) = both.condition();
        assert_eq!((status, reason), ("False", Reason::RolloutFailed));
        assert!(message.starts_with("f; ") && message.contains("p00"), "{message}");
    }
}
