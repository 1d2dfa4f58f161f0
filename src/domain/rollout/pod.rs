//! The manifest of a pod, as far as restarts and overlaps need it. All else is passed over as it is read, since anybody may
//! make pods as large as the API server takes: of a list of fields only those that refer to a Secret are kept.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// The manifest of a pod.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct PodManifest {
    pub(super) metadata: PodMetadata,
    pub(super) spec: Option<PodSpec>,
    #[serde(default, deserialize_with = "nullable")]
    status: PodStatus,
}

impl PodManifest {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its creation time by the clock of the API server, in whole seconds.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// What it runs.
    #[must_use]
    pub const fn spec(&self) -> Option<&PodSpec> {
        self.spec.as_ref()
    }

    /// Its controller.
    #[must_use]
    pub fn controller(&self) -> Option<&PodOwner> {
        self.metadata.owner_references.iter().find(|owner| owner.controller == Some(true))
    }
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodMetadata {
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) labels: BTreeMap<String, String>,
    creation_timestamp: Option<Time>,
    pub(super) deletion_timestamp: Option<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "nullable")]
    owner_references: Vec<PodOwner>,
}

/// An owner of a pod.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct PodOwner {
    /// Its kind.
    pub kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    controller: Option<bool>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
struct PodStatus {
    phase: Option<String>,
}

/// The specification of a pod.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub(super) containers: Kept<Container>,
    pub(super) init_containers: Kept<Container>,
    pub(super) ephemeral_containers: Kept<Container>,
    pub(super) volumes: Kept<Volume>,
}

impl PodSpec {
    /// The containers of every kind.
    pub(super) fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.0.iter().chain(&self.init_containers.0).chain(&self.ephemeral_containers.0)
    }
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) env: Kept<EnvVar>,
    pub(super) env_from: Kept<EnvFrom>,
    pub(super) volume_mounts: Kept<VolumeMount>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EnvVar {
    pub(super) value_from: Option<EnvSource>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EnvSource {
    pub(super) secret_key_ref: Option<KeySelector>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct KeySelector {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) optional: Option<bool>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EnvFrom {
    pub(super) secret_ref: Option<EnvSecret>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct EnvSecret {
    pub(super) name: String,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct VolumeMount {
    pub(super) name: String,
    pub(super) sub_path: Option<String>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) secret: Option<SecretVolume>,
    pub(super) projected: Option<Projected>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SecretVolume {
    pub(super) secret_name: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) items: Vec<Item>,
    pub(super) optional: Option<bool>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Projected {
    pub(super) sources: Kept<ProjectedSource>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct ProjectedSource {
    pub(super) secret: Option<SecretProjection>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct SecretProjection {
    pub(super) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) items: Vec<Item>,
    pub(super) optional: Option<bool>,
}

/// A key of a Secret, and its path in a volume.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct Item {
    /// The key.
    pub key: String,
    /// The path.
    pub path: String,
}

/// A field that may be null, as fields of custom resources are stored.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(field: D) -> Result<T, D::Error> {
    Option::deserialize(field).map(Option::unwrap_or_default)
}

/// Whether an element of a list is kept.
pub(super) trait Keep {
    /// Whether it matters here.
    fn matters(&self) -> bool;
}

impl Keep for Container {
    fn matters(&self) -> bool {
        !(self.env.0.is_empty() && self.env_from.0.is_empty() && self.volume_mounts.0.is_empty())
    }
}

impl Keep for EnvVar {
    fn matters(&self) -> bool {
        self.value_from.as_ref().is_some_and(|from| from.secret_key_ref.is_some())
    }
}

impl Keep for EnvFrom {
    fn matters(&self) -> bool {
        self.secret_ref.is_some()
    }
}

impl Keep for VolumeMount {
    fn matters(&self) -> bool {
        true
    }
}

impl Keep for Volume {
    fn matters(&self) -> bool {
        self.secret.is_some() || self.projected.as_ref().is_some_and(|projected| !projected.sources.0.is_empty())
    }
}

impl Keep for ProjectedSource {
    fn matters(&self) -> bool {
        self.secret.is_some()
    }
}

/// The elements of a list that matter here.
#[derive(Clone, Debug)]
pub(super) struct Kept<T>(pub(super) Vec<T>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Keep + Deserialize<'de>> Deserialize<'de> for Kept<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(std::marker::PhantomData<T>);

        impl<'de, T: Keep + Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Kept<T>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kept<T>, A::Error> {
                let mut kept = Vec::new();
                while let Some(element) = list.next_element::<T>()? {
                    if element.matters() {
                        kept.push(element);
                    }
                }
                Ok(Kept(kept))
            }

            fn visit_unit<E>(self) -> Result<Kept<T>, E> {
                Ok(Kept::default())
            }
        }
        deserializer.deserialize_any(List(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_pod_is_kept_what_refers_to_a_secret() {
        let plain = |number: usize| json!({"name": format!("V{number}"), "value": "x".repeat(100)});
        let mut env: Vec<_> = (0..1000).map(plain).collect();
        env.push(json!({"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "A", "optional": true}}}));
        env.push(json!({"name": "C", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "A"}}}));
        let pod: PodManifest = serde_json::from_value(json!({
            "metadata": {"name": "p", "creationTimestamp": "2027-01-01T00:00:00Z", "managedFields": 7, "annotations": [],
                "ownerReferences": [{"kind": "Job", "name": "j", "uid": "u", "controller": true}]},
            "spec": {"containers": [{"name": "c", "env": env}, {"name": "idle"}], "initContainers": null,
                "volumes": [{"name": "v", "emptyDir": {}}]},
            "status": {"phase": "Failed", "conditions": "whatever"},
        }))
        .unwrap();
        let spec = pod.spec().unwrap();
        assert_eq!((spec.containers.0.len(), spec.containers.0[0].env.0.len(), spec.volumes.0.len()), (1, 1, 0));
        assert!(
            pod.has_ended() && pod.created().is_some() && pod.controller().is_some_and(|owner| owner.kind == "Job")
        );
    }
}
