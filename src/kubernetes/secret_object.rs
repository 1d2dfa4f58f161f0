//! A Secret as the watch and reads deliver it: its metadata, part by part. What cannot be read of it is left out, so that
//! one Secret stops no other: anybody can write what the API server takes and this program does not.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt as _};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::Value;

use crate::domain::fingerprint::FingerprintKey;
use crate::domain::target::{ObservedSecret, SecretMeta};

/// The metadata of a Secret, as far as it can be read.
#[derive(Clone, Debug)]
pub struct SecretObject(pub SecretMeta);

#[derive(serde::Deserialize)]
struct SecretParts {
    metadata: Metadata,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default)]
    deletion_timestamp: Value,
    #[serde(default)]
    labels: Value,
    #[serde(default)]
    annotations: Value,
    #[serde(default)]
    owner_references: Value,
    #[serde(default)]
    managed_fields: Value,
}

impl Metadata {
    /// The metadata in the form that all use.
    pub(super) fn read(self) -> SecretMeta {
        // One that is being deleted is, whenever that began.
        let ends = (!self.deletion_timestamp.is_null())
            .then(|| readable(self.deletion_timestamp).unwrap_or(Time(Timestamp::UNIX_EPOCH)));
        let metadata = ObjectMeta {
            name: Some(self.name),
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            deletion_timestamp: ends,
            labels: readable(self.labels),
            annotations: readable(self.annotations),
            owner_references: Some(each_readable(self.owner_references)),
            managed_fields: Some(each_readable(self.managed_fields)),
            ..ObjectMeta::default()
        };
        PartialObjectMeta { metadata, ..PartialObjectMeta::default() }
    }
}

fn readable<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

/// The elements of a list that can be read.
fn each_readable<T: DeserializeOwned>(list: Value) -> Vec<T> {
    match list {
        Value::Array(elements) => elements.into_iter().filter_map(readable).collect(),
        _ => Vec::new(),
    }
}

impl<'de> Deserialize<'de> for SecretObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(SecretParts::deserialize(deserializer)?.metadata.read()))
    }
}

impl Resource for SecretObject {
    type DynamicType = ();
    type Scope = <Secret as Resource>::Scope;

    fn metadata_api() -> bool {
        true
    }

    fn kind((): &()) -> Cow<'_, str> {
        Secret::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Secret::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Secret::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Secret::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

/// A Secret as the watch saw it, reduced at once: a page of a list has many.
#[derive(Clone, Debug)]
pub struct SecretSighting {
    /// Its namespace, name and resource version.
    metadata: ObjectMeta,
    /// What it is, reduced.
    pub secret: Arc<ObservedSecret>,
}

impl SecretSighting {
    /// Reduces a Secret.
    #[must_use]
    pub fn new(SecretObject(meta): &SecretObject, key: &FingerprintKey) -> Self {
        let metadata = ObjectMeta {
            name: Some(meta.name_any()),
            namespace: meta.namespace(),
            resource_version: meta.resource_version(),
            ..ObjectMeta::default()
        };
        Self { metadata, secret: Arc::new(ObservedSecret::new(meta, key)) }
    }
}

impl Resource for SecretSighting {
    type DynamicType = ();
    type Scope = <Secret as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Secret::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Secret::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Secret::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Secret::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_read_of_a_secret_is_left_out() {
        let own = json!({"manager": "bindery", "operation": "Apply", "time": "2027-01-01T00:00:00Z", "fieldsV1": {"f:data": {"f:A": {}}}});
        for (field, odd) in [
            ("managedFields", json!([own, {"manager": "x", "time": "9999-12-31T23:59:59Z"}, 7])),
            ("managedFields", json!("all of them")),
            ("labels", json!([])),
            ("annotations", json!({"a": 1})),
            ("ownerReferences", json!([{"name": 1}])),
            ("creationTimestamp", json!("never")),
            ("deletionTimestamp", json!("99999-01-01")),
        ] {
            let mut metadata =
                json!({"name": "s", "namespace": "n", "resourceVersion": "7", "uid": "u", "managedFields": [own]});
            metadata[field] = odd;
            let read: SecretObject = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            assert_eq!((read.name_any(), read.resource_version().as_deref()), ("s".to_owned(), Some("7")), "{field}");
            assert_eq!(read.managed_fields().len(), usize::from(metadata["managedFields"].is_array()), "{field}");
            assert_eq!(read.meta().deletion_timestamp.is_some(), field == "deletionTimestamp");
        }
    }
}
