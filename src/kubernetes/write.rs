//! Writes of the target Secret. The other writes stand in [`restart`](super::restart), [`job`](super::job),
//! [`report`](super::report), [`lease`](super::lease), [`installation`](super::installation) and
//! [`service_account`](super::service_account); nothing else in the crate writes to Kubernetes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::api::FIELD_MANAGER;
use crate::domain::target::orphan::Orphan;
use crate::domain::target::withdrawal::{STAND_IN, demanded_keys};
use crate::domain::target::{Desired, ObservedTarget, SecretMeta};
use crate::kubernetes::api_server::WriteClient;
use crate::kubernetes::write_error::WriteError;

/// A write that takes longer than this is given up; the next observation shows whether it arrived.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// A resource version that no object has: the API server ignores it where the apply creates the object, and answers
/// 409 Conflict where the object exists. So a Secret that appears between the observation and the write is not touched.
const NEVER_SEEN: &str = "1";

/// Applies the target Secret. `observed` is what the decision to write rests on: if the Secret is not exactly that
/// any more, nothing is written. Answers the metadata of the Secret as written.
///
/// # Errors
/// [`WriteError::Raced`] where the Secret is not as observed, else what Kubernetes refuses.
pub async fn apply_secret(
    client: WriteClient<'_>,
    desired: &Desired,
    observed: Option<&ObservedTarget>,
) -> Result<SecretMeta, WriteError> {
    let api: Api<SecretMeta> = Api::namespaced(client.request().clone(), &desired.namespace);
    // Forced, since a field that somebody else took is taken back; what may be touched at all was judged before.
    // Validation would make the API server parse the body once more; what it tells, it tells of our own typed fields.
    let params = PatchParams::apply(FIELD_MANAGER).force().validation_ignore();
    let patch = Patch::Apply(ApplyBody { desired, observed });
    match timeout(WRITE_TIMEOUT, api.patch(&desired.name, &params, &patch)).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(error)) => Err(WriteError::of(&desired.name, &error)),
        Err(_) => Err(unanswered(&desired.name)),
    }
}

/// Replaces the managed fields of a Secret, if it is exactly the one that was read. Answers its metadata.
///
/// # Errors
/// [`WriteError::Raced`] where the Secret is not as read, else what Kubernetes refuses.
pub async fn replace_managed_fields(
    client: WriteClient<'_>,
    (namespace, name): (&str, &str),
    read: &SecretMeta,
    entries: &[ManagedFieldsEntry],
) -> Result<SecretMeta, WriteError> {
    let api: Api<SecretMeta> = Api::namespaced(client.request().clone(), namespace);
    let (uid, version) = (&read.metadata.uid, &read.metadata.resource_version);
    let change = serde_json::json!({
        "metadata": {"uid": uid, "resourceVersion": version, "managedFields": entries},
    });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match timeout(WRITE_TIMEOUT, api.patch(name, &params, &Patch::Merge(&change))).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(error)) => Err(WriteError::of(name, &error)),
        Err(_) => Err(unanswered(name)),
    }
}

/// Takes the keys and marks of Bindery from a Secret, if it is exactly the one that was seen: what is applied is nothing
/// but its type, so that all else that only Bindery applied goes. A key of `own` that the type demands stays, without its
/// value.
///
/// # Errors
/// [`WriteError::Raced`] where the Secret is not as observed, else what Kubernetes refuses.
pub async fn release_secret(
    client: WriteClient<'_>,
    namespace: &str,
    seen: &Orphan,
    (type_, own): (&str, &BTreeSet<String>),
) -> Result<(), WriteError> {
    let api: Api<SecretMeta> = Api::namespaced(client.request().clone(), namespace);
    let Orphan { name, uid, resource_version } = seen;
    let kept = demanded_keys(type_).iter().filter(|key| own.contains(**key));
    let data: BTreeMap<&str, String> = kept.map(|key| (*key, STANDARD.encode(STAND_IN))).collect();
    let body = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": type_, "data": data,
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": resource_version},
    });
    let (params, patch) = (PatchParams::apply(FIELD_MANAGER).force(), Patch::Apply(&body));
    match timeout(WRITE_TIMEOUT, api.patch(name, &params, &patch)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(WriteError::of(name, &error)),
        Err(_) => Err(unanswered(name)),
    }
}

/// The length in bytes of the request that writes a Secret, which is serialized to count it.
#[must_use]
pub fn body_length(desired: &Desired) -> usize {
    serde_json::to_vec(&ApplyBody { desired, observed: None }).map(Zeroizing::new).map_or(0, |body| body.len())
}

/// The body of the apply request; the one place where values are serialized.
struct ApplyBody<'a> {
    desired: &'a Desired,
    observed: Option<&'a ObservedTarget>,
}

impl fmt::Debug for ApplyBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApplyBody(..)")
    }
}

impl Serialize for ApplyBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata<'a> {
            name: &'a str,
            namespace: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            uid: Option<&'a str>,
            resource_version: &'a str,
            labels: &'a BTreeMap<String, String>,
            annotations: &'a BTreeMap<String, String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            owner_references: Vec<&'a OwnerReference>,
        }
        let Desired { namespace, name, type_, labels, annotations, owner, data } = self.desired;
        let metadata = Metadata {
            name,
            namespace,
            uid: self.observed.map(|observed| observed.uid.as_str()),
            resource_version: self.observed.map_or(NEVER_SEEN, |observed| &observed.resource_version),
            labels,
            annotations,
            owner_references: owner.iter().collect(),
        };
        let data: BTreeMap<&str, Zeroizing<String>> =
            data.iter().map(|(key, value)| (key.as_str(), Zeroizing::new(STANDARD.encode(value.expose())))).collect();
        let mut body = serializer.serialize_map(Some(5))?;
        body.serialize_entry("apiVersion", "v1")?;
        body.serialize_entry("kind", "Secret")?;
        body.serialize_entry("metadata", &metadata)?;
        body.serialize_entry("type", type_)?;
        body.serialize_entry("data", &EncodedData(&data))?;
        body.end()
    }
}

struct EncodedData<'a>(&'a BTreeMap<&'a str, Zeroizing<String>>);

impl Serialize for EncodedData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value.as_str())))
    }
}

/// Deletes a Secret, if it is exactly the one that was seen. True where it is gone.
///
/// # Errors
/// What Kubernetes refuses.
pub async fn delete_secret(client: WriteClient<'_>, namespace: &str, seen: &Orphan) -> Result<bool, WriteError> {
    let api: Api<Secret> = Api::namespaced(client.request().clone(), namespace);
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(seen.uid.clone()),
        resource_version: Some(seen.resource_version.clone()),
    });
    match timeout(WRITE_TIMEOUT, api.delete(&seen.name, &params)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(true),
        // It changed since it was observed: the next reconcile observes it again.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(false),
        Ok(Err(error)) => Err(WriteError::of(&seen.name, &error)),
        Err(_) => Err(unanswered(&seen.name)),
    }
}

fn unanswered(name: &str) -> WriteError {
    WriteError::Failed { name: name.to_owned(), what: "the API server did not answer in time".to_owned() }
}
