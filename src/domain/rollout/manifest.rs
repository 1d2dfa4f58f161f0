//! The manifests of workloads, as far as restarts need them.
//!
//! Deployments, StatefulSets, DaemonSets and Argo Rollouts have these fields in common, so the same types read all four.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::rollout::pod::{PodSpec, nullable};

/// The manifest of a workload.
#[derive(Clone, Debug, Deserialize)]
pub struct WorkloadManifest {
    pub(super) metadata: WorkloadMetadata,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) spec: WorkloadSpec,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) status: WorkloadStatus,
}

/// The fields of a workload's metadata that restarts need.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkloadMetadata {
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default)]
    pub(super) generation: i64,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) annotations: BTreeMap<String, String>,
    /// Unread, since a restart goes on without them.
    pub(super) managed_fields: Option<Box<RawValue>>,
}

/// A pod template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodTemplate {
    #[serde(deserialize_with = "nullable")]
    pub(super) metadata: TemplateMetadata,
    #[serde(deserialize_with = "nullable")]
    pub(super) spec: PodSpec,
}

/// The metadata of a pod template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TemplateMetadata {
    #[serde(deserialize_with = "nullable")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// The fields of a workload's spec that restarts need.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    pub(super) replicas: Option<i64>,
    pub(super) paused: bool,
    pub(super) selector: Option<LabelSelector>,
    pub(super) template: Option<PodTemplate>,
    pub(super) update_strategy: Option<UpdateStrategy>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UpdateStrategy {
    #[serde(rename = "type")]
    pub(super) type_: Option<String>,
    pub(super) rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RollingUpdate {
    pub(super) partition: Option<i64>,
}

/// The fields of a workload's status that restarts need.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// A number; a text at Argo Rollouts.
    pub(super) observed_generation: Option<serde_json::Value>,
    pub(super) replicas: i64,
    pub(super) updated_replicas: i64,
    pub(super) available_replicas: i64,
    pub(super) current_revision: Option<String>,
    pub(super) update_revision: Option<String>,
    pub(super) desired_number_scheduled: i64,
    pub(super) updated_number_scheduled: i64,
    pub(super) number_available: i64,
    pub(super) conditions: Vec<StatusCondition>,
    pub(super) phase: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct StatusCondition {
    #[serde(rename = "type")]
    pub(super) type_: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
}
