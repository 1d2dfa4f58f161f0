//! Writes the status and publishes the Events.

use std::borrow::Cow;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{SecretBinding, SecretBindingStatus};
use crate::domain::name::BindingName;
use crate::domain::note::Note;
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::report::{StatusError, write_status};
use crate::reconcile::binding::status::Report;
use crate::reconcile::context::Context;
use crate::state::history::{History, ReportedStatus};

/// What became of a status.
#[derive(Clone, Debug, PartialEq)]
pub enum Reported {
    /// It is as before, or the binding is gone or another by now.
    Unchanged,
    /// It was written.
    Written(ReportedStatus),
    /// It could not be written.
    Failed,
}

/// The status to go on from: the store may lag behind the last write of this process.
#[must_use]
pub fn latest_status<'a>(manifest: &'a SecretBinding, history: &History) -> Cow<'a, SecretBindingStatus> {
    let seen = manifest.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    match &history.reported {
        Some(written) if seen < Some(written.resource_version) => Cow::Owned((*written.status).clone()),
        _ => manifest.status.as_ref().map_or_else(Cow::default, Cow::Borrowed),
    }
}

/// Writes the status, if it changed, and publishes the Events that go with the change.
pub async fn report(
    cx: &Context,
    manifest: &SecretBinding,
    before: &SecretBindingStatus,
    report: &Report,
    permit: &Permit<'_>,
) -> Reported {
    if report.status == *before {
        return Reported::Unchanged;
    }
    let binding = BindingName::new(&manifest.namespace().unwrap_or_default(), &manifest.name_any());
    let uid = manifest.uid().unwrap_or_default();
    permit.acquire().await;
    // What was found out about an earlier binding of this name is nothing to say of this one.
    if !cx.state.bindings.is_current(&binding, &uid, manifest.metadata.generation.unwrap_or_default()) {
        return Reported::Unchanged;
    }
    let (namespace, name) = (&*binding.namespace, &*binding.name);
    let reported = match write_status(permit.writes().await, (namespace, name), &uid, &report.status).await {
        Ok(resource_version) => match resource_version.parse() {
            Ok(resource_version) => {
                Reported::Written(ReportedStatus { resource_version, status: Box::new(report.status.clone()) })
            }
            Err(_) => Reported::Unchanged,
        },
        Err(StatusError::Gone) => return Reported::Unchanged,
        Err(error) => {
            tracing::warn!(%namespace, %name, %error, "the status could not be written; it is tried again");
            return Reported::Failed;
        }
    };
    for note in &report.notes {
        publish_event(cx, &binding, &uid, note.clone());
    }
    reported
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
