//! Workloads and pods, reduced to what decides a restart.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::{Selector, SelectorExt as _};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;

use crate::api::{ANNOTATION_RESTART, RESTART_FIELD_MANAGER, RESTART_MARK_PREFIX, WorkloadKind, WorkloadReference};
use crate::domain::rollout::consumers::{Uses, uses};
use crate::domain::rollout::manifest::WorkloadManifest;
use crate::domain::rollout::mark::SecretDigests;
use crate::domain::rollout::pod::PodManifest;
use crate::domain::rollout::progress::{PodProgress, Replaced, progress, replaced};

/// The workloads that a binding restarts, as they were observed.
#[derive(Clone, Debug, Default)]
pub struct ObservedWorkloads {
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// The pods of these workloads.
    pub pods: Vec<ObservedPod>,
    /// The workloads and pods that this version cannot read.
    pub unreadable: Vec<String>,
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
    /// How many pods are replaced; `None` while its controller has not seen its present template.
    pub replaced: Option<Replaced>,
    /// When Bindery last restarted it, by the clock of the API server.
    pub restarted: Option<Timestamp>,
    /// The other writer of the mark; if there is none, the last other writer of the workload.
    pub other_manager: Option<String>,
    uid: String,
    selector: Option<Selector>,
}

impl Workload {
    /// Reduces a manifest. `None` without a pod template: an Argo Rollout may refer to that of a Deployment.
    #[must_use]
    pub fn new(kind: WorkloadKind, manifest: &WorkloadManifest, target: &str, annotation: &str) -> Option<Self> {
        let WorkloadManifest { metadata, spec, status } = manifest;
        let template = spec.template.as_ref()?;
        let (generation, annotations) = (metadata.generation, &template.metadata.annotations);
        let writers = writers(metadata.managed_fields.as_deref());
        Some(Self {
            reference: WorkloadReference { kind, name: metadata.name.clone() },
            resource_version: metadata.resource_version.clone(),
            uses: uses(&template.spec, target),
            mark: annotations.get(annotation).cloned(),
            opts_out: metadata.annotations.get(ANNOTATION_RESTART).is_some_and(|text| text == "false"),
            progress: progress(kind, generation, spec, status),
            replaced: replaced(generation, status),
            restarted: restarted(&writers),
            other_manager: other_manager(&writers, annotation),
            uid: metadata.uid.clone(),
            selector: spec.selector.clone().and_then(|selector| selector.try_into().ok()),
        })
    }

    /// Whether the pod belongs to this workload, by its controller and its labels. The name of a Deployment's ReplicaSet
    /// begins with the name of the Deployment.
    fn owns(&self, pod: &PodManifest) -> bool {
        let Some(owner) = pod.controller() else { return false };
        let by_owner = match self.reference.kind {
            WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => owner.uid == self.uid,
            WorkloadKind::Deployment | WorkloadKind::Rollout => {
                let rest = owner.name.strip_prefix(&self.reference.name);
                owner.kind == "ReplicaSet" && rest.is_some_and(|rest| rest.starts_with('-') && !rest[1..].contains('-'))
            }
        };
        by_owner && self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.metadata.labels))
    }

    /// The pods of this workload.
    pub fn pods<'a>(&'a self, pods: &'a [ObservedPod]) -> impl Iterator<Item = &'a ObservedPod> {
        pods.iter().filter(|pod| pod.workloads.contains(&self.reference))
    }
}

/// A writer of a workload.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Writer {
    manager: String,
    subresource: String,
    time: Option<Time>,
    #[serde(rename = "fieldsV1", deserialize_with = "marks")]
    marks: Vec<String>,
}

/// The writers by the managed fields. What cannot be read of them is left out.
fn writers(managed_fields: Option<&RawValue>) -> Vec<Writer> {
    let entries: Vec<Box<RawValue>> =
        managed_fields.and_then(|fields| serde_json::from_str(fields.get()).ok()).unwrap_or_default();
    entries.iter().filter_map(|entry| serde_json::from_str(entry.get()).ok()).collect()
}

/// The annotations of the pod template that a writer set and that may be marks, as managed fields name them.
fn marks<'de, D: Deserializer<'de>>(fields: D) -> Result<Vec<String>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct OfWorkload {
        #[serde(rename = "f:spec")]
        spec: OfSpec,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct OfSpec {
        #[serde(rename = "f:template")]
        template: OfTemplate,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct OfTemplate {
        #[serde(rename = "f:metadata")]
        metadata: OfMetadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    #[allow(clippy::zero_sized_map_values, reason = "a set is no map to the reader")]
    struct OfMetadata {
        #[serde(rename = "f:annotations")]
        annotations: BTreeMap<String, IgnoredAny>,
    }
    let annotations = OfWorkload::deserialize(fields)?.spec.template.metadata.annotations;
    let names = annotations.into_keys().filter_map(|field| Some(field.strip_prefix("f:")?.to_owned()));
    Ok(names.filter(|name| name.starts_with(RESTART_MARK_PREFIX)).collect())
}

/// The time of the last restart. The entry of the field manager has the time of its last write.
fn restarted(writers: &[Writer]) -> Option<Timestamp> {
    let own = writers.iter().filter(|writer| writer.manager == RESTART_FIELD_MANAGER);
    own.filter_map(|writer| writer.time.as_ref().map(|time| time.0)).max()
}

/// The last writer other than Bindery and the controllers that write status. A writer that only removes a field leaves no
/// trace in `managedFields`.
fn other_manager(writers: &[Writer], annotation: &str) -> Option<String> {
    let others =
        writers.iter().filter(|writer| writer.manager != RESTART_FIELD_MANAGER && writer.subresource.is_empty());
    let last = others.max_by_key(|writer| {
        (writer.marks.iter().any(|mark| mark == annotation), writer.time.as_ref().map(|time| time.0))
    });
    last.map(|writer| writer.manager.clone())
}

/// A pod that has not ended and is not ending, of a workload in scope.
#[derive(Clone, Debug)]
pub struct ObservedPod {
    /// Its creation time by the clock of the API server, in whole seconds.
    pub created: Timestamp,
    /// The keys of the target that it uses.
    pub uses: Uses,
    /// The workloads that it belongs to.
    workloads: Vec<WorkloadReference>,
}

impl ObservedPod {
    /// Reduces a pod. `None` if it is of none of these workloads, has ended or is being deleted: a new pod replaces it.
    #[must_use]
    pub fn new(pod: &PodManifest, target: &str, workloads: &[Workload]) -> Option<Self> {
        if pod.has_ended() || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let owners = workloads.iter().filter(|workload| workload.owns(pod));
        let workloads: Vec<_> = owners.map(|workload| workload.reference.clone()).collect();
        if workloads.is_empty() {
            return None;
        }
        let uses = pod.spec().map_or(Uses::Nothing, |pod| uses(pod, target));
        Some(Self { created: pod.created()?, uses, workloads })
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
    fn pod(kind: &str, owner: &str, app: &str, more: serde_json::Value) -> PodManifest {
        let owners = json!([{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u", "controller": true}]);
        let metadata = json!({"name": "p", "creationTimestamp": "2027-01-01T00:00:00Z", "labels": {"app": app}, "ownerReferences": owners});
        let mut pod = json!({"metadata": metadata, "spec": {"containers": []}});
        pod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_manifest_is_reduced() {
        let web = workload(WorkloadKind::Deployment, manifest("web")).unwrap();
        assert_eq!((web.uses.clone(), web.mark.as_deref(), web.opts_out), (Uses::Whole, Some("m"), false));
        assert_eq!(web.other_manager.as_deref(), Some("argocd"));
        assert_eq!(web.restarted, Some("2027-01-01T00:00:08Z".parse().unwrap()));
        let mut marked = manifest("web");
        marked["metadata"]["managedFields"][3]["fieldsV1"] =
            json!({"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:secrets.bindery.dev/s": {}}}}}});
        assert_eq!(workload(WorkloadKind::Deployment, marked).unwrap().other_manager.as_deref(), Some("kubectl"));
        for odd in [json!("x"), json!([7, {"manager": {}}, {"manager": "m", "time": "never", "fieldsV1": 3}])] {
            let mut unread = manifest("web");
            unread["metadata"]["managedFields"] = odd;
            assert_eq!(workload(WorkloadKind::Deployment, unread).unwrap().other_manager, None);
        }
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
        let of = |kind: &str, owner: &str, app: &str| pod(kind, owner, app, json!({}));
        assert!(web.owns(&of("ReplicaSet", "web-5d8f", "a")));
        assert!(!web.owns(&of("ReplicaSet", "web-api-5d8f", "a")), "that is web-api's");
        assert!(!web.owns(&of("ReplicaSet", "web-5d8f", "b")) && !web.owns(&of("Job", "web-5d8f", "a")));
        assert!(set.owns(&of("StatefulSet", "web", "a")) && set.owns(&of("StatefulSet", "x", "a")), "by uid");
        for ended in [json!({"status": {"phase": "Succeeded"}}), json!({"status": {"phase": "Failed"}})] {
            let ended = pod("ReplicaSet", "web-5d8f", "a", ended);
            assert!(web.owns(&ended) && ObservedPod::new(&ended, "s", std::slice::from_ref(&web)).is_none());
        }
        let workloads = [web, set];
        let observed = |owner: &str| ObservedPod::new(&of("ReplicaSet", owner, "a"), "s", &workloads);
        let reference = observed("web-5d8f").unwrap();
        assert_eq!(workloads[0].pods(std::slice::from_ref(&reference)).count(), 1);
        assert_eq!(workloads[1].pods(std::slice::from_ref(&reference)).count(), 1, "the set owns by uid");
    }
}
