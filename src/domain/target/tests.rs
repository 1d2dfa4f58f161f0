use std::collections::BTreeMap;

use serde_json::json;
use zeroize::Zeroizing;

use crate::api::{SecretBinding, SecretBindingSpec};
use crate::domain::binding::Binding;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::render::key::TargetKey;
use crate::domain::target::{Comparison, Desired, ObservedSecret, TargetState, compare, judge};
use crate::domain::value::Value;

fn key() -> FingerprintKey {
    FingerprintKey::new(Zeroizing::new([7; 32]))
}

fn binding(spec: serde_json::Value) -> Binding {
    let spec: SecretBindingSpec = serde_json::from_value(spec).unwrap();
    let mut manifest = SecretBinding::new("worker", spec);
    manifest.metadata.namespace = Some("n".to_owned());
    manifest.metadata.uid = Some("uid-1".to_owned());
    Binding::parse(&manifest).ok().unwrap()
}

fn simple() -> Binding {
    binding(json!({"dataFrom": [{"secret": "a"}]}))
}

#[allow(clippy::needless_pass_by_value, reason = "it is given json! literals")]
fn meta(metadata: serde_json::Value) -> ObservedSecret {
    observed(&metadata, &key())
}

fn observed(metadata: &serde_json::Value, key: &FingerprintKey) -> ObservedSecret {
    let (mut metadata, at) = (metadata.clone(), simple());
    for (field, value) in [("namespace", at.namespace), ("name", at.target.name)] {
        metadata.as_object_mut().unwrap().entry(field).or_insert(value.into());
    }
    let meta = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}));
    ObservedSecret::new(&meta.unwrap(), key)
}

fn owner(kind: &str, name: &str, uid: &str, controller: bool) -> serde_json::Value {
    json!([{"apiVersion": "bindery.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": controller}])
}

#[test]
fn a_secret_belongs_to_the_binding_that_its_owner_reference_or_annotation_names() {
    let mine = json!({"bindery.dev/binding": "worker"});
    let others = json!({"bindery.dev/binding": "other"});
    for (metadata, owned) in [
        (json!({"annotations": mine}), true),
        (json!({"annotations": others}), false),
        (json!({}), false),
        (json!({"ownerReferences": owner("SecretBinding", "worker", "uid-1", true)}), true),
        (json!({"ownerReferences": owner("SecretBinding", "worker", "uid-0", true), "annotations": mine}), true),
        (json!({"ownerReferences": owner("SecretBinding", "worker", "uid-0", true)}), false),
        (json!({"ownerReferences": owner("SealedSecret", "worker", "uid-9", true), "annotations": mine}), false),
        (json!({"ownerReferences": owner("SealedSecret", "worker", "uid-9", false), "annotations": mine}), true),
        (json!({"annotations": {"bindery.dev/adopt-by": "worker"}}), false),
    ] {
        let state = judge(&simple(), Some(&meta(metadata.clone())), false);
        assert_eq!(matches!(state, TargetState::Owned(_)), owned, "{metadata} {state:?}");
    }
    assert_eq!(judge(&simple(), None, true), TargetState::Absent);
}

#[test]
fn a_published_secret_without_its_annotation_is_known_by_its_field_manager() {
    let mut metadata = published(&desired());
    metadata["annotations"].as_object_mut().unwrap().remove("bindery.dev/binding");
    for (was_published, named_by, owned) in [(true, None, true), (false, None, false), (true, Some("other"), false)] {
        let mut metadata = metadata.clone();
        if let Some(other) = named_by {
            metadata["annotations"]["bindery.dev/binding"] = json!(other);
        }
        let state = judge(&simple(), Some(&meta(metadata)), was_published);
        assert_eq!(matches!(state, TargetState::Owned(_)), owned, "{was_published} {named_by:?}");
    }
}

#[test]
fn adopting_needs_the_consent_of_both_sides() {
    let asks = binding(json!({"dataFrom": [{"secret": "a"}], "target": {"adopt": true, "deletionPolicy": "Retain"}}));
    for (binding, consent, adoptable) in
        [(&asks, "worker", true), (&asks, "other", false), (&simple(), "worker", false)]
    {
        let state = judge(binding, Some(&meta(json!({"annotations": {"bindery.dev/adopt-by": consent}}))), false);
        assert_eq!(matches!(state, TargetState::Adoptable(_)), adoptable, "{state:?}");
    }
}

/// The metadata of a Secret as published.
fn published(desired: &Desired) -> serde_json::Value {
    let set = |keys: Vec<String>| -> serde_json::Value {
        keys.into_iter().map(|key| (format!("f:{key}"), json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    json!({
        "annotations": desired.annotations,
        "managedFields": [{
            "manager": "bindery", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": set(desired.data.keys().map(ToString::to_string).collect()),
                "f:metadata": {
                    "f:annotations": set(desired.annotations.keys().cloned().collect()),
                    "f:labels": set(desired.labels.keys().cloned().collect()),
                    "f:ownerReferences": {"k:{\"uid\":\"uid-1\"}": {}},
                },
                "f:type": {},
            },
        }],
    })
}

fn desired() -> Desired {
    let data = [("A", "1"), ("B", "2")]
        .into_iter()
        .map(|(key, value)| (TargetKey::try_from(key).unwrap(), Value::from(value.as_bytes().to_vec())))
        .collect();
    Desired::new(&simple(), data, BTreeMap::new(), "inputs", &key())
}

#[test]
fn what_was_published_is_current_until_a_field_or_an_input_changes() {
    let mut metadata = published(&desired());
    let compared = |metadata: &serde_json::Value, inputs| {
        let TargetState::Owned(observed) = judge(&simple(), Some(&meta(metadata.clone())), false) else { panic!() };
        compare(&observed, inputs)
    };
    assert_eq!(compared(&metadata, "inputs"), Comparison::Current);
    assert_eq!(compared(&metadata, "other"), Comparison::Outdated);
    metadata["managedFields"][0]["fieldsV1"]["f:data"].as_object_mut().unwrap().remove("f:A");
    assert_eq!(compared(&metadata, "inputs"), Comparison::Drifted);
}

#[test]
fn a_mark_under_another_key_proves_nothing() {
    let other = FingerprintKey::new(Zeroizing::new([8; 32]));
    let found = observed(&published(&desired()), &other);
    let TargetState::Owned(observed) = judge(&simple(), Some(&found), false) else { panic!() };
    assert_eq!(compare(&observed, "inputs"), Comparison::Drifted);
}

#[test]
fn the_number_of_keys_and_the_last_other_writer_are_read_from_metadata() {
    let mut metadata = published(&desired());
    metadata["managedFields"].as_array_mut().unwrap().push(json!({
        "manager": "kubectl-edit", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": {},
    }));
    let TargetState::Owned(observed) = judge(&simple(), Some(&meta(metadata)), false) else { panic!() };
    assert_eq!(observed.keys, 2);
    assert_eq!(observed.other_manager.as_deref(), Some("kubectl-edit"));
}

#[test]
fn the_mark_of_another_secret_is_no_claim_until_somebody_consents() {
    let marked = |name: &str, namespace: &str, adopt_by: Option<&str>| {
        let mut metadata = json!({"name": name, "namespace": namespace, "annotations": desired().annotations});
        if let Some(binding) = adopt_by {
            metadata["annotations"]["bindery.dev/adopt-by"] = json!(binding);
        }
        metadata
    };
    let asks = binding(json!({"dataFrom": [{"secret": "a"}], "target": {"adopt": true, "deletionPolicy": "Retain"}}));
    let plain = simple();
    let (name, namespace) = (&*plain.target.name, &*plain.namespace);
    let state = |binding: &Binding, metadata, published| judge(binding, Some(&meta(metadata)), published);
    assert!(matches!(state(&plain, marked(name, namespace, None), false), TargetState::Owned(_)));
    for (there, of) in [("other", namespace), (name, "elsewhere")] {
        assert!(matches!(state(&plain, marked(there, of, None), false), TargetState::Foreign(_)), "{there} {of}");
        assert!(matches!(state(&asks, marked(there, of, None), false), TargetState::Foreign(_)));
        assert!(matches!(state(&asks, marked(there, of, Some("worker")), false), TargetState::Adoptable(_)));
        assert!(matches!(state(&plain, marked(there, of, None), true), TargetState::Owned(_)), "it is on record");
        let mut owned = marked(there, of, None);
        owned["ownerReferences"] = owner("SecretBinding", "worker", "uid-1", true);
        assert!(matches!(state(&plain, owned, false), TargetState::Foreign(_)), "a copied owner reference");
    }
    // A mark of an older release does not say where it was made.
    let mut old = marked("other", "elsewhere", None);
    let mark = old["annotations"]["bindery.dev/inputs"].as_str().unwrap().to_owned();
    let old_mark = format!("v1:{}", mark.splitn(3, ':').nth(2).unwrap());
    old["annotations"]["bindery.dev/inputs"] = json!(old_mark);
    assert!(matches!(state(&plain, old, false), TargetState::Owned(_)));
    let mut metadata = published(&desired());
    metadata["annotations"]["bindery.dev/inputs"] = json!(old_mark);
    let TargetState::Owned(observed) = state(&plain, metadata, false) else { panic!() };
    assert_eq!(compare(&observed, "inputs"), Comparison::Current, "nothing is written again for it");
}
