//! One pass over one binding: observe, plan, apply, report. Reads as the table of contents of the operator.

pub mod age;
pub mod observe;
pub mod pass;
pub mod plan;
pub mod status;
pub mod taken;
pub mod walk;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::time::{Instant, timeout};

use crate::api::{ConditionType, SecretBinding, SecretBindingStatus};
use crate::domain::binding::{Binding, Refresh};
use crate::domain::name::BindingName;
use crate::domain::note::Note;
use crate::kubernetes::report::{StatusError, write_status};
use crate::reconcile::binding::pass::{Pass, Turn, take};
use crate::reconcile::binding::status::{Findings, Progress, after_pass, suspended, transitions, with_rotation};
use crate::reconcile::context::Context;
use crate::reconcile::error::{Class, Error};
use crate::reconcile::rollout::Rollout;
use crate::reconcile::rotation::overlap;
use crate::reconcile::rotation::status::{Told, tell};
use crate::state::history::Memory;

/// No pass takes longer, the wait for its turn among ten thousand others included; calls within it have much shorter
/// deadlines of their own.
const DEADLINE: Duration = Duration::from_secs(600);

/// How often a Secret of an earlier name is looked at while something still refers to it.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// When a status that could not be written is tried again.
const RETRY_REPORT: Duration = Duration::from_secs(2);

/// Brings one binding up to date, and answers after which pause to look again, where it is by the clock. A failure is
/// reported in the status of the binding.
pub async fn reconcile(name: &BindingName, context: &Arc<Context>) -> Option<Duration> {
    let began = Instant::now();
    let remembered = context.memories.take(name);
    // The store is asked after that, since a written status is remembered only until the store has it.
    let next = match context.current(name).as_ref().map(|watched| &watched.0) {
        Some(Ok(manifest)) if manifest.metadata.deletion_timestamp.is_none() => {
            let uid = manifest.uid().unwrap_or_default();
            // A binding of another uid under the same name begins anew.
            let same = remembered.filter(|(known, _)| *known == uid);
            let mut memory = same.map(|(_, memory)| memory).unwrap_or_default();
            let next = Box::pin(reconcile_with(manifest, name, context, &mut memory)).await;
            context.memories.put(name, uid, memory);
            next
        }
        Some(Err(_)) => {
            tracing::warn!(namespace = %name.namespace, name = %name.name, "a stored SecretBinding cannot be read by this version and is left alone");
            None
        }
        Some(Ok(_)) | None => None,
    };
    context.first_looks.passed(name);
    context.reader.versions().record_reconcile(name, began);
    // The binding may have been deleted during the pass.
    if context.current(name).is_none() {
        context.forget(name);
    }
    next
}

async fn reconcile_with(
    manifest: &SecretBinding,
    name: &BindingName,
    context: &Arc<Context>,
    memory: &mut Memory,
) -> Option<Duration> {
    let started = Instant::now();
    let before = latest_status(manifest, memory);
    let generation = manifest.metadata.generation.unwrap_or_default();
    if manifest.spec.suspend.unwrap_or_default() {
        context.release(name);
        let status = suspended(&before, generation, Timestamp::now());
        let reported = Box::pin(report(manifest, context, memory, &before, &status, Vec::new(), &mut None)).await;
        context.metrics.reconciled("suspended", started.elapsed());
        return (!reported).then_some(RETRY_REPORT);
    }

    let (mut progress, mut turn, mut rollout_next, mut action_next) = (Progress::default(), None, None, None);
    // What is matched on is held while the pass waits, among thousands of others: so it is small.
    let binding = Binding::parse(manifest, &context.settings.denied_metadata).map(Arc::new);
    let (refresh, outcome) = match &binding {
        Err(error) => {
            context.release(name);
            (Refresh::Default, Err(error.clone().into()))
        }
        Ok(binding) => {
            let refresh = binding.refresh;
            let this = Pass { binding: binding.clone(), name, context, before: &before };
            let pass = Box::pin(this.run(memory, &mut progress, &mut turn));
            let outcome = timeout(DEADLINE, pass).await.unwrap_or(Err(Error::Deadline(DEADLINE.as_secs())));
            if outcome.is_ok() {
                let acting = Box::pin(this.act_on_rules(&mut progress.rotation, memory));
                action_next = timeout(DEADLINE, acting).await.unwrap_or_default();
            }
            if outcome != Err(Error::Superseded) {
                let rollout = Rollout { binding: &this.binding, name, context, before: &before };
                rollout_next = Box::pin(rollout.advance(memory, &mut progress, &mut turn)).await;
            }
            (refresh, outcome)
        }
    };
    if outcome == Err(Error::Superseded) {
        context.metrics.reconciled("superseded", started.elapsed());
        return None;
    }
    let interval = context.interval(refresh);
    let stale_interval = interval.unwrap_or(context.settings.stale_interval());
    let error = outcome.err();
    let findings = Findings {
        generation,
        progress: &progress,
        error: error.as_ref(),
        interval: stale_interval,
        looks_again: interval.is_some(),
    };
    let now = Timestamp::now();
    let mut status = after_pass(&before, findings, now);
    if let Some(overlaps) = &progress.overlaps {
        let written = progress.observed.as_ref().and_then(|observed| Some(observed.written.as_ref()?.0));
        let activities = overlap::activities(overlaps, &before, written);
        progress.rotation.activities.get_or_insert_default().extend(activities);
    }
    let mut told = binding.ok().map(|binding| tell(&binding, &before, &progress.rotation, now));
    if let (Some(told), Some(handled)) = (&mut told, progress.handled_command.take()) {
        told.handled = Some(handled);
    }
    with_rotation(&mut status, &before, told.as_ref(), now);
    let Told { notes, due, wake, .. } = told.unwrap_or_default();
    context.metrics.rotation(&name.namespace, &name.name, due.iter().map(|(rule, due)| (&**rule, due.as_second())));
    let reported = Box::pin(report(manifest, context, memory, &before, &status, notes, &mut turn)).await;
    drop(turn);
    for note in progress.overlaps.iter().flatten().filter_map(|overlap| overlap.note.clone()) {
        context.events.note(name, &manifest.uid().unwrap_or_default(), note, Timestamp::now());
    }
    context.metrics.reconciled(error.as_ref().map_or("ok", |error| error.reason().as_str()), started.elapsed());

    let next = match error.as_ref().map(Error::class) {
        None | Some(Class::NewVersion) => {
            memory.succeeded();
            plan::next_look(memory.verified, interval, Instant::now(), fastrand::f64())
        }
        Some(Class::Edit | Class::Watched) => None,
        Some(Class::Passing | Class::Retry) => {
            let pause = memory.failed(stale_interval, fastrand::f64());
            Some(plan::until_stale(&status, stale_interval, now).map_or(pause, |stale| stale.min(pause)))
        }
    };
    let expiry = progress.expires.map(|end| plan::until(end, Timestamp::now()));
    let overlaps = progress.overlaps.iter().flatten().filter_map(|overlap| overlap.again).min();
    let wake = wake.map(|wake| plan::until(wake, Timestamp::now()));
    let walk = memory.next_walk(error.is_none(), Instant::now());
    let next = [next, expiry, overlaps, rollout_next, action_next, wake, walk].into_iter().flatten().min();
    let leaves_over = progress.published.as_ref().is_some_and(|published| !published.leftovers.is_empty());
    match next {
        _ if !reported => Some(RETRY_REPORT),
        _ if leaves_over => Some(next.map_or(CLEAN_UP, |next| next.min(CLEAN_UP))),
        next => next,
    }
}

/// The status to go on from: the store may lag behind the last write of this process.
fn latest_status<'a>(manifest: &'a SecretBinding, memory: &Memory) -> Cow<'a, SecretBindingStatus> {
    let seen = manifest.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    match &memory.reported {
        Some((written, status)) if seen < Some(*written) => Cow::Owned((**status).clone()),
        _ => manifest.status.as_ref().map_or_else(Cow::default, Cow::Borrowed),
    }
}

/// Writes the status and the Events of its transitions, if it changed. False where it could not be written.
async fn report<'a>(
    manifest: &SecretBinding,
    context: &'a Context,
    memory: &mut Memory,
    before: &SecretBindingStatus,
    status: &SecretBindingStatus,
    of_rules: Vec<Note>,
    turn: &mut Turn<'a>,
) -> bool {
    let (namespace, name) = (manifest.namespace().unwrap_or_default(), manifest.name_any());
    let ready = status.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    let verified = memory
        .verified
        .map(|at| Timestamp::now().as_second() - i64::try_from(at.elapsed().as_secs()).unwrap_or_default());
    context.metrics.binding(&namespace, &name, ready, verified);
    if status == before {
        return true;
    }
    take(turn, context).await;
    // What was found out about an earlier binding of this name is nothing to say of this one.
    let (binding, uid) = (BindingName::new(&namespace, &name), manifest.uid().unwrap_or_default());
    if !context.is_current(&binding, &uid, manifest.metadata.generation.unwrap_or_default()) {
        return true;
    }
    match write_status(&context.client, (&namespace, &name), &uid, status).await {
        Ok(resource_version) => {
            let version = resource_version.parse().ok();
            memory.reported = version.map(|version| (version, Box::new(status.clone())));
        }
        Err(StatusError::Gone) => return true,
        Err(error) => {
            tracing::warn!(%namespace, %name, %error, "the status could not be written; it is tried again");
            return false;
        }
    }
    for note in transitions(before, status).into_iter().chain(of_rules) {
        if note.warning {
            tracing::warn!(%namespace, %name, reason = %note.reason, "{}", note.text);
        } else {
            tracing::info!(%namespace, %name, reason = %note.reason, "{}", note.text);
        }
        context.events.note(&binding, &uid, note, Timestamp::now());
    }
    true
}
