//! The target Secret as it is, as it should be, and whether the two agree: all without reading a value.
//!
//! Kubernetes keeps in `metadata.managedFields` which fields each writer owns ([server-side apply][ssa]). A key that
//! somebody edits, or deletes, leaves the entry of the field manager `bindery`. So the set of fields in that entry,
//! compared by digest with the set that was published, shows drift from metadata alone.
//!
//! [ssa]: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management

pub mod orphan;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference, Time};
use kube::core::PartialObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{
    ANNOTATION_ADOPT_BY, ANNOTATION_BINDING, ANNOTATION_CHANGED, ANNOTATION_INPUTS, ANNOTATION_ROTATION_STATE,
    DeletionPolicy, FIELD_MANAGER, GROUP, LABEL_MANAGED, SecretBinding,
};
use crate::domain::binding::Binding;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::render::key::TargetKey;
use crate::domain::value::Value;

/// The metadata of a Secret, which is all that is ever read of one.
pub type SecretMeta = PartialObjectMeta<Secret>;

/// What stands under the target's name.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetState {
    /// Nothing.
    Absent,
    /// A Secret that is this binding's.
    Owned(ObservedTarget),
    /// A Secret that consents to be taken over.
    Adoptable(ObservedTarget),
    /// Somebody else's Secret; the text says whose.
    Foreign(String),
}

/// What the metadata of a Secret tell of it as a target.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedTarget {
    /// The uid.
    pub uid: String,
    /// The resource version.
    pub resource_version: String,
    /// The annotation `bindery.dev/inputs`.
    pub mark: Option<String>,
    /// The digest of the fields that Bindery owns.
    pub fields: String,
    /// The number of keys of the Secret that Bindery owns.
    pub keys: usize,
    /// Whether Bindery owns the annotation `bindery.dev/inputs`.
    pub owns_mark: bool,
    /// When Bindery's fields were last written.
    pub written: Option<Time>,
    /// The other writer that changed the Secret last.
    pub other_manager: Option<String>,
    /// The annotation `bindery.dev/changed`.
    pub changed: Option<Box<str>>,
    /// The annotation `bindery.dev/rotation-state`.
    pub rotation_state: Option<Box<str>>,
}

/// What is kept of a Secret's metadata: a twentieth of it, since there is one for each published Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedSecret {
    /// What it tells as a target.
    pub observed: ObservedTarget,
    /// The controller that owns it.
    pub owner: Option<Box<OwnerReference>>,
    /// The binding that its annotation names.
    pub binding: Option<String>,
    /// The binding by which it consents to be taken over.
    pub adopt_by: Option<String>,
    /// Whether it is being deleted.
    pub ends: bool,
}

impl ObservedSecret {
    /// Reduces metadata as they arrive.
    #[must_use]
    pub fn new(meta: &SecretMeta, key: &FingerprintKey) -> Self {
        let owner = meta.owner_references().iter().find(|owner| owner.controller == Some(true));
        let annotation = |name: &str| meta.annotations().get(name).cloned();
        Self {
            observed: observe(meta, key),
            owner: owner.cloned().map(Box::new),
            binding: annotation(ANNOTATION_BINDING),
            adopt_by: annotation(ANNOTATION_ADOPT_BY),
            ends: meta.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// Why a target may not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The name is taken.
    #[error(
        "the Secret {name:?} exists and is not this binding's: {why}; choose another spec.target.name, delete the Secret, or let the binding adopt it (spec.target.adopt)"
    )]
    Foreign {
        /// The name of the target.
        name: String,
        /// Whose it is.
        why: String,
    },
    /// Somebody undoes what Bindery publishes.
    #[error(
        "the Secret {name:?} was changed {times} times within 10 minutes after Bindery had put it right, last by {manager:?}; find and stop that writer"
    )]
    Contested {
        /// The name of the target.
        name: String,
        /// How often it was put right.
        times: usize,
        /// The field manager of the last change.
        manager: String,
    },
}

/// Judges what was found under the target's name. `published` says whether the status of the binding names this
/// Secret as published.
#[must_use]
pub fn judge(binding: &Binding, found: Option<&ObservedSecret>, published: bool) -> TargetState {
    let Some(ObservedSecret { observed, owner, binding: named, adopt_by, .. }) = found else {
        return TargetState::Absent;
    };
    let observed = observed.clone();
    match owner {
        Some(owner) if owner.uid == binding.uid => TargetState::Owned(observed),
        // A reference to an earlier binding of this name: that owner is gone, its Secret is this one's to go on with.
        Some(owner) if is_binding(owner) && owner.name == binding.name && named.as_ref() == Some(&binding.name) => {
            TargetState::Owned(observed)
        }
        Some(owner) => TargetState::Foreign(format!("it belongs to the {} {:?}", owner.kind, owner.name)),
        None if named.as_ref() == Some(&binding.name) => TargetState::Owned(observed),
        // Somebody removed the annotation of a Secret that Bindery's field manager still owns.
        None if named.is_none() && published && (observed.owns_mark || observed.keys > 0) => {
            TargetState::Owned(observed)
        }
        None => match (binding.target.adopt && adopt_by.as_ref() == Some(&binding.name), named) {
            (true, _) => TargetState::Adoptable(observed),
            (false, Some(other)) => TargetState::Foreign(format!("it was published by the SecretBinding {other:?}")),
            (false, None) if binding.target.adopt => TargetState::Foreign(format!(
                "it does not consent to be adopted; annotate it with {ANNOTATION_ADOPT_BY}: {}",
                binding.name
            )),
            (false, None) => TargetState::Foreign("nothing on it says who made it".to_owned()),
        },
    }
}

fn is_binding(owner: &OwnerReference) -> bool {
    owner.kind == SecretBinding::kind(&()) && owner.api_version.split('/').next() == Some(GROUP)
}

fn observe(meta: &SecretMeta, key: &FingerprintKey) -> ObservedTarget {
    let entries = meta.managed_fields();
    let own = entries.iter().find(|entry| is_own(entry));
    let other = entries.iter().filter(|entry| !is_own(entry)).max_by(|a, b| {
        let time = |entry: &ManagedFieldsEntry| entry.time.as_ref().map(|time| time.0);
        time(a).cmp(&time(b))
    });
    let fields =
        own.and_then(|entry| entry.fields_v1.as_ref()).map(|fields| owned_fields(&fields.0)).unwrap_or_default();
    ObservedTarget {
        uid: meta.uid().unwrap_or_default(),
        resource_version: meta.resource_version().unwrap_or_default(),
        mark: meta.annotations().get(ANNOTATION_INPUTS).cloned(),
        fields: digest(&fields, key),
        keys: fields.iter().filter(|field| field.starts_with("data/")).count(),
        owns_mark: fields.contains(&format!("annotation/{ANNOTATION_INPUTS}")),
        written: own.and_then(|entry| entry.time.clone()),
        other_manager: other.and_then(|entry| entry.manager.clone()),
        changed: meta.annotations().get(ANNOTATION_CHANGED).map(|text| text.as_str().into()),
        rotation_state: meta.annotations().get(ANNOTATION_ROTATION_STATE).map(|text| text.as_str().into()),
    }
}

/// The keys of a Secret that Bindery owns.
#[must_use]
pub fn owned_keys(meta: &SecretMeta) -> BTreeSet<String> {
    let own = meta.managed_fields().iter().find(|entry| is_own(entry)).and_then(|entry| entry.fields_v1.as_ref());
    let fields = own.map(|fields| owned_fields(&fields.0)).unwrap_or_default();
    fields.iter().filter_map(|field| field.strip_prefix("data/").map(str::to_owned)).collect()
}

fn digest(fields: &BTreeSet<String>, key: &FingerprintKey) -> String {
    key.digest("fields", fields.iter().map(String::as_str))
}

fn is_own(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
}

/// The leaves of a [FieldsV1] set that matter here, as `data/KEY`, `label/KEY`, `annotation/KEY`, `owner/UID`, `type`.
///
/// [FieldsV1]: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
fn owned_fields(fields: &serde_json::Value) -> BTreeSet<String> {
    let mut owned = BTreeSet::new();
    let mut take = |path: &[&str], prefix: &str| {
        let set = path.iter().try_fold(fields, |value, step| value.get(step)).and_then(serde_json::Value::as_object);
        for name in set.into_iter().flat_map(|set| set.keys()) {
            if let Some(name) = name.strip_prefix("f:") {
                owned.insert(format!("{prefix}/{name}"));
            } else if let Some(key) = name.strip_prefix("k:") {
                let uid =
                    serde_json::from_str::<BTreeMap<String, String>>(key).ok().and_then(|mut key| key.remove("uid"));
                owned.extend(uid.map(|uid| format!("{prefix}/{uid}")));
            }
        }
    };
    take(&["f:data"], "data");
    take(&["f:metadata", "f:labels"], "label");
    take(&["f:metadata", "f:annotations"], "annotation");
    take(&["f:metadata", "f:ownerReferences"], "owner");
    if fields.get("f:type").is_some() {
        owned.insert("type".to_owned());
    }
    owned
}

/// The Secret as it should be. Deliberately without `Debug`, `Clone` and `Serialize`.
pub struct Desired {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The type.
    pub type_: String,
    /// The labels, Bindery's own among them.
    pub labels: BTreeMap<String, String>,
    /// The annotations, Bindery's own among them.
    pub annotations: BTreeMap<String, String>,
    /// The binding, where it is to own the Secret.
    pub owner: Option<OwnerReference>,
    /// The keys and values.
    pub data: BTreeMap<TargetKey, Value>,
}

impl Desired {
    /// The Secret that `binding` asks for with this data. `history` are annotations of Bindery that tell of earlier
    /// values.
    #[must_use]
    pub fn new(
        binding: &Binding,
        data: BTreeMap<TargetKey, Value>,
        history: BTreeMap<String, String>,
        inputs: &str,
        key: &FingerprintKey,
    ) -> Self {
        let target = &binding.target;
        let mut labels = target.labels.clone();
        labels.insert(LABEL_MANAGED.to_owned(), "true".to_owned());
        let mut annotations = target.annotations.clone();
        annotations.extend(history);
        annotations.insert(ANNOTATION_BINDING.to_owned(), binding.name.clone());
        annotations.insert(ANNOTATION_INPUTS.to_owned(), String::new());
        let mut desired = Self {
            namespace: binding.namespace.clone(),
            name: target.name.clone(),
            type_: target.type_.clone(),
            labels,
            annotations,
            owner: (target.deletion_policy == DeletionPolicy::Delete).then(|| owner_reference(binding)),
            data,
        };
        let mark = mark(inputs, &digest(&desired.fields(), key));
        desired.annotations.insert(ANNOTATION_INPUTS.to_owned(), mark);
        desired
    }

    /// The same without an owner: it stays when its binding is deleted.
    #[must_use]
    pub fn without_owner(mut self, inputs: &str, key: &FingerprintKey) -> Self {
        self.owner = None;
        let mark = mark(inputs, &digest(&self.fields(), key));
        self.annotations.insert(ANNOTATION_INPUTS.to_owned(), mark);
        self
    }

    fn fields(&self) -> BTreeSet<String> {
        let mut fields = BTreeSet::from(["type".to_owned()]);
        fields.extend(self.data.keys().map(|key| format!("data/{key}")));
        fields.extend(self.labels.keys().map(|key| format!("label/{key}")));
        fields.extend(self.annotations.keys().map(|key| format!("annotation/{key}")));
        fields.extend(self.owner.iter().map(|owner| format!("owner/{}", owner.uid)));
        fields
    }
}

/// The owner reference of what goes with a binding.
#[must_use]
pub fn owner_reference(binding: &Binding) -> OwnerReference {
    OwnerReference {
        api_version: SecretBinding::api_version(&()).into_owned(),
        kind: SecretBinding::kind(&()).into_owned(),
        name: binding.name.clone(),
        uid: binding.uid.clone(),
        controller: Some(true),
        // A Secret never holds up the deletion of its binding.
        block_owner_deletion: Some(false),
    }
}

/// The text of the annotation `bindery.dev/inputs`: a digest of all that decides the content, and a digest of the
/// fields that were published with it.
fn mark(inputs: &str, fields: &str) -> String {
    format!("v1:{inputs}:{fields}")
}

/// How a published Secret compares with what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is what these inputs give, untouched.
    Current,
    /// It is what other inputs gave, untouched.
    Outdated,
    /// Somebody has changed it.
    Drifted,
}

/// Compares without reading a value.
#[must_use]
pub fn compare(observed: &ObservedTarget, inputs: &str) -> Comparison {
    if !is_intact(observed) {
        Comparison::Drifted
    } else if observed.mark.as_deref() == Some(&mark(inputs, &observed.fields)) {
        Comparison::Current
    } else {
        Comparison::Outdated
    }
}

/// Whether Bindery still owns each field that it published.
#[must_use]
pub fn is_intact(observed: &ObservedTarget) -> bool {
    observed.mark.as_deref().and_then(|mark| mark.rsplit(':').next()) == Some(&observed.fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SecretBindingSpec;
    use serde_json::json;
    use zeroize::Zeroizing;

    fn key() -> FingerprintKey {
        FingerprintKey::new(Zeroizing::new([7; 32]))
    }

    fn binding(spec: serde_json::Value) -> Binding {
        let spec: SecretBindingSpec = serde_json::from_value(spec).unwrap();
        let mut manifest = SecretBinding::new("worker", spec);
        manifest.metadata.namespace = Some("n".to_owned());
        manifest.metadata.uid = Some("uid-1".to_owned());
        Binding::parse(&manifest, &[]).ok().unwrap()
    }

    fn simple() -> Binding {
        binding(json!({"dataFrom": [{"secret": "a"}]}))
    }

    #[allow(clippy::needless_pass_by_value, reason = "it is given json! literals")]
    fn meta(metadata: serde_json::Value) -> ObservedSecret {
        sighting(&metadata, &key())
    }

    fn sighting(metadata: &serde_json::Value, key: &FingerprintKey) -> ObservedSecret {
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
        for (was_published, named_by, owned) in [(true, None, true), (false, None, false), (true, Some("other"), false)]
        {
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
        let asks =
            binding(json!({"dataFrom": [{"secret": "a"}], "target": {"adopt": true, "deletionPolicy": "Retain"}}));
        for (binding, consent, adoptable) in
            [(&asks, "worker", true), (&asks, "other", false), (&simple(), "worker", false)]
        {
            let state = judge(binding, Some(&meta(json!({"annotations": {"bindery.dev/adopt-by": consent}}))), false);
            assert_eq!(matches!(state, TargetState::Adoptable(_)), adoptable, "{state:?}");
        }
    }

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
        let found = sighting(&published(&desired()), &other);
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
}
