//! Writes the status and publishes the Events.

use std::borrow::Cow;
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{SecretBinding, SecretBindingStatus};
use crate::domain::name::BindingName;
use crate::domain::note::Note;
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::report::{StatusError, StatusTarget, write_status};
use crate::reconcile::binding::status::Report;
use crate::reconcile::context::Context;
use crate::state::history::{History, ReportedStatus, UnwrittenReport};

/// What became of a status.
#[derive(Clone, Debug, PartialEq)]
pub enum Reported {
    /// It is as before.
    Unchanged,
    /// The binding is gone, or another by now.
    Superseded,
    /// It was written.
    Written(ReportedStatus),
    /// It could not be written.
    Failed,
}

/// The status to go on from. What could not be written is as good as what was: nothing is found out again to tell of it.
#[must_use]
pub fn known_status<'a>(manifest: &'a SecretBinding, history: &History) -> Cow<'a, SecretBindingStatus> {
    match &history.unwritten {
        Some(unwritten) => Cow::Owned(unwritten.status.clone()),
        None => latest_status(manifest, history),
    }
}

/// The history to go on with. A status that could not be written counts no more once somebody else has written one, as
/// the process that leads now, or once it turns out to be written.
#[must_use]
pub fn go_on(manifest: &SecretBinding, history: History) -> History {
    match &history.unwritten {
        Some(unwritten) if unwritten.base != *latest_status(manifest, &history) => {
            History { unwritten: None, ..history }
        }
        _ => history,
    }
}

/// The resource version of the status that a report rests on.
fn latest_version(manifest: &SecretBinding, history: &History) -> String {
    let seen = manifest.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    match &history.reported {
        Some(written) if seen < Some(written.resource_version) => written.resource_version.to_string(),
        _ => manifest.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// The status that the API server has: the store may lag behind the last write of this process.
#[must_use]
pub fn latest_status<'a>(manifest: &'a SecretBinding, history: &History) -> Cow<'a, SecretBindingStatus> {
    let seen = manifest.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    match &history.reported {
        Some(written) if seen < Some(written.resource_version) => Cow::Owned((*written.status).clone()),
        _ => manifest.status.as_ref().map_or_else(Cow::default, Cow::Borrowed),
    }
}

/// Writes the status, if it is not what the API server has, and publishes the Events that go with the change. What could
/// not be written and is the same still is not tried before its time. Answers the history with what became of it.
pub async fn report(
    cx: &Context,
    manifest: &SecretBinding,
    history: History,
    report: &Report,
    permit: &Permit<'_>,
) -> (History, Reported) {
    let now = Instant::now();
    let earlier = history.unwritten.as_deref();
    if earlier.is_some_and(|earlier| earlier.status == report.status && !earlier.pause(now).is_zero()) {
        return (history, Reported::Failed);
    }
    let notes: Vec<Note> =
        earlier.into_iter().flat_map(|earlier| &earlier.notes).chain(&report.notes).cloned().collect();
    let reported = if report.status == *latest_status(manifest, &history) {
        Reported::Unchanged
    } else {
        let version = latest_version(manifest, &history);
        write(cx, manifest, &version, &report.status, permit).await
    };
    if matches!(reported, Reported::Written(_)) {
        let binding = BindingName::new(&manifest.namespace().unwrap_or_default(), &manifest.name_any());
        for note in &notes {
            publish_event(cx, &binding, &manifest.uid().unwrap_or_default(), note.clone());
        }
    }
    let history = match &reported {
        Reported::Unchanged => History { unwritten: None, ..history },
        Reported::Superseded => history,
        Reported::Written(written) => History { reported: Some(written.clone()), unwritten: None, ..history },
        Reported::Failed => {
            let (status, now) = (report.status.clone(), Instant::now());
            let base = latest_status(manifest, &history).into_owned();
            let next = UnwrittenReport::after(history.unwritten.as_deref(), status, notes, now, fastrand::f64());
            History { unwritten: Some(Box::new(UnwrittenReport { base, ..next })), ..history }
        }
    };
    (history, reported)
}

async fn write(
    cx: &Context,
    manifest: &SecretBinding,
    version: &str,
    status: &SecretBindingStatus,
    permit: &Permit<'_>,
) -> Reported {
    let binding = BindingName::new(&manifest.namespace().unwrap_or_default(), &manifest.name_any());
    let uid = manifest.uid().unwrap_or_default();
    permit.acquire().await;
    // What was found out about an earlier binding of this name is nothing to say of this one.
    if !cx.state.bindings.is_current(&binding, &uid, manifest.metadata.generation.unwrap_or_default()) {
        return Reported::Superseded;
    }
    let (namespace, name) = (&*binding.namespace, &*binding.name);
    let target = StatusTarget { namespace, name, resource_version: version };
    match write_status(permit.writes().await, target, status).await {
        Ok(resource_version) => match resource_version.parse() {
            Ok(resource_version) => {
                Reported::Written(ReportedStatus { resource_version, status: Box::new(status.clone()) })
            }
            Err(_) => Reported::Unchanged,
        },
        Err(StatusError::Gone) => Reported::Superseded,
        Err(StatusError::Conflict) => {
            tracing::debug!(%namespace, %name, "the binding changed before its status was written, so it is looked at again");
            Reported::Failed
        }
        Err(error) => {
            tracing::warn!(%namespace, %name, %error, "the status could not be written; it is tried again with growing pauses");
            Reported::Failed
        }
    }
}

fn publish_event(cx: &Context, binding: &BindingName, uid: &str, note: Note) {
    let BindingName { namespace, name } = binding;
    if note.warning {
        tracing::warn!(%namespace, %name, reason = %note.reason, "{}", note.text);
    } else {
        tracing::info!(%namespace, %name, reason = %note.reason, "{}", note.text);
    }
    cx.clients.events.note(binding, uid, note, Timestamp::now());
}
