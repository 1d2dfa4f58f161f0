//! Writes of what Bindery has to say: the status of bindings, and Events.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _};
use serde::Serialize;
use tokio::time::timeout;

use crate::api::{Reason, STATUS_FIELD_MANAGER, SecretBinding, SecretBindingStatus, SecretGrant, SecretGrantStatus};

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The API server takes notes of at most this many bytes.
const MAX_NOTE: usize = 1024;

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is about something that needs attention.
    pub warning: bool,
    /// The reason, which is that of the condition.
    pub reason: Reason,
    /// The message of the condition.
    pub text: String,
}

/// Writes the status by server-side apply. Answers the resource version that the binding then has.
///
/// # Errors
/// What Kubernetes refuses, or a time-out.
pub async fn write_status(
    client: &Client,
    namespace: &str,
    name: &str,
    status: &SecretBindingStatus,
) -> Result<String, StatusError> {
    #[derive(Debug, Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        api_version: String,
        kind: String,
        status: &'a SecretBindingStatus,
    }
    let body = Body {
        api_version: SecretBinding::api_version(&()).into_owned(),
        kind: SecretBinding::kind(&()).into_owned(),
        status,
    };
    let api: Api<SecretBinding> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    match timeout(WRITE_TIMEOUT, api.patch_status(name, &params, &Patch::Apply(&body))).await {
        Ok(Ok(written)) => Ok(written.metadata.resource_version.unwrap_or_default()),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(StatusError::Gone),
        Ok(Err(error)) => Err(StatusError::Failed(Box::new(error))),
        Err(_) => Err(StatusError::TimedOut),
    }
}

/// Writes the status of a grant by server-side apply.
///
/// # Errors
/// What Kubernetes refuses, or a time-out.
pub async fn write_grant_status(client: &Client, name: &str, status: &SecretGrantStatus) -> Result<(), StatusError> {
    let body = serde_json::json!({
        "apiVersion": SecretGrant::api_version(&()),
        "kind": SecretGrant::kind(&()),
        "status": status,
    });
    let api: Api<SecretGrant> = Api::all(client.clone());
    let params = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    match timeout(WRITE_TIMEOUT, api.patch_status(name, &params, &Patch::Apply(&body))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(StatusError::Gone),
        Ok(Err(error)) => Err(StatusError::Failed(Box::new(error))),
        Err(_) => Err(StatusError::TimedOut),
    }
}

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The binding is gone.
    #[error("the binding does not exist any more")]
    Gone,
    /// Kubernetes refused.
    #[error("the API server refused the status")]
    Failed(#[source] Box<kube::Error>),
    /// No answer.
    #[error("the API server did not answer in time")]
    TimedOut,
}

/// Publishes an Event about a binding. Each is an object of its own, since they are sent on transitions only; a
/// failure is logged and does not disturb the pass.
pub async fn publish_event(client: &Client, binding: &SecretBinding, note: &Note, reporter: &str, now: Timestamp) {
    let namespace = binding.metadata.namespace.clone().unwrap_or_default();
    let name = binding.metadata.name.clone().unwrap_or_default();
    // A name may have no `-` or `.` just before the `.` that follows.
    let stem = cut(&name, 200).trim_end_matches(['-', '.']);
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{stem}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(cut(&note.text, MAX_NOTE).to_owned()),
        reason: Some(note.reason.as_str().to_owned()),
        regarding: Some(ObjectReference { ..binding.object_ref(&()) }),
        reporting_controller: Some("bindery.dev/controller".to_owned()),
        reporting_instance: Some(cut(reporter, 128).to_owned()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    match timeout(WRITE_TIMEOUT, api.create(&PostParams::default(), &event)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%namespace, %name, %error, "an Event could not be published"),
        Err(_) => tracing::warn!(%namespace, %name, "an Event could not be published in time"),
    }
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(cut("abc", 10), "abc");
        assert_eq!(cut("aé", 2), "a");
    }
}
