//! Observes the workloads of a binding.

use std::collections::BTreeSet;

use crate::api::{WorkloadKind, WorkloadReference};
use crate::domain::binding::Binding;
use crate::domain::rollout::history::RolloutHistory;
use crate::domain::rollout::judge::{concerns, marks_matter};
use crate::domain::rollout::manifest::WorkloadManifest;
use crate::domain::rollout::mark::{Digests, SecretDigests, annotation};
use crate::domain::rollout::policy::RestartScope;
use crate::domain::rollout::result::UnknownWorkloads;
use crate::domain::rollout::unhandled::{UnhandledChanges, changes_of};
use crate::domain::rollout::workload::{ObservedPod, ObservedWorkloads, Workload};
use crate::domain::target::{ObservedSecret, ObservedTarget};
use crate::kubernetes::api_server::ReadClient;
use crate::kubernetes::list::{list_pods, list_workloads};
use crate::kubernetes::read::read_secret;
use crate::reconcile::cause::cause;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;

/// Observes the workloads in scope, the pods, and the digests of the values where a mark matters.
pub async fn observe(
    cx: &Context,
    at: &Subject<'_>,
    left: &UnhandledChanges,
    history: &RolloutHistory,
    client: ReadClient<'_>,
) -> Result<ObservedWorkloads, UnknownWorkloads> {
    let mut observed = list(cx, &at.binding, client).await.map_err(|error| failed(&error))?;
    if marks_matter(&observed, &left.changes) {
        let digests = match history.digests_at(&left.target.resource_version) {
            Some(known) => Some(known.clone()),
            None => read_digests(cx, &at.binding, &left.target, client).await.map_err(|error| failed(&error))?,
        };
        observed.digests = Some(digests.ok_or(UnknownWorkloads::SecretChanged)?);
    }
    Ok(observed)
}

fn failed(error: &kube::Error) -> UnknownWorkloads {
    UnknownWorkloads::Failed(cause(error))
}

/// Lists the workloads in scope, and the pods if there are any such workloads. Skips kinds that are not installed.
async fn list(cx: &Context, binding: &Binding, client: ReadClient<'_>) -> Result<ObservedWorkloads, kube::Error> {
    let (namespace, target, scope) = (&binding.namespace, binding.target.name.as_str(), &binding.restart.scope);
    let annotation = annotation(target);
    let mut observed = ObservedWorkloads::default();
    for kind in kinds(scope).into_iter().filter(|kind| !cx.state.absent_kinds.has(*kind)) {
        let reduce = |manifest: WorkloadManifest| {
            Workload::new(kind, &manifest, target, &annotation).filter(|workload| concerns(scope, workload))
        };
        let Some(listed) = list_workloads(client, namespace, kind, reduce).await? else {
            cx.state.absent_kinds.note(kind);
            continue;
        };
        observed.workloads.extend(listed.objects);
        let unreadable = listed.unreadable.into_iter().map(|name| WorkloadReference { kind, name });
        let concerned = |found: &WorkloadReference| match scope {
            RestartScope::Listed(listed) => listed.contains(found),
            RestartScope::Consumers | RestartScope::Nobody => true,
        };
        observed.unreadable.extend(unreadable.filter(concerned).map(|found| found.to_string()));
    }
    if !observed.workloads.is_empty() {
        let listed = list_pods(client, namespace, |pod| ObservedPod::new(&pod, target, &observed.workloads)).await?;
        observed.pods = listed.objects;
        observed.unreadable.extend(listed.unreadable.iter().map(|name| format!("the pod {name}")));
    }
    Ok(observed)
}

fn kinds(scope: &RestartScope) -> BTreeSet<WorkloadKind> {
    use WorkloadKind::{DaemonSet, Deployment, Rollout, StatefulSet};
    match scope {
        RestartScope::Listed(listed) => listed.iter().map(|workload| workload.kind).collect(),
        RestartScope::Nobody | RestartScope::Consumers => BTreeSet::from([Deployment, StatefulSet, DaemonSet, Rollout]),
    }
}

/// Reads the values of the target and reduces them to digests. `None` if the target is not the observed one any more.
async fn read_digests(
    cx: &Context,
    binding: &Binding,
    target: &ObservedTarget,
    client: ReadClient<'_>,
) -> Result<Option<SecretDigests>, kube::Error> {
    let (namespace, name) = (&binding.namespace, &binding.target.name);
    let Some(secret) = read_secret(client, namespace, name).await? else { return Ok(None) };
    let read = ObservedSecret::new(&secret.meta, &cx.key).observed;
    if read.resource_version != target.resource_version && changes_of(&read) != changes_of(target) {
        return Ok(None);
    }
    let digests = Digests::of(namespace, name, &secret.data, &cx.key);
    Ok(Some(SecretDigests { resource_version: target.resource_version.clone(), digests }))
}
