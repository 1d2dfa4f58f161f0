//! Writes of what Bindery has to say: the status of bindings, and Events.

use std::time::Duration;

use http::{Request, header};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::api::{STATUS_FIELD_MANAGER, SecretBinding, SecretBindingStatus, SecretGrant, SecretGrantStatus};
use crate::domain::name::BindingName;
use crate::domain::note::Note;
use crate::kubernetes::api_server::WriteClient;
use crate::kubernetes::event_queue::EventQueue;

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The API server takes notes of at most this many bytes.
const MAX_NOTE: usize = 1024;

/// How long an Event waits at a time where there is more important work.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// No Event waits for longer, whatever else there is to do.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(30);

/// How long a process that ends goes on publishing Events.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// A binding as it was when its status was made.
#[derive(Clone, Copy, Debug)]
pub struct StatusTarget<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// The resource version: no status is written over one that this process has not seen, nor over another binding of
    /// the same name.
    pub resource_version: &'a str,
}

/// Replaces the status, where the binding still has this resource version. Answers the one that it then has.
///
/// Server-side apply would cost the API server several times as much here, and there is no other writer of the status
/// to agree with.
///
/// # Errors
/// What Kubernetes refuses, or a time-out.
pub async fn write_status(
    client: WriteClient<'_>,
    target: StatusTarget<'_>,
    status: &SecretBindingStatus,
) -> Result<String, StatusError> {
    let request = status_patch(target, status)?;
    // Nothing of the answer is of use but the resource version.
    match timeout(WRITE_TIMEOUT, client.request().request::<PartialObjectMeta<SecretBinding>>(request)).await {
        Ok(Ok(written)) => Ok(written.metadata.resource_version.unwrap_or_default()),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(StatusError::TimedOut),
    }
}

fn failed(error: kube::Error) -> StatusError {
    match error {
        kube::Error::Api(status) if status.code == 404 => StatusError::Gone,
        kube::Error::Api(status) if status.code == 409 => StatusError::Conflict,
        error => StatusError::Failed(Box::new(error)),
    }
}

/// One step of a JSON patch.
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Step<'a> {
    /// The API server compares what stands here then with what it has.
    Replace { path: &'static str, value: &'a str },
    /// Also replaces what is there.
    Add { path: &'static str, value: &'a SecretBindingStatus },
}

fn status_patch(target: StatusTarget<'_>, status: &SecretBindingStatus) -> Result<Request<Vec<u8>>, StatusError> {
    let StatusTarget { namespace, name, resource_version } = target;
    let path = SecretBinding::url_path(&(), Some(namespace));
    let steps = [
        Step::Replace { path: "/metadata/resourceVersion", value: resource_version },
        Step::Add { path: "/status", value: status },
    ];
    let unbuilt = |error: &dyn std::fmt::Display| StatusError::Unbuilt(error.to_string());
    let body = serde_json::to_vec(&steps).map_err(|error| unbuilt(&error))?;
    Request::patch(format!("{path}/{name}/status?fieldManager={STATUS_FIELD_MANAGER}&fieldValidation=Ignore"))
        .header(header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
        .header(header::CONTENT_TYPE, "application/json-patch+json")
        .body(body)
        .map_err(|error| unbuilt(&error))
}

/// Writes the status of a grant by server-side apply, where the grant is still as it is here.
///
/// # Errors
/// What Kubernetes refuses, or a time-out.
pub async fn write_grant_status(
    client: WriteClient<'_>,
    grant: &ObjectMeta,
    status: &SecretGrantStatus,
) -> Result<(), StatusError> {
    let name = grant.name.as_deref().unwrap_or_default();
    let body = serde_json::json!({
        "apiVersion": SecretGrant::api_version(&()),
        "kind": SecretGrant::kind(&()),
        "metadata": {"resourceVersion": grant.resource_version},
        "status": status,
    });
    let api: Api<SecretGrant> = Api::all(client.request().clone());
    let params = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    match timeout(WRITE_TIMEOUT, api.patch_status(name, &params, &Patch::Apply(&body))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(StatusError::TimedOut),
    }
}

/// Writes conditions of an object without reading it, where it is still as it is here.
///
/// # Errors
/// What Kubernetes refuses, or a time-out.
pub async fn write_conditions<K: Resource<DynamicType = ()>>(
    client: WriteClient<'_>,
    object: &ObjectMeta,
    conditions: &[Value],
) -> Result<(), StatusError> {
    let unbuilt = |error: &dyn std::fmt::Display| StatusError::Unbuilt(error.to_string());
    let path = K::url_path(&(), object.namespace.as_deref());
    let name = object.name.as_deref().unwrap_or_default();
    let body = serde_json::json!({
        "metadata": {"uid": object.uid, "resourceVersion": object.resource_version},
        "status": {"conditions": conditions, "observedGeneration": object.generation},
    });
    let body = serde_json::to_vec(&body).map_err(|error| unbuilt(&error))?;
    let request =
        Request::patch(format!("{path}/{name}/status?fieldManager={STATUS_FIELD_MANAGER}&fieldValidation=Ignore"))
            .header(header::CONTENT_TYPE, "application/merge-patch+json")
            .body(body)
            .map_err(|error| unbuilt(&error))?;
    match timeout(WRITE_TIMEOUT, client.request().request::<IgnoredAny>(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(StatusError::TimedOut),
    }
}

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The binding is gone.
    #[error("the binding does not exist any more")]
    Gone,
    /// The object is not what the status was made for: it was edited, or somebody else wrote its status.
    #[error("the object changed meanwhile")]
    Conflict,
    /// Kubernetes refused.
    #[error("{}", refusal(.0))]
    Failed(#[source] Box<kube::Error>),
    /// No answer.
    #[error("the API server did not answer in time")]
    TimedOut,
    /// The request could not be made.
    #[error("the request cannot be made: {0}")]
    Unbuilt(String),
}

/// A refusal without the API server's own text.
fn refusal(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("the API server refused the status ({} {})", status.code, status.reason),
        _ => "the API server did not answer".to_owned(),
    }
}

/// The Events that wait to be published. They go out one after the other beside the reconciles, which never wait for one.
pub struct Events {
    client: Client,
    reporter: String,
    waiting: EventQueue<Queued>,
}

struct Queued {
    binding: BindingName,
    uid: String,
    note: Note,
    time: Timestamp,
}

impl Events {
    /// Events that `reporter` publishes.
    #[must_use]
    pub fn new(client: Client, reporter: String) -> Self {
        Self { client, reporter, waiting: EventQueue::default() }
    }

    /// Lets an Event about a binding be published.
    pub fn note(&self, binding: &BindingName, uid: &str, note: Note, time: Timestamp) {
        let event = Queued { binding: binding.clone(), uid: uid.to_owned(), note, time };
        if !self.waiting.push(&binding.namespace, event) {
            let namespace = &binding.namespace;
            tracing::warn!(%namespace, "an Event was not published, since too many others wait; conditions tell all the same");
        }
    }

    /// Publishes Events, for ever. While there is more important work, as `busy` says, they wait for a while.
    pub async fn publish(&self, busy: impl Fn() -> bool) {
        loop {
            let event = self.waiting.wait().await;
            let old = |event: &Queued| Timestamp::now().duration_since(event.time) > LONGEST_WAIT;
            while busy() && !old(&event) {
                sleep(BUSY_PAUSE).await;
            }
            self.send(event).await;
        }
    }

    /// Publishes what waits, for a moment.
    pub async fn flush(&self) {
        let all = async {
            while let Some(event) = self.waiting.next() {
                self.send(event).await;
            }
        };
        if timeout(FLUSH_TIMEOUT, all).await.is_err() {
            tracing::warn!("not all Events could be published before the end");
        }
    }

    /// Each is an object of its own, since they are sent on transitions only.
    async fn send(&self, Queued { binding: BindingName { namespace, name }, uid, note, time }: Queued) {
        let regarding = ObjectReference {
            api_version: Some(SecretBinding::api_version(&()).into_owned()),
            kind: Some(SecretBinding::kind(&()).into_owned()),
            namespace: Some(namespace.to_string()),
            name: Some(name.to_string()),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        // A name may have no `-` or `.` just before the `.` that follows.
        let stem = cut(&name, 200).trim_end_matches(['-', '.']);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{stem}.{:x}", time.as_nanosecond())),
                namespace: Some(namespace.to_string()),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(time)),
            note: Some(cut(&note.text, MAX_NOTE).to_owned()),
            reason: Some(note.reason.as_str().to_owned()),
            regarding: Some(regarding),
            reporting_controller: Some("bindery.dev/controller".to_owned()),
            reporting_instance: Some(cut(&self.reporter, 128).to_owned()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match timeout(WRITE_TIMEOUT, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%namespace, %name, %error, "an Event could not be published"),
            Err(_) => tracing::warn!(%namespace, %name, "an Event could not be published in time"),
        }
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
    use crate::kubernetes::report::cut;

    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(cut("abc", 10), "abc");
        assert_eq!(cut("aé", 2), "a");
    }
}
