//! The Events that a change of status calls for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{ConditionType, Reason, SecretBindingStatus};
use crate::domain::note::Note;
use crate::domain::rollout::outcome;

/// The conditions whose failure is an Event.
const STEPS: [ConditionType; 4] =
    [ConditionType::Granted, ConditionType::Fetched, ConditionType::Rendered, ConditionType::Applied];

/// The Events that a change of status calls for: one for each step that newly fails, and one for `Ready`.
#[must_use]
pub fn transitions(before: &SecretBindingStatus, after: &SecretBindingStatus) -> Vec<Note> {
    let find = |status: &'_ SecretBindingStatus, type_: ConditionType| -> Option<Condition> {
        status.conditions.iter().find(|condition| condition.type_ == type_.as_str()).cloned()
    };
    let changed = |type_: ConditionType| {
        let now = find(after, type_)?;
        let same = find(before, type_).is_some_and(|before| before.status == now.status && before.reason == now.reason);
        (!same).then_some(now)
    };
    let mut notes = Vec::new();
    for type_ in STEPS.into_iter().chain([ConditionType::Ready, ConditionType::Suspended]) {
        let Some(condition) = changed(type_) else { continue };
        let warning = condition.status == "False";
        let said = notes.iter().any(|note: &Note| note.reason.as_str() == condition.reason);
        let summary = matches!(type_, ConditionType::Ready | ConditionType::Suspended);
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == condition.reason);
        if let (true, false, Some(&reason)) = (warning || summary, said, reason) {
            notes.push(Note { warning, reason, text: condition.message });
        }
    }
    if after.binary_keys.iter().any(|key| !before.binary_keys.contains(key))
        && let Some(rendered) = find(after, ConditionType::Rendered)
    {
        notes.push(Note { warning: true, reason: Reason::InvalidValue, text: rendered.message });
    }
    notes.extend(outcome::transition(before, after));
    notes
}
