//! The last step of a pass: workloads that use what was published come to run the current values.
//!
//! What is left to do follows from the annotation `bindery.dev/changed` on the target and `status.rollout.handled`, so it is
//! found again after a restart of the operator; where they agree nothing is asked of the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::{Instant, timeout};

use crate::api::{ConditionType, SecretBindingStatus, SourceStatus, WorkloadKind, WorkloadReference};
use crate::domain::binding::Binding;
use crate::domain::name::BindingName;
use crate::domain::render::key::TargetKey;
use crate::domain::rollout::changed::{Before, Changes, Times};
use crate::domain::rollout::mark::Digests;
use crate::domain::rollout::outcome::{RolloutOutcome, RolloutReport};
use crate::domain::rollout::plan::{RestartVerdict, concerns, is_stale, judge, marked_by};
use crate::domain::rollout::policy::RestartScope;
use crate::domain::rollout::workload::{ObservedPod, Workload};
use crate::domain::rollout::{mark, plan};
use crate::domain::target::{ObservedSecret, ObservedTarget, TargetState, owned_keys};
use crate::domain::value::Value;
use crate::kubernetes::api_server::{Permit, ReadClient};
use crate::kubernetes::list::{list_pods, list_workloads};
use crate::kubernetes::read::{PublishedSecret, read_secret};
use crate::kubernetes::restart::restart_workload;
use crate::reconcile::binding::observe_target::cached;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;

/// One look at the workloads of a namespace, and what follows from it, takes no longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// How soon a look is repeated that something changed in between.
const SOON: Duration = Duration::from_secs(1);

/// The longest time without a look while all that is due waits for its window.
const CLOSED: Duration = Duration::from_secs(300);

const SETTLING: &str = "the values changed a moment ago";

/// What stands under the name of the target.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    /// Its metadata.
    pub observed: Option<&'a ObservedTarget>,
    /// Its values.
    pub old: Option<&'a PublishedSecret>,
}

/// What came of one look at the restarts.
pub struct Advanced {
    /// How far the workloads are.
    pub outcome: RolloutOutcome,
    /// When they are observed again.
    pub next: Option<Duration>,
    /// What is remembered of them.
    pub history: plan::RolloutHistory,
}

/// What the annotation `bindery.dev/changed` of the target is to say once `data` is written over what stands there.
/// `same_sources` says that the sources and the spec are those of the last publication.
pub(crate) fn changes(
    binding: &Binding,
    before: &SecretBindingStatus,
    standing: Standing<'_>,
    data: &BTreeMap<TargetKey, Value>,
    same_sources: bool,
) -> Option<Changes> {
    if !binding.restart.restarts_any() {
        return None;
    }
    let unfinished =
        before.conditions.iter().any(|c| c.type_ == ConditionType::RolledOut.as_str() && c.status == "False");
    let Standing { observed: Some(observed), old: Some(old) } = standing else {
        // Published anew: pods may have other values than these only if the Secret had.
        let was_published = before.binding.as_ref().is_some_and(|published| published.name == binding.target.name);
        return Some(if was_published && (unfinished || !same_sources) { Changes::all() } else { Changes::default() });
    };
    if !observed.owns_mark && observed.keys == 0 {
        // Somebody else's until now.
        return Some(Changes::default());
    }
    let changes = observed.changed.as_deref().and_then(Changes::parse);
    if changes.is_none() && unfinished {
        return Some(Changes::all());
    }
    let before = Before {
        data: &old.data,
        owned: &owned_keys(&old.meta),
        changes: changes.unwrap_or_default(),
        written: observed.written.as_ref().map(|time| time.0),
    };
    Some(Changes::by_write(before, data))
}

/// Whether these are the sources, at the versions, of the last publication, under the same spec.
pub(crate) fn same_sources(binding: &Binding, before: &SecretBindingStatus, sources: &[SourceStatus]) -> bool {
    before.observed_generation == Some(binding.generation)
        && before.sources.len() == sources.len()
        && sources.iter().all(|source| {
            let same = |s: &SourceStatus| {
                s.secret == source.secret && s.arn == source.arn && s.version_id == source.version_id
            };
            before.sources.iter().any(same)
        })
}

/// One step of the restarts of a binding.
pub(crate) struct Rollout<'b, 'a> {
    pub(crate) binding: &'b Binding,
    pub(crate) shared: Arc<Binding>,
    pub(crate) name: &'b BindingName,
    pub(crate) context: &'a Context,
    pub(crate) before: &'b SecretBindingStatus,
}

impl Rollout<'_, '_> {
    /// Looks how far the workloads are, restarts those whose turn it is, and answers when to look again.
    pub(crate) async fn advance(
        &self,
        target: Option<ObservedTarget>,
        history: &plan::RolloutHistory,
        permit: &Permit<'_>,
    ) -> Advanced {
        let Self { binding, context, before, .. } = self;
        let rests = |outcome| {
            self.shows(BTreeSet::new());
            Advanced { outcome, next: None, history: plan::RolloutHistory::default() }
        };
        if !binding.restart.restarts_any() {
            return rests(RolloutOutcome::Off);
        }
        let subject = Subject { binding: self.shared.clone(), name: self.name, before };
        let target = target.or_else(|| match cached(context, &subject) {
            Some(TargetState::Owned(observed)) => Some(observed),
            _ => None,
        });
        let Some(target) = target else { return rests(RolloutOutcome::AsBefore) };
        let changes = changes_of(&target);
        let handled = before.rollout.as_ref().and_then(|rollout| rollout.handled.clone());
        let digest = changes.digest();
        let told = before.conditions.iter().any(|c| c.type_ == ConditionType::RolledOut.as_str() && c.status == "True");
        if changes.is_empty() || handled.as_ref() == Some(&digest) {
            // What was said when it was finished names those that opt out.
            let stays = told && handled.is_some() && !changes.is_empty();
            return rests(if stays {
                RolloutOutcome::AsBefore
            } else {
                RolloutOutcome::Known(RolloutReport {
                    handled: Some(digest).filter(|_| !changes.is_empty()),
                    ..RolloutReport::default()
                })
            });
        }
        let mut memory = history.clone();
        let settles = memory.settling(&digest, Instant::now().into_std());
        let (report, next) = match settles {
            Some(left) if context.state.warmup.rollouts.is_complete() => (pending(SETTLING), left),
            // After a start others wait until it is known what is in flight here.
            _ => {
                let look = timeout(DEADLINE, Box::pin(self.look(&target, &changes, settles, &mut memory, permit)));
                look.await.unwrap_or_else(|_| failed_look("the API server did not answer in time"))
            }
        };
        let done = report.is_done();
        let handled = if done { Some(digest) } else { handled };
        if done {
            return rests(RolloutOutcome::Known(RolloutReport { handled, ..report }));
        }
        Advanced {
            outcome: RolloutOutcome::Known(RolloutReport { handled, ..report }),
            next: Some(next),
            history: memory,
        }
    }

    /// Notes what is in flight, and lets those go on who waited for a place.
    fn shows(&self, in_flight: BTreeSet<WorkloadReference>) {
        for waiting in self.context.state.slots.observe(self.name, in_flight) {
            self.context.state.requeue.trigger(&waiting);
        }
    }

    async fn look(
        &self,
        target: &ObservedTarget,
        changes: &Times,
        settles: Option<Duration>,
        memory: &mut plan::RolloutHistory,
        permit: &Permit<'_>,
    ) -> (RolloutReport, Duration) {
        match Box::pin(self.observe(permit.reads().await)).await {
            Ok(seen) => Box::pin(self.act(target, changes, &seen, settles, memory, permit)).await,
            Err(error) => failed_look(&describe(&error)),
        }
    }

    async fn observe(&self, client: ReadClient<'_>) -> Result<(Vec<Workload>, Vec<ObservedPod>), kube::Error> {
        use WorkloadKind::{DaemonSet, Deployment, Rollout, StatefulSet};
        let Self { binding, context, .. } = self;
        let (namespace, target) = (&binding.namespace, binding.target.name.as_str());
        let annotation = mark::annotation(target);
        let kinds: BTreeSet<WorkloadKind> = match &binding.restart.scope {
            RestartScope::Listed(listed) => listed.iter().map(|workload| workload.kind).collect(),
            RestartScope::Nobody | RestartScope::Consumers => {
                BTreeSet::from([Deployment, StatefulSet, DaemonSet, Rollout])
            }
        };
        let mut workloads = Vec::new();
        for kind in kinds.into_iter().filter(|kind| !context.state.absent_kinds.has(*kind)) {
            let Some(manifests) = list_workloads(client, namespace, kind).await? else {
                context.state.absent_kinds.note(kind);
                continue;
            };
            let reduced = manifests.iter().filter_map(|manifest| Workload::new(kind, manifest, target, &annotation));
            workloads.extend(reduced.filter(|workload| concerns(&binding.restart.scope, workload)));
        }
        if workloads.is_empty() {
            return Ok((workloads, Vec::new()));
        }
        let pods = list_pods(client, namespace, |pod| ObservedPod::new(&pod, target)).await?;
        Ok((workloads, pods))
    }

    async fn act(
        &self,
        target: &ObservedTarget,
        changes: &Times,
        (workloads, pods): &(Vec<Workload>, Vec<ObservedPod>),
        settles: Option<Duration>,
        memory: &mut plan::RolloutHistory,
        permit: &Permit<'_>,
    ) -> (RolloutReport, Duration) {
        let Self { binding, name, context, .. } = self;
        let now = Instant::now().into_std();
        let stale: Vec<bool> = workloads.iter().map(|workload| is_stale(workload, pods, changes)).collect();
        let marks_matter = |(workload, stale): (&Workload, &bool)| *stale || workload.mark.is_some();
        if workloads.iter().zip(&stale).any(marks_matter) {
            match self.digest(target, memory, permit.reads().await).await {
                Ok(true) => {}
                Ok(false) => return (pending("the Secret has just changed"), SOON),
                Err(error) => return failed_look(&describe(&error)),
            }
        }
        let digests = memory.digests.as_ref().map(|(_, digests)| digests.clone()).unwrap_or_default();
        let mut report = RolloutReport::default();
        if let RestartScope::Listed(listed) = &binding.restart.scope {
            let missing = listed.iter().filter(|listed| !workloads.iter().any(|found| found.reference == **listed));
            report.pending.extend(
                missing.map(|missing| {
                    format!("{missing}: does not exist; create it or take it from spec.restart.workloads")
                }),
            );
        }
        let (mut due, mut in_flight) = (Vec::new(), BTreeSet::new());
        for (workload, stale) in workloads.iter().zip(stale) {
            let mark = digests.mark(marked_by(workload), &context.key);
            memory.observe(workload, &mark, now);
            let verdict = judge(workload, stale, &mark, memory, now);
            if let Some(result) = memory.judged(workload, &verdict) {
                context.metrics.restarted(workload.reference.kind.as_str(), result);
                tracing::info!(namespace = %binding.namespace, workload = %workload.reference, result, "a restart ended");
            }
            let reference = &workload.reference;
            match verdict {
                RestartVerdict::Current => {}
                RestartVerdict::OptsOut => report.opted_out.push(reference.clone()),
                RestartVerdict::Due => due.push((workload, mark)),
                RestartVerdict::UnderWay => {
                    in_flight.insert(reference.clone());
                    report.pending.push(format!("{reference}: its pods are being replaced"));
                }
                RestartVerdict::Pending(what) => report.pending.push(format!("{reference}: {what}")),
                RestartVerdict::Failed(how) => report.failed.push(format!("{reference}: {how}")),
            }
        }
        self.shows(in_flight);
        context.state.warmup.rollouts.arrived(name);
        let (mut moved, mut soon) = (false, None);
        // Nothing but the window can change anything.
        let waits_only = !due.is_empty() && report.is_done();
        let wait = binding.restart.window.as_ref().map_or(Duration::ZERO, |window| window.wait(Timestamp::now()));
        for (workload, mark) in due {
            let reference = &workload.reference;
            if let Some(left) = settles {
                soon = Some(left);
                report.pending.push(format!("{reference}: {SETTLING}"));
                continue;
            }
            if !wait.is_zero() {
                report.pending.push(format!("{reference}: {}", plan::until_window(wait, Timestamp::now())));
                continue;
            }
            // What an earlier process began counts before anything new begins.
            let counted = context.state.warmup.rollouts.is_complete();
            if !counted || !context.state.slots.begin(name, reference) {
                soon = if counted { soon } else { Some(SOON) };
                report.pending.push(format!("{reference}: waits for other restarts to end (--max-rollouts)"));
                continue;
            }
            match self.restart(workload, &mark, permit).await {
                Ok(()) => {
                    moved = true;
                    memory.restarted(workload, &mark, Instant::now().into_std());
                    report.pending.push(format!("{reference}: its pods are being replaced"));
                }
                Err(RestartError::Raced) => {
                    context.state.slots.end(name, reference);
                    soon = Some(SOON);
                    report.pending.push(format!("{reference}: is about to be restarted"));
                }
                Err(RestartError::Refused(why)) => {
                    context.state.slots.end(name, reference);
                    context.metrics.restarted(reference.kind.as_str(), "refused");
                    report.failed.push(format!("{reference}: {why}"));
                }
            }
        }
        let pause = if waits_only && !wait.is_zero() { wait.clamp(SOON, CLOSED) } else { memory.next_pause(moved) };
        (report, soon.map_or(pause, |soon| soon.min(pause)))
    }

    /// Sees to it that the digests of the values are known. False where the Secret is not the one that was observed.
    async fn digest(
        &self,
        target: &ObservedTarget,
        memory: &mut plan::RolloutHistory,
        client: ReadClient<'_>,
    ) -> Result<bool, kube::Error> {
        let Self { binding, context, .. } = self;
        let (namespace, name) = (&binding.namespace, &binding.target.name);
        if memory.digests.as_ref().is_some_and(|(version, _)| *version == target.resource_version) {
            return Ok(true);
        }
        let Some(secret) = read_secret(client, namespace, name).await? else { return Ok(false) };
        let seen = ObservedSecret::new(&secret.meta, &context.key).observed;
        if seen.resource_version != target.resource_version && changes_of(&seen) != changes_of(target) {
            return Ok(false);
        }
        let digests = Digests::of(namespace, name, &secret.data, &context.key);
        memory.digests = Some((target.resource_version.clone(), digests));
        Ok(true)
    }

    async fn restart(&self, workload: &Workload, mark: &str, permit: &Permit<'_>) -> Result<(), RestartError> {
        let Self { binding, context, .. } = self;
        let annotation = mark::annotation(&binding.target.name);
        let (namespace, version) = (&binding.namespace, &workload.resource_version);
        match restart_workload(permit.writes().await, namespace, &workload.reference, version, (&annotation, mark))
            .await
        {
            Ok(()) => {
                context.metrics.restarted(workload.reference.kind.as_str(), "started");
                tracing::info!(%namespace, name = %binding.name, workload = %workload.reference, "restarted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Err(RestartError::Raced),
            Err(error) => Err(RestartError::Refused(format!(
                "its pod template could not be annotated ({}); see the operator's rights and the admission policies of the cluster",
                describe(&error)
            ))),
        }
    }
}

enum RestartError {
    Raced,
    Refused(String),
}

fn changes_of(target: &ObservedTarget) -> Times {
    let changes = target.changed.as_deref().and_then(Changes::parse).unwrap_or_default();
    changes.resolved(target.written.as_ref().map(|time| time.0))
}

fn pending(why: &str) -> RolloutReport {
    RolloutReport { pending: vec![why.to_owned()], ..RolloutReport::default() }
}

fn failed_look(why: &str) -> (RolloutReport, Duration) {
    (pending(&format!("the workloads of the namespace could not be looked at: {why}")), Duration::from_secs(10))
}

/// The API server's own words stay out of it.
fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => "the API server forbids it (403)".to_owned(),
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        _ => "the API server did not answer".to_owned(),
    }
}

#[cfg(test)]
mod tests;
