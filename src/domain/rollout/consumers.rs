//! What a pod can see of a Secret: all of it, or single keys.
//!
//! Sources: <https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets> and the API of `EnvVar`,
//! `EnvFromSource`, `SecretVolumeSource` and `SecretProjection`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, KeyToPath, PodSpec, Volume};

/// What a pod can see of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uses {
    /// Nothing: it does not refer to the Secret, or only to pull images or to mount a CSI volume, which the kubelet
    /// reads in the pod's place.
    Nothing,
    /// Every key, also those that are added later.
    Whole,
    /// These keys; the flag says that every reference to the key is `optional: true`, so that the pod also starts
    /// without it. Never empty.
    Keys(BTreeMap<String, bool>),
}

impl Uses {
    /// Whether `key` can be seen.
    #[must_use]
    pub fn sees(&self, key: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Whole => true,
            Self::Keys(keys) => keys.contains_key(key),
        }
    }
}

/// What a pod of this specification can see of the Secret named `secret` in its namespace.
#[must_use]
pub fn uses(pod: &PodSpec, secret: &str) -> Uses {
    let mut seen = Seen { secret, whole: false, keys: BTreeMap::new() };
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        seen.variables(container.env.as_deref(), container.env_from.as_deref());
    }
    for container in pod.ephemeral_containers.iter().flatten() {
        seen.variables(container.env.as_deref(), container.env_from.as_deref());
    }
    pod.volumes.iter().flatten().for_each(|volume| seen.volume(volume));
    match seen {
        Seen { whole: true, .. } => Uses::Whole,
        Seen { keys, .. } if keys.is_empty() => Uses::Nothing,
        Seen { keys, .. } => Uses::Keys(keys),
    }
}

struct Seen<'a> {
    secret: &'a str,
    whole: bool,
    keys: BTreeMap<String, bool>,
}

impl Seen<'_> {
    fn variables(&mut self, env: Option<&[EnvVar]>, env_from: Option<&[EnvFromSource]>) {
        for selector in
            env.unwrap_or_default().iter().filter_map(|env| env.value_from.as_ref()?.secret_key_ref.as_ref())
        {
            if selector.name == self.secret {
                self.key(&selector.key, selector.optional);
            }
        }
        let mut from = env_from.unwrap_or_default().iter().filter_map(|from| from.secret_ref.as_ref());
        self.whole |= from.any(|from| from.name == self.secret);
    }

    fn volume(&mut self, volume: &Volume) {
        if let Some(source) = &volume.secret
            && source.secret_name.as_deref() == Some(self.secret)
        {
            self.items(source.items.as_deref(), source.optional);
        }
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for source in sources.filter_map(|source| source.secret.as_ref()) {
            if source.name == self.secret {
                self.items(source.items.as_deref(), source.optional);
            }
        }
    }

    /// Without `items` a volume holds every key.
    fn items(&mut self, items: Option<&[KeyToPath]>, optional: Option<bool>) {
        match items {
            None | Some([]) => self.whole = true,
            Some(items) => items.iter().for_each(|item| self.key(&item.key, optional)),
        }
    }

    fn key(&mut self, key: &str, optional: Option<bool>) {
        let optional = optional.unwrap_or(false);
        self.keys.entry(key.to_owned()).and_modify(|all| *all &= optional).or_insert(optional);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(pod: &Value) -> Uses {
        uses(&serde_json::from_value(pod.clone()).unwrap(), "s")
    }

    fn keys(keys: &[(&str, bool)]) -> Uses {
        Uses::Keys(keys.iter().map(|(key, optional)| ((*key).to_owned(), *optional)).collect())
    }

    #[allow(clippy::needless_pass_by_value, reason = "it is given json! literals")]
    fn env(secret: &str, key: &str, optional: Value) -> Value {
        json!({"name": "V", "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": optional}}})
    }

    #[test]
    fn each_way_to_read_a_secret_shows_what_it_shows() {
        let one = || json!({"name": "c", "env": [env("s", "A", Value::Null)]});
        let whole = || json!({"name": "c", "envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}]});
        let idle = || {
            json!({"name": "c", "env": [{"name": "A", "value": "s"}, env("s2", "A", Value::Null)],
            "envFrom": [{"configMapRef": {"name": "s"}}, {"secretRef": {"name": "s2"}}]})
        };
        let volume = |source: Value| json!({"containers": [idle()], "volumes": [source]});
        let projected = |source: Value| volume(json!({"name": "v", "projected": {"sources": [{"secret": source}]}}));
        let items = || json!([{"key": "A", "path": "a"}, {"key": "B", "path": "b"}]);
        for (pod, expected) in [
            (json!({"containers": [idle()]}), Uses::Nothing),
            (json!({"containers": [one()]}), keys(&[("A", false)])),
            (json!({"containers": [whole()]}), Uses::Whole),
            (json!({"containers": [one(), whole()]}), Uses::Whole),
            (json!({"containers": [idle()], "initContainers": [one()]}), keys(&[("A", false)])),
            (json!({"containers": [idle()], "initContainers": [whole()]}), Uses::Whole),
            (json!({"containers": [idle()], "ephemeralContainers": [one()]}), keys(&[("A", false)])),
            (json!({"containers": [idle()], "ephemeralContainers": [whole()]}), Uses::Whole),
            (volume(json!({"name": "v", "secret": {"secretName": "s"}})), Uses::Whole),
            (volume(json!({"name": "v", "secret": {"secretName": "s", "items": []}})), Uses::Whole),
            (volume(json!({"name": "v", "secret": {"secretName": "s2"}})), Uses::Nothing),
            (
                volume(json!({"name": "v", "secret": {"secretName": "s", "items": items(), "optional": true}})),
                keys(&[("A", true), ("B", true)]),
            ),
            (projected(json!({"name": "s"})), Uses::Whole),
            (projected(json!({"name": "s", "items": items()})), keys(&[("A", false), ("B", false)])),
            (projected(json!({"name": "s2", "items": items()})), Uses::Nothing),
            (volume(json!({"name": "s", "configMap": {"name": "s"}})), Uses::Nothing),
            (
                volume(json!({"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}})),
                Uses::Nothing,
            ),
            (json!({"containers": [idle()], "imagePullSecrets": [{"name": "s"}]}), Uses::Nothing),
        ] {
            assert_eq!(of(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn a_key_is_optional_only_where_every_reference_is() {
        let pod = |references: &[Value]| json!({"containers": [{"name": "c", "env": references}]});
        let (yes, no) = (|| env("s", "A", json!(true)), || env("s", "A", json!(false)));
        assert_eq!(of(&pod(&[yes()])), keys(&[("A", true)]));
        assert_eq!(of(&pod(&[yes(), no()])), keys(&[("A", false)]));
        assert_eq!(of(&pod(&[no(), yes()])), keys(&[("A", false)]));
        assert_eq!(of(&pod(&[yes(), yes(), env("s", "B", Value::Null)])), keys(&[("A", true), ("B", false)]));
    }

    #[test]
    fn a_key_is_seen_by_name_or_with_the_whole() {
        assert!(!Uses::Nothing.sees("A"));
        assert!(Uses::Whole.sees("A"));
        assert!(keys(&[("A", true)]).sees("A") && !keys(&[("A", true)]).sees("B"));
    }
}
