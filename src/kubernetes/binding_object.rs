//! A binding as the watch delivers it: of its metadata no more than is used, in one piece that many share. One that no
//! longer parses must not stop the others.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

use crate::api::SecretBinding;

/// The annotation in which `kubectl apply` keeps a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A binding, or what is known of one that this version cannot read.
#[derive(Clone, Debug)]
pub struct BindingObject(pub Result<Arc<SecretBinding>, Box<ObjectMeta>>);

/// What is used of the metadata. What each field manager owns, the larger part, is passed over as it is read.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(serde::Deserialize)]
struct Parts {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl<'de> Deserialize<'de> for BindingObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { metadata, spec, status } = Parts::deserialize(deserializer)?;
        if metadata.name.is_none() {
            return Err(D::Error::missing_field("name"));
        }
        let mut annotations = metadata.annotations;
        if let Some(annotations) = &mut annotations {
            annotations.remove(LAST_APPLIED);
        }
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            annotations,
            ..ObjectMeta::default()
        };
        Ok(Self(match (serde_json::from_value(spec), serde_json::from_value(status)) {
            (Ok(spec), Ok(status)) => Ok(Arc::new(SecretBinding { metadata, spec, status })),
            _ => Err(Box::new(metadata)),
        }))
    }
}

impl Resource for BindingObject {
    type DynamicType = ();
    type Scope = <SecretBinding as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        SecretBinding::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        SecretBinding::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        SecretBinding::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        SecretBinding::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(binding) => &binding.metadata,
            Err(metadata) => metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(binding) => &mut Arc::make_mut(binding).metadata,
            Err(metadata) => metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::ResourceExt as _;
    use serde_json::json;

    #[test]
    fn a_stored_binding_that_no_longer_parses_does_not_stop_the_others() {
        let spec = json!({"dataFrom": [{"secret": "a"}]});
        let stored = json!([
            {"metadata": {"name": "good", "namespace": "n"}, "spec": spec},
            {"metadata": {"name": "bad", "namespace": "n"}, "spec": {"dataFrom": "a"}},
            {"metadata": {"name": "odd", "namespace": "n"}, "spec": spec, "status": {"conditions": "all well"}},
            {"metadata": {"name": "empty", "namespace": "n"}},
        ]);
        let list: Vec<BindingObject> = serde_json::from_value(stored).unwrap();
        let read: Vec<(String, bool)> = list.iter().map(|watched| (watched.name_any(), watched.0.is_ok())).collect();
        let expected = [("good", true), ("bad", false), ("odd", false), ("empty", false)];
        assert_eq!(read, expected.map(|(name, ok)| (name.to_owned(), ok)));
    }

    #[test]
    fn of_the_metadata_is_kept_what_is_used() {
        let metadata = json!({
            "name": "b", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "annotations": {"bindery.dev/sync": "1", LAST_APPLIED: "{}"}, "labels": {"team": "x"},
            "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {}}],
        });
        let watched: BindingObject = serde_json::from_value(json!({
            "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "metadata": metadata,
            "spec": {"dataFrom": [{"secret": "a"}]}, "status": {"keys": 3},
        }))
        .unwrap();
        let meta = watched.meta();
        assert_eq!((meta.uid.as_deref(), meta.resource_version.as_deref()), (Some("u"), Some("7")));
        assert_eq!(meta.generation, Some(3));
        assert!(meta.creation_timestamp.is_some() && meta.deletion_timestamp.is_some());
        assert_eq!(watched.annotations().keys().collect::<Vec<_>>(), ["bindery.dev/sync"]);
        assert!(meta.labels.is_none() && meta.managed_fields.is_none());
        assert_eq!(watched.0.unwrap().status.as_ref().and_then(|status| status.keys), Some(3));
    }
}
