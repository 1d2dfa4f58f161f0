//! A namespace as the watch delivers it: its name and its labels. Nothing else is read, so nothing else can be unreadable.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Namespace;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{Deserialize, Deserializer};

use crate::domain::metadata::{MetadataFields, without_managers};

/// A namespace.
#[derive(Clone, Debug)]
pub struct NamespaceObject(ObjectMeta);

#[derive(serde::Deserialize)]
struct NamespaceParts {
    #[serde(default, deserialize_with = "without_managers")]
    metadata: MetadataFields,
}

impl<'de> Deserialize<'de> for NamespaceObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let NamespaceParts { metadata } = NamespaceParts::deserialize(deserializer)?;
        Ok(Self(ObjectMeta {
            name: metadata.get("name"),
            uid: metadata.get("uid"),
            resource_version: metadata.get("resourceVersion"),
            labels: metadata.get("labels"),
            ..ObjectMeta::default()
        }))
    }
}

impl Resource for NamespaceObject {
    type DynamicType = ();
    type Scope = <Namespace as Resource>::Scope;

    fn metadata_api() -> bool {
        true
    }

    fn kind((): &()) -> Cow<'_, str> {
        Namespace::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Namespace::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Namespace::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Namespace::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::ResourceExt as _;
    use serde_json::json;

    #[test]
    fn a_time_beyond_all_time_in_the_metadata_of_a_namespace_stops_nothing() {
        let managed = json!([{"manager": "x", "operation": "Update", "time": "9999-12-31T23:59:59Z"}]);
        let metadata =
            json!({"name": "n", "labels": {"team": "x"}, "managedFields": managed, "annotations": {"a": "b"}});
        let namespace: NamespaceObject = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        assert_eq!((namespace.name_any(), namespace.labels()["team"].as_str()), ("n".to_owned(), "x"));
        assert!(namespace.annotations().is_empty() && namespace.managed_fields().is_empty());
    }
}
