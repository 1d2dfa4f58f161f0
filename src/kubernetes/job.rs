//! Jobs that Bindery runs from the templates of CronJobs.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use tokio::time::timeout;

use crate::api::{ANNOTATION_CRON_JOB, FIELD_MANAGER};
use crate::domain::rotation::job::{JobRefusal, Purpose, is_made_from, of_cron_job};
use crate::kubernetes::api_server::{ReadClient, WriteClient};
use crate::kubernetes::read::read_object;
use crate::kubernetes::write_error::WriteError;

/// A write that takes longer than this is given up; the next observation shows whether it arrived.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// A Job as it was observed.
#[derive(Clone, Debug)]
pub enum ObservedJob {
    /// It stands, and Bindery made it from the CronJob.
    Standing(Box<Job>),
    /// There is none; this one is to be created.
    Missing(Box<Job>),
}

/// Observes the Job of a purpose. Where there is none, the answer is the Job to create, from the template of the
/// CronJob.
///
/// # Errors
/// Why the Job can be neither observed nor made.
pub async fn observe_job(
    client: ReadClient<'_>,
    namespace: &str,
    cron_job: &str,
    purpose: &Purpose<'_>,
) -> Result<ObservedJob, JobError> {
    let name = purpose.name.to_owned();
    match read_object::<Job>(client, namespace, purpose.name).await {
        Ok(Some(job)) if is_made_from(&job, cron_job) => return Ok(ObservedJob::Standing(Box::new(job))),
        Ok(Some(_)) => return Err(JobError::Foreign(name)),
        Ok(None) => {}
        Err(kube::Error::Api(status)) if status.code == 403 => return Err(JobError::Forbidden(name)),
        Err(_) => return Err(JobError::Unseen(name)),
    }
    let template = match read_object::<CronJob>(client, namespace, cron_job).await {
        Ok(Some(template)) => template,
        Ok(None) => return Err(JobError::NoCronJob(cron_job.to_owned())),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Err(JobError::CronJobForbidden(cron_job.to_owned()));
        }
        Err(_) => return Err(JobError::CronJobUnseen(cron_job.to_owned())),
    };
    Ok(ObservedJob::Missing(Box::new(of_cron_job(&template, purpose)?)))
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
    /// The CronJob is missing.
    #[error("the CronJob {0:?} does not exist; create it")]
    NoCronJob(String),
    /// RBAC on the CronJob.
    #[error(
        "Kubernetes does not allow the operator to read the CronJob {0:?}; give its ServiceAccount the verb get on cronjobs in this namespace"
    )]
    CronJobForbidden(String),
    /// The CronJob does not allow it.
    #[error(transparent)]
    NotAllowed(#[from] JobRefusal),
    /// The Job cannot be observed at present.
    #[error("the API server does not tell of the Job {0:?}")]
    Unseen(String),
    /// The CronJob cannot be observed at present.
    #[error("the API server does not tell of the CronJob {0:?}")]
    CronJobUnseen(String),
    /// It passes by itself.
    #[error("the Job {0:?} could not be created, since the API server did not answer or failed; it is tried again")]
    Unavailable(String),
}

impl JobError {
    /// Whether it passes by itself.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unseen(_) | Self::CronJobUnseen(_))
    }

    fn of(name: &str, error: &kube::Error) -> Self {
        let name = name.to_owned();
        let why = match WriteError::of(&name, error) {
            WriteError::Raced | WriteError::Failed { .. } => return Self::Unavailable(name),
            WriteError::Forbidden { .. } => return Self::Forbidden(name),
            WriteError::Immutable { .. } | WriteError::Invalid { .. } => "it is invalid",
            WriteError::Quota { .. } => "a ResourceQuota leaves no room for it",
            WriteError::Admission { .. } => "an admission policy or webhook denies it",
            WriteError::Terminating(_) => "the namespace is being deleted",
            WriteError::TooLarge(_) => "it is too large",
        };
        Self::Refused { name, why }
    }
}

/// Creates a Job that [`of_cron_job`] made, and answers it as it stands: one that
/// Bindery created earlier under the name, from the same CronJob, is as good.
///
/// # Errors
/// What Kubernetes refuses, and a Job of somebody else under the name.
pub async fn create_job(client: WriteClient<'_>, namespace: &str, job: &Job) -> Result<Job, JobError> {
    let api: Api<Job> = Api::namespaced(client.request().clone(), namespace);
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
