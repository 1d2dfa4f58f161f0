//! Writes of objects: the target Secret, the operator's own key and its lease. Status and Events are in
//! [`report`](crate::kubernetes::report); nothing else in the crate writes to Kubernetes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{DynamicObject, Status};
use kube::{Api, Client, ResourceExt as _};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::api::{ANNOTATION_CRON_JOB, FIELD_MANAGER, RESTART_FIELD_MANAGER, Reason, WorkloadReference};
use crate::domain::fingerprint::KEY_LENGTH;
use crate::domain::rotation::job::is_made_from;
use crate::domain::target::orphan::Orphan;
use crate::domain::target::{Desired, ObservedTarget, SecretMeta};
use crate::kubernetes::workloads::resource;

/// A write that takes longer than this is given up; whether it arrived is seen at the next look.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// A resource version that no object has: the API server ignores it where the apply creates the object, and answers
/// 409 Conflict where the object exists. So a Secret that appears between the look and the write is not touched.
const NEVER_SEEN: &str = "1";

/// Why Kubernetes did not take a write. The API server's own text stays out of it, since it can quote a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object is not as it was observed: look again.
    #[error("the Secret changed while it was being written; it is tried again")]
    Raced,
    /// RBAC.
    #[error(
        "Kubernetes does not allow the operator to write the Secret {0:?}; give its ServiceAccount the verbs get, create and patch on secrets in this namespace"
    )]
    Forbidden(String),
    /// The type, or an immutable Secret.
    #[error(
        "the Secret {name:?} cannot be changed ({field} is immutable); delete it and it is published anew, or correct spec.target"
    )]
    Immutable {
        /// The Secret.
        name: String,
        /// The field that Kubernetes refuses to change.
        field: String,
    },
    /// Validation.
    #[error(
        "Kubernetes refuses the Secret {name:?} as invalid in {field}; correct spec.target or the keys that its type needs"
    )]
    Invalid {
        /// The Secret.
        name: String,
        /// The fields that Kubernetes names.
        field: String,
    },
    /// A resource quota.
    #[error(
        "a ResourceQuota of the namespace leaves no room for the Secret {0:?}; raise the quota or delete other Secrets"
    )]
    Quota(String),
    /// An admission policy or webhook.
    #[error("an admission policy or webhook refuses the Secret {0:?}; ask whoever manages the policies of the cluster")]
    Admission(String),
    /// The namespace goes away.
    #[error("the namespace is being deleted, so the Secret {0:?} is not written any more")]
    Terminating(String),
    /// The request is larger than the API server takes.
    #[error(
        "the Secret {0:?} is larger than the API server takes; publish fewer keys or split it over several bindings"
    )]
    TooLarge(String),
    /// Anything else.
    #[error("the Secret {name:?} could not be written: {what}; it is tried again")]
    Failed {
        /// The Secret.
        name: String,
        /// The kind of failure.
        what: String,
    },
}

impl WriteError {
    /// The reason in the condition `Applied`.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Raced | Self::Failed { .. } => Reason::ApplyFailed,
            Self::Forbidden(_) => Reason::TargetForbidden,
            Self::Immutable { .. } => Reason::TargetImmutable,
            Self::Invalid { .. } => Reason::TargetInvalid,
            Self::Quota(_) => Reason::QuotaExceeded,
            Self::Admission(_) => Reason::AdmissionDenied,
            Self::Terminating(_) => Reason::NamespaceTerminating,
            Self::TooLarge(_) => Reason::TooLarge,
        }
    }

    fn of(name: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(name, status),
            _ => Self::Failed { name: name.to_owned(), what: "the API server did not answer".to_owned() },
        }
    }

    fn of_status(name: &str, status: &Status) -> Self {
        let name = name.to_owned();
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        let terminating = causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
        // First of all, since a policy or webhook chooses both the code and the words of its refusal.
        if status.message.contains(" denied request: ") || status.message.contains(" denied the request") {
            return Self::Admission(name);
        }
        match status.code {
            409 => Self::Raced,
            404 => Self::Terminating(name),
            403 if terminating => Self::Terminating(name),
            403 if status.message.contains(" is forbidden: exceeded quota: ") => Self::Quota(name),
            // The words of RBAC; anything else that forbids came later, from admission.
            403 if status.message.contains(" is forbidden: User \"") => Self::Forbidden(name),
            403 => Self::Admission(name),
            413 => Self::TooLarge(name),
            422 => {
                let immutable = causes.iter().find(|cause| cause.message.contains("immutable"));
                let field = |text: &str| bounded_path(text);
                if let Some(cause) = immutable {
                    return Self::Immutable { name, field: field(&cause.field) };
                }
                let mut fields: Vec<String> = causes.iter().map(|cause| field(&cause.field)).collect();
                fields.dedup();
                Self::Invalid { name, field: fields.join(", ") }
            }
            code => Self::Failed { name, what: format!("the API server answered {code}") },
        }
    }
}

/// A field path holds names of fields and keys; it is cut so that it cannot carry more.
fn bounded_path(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Applies the target Secret. `observed` is what the decision to write rests on: if the Secret is not exactly that
/// any more, nothing is written. Answers the metadata of the Secret as written.
///
/// # Errors
/// [`WriteError::Raced`] where the Secret is not as observed, else what Kubernetes refuses.
pub async fn apply_secret(
    client: &Client,
    desired: &Desired,
    observed: Option<&ObservedTarget>,
) -> Result<SecretMeta, WriteError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &desired.namespace);
    // Forced, since a field that somebody else took is taken back; what may be touched at all was judged before.
    // Validation would make the API server parse the body once more; what it tells, it tells of our own typed fields.
    let params = PatchParams::apply(FIELD_MANAGER).force().validation_ignore();
    let patch = Patch::Apply(ApplyBody { desired, observed });
    match timeout(WRITE_TIMEOUT, api.patch_metadata(&desired.name, &params, &patch)).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(error)) => Err(WriteError::of(&desired.name, &error)),
        Err(_) => Err(WriteError::Failed {
            name: desired.name.clone(),
            what: "the API server did not answer in time".to_owned(),
        }),
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
        body.serialize_entry("data", &Encoded(&data))?;
        body.end()
    }
}

struct Encoded<'a>(&'a BTreeMap<&'a str, Zeroizing<String>>);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value.as_str())))
    }
}

/// Deletes a Secret, if it is exactly the one that was seen. True where it is gone.
///
/// # Errors
/// What Kubernetes refuses.
pub async fn delete_secret(client: &Client, namespace: &str, seen: &Orphan) -> Result<bool, WriteError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(seen.uid.clone()),
        resource_version: Some(seen.resource_version.clone()),
    });
    match timeout(WRITE_TIMEOUT, api.delete(&seen.name, &params)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(true),
        // It changed since it was seen: the next pass looks again.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(false),
        Ok(Err(error)) => Err(WriteError::of(&seen.name, &error)),
        Err(_) => Err(WriteError::Failed {
            name: seen.name.clone(),
            what: "the API server did not answer in time".to_owned(),
        }),
    }
}

/// Annotates the pod template of a workload, if it is exactly the one that was seen: its controller then replaces the
/// pods as its strategy says, as with `kubectl rollout restart`. A merge patch leaves the annotations of others alone,
/// those of other bindings' restarts among them, which an apply under one field manager would take away.
///
/// # Errors
/// 409 where the workload is not as it was seen, else what Kubernetes refuses.
pub async fn restart_workload(
    client: &Client,
    namespace: &str,
    workload: &WorkloadReference,
    resource_version: &str,
    (annotation, mark): (&str, &str),
) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(workload.kind));
    let patch = serde_json::json!({
        "metadata": {"resourceVersion": resource_version},
        "spec": {"template": {"metadata": {"annotations": {annotation: mark}}}},
    });
    let params = PatchParams { field_manager: Some(RESTART_FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let late = |_| kube::Error::Service(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    timeout(WRITE_TIMEOUT, api.patch_metadata(&workload.name, &params, &Patch::Merge(&patch)))
        .await
        .map_err(late)??;
    Ok(())
}

/// Creates the Secret that holds the operator's own random key.
///
/// # Errors
/// What Kubernetes refuses; 409 where another replica was first.
pub async fn create_fingerprint_key(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &Zeroizing<[u8; KEY_LENGTH]>,
) -> Result<(), kube::Error> {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("key".to_owned(), ByteString(key.to_vec()))])),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    api.create(&params, &secret).await.map(|_| ())
}

/// Asks for a token of a ServiceAccount that AWS STS takes, for ten minutes, the shortest that Kubernetes gives.
///
/// # Errors
/// What Kubernetes refuses.
pub async fn request_token(client: &Client, namespace: &str, account: &str) -> Result<Zeroizing<String>, kube::Error> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec!["sts.amazonaws.com".to_owned()],
            expiration_seconds: Some(600),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = api.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(Zeroizing::new(answer.status.map(|status| status.token).unwrap_or_default()))
}

/// Creates the lease, or replaces it where it carries a resource version. Answers the lease as written.
///
/// # Errors
/// 409 where another candidate was first, else what Kubernetes refuses.
pub async fn put_lease(api: &Api<Lease>, lease: &Lease) -> Result<Lease, kube::Error> {
    let params = PostParams::default();
    match (&lease.metadata.resource_version, &lease.metadata.name) {
        (Some(_), Some(name)) => api.replace(name, &params, lease).await,
        _ => api.create(&params, lease).await,
    }
}

/// Why Kubernetes did not take a Job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// RBAC.
    #[error(
        "Kubernetes does not allow the operator to create the Job {0:?}; give its ServiceAccount the verbs get and create on jobs in this namespace"
    )]
    Forbidden(String),
    /// The name is another Job's.
    #[error("the Job {0:?} is there already and was not made by Bindery; delete or rename it")]
    Foreign(String),
    /// Validation, a quota, a policy.
    #[error("Kubernetes refuses the Job {name:?} ({why}); correct the CronJob or ask whoever manages the cluster")]
    Refused {
        /// The Job.
        name: String,
        /// What refuses it.
        why: &'static str,
    },
    /// It passes by itself.
    #[error("the Job {0:?} could not be created, since the API server did not answer or failed; it is tried again")]
    Unavailable(String),
}

impl JobError {
    fn of(name: &str, error: &kube::Error) -> Self {
        let name = name.to_owned();
        let why = match WriteError::of(&name, error) {
            WriteError::Raced | WriteError::Failed { .. } => return Self::Unavailable(name),
            WriteError::Forbidden(_) => return Self::Forbidden(name),
            WriteError::Immutable { .. } | WriteError::Invalid { .. } => "it is invalid",
            WriteError::Quota(_) => "a ResourceQuota leaves no room for it",
            WriteError::Admission(_) => "an admission policy or webhook denies it",
            WriteError::Terminating(_) => "the namespace is being deleted",
            WriteError::TooLarge(_) => "it is too large",
        };
        Self::Refused { name, why }
    }
}

/// Creates a Job that [`of_cron_job`](crate::domain::rotation::job::of_cron_job) made, and answers it as it stands: one that
/// Bindery created earlier under the name, from the same CronJob, is as good.
///
/// # Errors
/// What Kubernetes refuses, and a Job of somebody else under the name.
pub async fn create_job(client: &Client, namespace: &str, job: &Job) -> Result<Job, JobError> {
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let name = job.name_any();
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let late = || JobError::Unavailable(name.clone());
    match timeout(WRITE_TIMEOUT, api.create(&params, job)).await.map_err(|_| late())? {
        Ok(created) => Ok(created),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            let standing = timeout(WRITE_TIMEOUT, api.get(&name)).await.map_err(|_| late())?;
            let standing = standing.map_err(|error| JobError::of(&name, &error))?;
            let source = job.annotations().get(ANNOTATION_CRON_JOB).map(String::as_str).unwrap_or_default();
            if is_made_from(&standing, source) { Ok(standing) } else { Err(JobError::Foreign(name)) }
        }
        Err(error) => Err(JobError::of(&name, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::response::{StatusCause, StatusDetails};

    fn status(code: u16, message: &str, causes: &[(&str, &str, &str)]) -> Status {
        let causes = causes
            .iter()
            .map(|(reason, message, field)| StatusCause {
                reason: (*reason).to_owned(),
                message: (*message).to_owned(),
                field: (*field).to_owned(),
            })
            .collect();
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes,
            retry_after_seconds: 0,
        };
        Status { code, message: message.to_owned(), details: Some(details), ..Status::default() }
    }

    #[test]
    fn each_refusal_of_the_api_server_has_its_reason_and_none_of_its_text() {
        for (answer, reason) in [
            (status(409, "hunter2", &[]), Reason::ApplyFailed),
            (
                status(403, "secrets \"s\" is forbidden: User \"x\" cannot patch resource \"secrets\" hunter2", &[]),
                Reason::TargetForbidden,
            ),
            (status(403, "secrets \"s\" is forbidden: exceeded quota: q, hunter2", &[]), Reason::QuotaExceeded),
            (
                status(403, "hunter2", &[("NamespaceTerminating", "", "metadata.namespace")]),
                Reason::NamespaceTerminating,
            ),
            (status(403, "policy says hunter2", &[]), Reason::AdmissionDenied),
            (status(422, "ValidatingAdmissionPolicy 'p' denied request: hunter2", &[]), Reason::AdmissionDenied),
            (status(404, "namespaces \"n\" not found hunter2", &[]), Reason::NamespaceTerminating),
            (status(413, "hunter2", &[]), Reason::TooLarge),
            (
                status(
                    422,
                    "hunter2",
                    &[("FieldValueInvalid", "Invalid value: \"hunter2\": field is immutable", "type")],
                ),
                Reason::TargetImmutable,
            ),
            (
                status(422, "hunter2", &[("FieldValueRequired", "Required value hunter2", "data[tls.crt]")]),
                Reason::TargetInvalid,
            ),
            (status(500, "hunter2", &[]), Reason::ApplyFailed),
        ] {
            let error = WriteError::of_status("worker", &answer);
            assert_eq!(error.reason(), reason, "{answer:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
