//! A namespace as the watch delivers it: its name, its labels, and whether it
//! consents to Jobs. Nothing else is read, so nothing else can be unreadable.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt as _};
use serde::de::{Deserialize, Deserializer};

use crate::api::ANNOTATION_RUN;
use crate::domain::metadata::{MetadataFields, without_managers};

/// A namespace.
#[derive(Clone, Debug)]
pub struct NamespaceObject(ObjectMeta);

#[derive(serde::Deserialize)]
struct NamespaceParts {
    #[serde(default, deserialize_with = "without_managers")]
    metadata: MetadataFields,
}

impl NamespaceObject {
    /// Whether Jobs of Bindery may run in it.
    #[must_use]
    pub fn permits_jobs(&self) -> bool {
        self.annotations().get(ANNOTATION_RUN).is_some_and(|consent| consent == "allowed")
    }
}

impl<'de> Deserialize<'de> for NamespaceObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let NamespaceParts { metadata } = NamespaceParts::deserialize(deserializer)?;
        let annotations: Option<BTreeMap<String, String>> = metadata.get("annotations");
        let consent = annotations.unwrap_or_default().remove_entry(ANNOTATION_RUN);
        Ok(Self(ObjectMeta {
            name: metadata.get("name"),
            uid: metadata.get("uid"),
            resource_version: metadata.get("resourceVersion"),
            labels: metadata.get("labels"),
            annotations: consent.map(|consent| [consent].into()),
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

    #[test]
    fn only_the_word_allowed_is_consent() {
        for (annotations, permits) in [
            (json!({"bindery.dev/run": "allowed", "more": "x"}), true),
            (json!({"bindery.dev/run": "true"}), false),
            (json!(null), false),
        ] {
            let metadata = json!({"name": "n", "annotations": annotations});
            let namespace: NamespaceObject = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            assert_eq!(namespace.permits_jobs(), permits, "{namespace:?}");
        }
    }
}
