//! Secrets that a binding published under an earlier `spec.target.name`.
//!
//! A rename publishes the new Secret first. The old one is deleted once no pod template refers to it: a pod that restarts
//! meanwhile must find the Secret that its template names.

use crate::api::DeletionPolicy;
use crate::domain::binding::Binding;
use crate::domain::target::observed::ObservedSecret;

/// A Secret to delete once it is out of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The observed resource version.
    pub resource_version: String,
}

/// The orphans of a binding among the `secrets` of its namespace, given by name: those with its owner reference. With
/// `Retain` there is none, since a Secret that outlives its binding outlives a rename as well.
#[must_use]
pub fn find<'a>(binding: &Binding, secrets: impl IntoIterator<Item = (&'a str, &'a ObservedSecret)>) -> Vec<Orphan> {
    if binding.target.deletion_policy == DeletionPolicy::Retain {
        return Vec::new();
    }
    let owned = |(name, secret): &(&str, &ObservedSecret)| {
        *name != binding.target.name && !secret.ends && secret.owner.as_ref().is_some_and(|o| o.uid == binding.uid)
    };
    let mut found: Vec<Orphan> = secrets
        .into_iter()
        .filter(owned)
        .map(|(name, secret)| Orphan {
            name: name.to_owned(),
            uid: secret.observed.uid.clone(),
            resource_version: secret.observed.resource_version.clone(),
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{SecretBinding, SecretBindingSpec};
    use crate::domain::fingerprint::FingerprintKey;
    use serde_json::json;
    use zeroize::Zeroizing;

    #[test]
    fn only_what_the_binding_owns_under_another_name_is_left_over() {
        let binding = |policy: &str| {
            let spec: SecretBindingSpec = serde_json::from_value(
                json!({"dataFrom": [{"secret": "a"}], "target": {"name": "new", "deletionPolicy": policy}}),
            )
            .unwrap();
            let mut manifest = SecretBinding::new("b", spec);
            manifest.metadata.namespace = Some("n".to_owned());
            manifest.metadata.uid = Some("uid-1".to_owned());
            Binding::parse(&manifest, &[]).ok().unwrap()
        };
        let key = FingerprintKey::new(Zeroizing::new([7; 32]));
        let secret = |name: &'static str, owner: &str, controller: bool| {
            let owners = json!([{"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "name": "b", "uid": owner, "controller": controller}]);
            let metadata =
                json!({"name": name, "namespace": "n", "uid": "s", "resourceVersion": "7", "ownerReferences": owners});
            let meta = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}));
            (name, ObservedSecret::new(&meta.unwrap(), &key))
        };
        let secrets = [
            secret("old", "uid-1", true),
            secret("new", "uid-1", true),
            secret("others", "uid-2", true),
            secret("shared", "uid-1", false),
        ];
        let secrets = || secrets.iter().map(|(name, secret)| (*name, secret));
        let names = |policy| find(&binding(policy), secrets()).into_iter().map(|l| l.name).collect::<Vec<_>>();
        assert_eq!(names("Delete"), ["old"]);
        assert!(names("Retain").is_empty());
    }
}
