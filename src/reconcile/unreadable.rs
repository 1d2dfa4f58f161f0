//! What the status of an object says that this version cannot read.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{ConditionType, Reason};
use crate::domain::time::to_second;
use crate::kubernetes::unreadable::Unreadable;

/// The conditions to write, where those that are stored do not say it yet. `said` tells which conditions say it.
#[must_use]
pub fn conditions(object: &Unreadable, said: &[(ConditionType, &str)], now: Timestamp) -> Option<Vec<Value>> {
    let message = format!(
        "{}; it is left alone until it is corrected, or until a release of Bindery runs that can read it",
        object.fault
    );
    let is_of = |condition: &Value, type_: ConditionType| condition["type"] == type_.as_str();
    let mut after = Vec::new();
    for (type_, status) in said {
        let before = object.conditions.iter().find(|condition| is_of(condition, *type_));
        let since = before.filter(|before| before["status"] == *status).map(|before| &before["lastTransitionTime"]);
        after.push(json!({
            "type": type_.as_str(),
            "status": status,
            "reason": Reason::InvalidSpec.as_str(),
            "message": message,
            "lastTransitionTime": since.cloned().unwrap_or_else(|| json!(to_second(now).to_string())),
            "observedGeneration": object.metadata.generation,
        }));
    }
    if after.iter().all(|condition| object.conditions.contains(condition)) {
        return None;
    }
    let others = object.conditions.iter().filter(|condition| !said.iter().any(|(type_, _)| is_of(condition, *type_)));
    let others: Vec<Value> = others.cloned().collect();
    after.extend(others);
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::ObjectMeta;

    #[test]
    fn an_object_that_cannot_be_read_says_so_once_and_keeps_its_other_conditions() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let said = [(ConditionType::Ready, "False"), (ConditionType::Stalled, "True")];
        let mut object = Unreadable {
            metadata: ObjectMeta { generation: Some(3), ..ObjectMeta::default() },
            fault: "spec.expiresAt cannot be read".to_owned(),
            conditions: vec![
                json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}),
                json!({"type": "FromTheFuture", "status": "Maybe"}),
            ],
        };
        let first = conditions(&object, &said, at(0)).unwrap();
        let types: Vec<&str> = first.iter().filter_map(|condition| condition["type"].as_str()).collect();
        assert_eq!(types, ["Ready", "Stalled", "FromTheFuture"]);
        assert_eq!(
            (&first[0]["status"], &first[0]["lastTransitionTime"]),
            (&json!("False"), &json!("1970-01-01T00:00:00Z"))
        );
        object.conditions = first;
        assert_eq!(conditions(&object, &said, at(9)), None, "nothing changed, so nothing is written");
        object.metadata.generation = Some(4);
        let later = conditions(&object, &said, at(9)).unwrap();
        assert_eq!(later[0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    }
}
