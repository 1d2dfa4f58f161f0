//! A grant as the watch delivers it. One that this version cannot read allows nothing, and must not stop the others.

use std::borrow::Cow;
use std::sync::Arc;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{Deserialize, Deserializer};

use crate::api::SecretGrant;
use crate::kubernetes::unreadable::{Parts, Unreadable, read_part};

/// A grant, or what is known of one that this version cannot read.
#[derive(Clone, Debug)]
pub struct GrantObject(pub Result<Arc<SecretGrant>, Box<Unreadable>>);

impl<'de> Deserialize<'de> for GrantObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::deserialize(deserializer)?;
        Ok(Self(match read_part("spec", &parts.spec) {
            Ok(spec) => {
                // Nothing is decided by the status, and one that cannot be read is written anew.
                let status = Deserialize::deserialize(&parts.status).unwrap_or_default();
                Ok(Arc::new(SecretGrant { metadata: parts.metadata(), spec, status }))
            }
            Err(fault) => Err(parts.unreadable(fault)),
        }))
    }
}

impl Resource for GrantObject {
    type DynamicType = ();
    type Scope = <SecretGrant as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        SecretGrant::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        SecretGrant::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        SecretGrant::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        SecretGrant::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(grant) => &grant.metadata,
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(grant) => &mut Arc::make_mut(grant).metadata,
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
    fn a_grant_whose_end_is_beyond_all_time_does_not_stop_the_others() {
        let spec = |end: &str| json!({"namespaces": {"names": ["n"]}, "secrets": [{"name": "a"}], "expiresAt": end});
        let stored = json!([
            {"metadata": {"name": "good"}, "spec": spec("2027-01-01T00:00:00Z")},
            {"metadata": {"name": "beyond"}, "spec": spec("9999-12-31T23:59:59Z"), "status": {"conditions": [{"type": "Ready"}]}},
            {"metadata": {"name": "odd"}, "spec": spec("2027-01-01T00:00:00Z"), "status": {"conditions": "all well"}},
            {"metadata": {"name": "newer"}, "spec": {"namespaces": {"names": ["n"]}, "vaults": []}},
        ]);
        let list: Vec<GrantObject> = serde_json::from_value(stored).unwrap();
        let read: Vec<(String, bool)> = list.iter().map(|grant| (grant.name_any(), grant.0.is_ok())).collect();
        let expected = [("good", true), ("beyond", false), ("odd", true), ("newer", false)];
        assert_eq!(read, expected.map(|(name, ok)| (name.to_owned(), ok)));
        let beyond = list[1].0.as_ref().unwrap_err();
        assert!(beyond.fault.starts_with("spec.expiresAt cannot be read by this version of Bindery: "), "{beyond:?}");
        assert_eq!(beyond.conditions.len(), 1);
    }
}
