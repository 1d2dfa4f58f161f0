//! Restarts as users write them, and as the status shows them.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which workloads are restarted when values change that they use.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.policy) && self.policy == 'Listed') == (has(self.workloads) && self.workloads.size() > 0)").message("policy: Listed and workloads belong together"))]
pub struct RestartSpec {
    /// Which workloads. The default is `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RestartPolicy>,

    /// The workloads of `policy: Listed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub workloads: Vec<WorkloadReference>,

    /// When restarts may begin. The default is at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RestartWindow>,
}

/// Which workloads are restarted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// None.
    #[default]
    Never,
    /// Those of the namespace whose pod template refers to the target Secret, by environment or volume. One that
    /// names single keys is restarted only when one of those changed.
    Consumers,
    /// Those under `workloads`.
    Listed,
}

/// A workload of the binding's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadReference {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl fmt::Display for WorkloadReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// A kind of workload that can be restarted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `argoproj.io/v1alpha1` Rollout, where its CRD is installed.
    Rollout,
}

impl WorkloadKind {
    /// The kind as manifests name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Rollout => "Rollout",
        }
    }
}

/// A window of time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RestartWindow {
    /// When it opens, as a cron expression of five fields.
    #[schemars(length(min = 9, max = 128))]
    pub schedule: String,
    /// How long it stays open.
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]+(d|h|m|s))+$"))]
    pub duration: String,
    /// The time zone of `schedule`. The default is `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// How far the workloads are that use what was published.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// A digest of the changes that all workloads are known to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled: Option<String>,
    /// The workloads that do not run the current values yet, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// The workloads whose restart failed, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}
