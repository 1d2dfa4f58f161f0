//! Jobs from the templates of CronJobs, as `kubectl create job --from=cronjob/…` makes them. Pure.
//!
//! A Job runs once for one purpose, however often the operator is killed meanwhile: its name follows from the purpose
//! ([`name`]), and the API server gives a name to one Job only.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};

use crate::api::{ANNOTATION_BINDING, ANNOTATION_CRON_JOB, ANNOTATION_RULE, ANNOTATION_RUN, FIELD_MANAGER};
use crate::domain::fingerprint::hex;

/// The most characters of the name of a Job whose pods carry it as a label.
const MAX_NAME: usize = 63;
/// The hex digits in the name of a Job.
const DIGITS: usize = 10;

/// The annotation of a Job that no schedule began, as [`kubectl create job`][kubectl] sets it.
///
/// [kubectl]: https://kubernetes.io/docs/reference/kubectl/generated/kubectl_create/kubectl_create_job/
const INSTANTIATED: (&str, &str) = ("cronjob.kubernetes.io/instantiate", "manual");

/// The purpose of a Job.
#[derive(Clone, Debug)]
pub struct Purpose<'a> {
    /// The name of the Job, as [`name`] gives it.
    pub name: &'a str,
    /// The binding. The Job is deleted with it.
    pub owner: OwnerReference,
    /// The name of the binding.
    pub binding: &'a str,
    /// The rule.
    pub rule: &'a str,
}

/// Why a CronJob gives no Job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobRefusal {
    /// Nobody allowed it.
    #[error(
        "the CronJob {0:?} does not allow to be run by Bindery; annotate it with {ANNOTATION_RUN}=allowed, or name another CronJob"
    )]
    NotAllowed(String),
    /// Its namespace does not allow it.
    #[error(
        "the Namespace {0:?} does not allow Bindery to run Jobs in it; whoever manages it annotates it with {ANNOTATION_RUN}=allowed"
    )]
    NamespaceSilent(String),
    /// It is being deleted.
    #[error("the CronJob {0:?} is being deleted; name another CronJob")]
    Ends(String),
}

/// The Job of a CronJob's template. It is never suspended, though the CronJob may be, and it stays once it has ended, so
/// that people can read its result.
///
/// # Errors
/// If the CronJob does not allow it.
pub fn of_cron_job(cron_job: &CronJob, purpose: &Purpose<'_>) -> Result<Job, JobRefusal> {
    let source = cron_job.name_any();
    if cron_job.annotations().get(ANNOTATION_RUN).map(String::as_str) != Some("allowed") {
        return Err(JobRefusal::NotAllowed(source));
    }
    if cron_job.metadata.deletion_timestamp.is_some() {
        return Err(JobRefusal::Ends(source));
    }
    let template = cron_job.spec.as_ref().map(|spec| spec.job_template.clone()).unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
    let mut annotations = metadata.annotations.unwrap_or_default();
    for (key, value) in [
        INSTANTIATED,
        (ANNOTATION_BINDING, purpose.binding),
        (ANNOTATION_RULE, purpose.rule),
        (ANNOTATION_CRON_JOB, &source),
    ] {
        annotations.insert(key.to_owned(), value.to_owned());
    }
    let spec = template.spec.map(|mut spec| {
        spec.ttl_seconds_after_finished = None;
        spec.suspend = Some(false);
        spec
    });
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(purpose.name.to_owned()),
            namespace: cron_job.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![purpose.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec,
        ..Job::default()
    })
}

/// The name of a Job: the name of the CronJob, cut to fit, and a digest of the purpose.
#[must_use]
pub fn name<'a>(cron_job: &'a str, parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = hex(&digest(std::iter::once(cron_job).chain(parts)));
    digest.truncate(DIGITS);
    let room = MAX_NAME - DIGITS - 1;
    let name = cron_job.get(..room).unwrap_or(cron_job).trim_end_matches(['-', '.']);
    format!("{name}-{digest}")
}

/// A hash of a list of texts; the length before each keeps `["ab"]` apart from `["a", "b"]`.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// Whether Bindery made the Job from this CronJob, for any binding of the namespace.
#[must_use]
pub fn is_made_from(job: &Job, cron_job: &str) -> bool {
    job.annotations().get(ANNOTATION_CRON_JOB).map(String::as_str) == Some(cron_job)
}

/// The state of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits or runs.
    Running,
    /// It has done its work, at this time.
    Succeeded(Option<Timestamp>),
    /// It has given up, for this reason of Kubernetes (such as `BackoffLimitExceeded`).
    Failed(String),
}

/// The state of a Job, by its [conditions][job].
///
/// [job]: https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions
#[must_use]
pub fn state(job: &Job) -> JobState {
    let status = job.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let find_true = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
    if let Some(failed) = find_true("Failed") {
        return JobState::Failed(failed.reason.clone().unwrap_or_else(|| "Failed".to_owned()));
    }
    match find_true("Complete") {
        Some(complete) => {
            let ended = status.and_then(|status| status.completion_time.as_ref());
            JobState::Succeeded(ended.or(complete.last_transition_time.as_ref()).map(|time| time.0))
        }
        None => JobState::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    fn cron_job(annotations: &serde_json::Value) -> CronJob {
        serde_json::from_value(json!({
            "metadata": {"name": "renew", "namespace": "n", "annotations": annotations},
            "spec": {
                "schedule": "0 0 31 2 *", "suspend": true,
                "jobTemplate": {
                    "metadata": {"labels": {"app": "renew"}, "annotations": {"note": "kept"}},
                    "spec": {
                        "ttlSecondsAfterFinished": 60, "suspend": true, "backoffLimit": 2,
                        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}},
                    },
                },
            },
        }))
        .unwrap()
    }

    fn purpose(name: &str) -> Purpose<'_> {
        let owner = OwnerReference {
            api_version: "bindery.dev/v1alpha1".to_owned(),
            kind: "SecretBinding".to_owned(),
            name: "worker".to_owned(),
            uid: "u".to_owned(),
            ..OwnerReference::default()
        };
        Purpose { name, owner, binding: "worker", rule: "session" }
    }

    #[test]
    fn a_job_is_the_template_that_runs_now_stays_afterwards_and_goes_with_the_binding() {
        let job = of_cron_job(&cron_job(&json!({"bindery.dev/run": "allowed"})), &purpose("renew-1")).unwrap();
        let job = serde_json::to_value(job).unwrap();
        assert_eq!(
            job["metadata"],
            json!({
                "name": "renew-1", "namespace": "n",
                "labels": {"app": "renew", "app.kubernetes.io/managed-by": "bindery"},
                "annotations": {
                    "note": "kept", "cronjob.kubernetes.io/instantiate": "manual", "bindery.dev/binding": "worker",
                    "bindery.dev/rule": "session", "bindery.dev/cron-job": "renew",
                },
                "ownerReferences": [
                    {"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "name": "worker", "uid": "u"},
                ],
            })
        );
        let spec = &job["spec"];
        assert_eq!((spec["suspend"].as_bool(), spec["backoffLimit"].as_i64()), (Some(false), Some(2)));
        assert!(spec.get("ttlSecondsAfterFinished").is_none());
    }

    #[test]
    fn a_cron_job_that_does_not_allow_it_is_not_run() {
        for annotations in [json!({}), json!({"bindery.dev/run": "true"}), json!({"bindery.dev/run": ""})] {
            let refusal = of_cron_job(&cron_job(&annotations), &purpose("x")).unwrap_err();
            assert!(refusal.to_string().contains("bindery.dev/run=allowed"), "{refusal}");
        }
        let mut ending = cron_job(&json!({"bindery.dev/run": "allowed"}));
        ending.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(of_cron_job(&ending, &purpose("x")), Err(JobRefusal::Ends("renew".to_owned())));
    }

    #[test]
    fn names_follow_from_what_the_job_is_for_and_fit() {
        let long = "c".repeat(52);
        let (a, b) = (name(&long, ["n", "k", "2026-01-01"]), name(&long, ["n", "k", "2026-01-02"]));
        assert_eq!((a.len(), b.len()), (63, 63));
        assert_ne!(a, b);
        assert_eq!(a, name(&long, ["n", "k", "2026-01-01"]));
        assert_ne!(name("c", ["ab"]), name("c", ["a", "b"]));
        assert!(name("renew", ["x"]).starts_with("renew-"));
        assert!(name(&format!("{}.{}", "c".repeat(51), "d"), ["x"]).starts_with(&"c".repeat(51)));
    }

    #[test]
    fn the_state_of_a_job_is_that_of_its_terminal_condition() {
        let job = |status: serde_json::Value| -> Job { serde_json::from_value(json!({"status": status})).unwrap() };
        assert_eq!(state(&Job::default()), JobState::Running);
        assert_eq!(state(&job(json!({"active": 1, "failed": 3}))), JobState::Running);
        let complete = job(json!({
            "completionTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}],
        }));
        assert_eq!(state(&complete), JobState::Succeeded("2026-01-01T00:00:00Z".parse().ok()));
        let failed = job(json!({"conditions": [
            {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "hunter2"},
        ]}));
        assert_eq!(state(&failed), JobState::Failed("BackoffLimitExceeded".to_owned()));
        let target = job(json!({"conditions": [{"type": "FailureTarget", "status": "True"}]}));
        assert_eq!(state(&target), JobState::Running, "its pods still end");
    }
}
