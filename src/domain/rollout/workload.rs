//! Workloads and pods, reduced to what decides a restart.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::core::{Selector, SelectorExt as _};

use crate::api::{ANNOTATION_RESTART, RESTART_FIELD_MANAGER, WorkloadKind, WorkloadReference};
use crate::domain::rollout::consumers::{Uses, uses};
use crate::domain::rollout::manifest::{WorkloadManifest, WorkloadStatus};
use crate::domain::rollout::mark::SecretDigests;
use crate::domain::rollout::progress::{PodProgress, progress};

/// The workloads that a binding restarts, as they were observed.
#[derive(Clone, Debug, Default)]
pub struct ObservedWorkloads {
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// The pods of the namespace.
    pub pods: Vec<ObservedPod>,
    /// The digests of the values, where a mark matters.
    pub digests: Option<SecretDigests>,
}

/// A workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its kind and name.
    pub reference: WorkloadReference,
    /// The observed resource version.
    pub resource_version: String,
    /// The keys of the target that its pod template uses.
    pub uses: Uses,
    /// The mark on its pod template.
    pub mark: Option<String>,
    /// Whether it opts out of restarts.
    pub opts_out: bool,
    /// The state of its pods.
    pub progress: PodProgress,
    /// The counts of its status, which move while pods are replaced.
    pub counts: WorkloadStatus,
    /// The other writer of the mark; if there is none, the last other writer of the workload.
    pub other_manager: Option<String>,
    uid: String,
    selector: Option<Selector>,
}

impl Workload {
    /// Reduces a manifest. `None` without a pod template: an Argo Rollout may refer to that of a Deployment.
    #[must_use]
    pub fn new(kind: WorkloadKind, manifest: &WorkloadManifest, target: &str, annotation: &str) -> Option<Self> {
        let WorkloadManifest { metadata, spec, status, .. } = manifest;
        let template = spec.template.as_ref()?;
        let status = status.clone().unwrap_or_default();
        let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
        let opts_out = metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION_RESTART));
        Some(Self {
            reference: WorkloadReference { kind, name: metadata.name.clone().unwrap_or_default() },
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            uses: template.spec.as_ref().map_or(Uses::Nothing, |pod| uses(pod, target)),
            mark: annotations.and_then(|annotations| annotations.get(annotation)).cloned(),
            opts_out: opts_out.is_some_and(|text| text == "false"),
            progress: progress(kind, metadata.generation.unwrap_or_default(), spec, &status),
            counts: status,
            other_manager: other_manager(metadata, annotation),
            uid: metadata.uid.clone().unwrap_or_default(),
            selector: spec.selector.clone().and_then(|selector| selector.try_into().ok()),
        })
    }

    /// Whether the pod belongs to this workload, by its controller and its labels. The name of a Deployment's ReplicaSet
    /// begins with the name of the Deployment.
    fn owns(&self, pod: &ObservedPod) -> bool {
        let Some(owner) = &pod.owner else { return false };
        let by_owner = match self.reference.kind {
            WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => owner.uid == self.uid,
            WorkloadKind::Deployment | WorkloadKind::Rollout => {
                let rest = owner.name.strip_prefix(&self.reference.name);
                owner.kind == "ReplicaSet" && rest.is_some_and(|rest| rest.starts_with('-') && !rest[1..].contains('-'))
            }
        };
        by_owner && self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
    }

    /// The pods of this workload.
    pub fn pods<'a>(&'a self, pods: &'a [ObservedPod]) -> impl Iterator<Item = &'a ObservedPod> {
        pods.iter().filter(|pod| self.owns(pod))
    }
}

/// The last writer other than Bindery and the controllers that write status. A writer that only removes a field leaves no
/// trace in `managedFields`.
fn other_manager(metadata: &ObjectMeta, annotation: &str) -> Option<String> {
    let mark = format!("f:{annotation}");
    let wrote_mark = |entry: &ManagedFieldsEntry| {
        let steps = ["f:spec", "f:template", "f:metadata", "f:annotations", mark.as_str()];
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        steps.iter().try_fold(fields?, |fields, step| fields.get(step)).map(|_| ())
    };
    let entries = metadata.managed_fields.iter().flatten();
    let others = entries.filter(|entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() != Some(RESTART_FIELD_MANAGER)
            && entry.subresource.as_deref().is_none_or(str::is_empty)
    });
    others
        .max_by_key(|entry| (wrote_mark(entry), entry.time.as_ref().map(|time| time.0)))
        .and_then(|entry| entry.manager.clone())
}

/// A pod that has not ended and is not ending.
#[derive(Clone, Debug)]
pub struct ObservedPod {
    /// Its creation time by the clock of the API server, in whole seconds.
    pub created: Timestamp,
    /// The keys of the target that it uses.
    pub uses: Uses,
    labels: BTreeMap<String, String>,
    owner: Option<Owner>,
}

#[derive(Clone, Debug)]
struct Owner {
    kind: String,
    name: String,
    uid: String,
}

impl ObservedPod {
    /// Reduces a pod. `None` if it has ended or is being deleted: a new pod replaces it.
    #[must_use]
    pub fn new(pod: &Pod, target: &str) -> Option<Self> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
        Some(Self {
            created: pod.metadata.creation_timestamp.as_ref()?.0,
            uses: pod.spec.as_ref().map_or(Uses::Nothing, |pod| uses(pod, target)),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            owner: owner.map(|owner| Owner {
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workload(kind: WorkloadKind, manifest: serde_json::Value) -> Option<Workload> {
        let manifest: WorkloadManifest = serde_json::from_value(manifest).unwrap();
        Workload::new(kind, &manifest, "s", "secrets.bindery.dev/s")
    }

    fn manifest(name: &str) -> serde_json::Value {
        let pod = json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]});
        let template =
            json!({"metadata": {"labels": {"app": "a"}, "annotations": {"secrets.bindery.dev/s": "m"}}, "spec": pod});
        json!({
            "metadata": {"name": name, "uid": "u", "resourceVersion": "7", "generation": 2, "managedFields": [
                {"manager": "kube-controller-manager", "subresource": "status", "time": "2027-01-01T00:00:09Z"},
                {"manager": "bindery-restart", "time": "2027-01-01T00:00:08Z"},
                {"manager": "argocd", "time": "2027-01-01T00:00:07Z"},
                {"manager": "kubectl", "time": "2027-01-01T00:00:06Z"},
            ]},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
        })
    }

    #[allow(clippy::needless_pass_by_value, reason = "it is given json! literals")]
    fn pod(kind: &str, owner: &str, app: &str, more: serde_json::Value) -> Option<ObservedPod> {
        let owners = json!([{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u", "controller": true}]);
        let metadata = json!({"name": "p", "creationTimestamp": "2027-01-01T00:00:00Z", "labels": {"app": app}, "ownerReferences": owners});
        let mut pod = json!({"metadata": metadata, "spec": {"containers": []}});
        pod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ObservedPod::new(&serde_json::from_value(pod).unwrap(), "s")
    }

    #[test]
    fn a_manifest_is_reduced() {
        let web = workload(WorkloadKind::Deployment, manifest("web")).unwrap();
        assert_eq!((web.uses.clone(), web.mark.as_deref(), web.opts_out), (Uses::Whole, Some("m"), false));
        assert_eq!(web.other_manager.as_deref(), Some("argocd"));
        let mut out = manifest("web");
        out["metadata"]["annotations"] = json!({"bindery.dev/restart": "false"});
        assert!(workload(WorkloadKind::Deployment, out).unwrap().opts_out);
        assert!(
            workload(WorkloadKind::Rollout, json!({"metadata": {"name": "r"}, "spec": {"workloadRef": {}}})).is_none()
        );
    }

    #[test]
    fn a_pod_belongs_to_the_workload_that_controls_it() {
        let web = workload(WorkloadKind::Deployment, manifest("web")).unwrap();
        let set = workload(WorkloadKind::StatefulSet, manifest("web")).unwrap();
        let of = |kind: &str, owner: &str, app: &str| pod(kind, owner, app, json!({})).unwrap();
        assert!(web.owns(&of("ReplicaSet", "web-5d8f", "a")));
        assert!(!web.owns(&of("ReplicaSet", "web-api-5d8f", "a")), "that is web-api's");
        assert!(!web.owns(&of("ReplicaSet", "web-5d8f", "b")) && !web.owns(&of("Job", "web-5d8f", "a")));
        assert!(set.owns(&of("StatefulSet", "web", "a")) && set.owns(&of("StatefulSet", "x", "a")), "by uid");
        for ended in [json!({"status": {"phase": "Succeeded"}}), json!({"status": {"phase": "Failed"}})] {
            assert!(pod("ReplicaSet", "web-5d8f", "a", ended).is_none());
        }
    }
}
