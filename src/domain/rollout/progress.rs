//! The state of a workload's pods, by the report of its controller.
//!
//! The counts of the status decide, as in `kubectl rollout status`, but never those of the spec, which a
//! HorizontalPodAutoscaler changes at any time. Sources: the API of `DeploymentStatus`, `StatefulSetStatus` and
//! `DaemonSetStatus`, <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status>, and
//! <https://argo-rollouts.readthedocs.io/en/stable/features/specification/>.

use crate::api::WorkloadKind;
use crate::domain::rollout::manifest::{WorkloadSpec, WorkloadStatus};

/// The state of a workload's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodProgress {
    /// All are of the present template and available, or there are none.
    Done,
    /// The controller replaces them.
    Rolling,
    /// None is replaced until a person acts; the text names the step.
    Waiting(String),
    /// Some are replaced, the others stay until a person acts; the text names the step.
    Partial(String),
    /// The controller gave up; the text names the cause.
    Failed(String),
}

/// How many pods of a workload follow its template, and how many of all are available. What is greater is further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replaced {
    /// The pods that follow the template.
    pub updated: i64,
    /// The pods that are available.
    pub available: i64,
}

/// Judges a workload of this generation.
#[must_use]
pub fn progress(kind: WorkloadKind, generation: i64, spec: &WorkloadSpec, status: &WorkloadStatus) -> PodProgress {
    if spec.paused {
        return PodProgress::Waiting("it is paused; resume it".to_owned());
    }
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return PodProgress::Waiting(
            "its update strategy is OnDelete; delete its pods to have them made anew".to_owned(),
        );
    }
    if !is_observed(generation, status) {
        return PodProgress::Rolling;
    }
    match kind {
        WorkloadKind::Deployment => deployment(spec, status),
        WorkloadKind::StatefulSet => {
            let partition = strategy.and_then(|s| s.rolling_update.as_ref()?.partition).unwrap_or(0);
            stateful_set(partition, spec, status)
        }
        WorkloadKind::DaemonSet => {
            let done = status.updated_number_scheduled >= status.desired_number_scheduled
                && status.number_available >= status.desired_number_scheduled;
            if done { PodProgress::Done } else { PodProgress::Rolling }
        }
        WorkloadKind::Rollout => argo_rollout(spec, status),
    }
}

/// How many pods are replaced; `None` if the controller has not seen this generation.
#[must_use]
pub fn replaced(generation: i64, status: &WorkloadStatus) -> Option<Replaced> {
    let updated = status.updated_replicas.max(status.updated_number_scheduled);
    let available = status.available_replicas.max(status.number_available);
    is_observed(generation, status).then_some(Replaced { updated, available })
}

fn is_observed(generation: i64, status: &WorkloadStatus) -> bool {
    let observed = match &status.observed_generation {
        Some(serde_json::Value::Number(number)) => number.as_i64(),
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    observed >= Some(generation)
}

/// Whether every existing pod follows the template and is available. With the strategy Recreate there are none for a
/// while although some are wanted.
fn all_updated(spec: &WorkloadSpec, status: &WorkloadStatus) -> bool {
    let between = status.replicas == 0 && spec.replicas.unwrap_or(1) > 0;
    !between && status.updated_replicas == status.replicas && status.available_replicas == status.replicas
}

fn deployment(spec: &WorkloadSpec, status: &WorkloadStatus) -> PodProgress {
    let gave_up = status.conditions.iter().any(|condition| {
        condition.type_ == "Progressing"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    if all_updated(spec, status) {
        PodProgress::Done
    } else if gave_up {
        PodProgress::Failed(
            "its new pods did not become available within its progressDeadlineSeconds; see why they do not start"
                .to_owned(),
        )
    } else {
        PodProgress::Rolling
    }
}

fn stateful_set(partition: i64, spec: &WorkloadSpec, status: &WorkloadStatus) -> PodProgress {
    if partition > 0 {
        let (updated, below) = (status.updated_replicas, partition.min(status.replicas));
        return if updated < status.replicas - below {
            PodProgress::Rolling
        } else if updated >= status.replicas && all_updated(spec, status) {
            PodProgress::Done
        } else {
            PodProgress::Partial(format!("its partition keeps the pods below number {partition}; lower the partition"))
        };
    }
    // Where nothing was ever updated, the controller reports no count of updated pods but equal revisions.
    let same = status.current_revision.is_some() && status.current_revision == status.update_revision;
    let between = status.replicas == 0 && spec.replicas.unwrap_or(1) > 0;
    if same && !between && status.available_replicas == status.replicas {
        PodProgress::Done
    } else {
        PodProgress::Rolling
    }
}

fn argo_rollout(spec: &WorkloadSpec, status: &WorkloadStatus) -> PodProgress {
    match status.phase.as_deref() {
        Some("Paused") => PodProgress::Waiting("it waits at a step; promote it".to_owned()),
        Some("Degraded") => {
            PodProgress::Failed("Argo Rollouts reports it as Degraded; see the messages of the Rollout".to_owned())
        }
        Some("Healthy") | None if all_updated(spec, status) => PodProgress::Done,
        _ => PodProgress::Rolling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(kind: WorkloadKind, spec: &Value, status: &Value) -> PodProgress {
        let mut status = status.clone();
        if status.get("observedGeneration").is_none() {
            status["observedGeneration"] = json!(2);
        }
        progress(kind, 2, &serde_json::from_value(spec.clone()).unwrap(), &serde_json::from_value(status).unwrap())
    }

    fn word(progress: &PodProgress) -> &'static str {
        match progress {
            PodProgress::Done => "done",
            PodProgress::Rolling => "rolling",
            PodProgress::Waiting(_) => "waiting",
            PodProgress::Partial(_) => "partial",
            PodProgress::Failed(_) => "failed",
        }
    }

    #[test]
    fn deployments() {
        let counts = |all: i64, updated: i64, available: i64| json!({"replicas": all, "updatedReplicas": updated, "availableReplicas": available});
        let gave_up = |mut status: Value| {
            status["conditions"] =
                json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
            status
        };
        let mut unseen = counts(3, 3, 3);
        unseen["observedGeneration"] = json!(1);
        for (spec, status, expected) in [
            (json!({"replicas": 3}), counts(3, 3, 3), "done"),
            (json!({"replicas": 9}), counts(3, 3, 3), "done"),
            (json!({"replicas": 3}), counts(4, 3, 3), "rolling"),
            (json!({"replicas": 3}), counts(3, 1, 3), "rolling"),
            (json!({"replicas": 3}), counts(3, 3, 2), "rolling"),
            (json!({"replicas": 0}), counts(0, 0, 0), "done"),
            (json!({"replicas": 2}), counts(0, 0, 0), "rolling"),
            (json!({}), counts(0, 0, 0), "rolling"),
            (json!({"replicas": 3}), unseen, "rolling"),
            (json!({"replicas": 3, "paused": true}), counts(3, 1, 3), "waiting"),
            (json!({"replicas": 3}), gave_up(counts(4, 1, 3)), "failed"),
            (json!({"replicas": 3}), gave_up(counts(3, 3, 3)), "done"),
        ] {
            assert_eq!(word(&of(WorkloadKind::Deployment, &spec, &status)), expected, "{spec} {status}");
        }
    }

    #[test]
    fn stateful_sets() {
        let status = |revisions: (&str, &str), all: i64, updated: i64, available: i64| json!({"replicas": all, "updatedReplicas": updated, "availableReplicas": available, "currentRevision": revisions.0, "updateRevision": revisions.1});
        let partition = |n: i64| json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": n}}});
        for (spec, status, expected) in [
            (json!({"replicas": 3}), status(("a", "a"), 3, 3, 3), "done"),
            (json!({"replicas": 3}), status(("a", "a"), 3, 0, 3), "done"),
            (json!({"replicas": 3}), status(("a", "b"), 3, 3, 3), "rolling"),
            (json!({"replicas": 3}), status(("b", "b"), 3, 3, 2), "rolling"),
            (json!({"replicas": 0}), status(("b", "b"), 0, 0, 0), "done"),
            (json!({"replicas": 1}), status(("b", "b"), 0, 0, 0), "rolling"),
            (json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}), status(("a", "b"), 3, 0, 3), "waiting"),
            (partition(2), status(("a", "b"), 3, 0, 3), "rolling"),
            (partition(2), status(("a", "b"), 3, 1, 3), "partial"),
            (partition(9), status(("a", "b"), 3, 0, 3), "partial"),
            (partition(2), status(("b", "b"), 3, 3, 3), "done"),
        ] {
            assert_eq!(word(&of(WorkloadKind::StatefulSet, &spec, &status)), expected, "{spec} {status}");
        }
    }

    #[test]
    fn daemon_sets() {
        let status = |wanted: i64, updated: i64, available: i64| json!({"desiredNumberScheduled": wanted, "updatedNumberScheduled": updated, "numberAvailable": available});
        for (spec, status, expected) in [
            (json!({}), status(3, 3, 3), "done"),
            (json!({}), status(3, 2, 3), "rolling"),
            (json!({}), status(3, 3, 2), "rolling"),
            (json!({}), status(0, 0, 0), "done"),
            (json!({"updateStrategy": {"type": "OnDelete"}}), status(3, 0, 3), "waiting"),
        ] {
            assert_eq!(word(&of(WorkloadKind::DaemonSet, &spec, &status)), expected, "{spec} {status}");
        }
    }

    #[test]
    fn argo_rollouts() {
        let status = |phase: &str, updated: i64| json!({"observedGeneration": "2", "phase": phase, "replicas": 2, "updatedReplicas": updated, "availableReplicas": 2});
        for (spec, status, expected) in [
            (json!({"replicas": 2}), status("Healthy", 2), "done"),
            (json!({"replicas": 2}), status("Healthy", 1), "rolling"),
            (json!({"replicas": 2}), status("Progressing", 2), "rolling"),
            (json!({"replicas": 2}), status("Paused", 1), "waiting"),
            (json!({"replicas": 2}), status("Degraded", 1), "failed"),
            (json!({"replicas": 2, "paused": true}), status("Progressing", 1), "waiting"),
        ] {
            assert_eq!(word(&of(WorkloadKind::Rollout, &spec, &status)), expected, "{spec} {status}");
        }
        let unseen = json!({"observedGeneration": "1", "phase": "Healthy", "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(word(&of(WorkloadKind::Rollout, &json!({"replicas": 2}), &unseen)), "rolling");
    }
}
