//! A binding as the watch delivers it: of its metadata no more than is used, in one piece that many share. One that no
//! longer parses must not stop the others.

use std::borrow::Cow;
use std::sync::Arc;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{Deserialize, Deserializer};

use crate::api::SecretBinding;
use crate::kubernetes::unreadable::{Parts, SPEC, STATUS, Unreadable, check_extent, read_part};

/// A binding, or what is known of one that this version cannot read.
#[derive(Clone, Debug)]
pub struct BindingObject(pub Result<Arc<SecretBinding>, Box<Unreadable>>);

impl<'de> Deserialize<'de> for BindingObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::deserialize(deserializer)?;
        // Any user can make bindings, and memory has all of them.
        let read = check_extent(&SPEC, &parts.spec)
            .and_then(|()| check_extent(&STATUS, &parts.status))
            .and_then(|()| Ok((read_part("spec", &parts.spec)?, read_part("status", &parts.status)?)));
        Ok(Self(match read {
            Ok((spec, status)) => Ok(Arc::new(SecretBinding { metadata: parts.metadata(), spec, status })),
            Err(fault) => Err(parts.unreadable(fault)),
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
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(binding) => &mut Arc::make_mut(binding).metadata,
            Err(unreadable) => &mut unreadable.metadata,
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
    fn a_binding_that_is_larger_than_any_needs_to_be_is_not_kept() {
        let read = |spec: serde_json::Value| {
            let binding =
                json!({"metadata": {"name": "b", "annotations": {"bindery.dev/sync": "x".repeat(2000)}}, "spec": spec});
            let binding: BindingObject = serde_json::from_value(binding).unwrap();
            assert!(binding.annotations().is_empty());
            binding.0.err().map(|unreadable| unreadable.fault)
        };
        let globs = |count: usize| json!({"dataFrom": [{"secret": "a", "include": vec!["a"; count]}]});
        let entry = |number: usize| json!({"key": format!("K{number}"), "from": {"secret": "a", "key": "b", "versionStage": "c"}, "encoding": "None", "optional": true});
        let largest: Vec<_> = (0..500).map(entry).collect();
        assert_eq!(read(json!({"data": largest})), None);
        for (spec, says) in [
            (
                json!({"dataFrom": [{"secret": "a"}], "target": {"template": {"A": "x".repeat(140_000)}}}),
                "spec is too large: it has 1400",
            ),
            (globs(5000), "and 5005 values"),
        ] {
            let fault = read(spec).unwrap();
            assert!(fault.contains(says), "{fault}");
        }
    }

    #[test]
    fn a_status_that_somebody_filled_is_not_kept() {
        let read = |status: serde_json::Value| {
            let spec = json!({"dataFrom": [{"secret": "a"}]});
            let binding = json!({"metadata": {"name": "b"}, "spec": spec, "status": status});
            serde_json::from_value::<BindingObject>(binding).unwrap().0
        };
        assert!(read(json!({"grant": "x".repeat(300_000)})).is_ok());
        for status in [json!({"later": "x".repeat(600_000)}), json!({"conditions": vec![json!({}); 40_000]})] {
            let unreadable = read(status).err().unwrap();
            assert!(unreadable.fault.contains("status is too large"), "{}", unreadable.fault);
            assert!(unreadable.conditions.is_empty());
        }
    }

    #[test]
    fn of_the_metadata_is_kept_what_is_used() {
        let metadata = json!({
            "name": "b", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "annotations": {"bindery.dev/sync": "1", "kubectl.kubernetes.io/last-applied-configuration": "{}"}, "labels": {"team": "x"},
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
