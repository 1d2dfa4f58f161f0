//! The target Secret as it is, read from its metadata.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference, Time};
use kube::ResourceExt as _;

use crate::api::{
    ANNOTATION_ADOPT_BY, ANNOTATION_BINDING, ANNOTATION_CHANGED, ANNOTATION_INPUTS, ANNOTATION_ROTATION_STATE,
    FIELD_MANAGER,
};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::target::mark::{MarkPlace, fields_digest, fields_of, is_of, place_of};
use crate::domain::target::meta::SecretMeta;
use crate::domain::target::risky::is_risky;

/// The metadata of a target.
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
    /// The digest of the published data, where it is known: from the record, from a read, or from the write.
    pub digest: Option<Box<str>>,
    /// The first keys that others own and Bindery does not, at most six.
    pub foreign: Box<[Box<str>]>,
    /// The keys that Bindery owns and that change how programs run.
    pub risky: Box<[Box<str>]>,
    /// The finalizers that hold the Secret, where it is being deleted.
    pub held_by: Box<[Box<str>]>,
}

impl ObservedTarget {
    /// Whether Bindery's own entry in the managed fields is lost, as a restore without them loses it.
    #[must_use]
    pub const fn is_restored(&self) -> bool {
        self.keys == 0 && !self.owns_mark
    }
}

/// The metadata of a Secret, reduced to a twentieth, since memory has one for each published Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedSecret {
    /// Its metadata as a target.
    pub observed: ObservedTarget,
    /// The controller that owns it.
    pub owner: Option<Box<OwnerReference>>,
    /// The binding that its annotation names.
    pub binding: Option<String>,
    /// The binding that may adopt it.
    pub adopt_by: Option<String>,
    /// For which Secret its mark was made.
    pub place: MarkPlace,
    /// Whether it is being deleted.
    pub ends: bool,
}

impl ObservedSecret {
    /// Reduces metadata.
    #[must_use]
    pub fn new(meta: &SecretMeta, key: &FingerprintKey) -> Self {
        let owner = meta.owner_references().iter().find(|owner| owner.controller == Some(true));
        let annotation = |name: &str| kept(meta, name, MAX_TEXT).map(str::to_owned);
        let (namespace, name) = (meta.namespace().unwrap_or_default(), meta.name_any());
        Self {
            place: place_of(kept(meta, ANNOTATION_INPUTS, MAX_TEXT), (&namespace, &name), key),
            observed: observe(meta, key),
            owner: owner.cloned().map(Box::new),
            binding: annotation(ANNOTATION_BINDING),
            adopt_by: annotation(ANNOTATION_ADOPT_BY),
            ends: meta.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// The longest text that Bindery writes into `bindery.dev/changed` or `bindery.dev/rotation-state`.
const MAX_RECORD: usize = 128 << 10;

/// The longest text of the other annotations that matter.
const MAX_TEXT: usize = 1 << 10;

/// An annotation, if it is no longer than Bindery or people would make it. Memory has those of all published Secrets.
fn kept<'a>(meta: &'a SecretMeta, name: &str, most: usize) -> Option<&'a str> {
    meta.annotations().get(name).map(String::as_str).filter(|text| text.len() <= most)
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
        mark: kept(meta, ANNOTATION_INPUTS, MAX_TEXT).map(str::to_owned),
        fields: fields_digest(&fields, key),
        keys: fields.iter().filter(|field| field.starts_with("data/")).count(),
        owns_mark: fields.contains(&format!("annotation/{ANNOTATION_INPUTS}")),
        written: own.and_then(|entry| entry.time.clone()),
        other_manager: other.and_then(|entry| entry.manager.clone()),
        changed: kept(meta, ANNOTATION_CHANGED, MAX_RECORD).map(Into::into),
        rotation_state: kept(meta, ANNOTATION_ROTATION_STATE, MAX_RECORD).map(Into::into),
        digest: None,
        foreign: foreign_keys(entries, &fields),
        risky: risky_keys(&fields),
        held_by: match meta.metadata.deletion_timestamp {
            Some(_) => meta.finalizers().iter().take(4).map(|name| name.as_str().into()).collect(),
            None => Box::default(),
        },
    }
}

/// The first keys that others own and Bindery does not.
fn foreign_keys(entries: &[ManagedFieldsEntry], own: &BTreeSet<String>) -> Box<[Box<str>]> {
    let others = entries.iter().filter(|entry| !is_own(entry)).filter_map(|entry| entry.fields_v1.as_ref());
    let data = others.filter_map(|fields| fields.0.get("f:data")?.as_object()).flat_map(serde_json::Map::keys);
    let keys: BTreeSet<&str> = data.filter_map(|field| field.strip_prefix("f:")).collect();
    keys.into_iter().filter(|key| !own.contains(&format!("data/{key}"))).take(6).map(Into::into).collect()
}

/// The keys among these fields that change how programs run.
fn risky_keys(own: &BTreeSet<String>) -> Box<[Box<str>]> {
    own.iter().filter_map(|field| field.strip_prefix("data/")).filter(|key| is_risky(key)).map(Into::into).collect()
}

/// The keys of a Secret that Bindery owns.
#[must_use]
pub fn owned_keys(meta: &SecretMeta) -> BTreeSet<String> {
    let own = meta.managed_fields().iter().find(|entry| is_own(entry)).and_then(|entry| entry.fields_v1.as_ref());
    let fields = own.map(|fields| owned_fields(&fields.0)).unwrap_or_default();
    fields.iter().filter_map(|field| field.strip_prefix("data/").map(str::to_owned)).collect()
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

/// The result of comparing a published Secret with its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the result of these inputs, untouched.
    Current,
    /// It is the result of other inputs, untouched.
    Outdated,
    /// Somebody has changed it.
    Drifted,
}

/// Compares without reading a value.
#[must_use]
pub fn compare(observed: &ObservedTarget, inputs: &str) -> Comparison {
    if !is_intact(observed) {
        Comparison::Drifted
    } else if observed.mark.as_deref().is_some_and(|mark| is_of(mark, inputs, &observed.fields)) {
        Comparison::Current
    } else {
        Comparison::Outdated
    }
}

/// Whether Bindery still owns each field that it published.
#[must_use]
pub fn is_intact(observed: &ObservedTarget) -> bool {
    observed.mark.as_deref().and_then(fields_of) == Some(&observed.fields)
}
