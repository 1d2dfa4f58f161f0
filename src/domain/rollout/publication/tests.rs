use super::*;
use crate::api::{Reason, SecretBinding, SecretBindingSpec, TargetReference};
use crate::domain::target::ObservedSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

#[allow(clippy::needless_pass_by_value, reason = "it is given json! literals")]
fn binding(restart: serde_json::Value) -> Binding {
    let spec: SecretBindingSpec =
        serde_json::from_value(json!({"dataFrom": [{"secret": "a"}], "target": {"name": "env"}, "restart": restart}))
            .unwrap();
    let mut manifest = SecretBinding::new("b", spec);
    manifest.metadata.namespace = Some("n".to_owned());
    manifest.metadata.generation = Some(3);
    Binding::parse(&manifest).ok().unwrap()
}

fn consumers() -> Binding {
    binding(json!({"policy": "Consumers"}))
}

fn status(published: bool, unfinished: bool) -> SecretBindingStatus {
    let condition = Condition {
        type_: ConditionType::RolledOut.as_str().to_owned(),
        status: if unfinished { "False" } else { "True" }.to_owned(),
        reason: Reason::RolloutPending.as_str().to_owned(),
        message: String::new(),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    };
    SecretBindingStatus {
        observed_generation: Some(3),
        binding: published.then(|| TargetReference { name: "env".to_owned() }),
        conditions: vec![condition],
        ..SecretBindingStatus::default()
    }
}

fn desired(value: &str) -> BTreeMap<TargetKey, Value> {
    BTreeMap::from([(TargetKey::try_from("A").unwrap(), Value::from(value))])
}

struct BeforeWrite {
    observed: ObservedTarget,
    meta: SecretMeta,
    data: BTreeMap<String, Value>,
}

impl BeforeWrite {
    fn before(&self) -> PublishedBefore<'_> {
        PublishedBefore { observed: &self.observed, meta: &self.meta, data: &self.data }
    }
}

/// A Secret with the key `A` that Bindery, or somebody else, wrote.
fn secret(manager: &str, changed: Option<&str>) -> BeforeWrite {
    let mut annotations = json!({"bindery.dev/inputs": "x"});
    if let Some(changed) = changed {
        annotations["bindery.dev/changed"] = json!(changed);
    }
    let fields = json!({"f:data": {"f:A": {}}, "f:metadata": {"f:annotations": {"f:bindery.dev/inputs": {}}}});
    let entry = json!({"manager": manager, "operation": "Apply", "time": "2027-01-01T00:00:00Z", "fieldsV1": fields});
    let metadata = json!({"name": "env", "namespace": "n", "uid": "u", "resourceVersion": "1", "annotations": annotations, "managedFields": [entry]});
    let meta: SecretMeta =
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).unwrap();
    let key = crate::domain::fingerprint::FingerprintKey::new(Zeroizing::new([7; 32]));
    let data = BTreeMap::from([("A".to_owned(), Value::from("1"))]);
    BeforeWrite { observed: ObservedSecret::new(&meta, &key).observed, meta, data }
}

fn text(changes: Option<Changes>) -> Option<String> {
    changes.unwrap().text()
}

#[test]
fn a_secret_that_is_published_for_the_first_time_or_adopted_changes_nothing() {
    let first = changes(&consumers(), &status(false, false), None, &desired("1"), false);
    assert_eq!(text(first), None);
    let published = secret("kubectl", None);
    let adopted = changes(&consumers(), &status(false, false), Some(published.before()), &desired("2"), false);
    assert_eq!(text(adopted), None);
}

#[test]
fn a_secret_that_was_deleted_changes_all_unless_it_is_known_to_come_back_as_it_was() {
    for (unfinished, same, all) in [(false, true, false), (false, false, true), (true, true, true), (true, false, true)]
    {
        let anew = changes(&consumers(), &status(true, unfinished), None, &desired("1"), same);
        assert_eq!(text(anew).is_some_and(|text| text == r#"{"*":null}"#), all, "{unfinished} {same}");
    }
}

#[test]
fn a_write_over_ones_own_secret_notes_what_differs_and_keeps_earlier_times() {
    let published = secret("bindery", Some(r#"{"A":null}"#));
    let write = |value: &str| {
        text(changes(&consumers(), &status(true, false), Some(published.before()), &desired(value), false))
    };
    assert_eq!(write("1").unwrap(), r#"{"A":"2027-01-01T00:00:00Z"}"#);
    assert_eq!(write("2").unwrap(), r#"{"A":null}"#);
}

#[test]
fn times_that_somebody_removed_are_missed_only_in_the_middle_of_a_rollout() {
    for damaged in [None, Some("{}x")] {
        let published = secret("bindery", damaged);
        for (unfinished, expected) in [(false, None), (true, Some(r#"{"*":null}"#.to_owned()))] {
            let repaired =
                changes(&consumers(), &status(true, unfinished), Some(published.before()), &desired("1"), true);
            assert_eq!(text(repaired), expected, "{damaged:?} {unfinished}");
        }
    }
}

#[test]
fn without_restarts_nothing_is_noted() {
    let published = secret("bindery", Some(r#"{"A":null}"#));
    let never = binding(json!({"policy": "Never"}));
    assert!(changes(&never, &status(true, false), Some(published.before()), &desired("2"), false).is_none());
}

#[test]
fn sources_are_the_same_by_version_and_spec() {
    let source = |version: &str| SourceStatus {
        secret: "a".to_owned(),
        arn: "arn".to_owned(),
        version_id: version.to_owned(),
        created_time: None,
    };
    let mut before = status(true, false);
    before.sources = vec![source("1")];
    assert!(same_sources(&consumers(), &before, &[source("1")]));
    assert!(!same_sources(&consumers(), &before, &[source("2")]));
    assert!(!same_sources(&consumers(), &before, &[]));
    before.observed_generation = Some(2);
    assert!(!same_sources(&consumers(), &before, &[source("1")]));
}
