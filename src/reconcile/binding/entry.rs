//! One reconcile as the work queue asks for it: from the name of a binding to the time of its next reconcile.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{ConditionType, SecretBinding, SecretBindingStatus};
use crate::domain::binding::{Binding, Refresh};
use crate::domain::name::BindingName;
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::binding_object::BindingObject;
use crate::kubernetes::report::{StatusError, write_conditions};
use crate::kubernetes::unreadable::Unreadable;
use crate::reconcile::binding::attempt::Attempt;
use crate::reconcile::binding::report::{Reported, go_on, known_status, report};
use crate::reconcile::binding::requeue::{ReconcileOutcome, Timing, requeue};
use crate::reconcile::binding::status::{Findings, Report, status, suspended};
use crate::reconcile::binding::steps;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::subject::Subject;
use crate::reconcile::unreadable::conditions;
use crate::state::history::History;

/// When the status of a binding that cannot be read is written again, after that failed.
const RETRY_UNREADABLE: Duration = Duration::from_secs(60);

/// When it is written again after the binding changed meanwhile.
const RETRY_CONFLICT: Duration = Duration::from_secs(5);

/// The outcome of a reconcile that panicked, in the metrics.
pub const PANICKED: &str = "panicked";

/// Reconciles a binding. Answers the pause until its next reconcile, where the clock asks for one. A failure is
/// reported in the status of the binding.
pub async fn reconcile(name: &BindingName, cx: &Arc<Context>) -> Option<Duration> {
    let began = tokio::time::Instant::now();
    let remembered = cx.state.histories.take(name);
    // The store is read after that, since a written status is remembered only until the store has it.
    let next = match cx.state.bindings.get(name).as_ref().map(|object| &object.0) {
        Some(Ok(manifest)) if manifest.metadata.deletion_timestamp.is_none() => {
            let uid = manifest.uid().unwrap_or_default();
            // A binding of another uid under the same name begins anew.
            let same = remembered.filter(|(known, _)| *known == uid);
            let history = same.map(|(_, history)| history).unwrap_or_default();
            let (history, next) = Box::pin(reconcile_manifest(cx, manifest, name, history)).await;
            cx.state.histories.put(name, uid, history);
            next
        }
        Some(Err(unreadable)) => {
            cx.state.release_slots(name);
            Box::pin(tell_unreadable(cx, name, unreadable)).await
        }
        Some(Ok(_)) | None => None,
    };
    cx.state.warmup.reconciled(name);
    cx.clients.reader.versions().record_reconcile(name, began);
    // The binding may have been deleted during the reconcile.
    if cx.state.bindings.get(name).is_none() {
        cx.forget(name);
    }
    next
}

/// Says in the status of a binding that this version cannot read it. Its Secret stays as it is.
async fn tell_unreadable(cx: &Context, name: &BindingName, binding: &Unreadable) -> Option<Duration> {
    let said =
        [(ConditionType::Ready, "False"), (ConditionType::Reconciling, "False"), (ConditionType::Stalled, "True")];
    let conditions = conditions(binding, &said, Timestamp::now())?;
    let (namespace, name) = (&name.namespace, &name.name);
    tracing::warn!(%namespace, %name, fault = %binding.fault, "a binding cannot be read and is left alone");
    let permit = cx.clients.kubernetes.permit(Some(namespace));
    match write_conditions::<BindingObject>(permit.writes().await, &binding.metadata, &conditions).await {
        Ok(()) | Err(StatusError::Gone) => None,
        // The watch shows the change, which may not ask for a reconcile by itself.
        Err(StatusError::Conflict) => Some(RETRY_CONFLICT),
        Err(error) => {
            tracing::warn!(%namespace, %name, %error, "the status could not be written; it is tried again");
            Some(RETRY_UNREADABLE)
        }
    }
}

/// A reconcile that began.
struct Begun<'a> {
    manifest: &'a SecretBinding,
    name: &'a BindingName,
    started: Instant,
    /// The status before it.
    before: Cow<'a, SecretBindingStatus>,
    /// The permit for its requests.
    permit: Permit<'a>,
}

/// What came of an attempt.
struct Tried {
    /// The binding; `None` where its manifest is not valid.
    binding: Option<Arc<Binding>>,
    attempt: Attempt,
    error: Option<Error>,
}

/// A reconcile waits for AWS among thousands of others, so what it needs only later stands in functions of its own.
async fn reconcile_manifest(
    cx: &Arc<Context>,
    manifest: &SecretBinding,
    name: &BindingName,
    history: Box<History>,
) -> (Box<History>, Option<Duration>) {
    let (started, permit) = (Instant::now(), cx.clients.kubernetes.permit(Some(&name.namespace)));
    let history = Box::new(go_on(manifest, *history));
    let begun = Begun { manifest, name, started, before: known_status(manifest, &history), permit };
    if manifest.spec.suspend.unwrap_or_default() {
        cx.state.release_slots(name);
        // Neither an event nor another binding's list asks about what nobody is to follow.
        cx.clients.reader.versions().forget(name);
        return Box::pin(leave_alone(cx, begun, history)).await;
    }
    // What is matched on is held while the reconcile waits: so it is small.
    let binding = Binding::parse(manifest).map(Arc::new);
    let (attempt, error) = match &binding {
        Ok(binding) => {
            let subject = Subject { binding: binding.clone(), name, before: &begun.before };
            let run = AssertUnwindSafe(Box::pin(steps::run(cx, &subject, &history, &begun.permit))).catch_unwind();
            run.await.unwrap_or_else(|_| (Attempt::default(), Some(Error::Panicked)))
        }
        Err(error) => {
            cx.state.release_slots(name);
            (Attempt::default(), Some(Error::from(error.clone())))
        }
    };
    Box::pin(conclude(cx, begun, Tried { binding: binding.ok(), attempt, error }, history)).await
}

/// Says that a binding is suspended.
async fn leave_alone(cx: &Context, begun: Begun<'_>, history: Box<History>) -> (Box<History>, Option<Duration>) {
    let generation = begun.manifest.metadata.generation.unwrap_or_default();
    let said = suspended(&begun.before, generation, Timestamp::now());
    let (history, _) = publish(cx, begun.manifest, *history, &said, &begun.permit).await;
    cx.metrics.reconciled("suspended", begun.started.elapsed());
    let next = history.unwritten.as_ref().map(|unwritten| unwritten.pause(Instant::now()));
    (Box::new(history), next)
}

/// Folds an attempt into the status, writes it, and answers when the next reconcile is due.
async fn conclude(
    cx: &Context,
    begun: Begun<'_>,
    tried: Tried,
    history: Box<History>,
) -> (Box<History>, Option<Duration>) {
    let Begun { manifest, name, started, before, permit } = begun;
    let Tried { binding, mut attempt, error } = tried;
    let late = history.unwritten.is_some();
    let history = remember(cx, name, *history, &mut attempt, error.as_ref());
    if error == Some(Error::Superseded) {
        cx.metrics.reconciled("superseded", started.elapsed());
        return (Box::new(history), None);
    }
    let refresh = binding.as_ref().map_or(Refresh::Default, |binding| binding.refresh);
    let timing = Timing::new(&cx.settings, refresh, Timestamp::now());
    let generation = manifest.metadata.generation.unwrap_or_default();
    let said =
        status(&before, findings(binding.as_deref(), generation, (&attempt, error.as_ref()), &timing), timing.now);
    let (history, reported) = publish(cx, manifest, history, &said, &permit).await;
    drop(permit);
    for note in &said.commands {
        cx.clients.events.note(name, &manifest.uid().unwrap_or_default(), note.clone(), Timestamp::now());
    }
    let due = said.due.iter().map(|(_, due)| due.as_second()).min();
    cx.metrics.rotation(&name.namespace, &name.name, due);
    cx.metrics.reconciled(outcome(error.as_ref()), started.elapsed());
    let late = late && matches!(reported, Reported::Written(_));
    let outcome = ReconcileOutcome { attempt: &attempt, error: error.as_ref(), report: &said, late };
    let (history, next) = requeue(outcome, history, &timing, Instant::now(), fastrand::f64());
    (Box::new(history), next)
}

/// The history with what an attempt found out. Nobody knows what one that panicked left half done, so the next one begins
/// anew.
fn remember(
    cx: &Context,
    name: &BindingName,
    history: History,
    attempt: &mut Attempt,
    error: Option<&Error>,
) -> History {
    if error == Some(&Error::Panicked) {
        cx.state.release_slots(name);
        cx.clients.reader.versions().forget(name);
        return history.without_facts();
    }
    history.after(std::mem::take(&mut attempt.facts))
}

/// The name of an outcome in the metrics.
fn outcome(error: Option<&Error>) -> &'static str {
    match error {
        None => "ok",
        Some(Error::Panicked) => PANICKED,
        Some(error) => error.reason().as_str(),
    }
}

fn findings<'a>(
    binding: Option<&'a Binding>,
    generation: i64,
    (attempt, error): (&'a Attempt, Option<&'a Error>),
    timing: &Timing,
) -> Findings<'a> {
    let interval = timing.stale_interval;
    Findings { binding, generation, attempt, error, interval, looks_again: timing.interval.is_some() }
}

/// Writes the status, publishes the Events, and sets the metrics of a binding.
async fn publish(
    cx: &Context,
    manifest: &SecretBinding,
    history: History,
    said: &Report,
    permit: &Permit<'_>,
) -> (History, Reported) {
    let (namespace, name) = (manifest.namespace().unwrap_or_default(), manifest.name_any());
    let conditions = &said.status.conditions;
    let ready = conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    let age = |at: Instant| i64::try_from(at.elapsed().as_secs()).unwrap_or_default();
    let verified = history.verified.map(|at| Timestamp::now().as_second() - age(at));
    cx.metrics.binding(&namespace, &name, ready, verified);
    report(cx, manifest, history, said, permit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_two<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    fn of_four<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// At a start every binding waits for AWS at once, each with these four on the heap.
    #[test]
    fn a_reconcile_that_waits_holds_little() {
        let sizes = [of_two(reconcile), of_four(reconcile_manifest), of_four(steps::run), steps::size()];
        assert!(sizes.iter().sum::<usize>() <= 3400, "{sizes:?}");
    }
}
