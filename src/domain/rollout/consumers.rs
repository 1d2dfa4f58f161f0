//! The keys of a Secret that a pod uses.
//!
//! Sources: <https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets> and the API of `EnvVar`,
//! `EnvFromSource`, `SecretVolumeSource` and `SecretProjection`.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::rollout::pod::{Item, PodSpec, Volume, VolumeMount};

/// Whoever uses more keys than this, their length added up, uses the whole Secret.
const MAX_KEYS: usize = 16 << 10;

/// The keys of a Secret that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uses {
    /// None: the pod does not refer to the Secret, or only for the kubelet to pull images or to mount a CSI volume.
    Nothing,
    /// Every key, also those that are added later.
    Whole,
    /// These keys; the flag says that every reference to the key is `optional: true`, so that the pod also starts
    /// without it. Never empty.
    Keys(BTreeMap<String, bool>),
}

impl Uses {
    /// Whether the pod uses `key`.
    #[must_use]
    pub fn sees(&self, key: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Whole => true,
            Self::Keys(keys) => keys.contains_key(key),
        }
    }
}

/// One use of a Secret of the namespace by a pod. The kubelet reads credentials of registries and CSI drivers: those are no
/// uses.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Use<'a> {
    /// The name of the Secret.
    secret: &'a str,
    /// The kind of the use.
    kind: UseKind<'a>,
}

/// The kind of a use.
#[derive(Clone, Copy, Debug, PartialEq)]
enum UseKind<'a> {
    /// A variable from one key, and whether the pod starts without it.
    EnvKey(&'a str, bool),
    /// A variable from each key.
    EnvFrom,
    /// Files, in a volume of the Secret alone or in a projected one.
    Files {
        /// The volume.
        volume: &'a str,
        /// The keys with their paths; empty for every key.
        items: &'a [Item],
        /// Whether the pod starts without the keys.
        optional: bool,
    },
}

/// Each use of a Secret by a pod.
fn all_uses(pod: &PodSpec) -> impl Iterator<Item = Use<'_>> {
    let variables = pod.all_containers().flat_map(|container| {
        let keys = container.env.0.iter().filter_map(|env| env.value_from.as_ref()?.secret_key_ref.as_ref());
        let keys =
            keys.map(|key| Use { secret: &key.name, kind: UseKind::EnvKey(&key.key, key.optional.unwrap_or(false)) });
        let whole = container.env_from.0.iter().filter_map(|from| from.secret_ref.as_ref());
        keys.chain(whole.map(|from| Use { secret: &from.name, kind: UseKind::EnvFrom }))
    });
    variables.chain(pod.volumes.0.iter().flat_map(volume))
}

fn volume(volume: &Volume) -> impl Iterator<Item = Use<'_>> {
    let files =
        |secret, items, optional| Use { secret, kind: UseKind::Files { volume: &volume.name, items, optional } };
    let plain = volume.secret.iter().filter_map(|of| Some((of.secret_name.as_deref()?, &*of.items, of.optional)));
    let projected = volume.projected.iter().flat_map(|projected| &projected.sources.0);
    let projected = projected.filter_map(|source| source.secret.as_ref());
    plain
        .chain(projected.map(|of| (of.name.as_str(), &*of.items, of.optional)))
        .map(move |(secret, items, optional)| files(secret, items, optional.unwrap_or(false)))
}

/// The paths of a volume that the containers see, where each mounts one by `subPath`. `None` where one of them mounts the
/// whole volume, or a path that only the kubelet knows, or where none mounts it.
fn sub_paths(pod: &PodSpec, volume: &str) -> Option<BTreeSet<String>> {
    let mounts = pod.all_containers().flat_map(|container| &container.volume_mounts.0);
    let mounts = mounts.filter(|mount| mount.name == volume);
    mounts.map(sub_path).collect::<Option<BTreeSet<String>>>().filter(|paths| !paths.is_empty())
}

/// The path that a mount shows of its volume. The kubelet keeps the files in folders whose names begin with two dots.
fn sub_path(mount: &VolumeMount) -> Option<String> {
    let parts = mount.sub_path.as_deref()?.split('/').filter(|part| !matches!(*part, "" | "."));
    let path = parts.collect::<Vec<_>>().join("/");
    (!path.is_empty() && !path.starts_with("..")).then_some(path)
}

/// The keys of a volume with these items that are seen under `paths`. Without items each key is a file of its name.
fn keys_at(items: &[Item], paths: &BTreeSet<String>) -> BTreeSet<String> {
    if items.is_empty() {
        return paths.iter().filter_map(|path| path.split('/').next()).map(str::to_owned).collect();
    }
    let shown = |item: &&Item| {
        let below = |path: &String| item.path.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'));
        paths.contains(&item.path) || paths.iter().any(below)
    };
    items.iter().filter(shown).map(|item| item.key.clone()).collect()
}

/// The keys of the Secret `secret` that a pod of this specification uses.
#[must_use]
pub fn uses(pod: &PodSpec, secret: &str) -> Uses {
    let mut keys: BTreeMap<String, bool> = BTreeMap::new();
    let mut add = |key: &str, optional: bool| {
        keys.entry(key.to_owned()).and_modify(|all| *all &= optional).or_insert(optional);
    };
    for found in all_uses(pod).filter(|found| found.secret == secret) {
        match found.kind {
            UseKind::EnvFrom => return Uses::Whole,
            UseKind::EnvKey(key, optional) => add(key, optional),
            UseKind::Files { volume, items, optional } => match sub_paths(pod, volume) {
                None if items.is_empty() => return Uses::Whole,
                None => items.iter().for_each(|item| add(&item.key, optional)),
                Some(paths) => keys_at(items, &paths).iter().for_each(|key| add(key, optional)),
            },
        }
    }
    // Memory has the keys of each workload and pod. A pod can name any number.
    let length: usize = keys.keys().map(String::len).sum();
    match length {
        0 => Uses::Nothing,
        1..=MAX_KEYS => Uses::Keys(keys),
        _ => Uses::Whole,
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
    fn a_key_that_is_mounted_by_sub_path_is_that_key_alone() {
        let pod = |mounts: &[Value], source: &Value| {
            let mounts: Vec<Value> = mounts
                .iter()
                .map(|mount| {
                    let mut mount = mount.clone();
                    mount["name"] = json!("v");
                    mount["mountPath"] = json!("/m");
                    mount
                })
                .collect();
            json!({"containers": [{"name": "c", "volumeMounts": mounts}], "volumes": [source]})
        };
        let plain = json!({"name": "v", "secret": {"secretName": "s"}});
        let chosen = json!({"name": "v", "secret": {"secretName": "s", "items": [
            {"key": "A", "path": "dir/a"}, {"key": "B", "path": "dir/b"}, {"key": "C", "path": "c"}]}});
        let projected = json!({"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}});
        let at = |path: &str| json!({"subPath": path});
        for (pod, expected) in [
            (pod(&[at("A")], &plain), keys(&[("A", false)])),
            (pod(&[at("./A/"), at("B")], &plain), keys(&[("A", false), ("B", false)])),
            (pod(&[at("A")], &projected), keys(&[("A", false)])),
            (pod(&[at("dir/a")], &chosen), keys(&[("A", false)])),
            (pod(&[at("dir")], &chosen), keys(&[("A", false), ("B", false)])),
            (pod(&[at("di")], &chosen), Uses::Nothing),
            (pod(&[at("A"), json!({})], &plain), Uses::Whole),
            (pod(&[at("A"), json!({"subPathExpr": "$(KEY)"})], &plain), Uses::Whole),
            (pod(&[at("..data")], &plain), Uses::Whole),
            (pod(&[at(".")], &plain), Uses::Whole),
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
