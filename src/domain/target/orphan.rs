//! Secrets that a binding published under an earlier `spec.target.name`.
//!
//! A rename publishes the new Secret first. The old one goes when nothing can mount it any more: a pod that restarts
//! in between must find what its template names.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::api::DeletionPolicy;
use crate::domain::binding::Binding;
use crate::domain::target::ObservedSecret;

/// A Secret to delete once it is out of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The resource version that was seen.
    pub resource_version: String,
}

/// Finds them by their owner reference among the `secrets` of the binding's namespace, by name. With `Retain` there is
/// none: what is to stay with the binding gone stays with its name gone as well.
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

/// Whether a pod of this specification reads the Secret `name`: as variables, as a volume, or to pull its images.
#[must_use]
pub fn refers_to(pod: &PodSpec, name: &str) -> bool {
    let by_variables = |container: &Container| variables(container).any(|secret| secret == name);
    let containers = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    let ephemeral = pod.ephemeral_containers.iter().flatten().any(|container| {
        let env = container.env.iter().flatten();
        let single = env.filter_map(|env| env.value_from.as_ref()?.secret_key_ref.as_ref()).map(|key| &key.name);
        let whole =
            container.env_from.iter().flatten().filter_map(|from| from.secret_ref.as_ref()).map(|from| &from.name);
        single.chain(whole).any(|secret| secret == name)
    });
    let mut volumes = pod.volumes.iter().flatten().flat_map(|volume| {
        let plain = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref());
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let projected = projected.filter_map(|source| source.secret.as_ref()).map(|secret| secret.name.as_str());
        let csi =
            volume.csi.as_ref().and_then(|csi| csi.node_publish_secret_ref.as_ref()).map(|secret| secret.name.as_str());
        plain.into_iter().chain(projected).chain(csi)
    });
    let mut pulls = pod.image_pull_secrets.iter().flatten().map(|secret| secret.name.as_str());
    containers.into_iter().any(by_variables)
        || ephemeral
        || volumes.any(|secret| secret == name)
        || pulls.any(|secret| secret == name)
}

fn variables(container: &Container) -> impl Iterator<Item = &str> {
    let env = container.env.iter().flatten();
    let single = env.filter_map(|env| env.value_from.as_ref()?.secret_key_ref.as_ref()).map(|key| key.name.as_str());
    let whole =
        container.env_from.iter().flatten().filter_map(|from| from.secret_ref.as_ref()).map(|from| from.name.as_str());
    single.chain(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{SecretBinding, SecretBindingSpec};
    use crate::domain::fingerprint::FingerprintKey;
    use serde_json::json;
    use zeroize::Zeroizing;

    #[test]
    fn a_pod_refers_to_a_secret_in_each_way_that_kubernetes_knows() {
        let container = |rest: serde_json::Value| {
            let mut container = json!({"name": "c"});
            container.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            container
        };
        let by_key =
            container(json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}));
        let whole = container(json!({"envFrom": [{"secretRef": {"name": "s"}}]}));
        let plain =
            container(json!({"env": [{"name": "A", "value": "s"}], "envFrom": [{"configMapRef": {"name": "s"}}]}));
        for (spec, refers) in [
            (json!({"containers": [by_key]}), true),
            (json!({"containers": [whole]}), true),
            (json!({"containers": [plain], "initContainers": [whole]}), true),
            (json!({"containers": [plain], "ephemeralContainers": [whole]}), true),
            (json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}), true),
            (
                json!({"containers": [], "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]}),
                true,
            ),
            (
                json!({"containers": [], "volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}]}),
                true,
            ),
            (json!({"containers": [], "imagePullSecrets": [{"name": "s"}]}), true),
            (json!({"containers": [plain], "volumes": [{"name": "s", "configMap": {"name": "s"}}]}), false),
            (json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "s2"}}]}), false),
        ] {
            let pod: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(refers_to(&pod, "s"), refers, "{spec}");
        }
    }

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
