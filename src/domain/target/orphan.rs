//! Secrets that a binding published under an earlier `spec.target.name`.
//!
//! A rename publishes the new Secret first. The old one is deleted once no pod template refers to it: a pod that restarts
//! meanwhile must find the Secret that its template names. Anybody can copy an owner reference, so only a Secret that is
//! on record and that Bindery's own apply still holds is deleted.

use crate::api::FormerTarget;
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

/// The orphan that a Secret on record is. `None` where nothing is left of it, and where it is not proven
/// to be what Bindery published: without Bindery's own entry of an apply, which a restore or a copy by hand loses, and
/// without the owner reference of the binding.
#[must_use]
pub fn orphan(binding: &Binding, former: &FormerTarget, found: Option<&ObservedSecret>) -> Option<Orphan> {
    let secret = found.filter(|secret| !secret.ends && secret.observed.keys > 0 && is_of(binding, secret))?;
    // Another uid: somebody put it there since.
    if former.uid.as_ref().is_some_and(|uid| *uid != secret.observed.uid) {
        return None;
    }
    Some(Orphan {
        name: former.name.clone(),
        uid: secret.observed.uid.clone(),
        resource_version: secret.observed.resource_version.clone(),
    })
}

/// The names of the Secrets in the namespace, given by name, that carry the owner reference of the binding without being
/// its target or `known` to it.
#[must_use]
pub fn unproven<'a>(
    binding: &Binding,
    secrets: impl IntoIterator<Item = (&'a str, &'a ObservedSecret)>,
    known: impl Fn(&str) -> bool,
) -> Vec<String> {
    let claimed = secrets
        .into_iter()
        .filter(|(name, secret)| *name != binding.target.name && !secret.ends && is_of(binding, secret));
    let mut names: Vec<String> = claimed.filter(|(name, _)| !known(name)).map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names
}

fn is_of(binding: &Binding, secret: &ObservedSecret) -> bool {
    secret.owner.as_ref().is_some_and(|owner| owner.uid == binding.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{SecretBinding, SecretBindingSpec};
    use crate::domain::fingerprint::FingerprintKey;
    use serde_json::json;
    use zeroize::Zeroizing;

    fn binding() -> Binding {
        let spec: SecretBindingSpec =
            serde_json::from_value(json!({"dataFrom": [{"secret": "a"}], "target": {"name": "new"}})).unwrap();
        let mut manifest = SecretBinding::new("b", spec);
        manifest.metadata.namespace = Some("n".to_owned());
        manifest.metadata.uid = Some("uid-1".to_owned());
        Binding::parse(&manifest).ok().unwrap()
    }

    fn secret(name: &'static str, owner: &str, controller: bool, manager: &str) -> (&'static str, ObservedSecret) {
        let key = FingerprintKey::new(Zeroizing::new([7; 32]));
        let owners = json!([{"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "name": "b", "uid": owner, "controller": controller}]);
        let metadata = json!({
            "name": name, "namespace": "n", "uid": "s", "resourceVersion": "7", "ownerReferences": owners,
            "managedFields": [{"manager": manager, "operation": "Apply", "fieldsV1": {"f:data": {"f:A": {}}}}],
        });
        let meta = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}));
        (name, ObservedSecret::new(&meta.unwrap(), &key))
    }

    #[test]
    fn only_what_bindery_applied_for_this_binding_is_an_orphan() {
        for ((name, secret), expected) in [
            (secret("old", "uid-1", true, "bindery"), true),
            (secret("copied", "uid-1", true, "kubectl-create"), false),
            (secret("others", "uid-2", true, "bindery"), false),
            (secret("shared", "uid-1", false, "bindery"), false),
        ] {
            let former = |uid: Option<&str>| FormerTarget { name: name.to_owned(), uid: uid.map(str::to_owned) };
            for uid in [None, Some("s")] {
                assert_eq!(orphan(&binding(), &former(uid), Some(&secret)).is_some(), expected, "{name}");
            }
            assert_eq!(orphan(&binding(), &former(Some("earlier")), Some(&secret)), None, "{name}");
            assert_eq!(orphan(&binding(), &former(None), None), None);
        }
    }

    #[test]
    fn a_copy_with_the_owner_reference_is_named_and_nothing_else() {
        let secrets = [
            secret("new", "uid-1", true, "bindery"),
            secret("old", "uid-1", true, "bindery"),
            secret("copy", "uid-1", true, "kubectl-create"),
            secret("others", "uid-2", true, "bindery"),
        ];
        let secrets = secrets.iter().map(|(name, secret)| (*name, secret));
        assert_eq!(unproven(&binding(), secrets, |name| name == "old"), ["copy"]);
    }
}
