//! How the API server names the kinds of workloads.

use kube::core::{ApiResource, GroupVersionKind};

use crate::api::WorkloadKind;

/// How the API server names a kind of workload.
#[must_use]
pub fn resource(kind: WorkloadKind) -> ApiResource {
    let (group, version, plural) = match kind {
        WorkloadKind::Deployment => ("apps", "v1", "deployments"),
        WorkloadKind::StatefulSet => ("apps", "v1", "statefulsets"),
        WorkloadKind::DaemonSet => ("apps", "v1", "daemonsets"),
        WorkloadKind::Rollout => ("argoproj.io", "v1alpha1", "rollouts"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind.as_str()), plural)
}
