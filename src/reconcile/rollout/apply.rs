//! Restarts the planned workloads, each in a slot.

use tokio::time::{Instant, timeout_at};

use crate::domain::rollout::mark::annotation;
use crate::domain::rollout::plan::{EndedRestart, PlannedRestart, RolloutPlan};
use crate::domain::rollout::result::RestartOutcome;
use crate::kubernetes::api_server::{Permit, WriteClient};
use crate::kubernetes::restart::restart_workload;
use crate::reconcile::cause::cause;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;

/// Records what the plan found, then begins its restarts in order. Returns an outcome for each restart, up to the first
/// that the deadline ends.
pub async fn apply(
    cx: &Context,
    at: &Subject<'_>,
    plan: &RolloutPlan<'_>,
    deadline: Instant,
    permit: &Permit<'_>,
) -> Vec<RestartOutcome> {
    count(cx, at, &plan.ended);
    cx.state.occupy_slots(at.name, plan.in_flight.clone(), !plan.restarts.is_empty());
    cx.state.warmup.rollouts.arrived(at.name);
    let mut outcomes = Vec::with_capacity(plan.restarts.len());
    for restart in &plan.restarts {
        let begun = timeout_at(deadline, Box::pin(begin(cx, at, restart, permit))).await;
        let outcome = begun.unwrap_or(RestartOutcome::Unanswered);
        let is_last = outcome == RestartOutcome::Unanswered;
        outcomes.push(outcome);
        if is_last {
            break;
        }
    }
    outcomes
}

fn count(cx: &Context, at: &Subject<'_>, ended: &[EndedRestart<'_>]) {
    for EndedRestart { workload, result } in ended {
        cx.metrics.restarted(workload.kind.as_str(), result);
        tracing::info!(namespace = %at.binding.namespace, %workload, result, "a restart ended");
    }
}

/// Takes a slot and restarts the workload. A failed restart frees the slot; one without an answer keeps it until the next
/// observation.
async fn begin(cx: &Context, at: &Subject<'_>, restart: &PlannedRestart<'_>, permit: &Permit<'_>) -> RestartOutcome {
    let reference = &restart.workload.reference;
    // The restarts of an earlier process are counted before a new one begins.
    if !cx.state.warmup.rollouts.is_complete() {
        return RestartOutcome::Uncounted;
    }
    if !cx.state.slots.begin(at.name, reference, Instant::now().into_std()) {
        return RestartOutcome::NoSlot;
    }
    let outcome = write(at, restart, permit.writes().await).await;
    match &outcome {
        RestartOutcome::Started(_) => {
            cx.metrics.restarted(reference.kind.as_str(), "started");
            tracing::info!(
                namespace = %at.binding.namespace, name = %at.binding.name, workload = %reference, "restarted"
            );
        }
        RestartOutcome::Refused(_) => {
            cx.state.slots.end(at.name, reference);
            cx.metrics.restarted(reference.kind.as_str(), "refused");
        }
        _ => cx.state.slots.end(at.name, reference),
    }
    outcome
}

async fn write(at: &Subject<'_>, restart: &PlannedRestart<'_>, client: WriteClient<'_>) -> RestartOutcome {
    let PlannedRestart { workload, mark } = restart;
    let annotation = annotation(&at.binding.target.name);
    match restart_workload(client, &at.binding.namespace, workload, &annotation, &mark.text()).await {
        Ok(()) => RestartOutcome::Started(Instant::now().into_std()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => RestartOutcome::Raced,
        Err(error) => RestartOutcome::Refused(format!(
            "its pod template could not be annotated ({}); see the operator's rights and the admission policies of the cluster",
            cause(&error)
        )),
    }
}
