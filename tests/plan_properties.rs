//! What holds for every target, every edit of it and every failure.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bindery::api::{SecretBinding, SecretBindingSpec, SecretBindingStatus, SourceStatus, TargetReference};
use bindery::aws::audit::ReadReason;
use bindery::domain::binding::Binding;
use bindery::domain::fingerprint::FingerprintKey;
use bindery::domain::grant::{Access, Home, RequestedKeys, Requester, decide};
use bindery::domain::inputs::inputs;
use bindery::domain::render::key::TargetKey;
use bindery::domain::secret::error::{SourceError, SourceErrorKind};
use bindery::domain::secret::reference::Source;
use bindery::domain::secret::version::VersionRef;
use bindery::domain::target::{Desired, ObservedSecret, TargetState, judge};
use bindery::domain::value::Value as SecretValue;
use bindery::reconcile::binding::attempt::{Attempt, GrantInUse, Integrity};
use bindery::reconcile::binding::plan::{Need, Situation};
use bindery::reconcile::binding::status::{self, Findings};
use bindery::reconcile::error::Error;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

fn key() -> FingerprintKey {
    FingerprintKey::new(zeroize::Zeroizing::new([3; 32]))
}

fn binding(retain: bool, adopt: bool) -> Binding {
    let policy = if retain || adopt { "Retain" } else { "Delete" };
    let target = json!({"name": "target", "deletionPolicy": policy, "adopt": adopt});
    let spec: SecretBindingSpec =
        serde_json::from_value(json!({"dataFrom": [{"secret": "app"}], "target": target})).unwrap();
    let mut manifest = SecretBinding::new("worker", spec);
    manifest.metadata.namespace = Some("n".to_owned());
    manifest.metadata.uid = Some("uid-1".to_owned());
    Binding::parse(&manifest).unwrap()
}

fn access() -> Access {
    let grant: bindery::api::SecretGrant = serde_json::from_value(json!({
        "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretGrant", "metadata": {"name": "g"},
        "spec": {"namespaces": {"names": ["n"]}, "secrets": [{"name": "app"}], "aws": {"region": "eu-west-1"}},
    }))
    .unwrap();
    let wants = BTreeMap::from([("app".parse().unwrap(), RequestedKeys::default())]);
    let asker = Requester { namespace: "n", labels: None, grant: None };
    decide([&grant], asker, &wants, &Home::default(), Timestamp::UNIX_EPOCH).unwrap()
}

fn versions(id: &str) -> BTreeMap<Source, VersionRef> {
    let source = binding(false, false).mapping.sources().into_iter().next().unwrap();
    let known = VersionRef { arn: "arn".to_owned(), name: "app".to_owned(), version_id: id.to_owned(), created: None };
    BTreeMap::from([(source, known)])
}

fn status(id: &str, keys: usize) -> SecretBindingStatus {
    SecretBindingStatus {
        binding: Some(TargetReference { name: "target".to_owned() }),
        grant: Some("g".to_owned()),
        keys: i32::try_from(keys).ok(),
        sources: vec![SourceStatus {
            secret: "app".to_owned(),
            arn: "arn".to_owned(),
            version_id: id.to_owned(),
            created_time: None,
        }],
        ..SecretBindingStatus::default()
    }
}

/// The Secret as the API server keeps it after an apply.
fn applied(desired: &Desired) -> Value {
    let set = |names: BTreeSet<String>| -> Value {
        names.into_iter().map(|name| (format!("f:{name}"), json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    let mut metadata = json!({
        "name": desired.name, "namespace": desired.namespace, "uid": "s-1", "resourceVersion": "5",
        "labels": desired.labels, "annotations": desired.annotations,
    });
    let mut owned = json!({
        "f:annotations": set(desired.annotations.keys().cloned().collect()),
        "f:labels": set(desired.labels.keys().cloned().collect()),
    });
    if let Some(owner) = &desired.owner {
        metadata["ownerReferences"] = json!([owner]);
        owned["f:ownerReferences"] = json!({format!("k:{{\"uid\":\"{}\"}}", owner.uid): {}});
    }
    metadata["managedFields"] = json!([{
        "manager": "bindery", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": set(desired.data.keys().map(ToString::to_string).collect()), "f:metadata": owned, "f:type": {}},
    }]);
    metadata
}

fn meta(metadata: &Value) -> ObservedSecret {
    let meta = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}));
    ObservedSecret::new(&meta.unwrap(), &key())
}

fn desired(binding: &Binding, keys: &BTreeSet<String>, version: &str) -> Desired {
    let data = keys.iter().map(|key| (TargetKey::try_from(key.as_str()).unwrap(), SecretValue::from("v"))).collect();
    let digest = inputs(binding, &access(), &versions(version), None, &key());
    Desired::new(binding, data, BTreeMap::new(), &digest, &key())
}

fn need(binding: &Binding, metadata: &Value, status: &SecretBindingStatus, version: &str) -> Need {
    let known = versions(version);
    let target = judge(binding, Some(&meta(metadata)), status.binding.is_some());
    let situation = Situation {
        target: &target,
        status,
        inputs: Some(inputs(binding, &access(), &known, None, &key())),
        versions: Some(&known),
        by_event: false,
        forced: false,
        rotation: None,
        grant: "g",
        target_name: "target",
    };
    bindery::reconcile::binding::plan::need(&situation, None, &key())
}

fn names() -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set("[A-Za-z0-9][A-Za-z0-9._-]{0,8}", 1..12)
}

/// What another writer may do to a published Secret.
#[derive(Clone, Debug)]
enum Edit {
    TakeKey(prop::sample::Index),
    TakeLabel,
    TakeMark,
    ForgeMark,
    TakeOwnFields,
    AddKey,
    AddLabel,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Edit::TakeKey),
        Just(Edit::TakeLabel),
        Just(Edit::TakeMark),
        Just(Edit::ForgeMark),
        Just(Edit::TakeOwnFields),
        Just(Edit::AddKey),
        Just(Edit::AddLabel),
    ]
}

fn make(edit: &Edit, metadata: &mut Value, keys: &BTreeSet<String>) -> bool {
    let own = "/managedFields/0/fieldsV1";
    let mut lose = |set: &str, name: &str| {
        metadata.pointer_mut(&format!("{own}{set}")).unwrap().as_object_mut().unwrap().remove(&format!("f:{name}"));
    };
    match edit {
        Edit::TakeKey(which) => lose("/f:data", keys.iter().nth(which.index(keys.len())).unwrap()),
        Edit::TakeLabel => lose("/f:metadata/f:labels", "bindery.dev/managed"),
        Edit::TakeMark => lose("/f:metadata/f:annotations", "bindery.dev/inputs"),
        Edit::ForgeMark => {
            lose("/f:metadata/f:annotations", "bindery.dev/inputs");
            metadata["annotations"]["bindery.dev/inputs"] = json!("v1:a:b");
        }
        Edit::TakeOwnFields => metadata["managedFields"] = json!([]),
        Edit::AddKey | Edit::AddLabel => {
            let fields = if matches!(edit, Edit::AddKey) {
                json!({"f:data": {"f:EXTRA": {}}})
            } else {
                json!({"f:metadata": {"f:labels": {"f:x": {}}}})
            };
            let entry =
                json!({"manager": "kubectl-edit", "operation": "Update", "apiVersion": "v1", "fieldsV1": fields});
            metadata["managedFields"].as_array_mut().unwrap().push(entry);
            return false;
        }
    }
    true
}

fn failure() -> impl Strategy<Value = Error> {
    prop::sample::select(vec![
        SourceErrorKind::SecretNotFound,
        SourceErrorKind::SecretPendingDeletion,
        SourceErrorKind::VersionNotFound,
        SourceErrorKind::AccessDenied,
        SourceErrorKind::DecryptionFailed,
        SourceErrorKind::CredentialsFailed,
        SourceErrorKind::Throttled,
        SourceErrorKind::Unavailable,
        SourceErrorKind::InvalidReference,
        SourceErrorKind::WrongSecret,
        SourceErrorKind::AuditFailed,
    ])
    .prop_map(|kind| Error::Source(SourceError::new(kind, "app")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_applied_needs_nothing_until_the_version_moves(keys in names(), retain in any::<bool>()) {
        let binding = binding(retain, false);
        let metadata = applied(&desired(&binding, &keys, "v1"));
        let status = status("v1", keys.len());
        let observed = match need(&binding, &metadata, &status, "v1") {
            Need::Nothing(observed) => *observed,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(observed.keys, keys.len());
        prop_assert_eq!(need(&binding, &metadata, &status, "v2"), Need::Read(ReadReason::Changed));
    }

    #[test]
    fn every_edit_of_what_was_published_is_seen_and_every_addition_is_let_be(
        keys in names(),
        edits in prop::collection::vec(edit(), 1..4),
        retain in any::<bool>(),
    ) {
        let binding = binding(retain, false);
        let mut metadata = applied(&desired(&binding, &keys, "v1"));
        let mut touched = false;
        for edit in &edits {
            if metadata["managedFields"].as_array().unwrap().first().is_some_and(|entry| entry["manager"] == "bindery") {
                touched |= make(edit, &mut metadata, &keys);
            }
        }
        match need(&binding, &metadata, &status("v1", keys.len()), "v1") {
            Need::Nothing(_) => prop_assert!(!touched, "{edits:?}"),
            Need::Read(reason) => prop_assert!(touched && reason == ReadReason::Drift, "{edits:?}: {reason:?}"),
            Need::Refuse(rejection) => prop_assert!(false, "{rejection}"),
        }
    }

    #[test]
    fn a_secret_of_somebody_else_is_never_taken_for_ones_own(
        annotation in prop::option::of("worker|other|[a-z]{1,4}"),
        owner in prop::option::of(("SecretBinding|SealedSecret|Certificate", "worker|other", "uid-[0-3]", any::<bool>())),
        consent in prop::option::of("worker|other"),
        adopt in any::<bool>(),
        published in any::<bool>(),
    ) {
        let binding = binding(true, adopt);
        let mut metadata = json!({"name": "target", "namespace": "n", "uid": "s", "resourceVersion": "1", "annotations": {}});
        if let Some(name) = &annotation {
            metadata["annotations"]["bindery.dev/binding"] = json!(name);
        }
        if let Some(name) = &consent {
            metadata["annotations"]["bindery.dev/adopt-by"] = json!(name);
        }
        if let Some((kind, name, uid, controller)) = &owner {
            let group = if kind == "SecretBinding" { "bindery.dev/v1alpha1" } else { "example.com/v1" };
            metadata["ownerReferences"] =
                json!([{"apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": controller}]);
        }
        let controller = owner.as_ref().filter(|(_, _, _, controller)| *controller);
        let by_uid = controller.is_some_and(|(_, _, uid, _)| uid == "uid-1");
        let by_predecessor = controller.is_some_and(|(kind, name, _, _)| kind == "SecretBinding" && name == "worker");
        let named = annotation.as_deref() == Some("worker");
        // Nothing in it is Bindery's by managedFields, so the status alone proves nothing.
        let own = by_uid || (named && (controller.is_none() || by_predecessor));
        let adoptable = adopt && consent.as_deref() == Some("worker") && controller.is_none() && !named;
        match judge(&binding, Some(&meta(&metadata)), published) {
            TargetState::Owned(_) => prop_assert!(own, "{metadata}"),
            TargetState::Adoptable(_) => prop_assert!(adoptable, "{metadata}"),
            TargetState::Foreign(_) => prop_assert!(!own && !adoptable, "{metadata}"),
            TargetState::Absent => prop_assert!(false),
        }
    }

    #[test]
    fn no_failure_drops_a_key_a_version_or_a_name_from_the_status(
        failures in prop::collection::vec((failure(), 1i64..2_000, any::<bool>()), 1..8),
    ) {
        let before = status("v1", 22);
        let mut now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut current = before.clone();
        for (error, pause, intact) in &failures {
            now += k8s_openapi::jiff::SignedDuration::from_secs(*pause);
            let grant = Some(GrantInUse { name: "g".to_owned(), expires: None, place: String::new() });
            let intact = intact.then(|| Box::new(meta(&json!({})).observed));
            let integrity = intact.map_or(Integrity::Broken, Integrity::Intact);
            let attempt = Attempt { grant, integrity, ..Attempt::default() };
            let findings = Findings {
                binding: None,
                generation: 1,
                attempt: &attempt,
                error: Some(error),
                interval: Duration::from_secs(60),
                looks_again: true,
            };
            current = status::status(&current, findings, now).status;
            prop_assert_eq!(status::status(&current, findings, now).status, current.clone(), "the same again changes nothing");
            let count = |type_: &str| current.conditions.iter().filter(|condition| condition.type_ == type_).count();
            prop_assert!(["Granted", "Fetched", "Rendered", "Applied", "Ready"].iter().all(|type_| count(type_) == 1));
        }
        prop_assert_eq!(
            (&current.binding, &current.keys, &current.sources, &current.grant),
            (&before.binding, &before.keys, &before.sources, &before.grant)
        );
    }
}
