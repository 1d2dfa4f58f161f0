//! Deletes what an earlier name of the target left behind.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec};

use crate::api::{DeletionPolicy, FormerTarget};
use crate::domain::rollout::consumers::refers_to;
use crate::domain::target::ObservedSecret;
use crate::domain::target::orphan::{orphan, unproven};
use crate::domain::target::record::former_targets;
use crate::kubernetes::api_server::{Permit, ReadClient};
use crate::kubernetes::list::any_object;
use crate::kubernetes::read::read_secret_metadata;
use crate::kubernetes::write::delete_secret;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;

/// What became of the Secrets of earlier names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The names of those that stay for now, since something refers to them.
    pub remaining: Vec<String>,
    /// The names of those that were deleted.
    pub deleted: Vec<String>,
    /// The names of Secrets that carry the owner reference of the binding, but that nothing proves to be its own.
    pub unproven: Vec<String>,
}

/// Deletes the Secrets of earlier names that nothing refers to. A failure here is no failure of the binding: the Secret
/// under the new name is published. `tidy` is the generation for which none was left. With `Retain` nothing is deleted,
/// since a Secret that outlives its binding outlives a rename as well.
pub async fn cleanup(cx: &Context, at: &Subject<'_>, tidy: Option<i64>, permit: &Permit<'_>) -> Cleaned {
    let binding = &at.binding;
    let mut cleaned = Cleaned::default();
    if tidy == Some(binding.generation) || binding.target.deletion_policy == DeletionPolicy::Retain {
        return cleaned;
    }
    for former in former_targets(at.before, &binding.target.name) {
        match Box::pin(delete(cx, at, &former, permit)).await {
            Fate::Absent => {}
            Fate::Deleted => cleaned.deleted.push(former.name),
            Fate::Stays => cleaned.remaining.push(former.name),
        }
    }
    let known = |name: &str| cleaned.deleted.iter().chain(&cleaned.remaining).any(|known| known == name);
    let unproven = cx.state.targets.of(&binding.namespace, |targets| {
        unproven(binding, targets.iter().map(|(name, secret)| (name.as_str(), &**secret)), known)
    });
    Cleaned { unproven, ..cleaned }
}

/// What became of a Secret of an earlier name.
enum Fate {
    /// There is none that is proven to be the binding's.
    Absent,
    /// It was deleted.
    Deleted,
    /// It stays for now.
    Stays,
}

/// Deletes a Secret that is on record, if it is still what Bindery published and nothing refers to it.
async fn delete(cx: &Context, at: &Subject<'_>, former: &FormerTarget, permit: &Permit<'_>) -> Fate {
    let (namespace, name) = (&at.binding.namespace, &former.name);
    let found = match read_secret_metadata(permit.reads().await, namespace, name).await {
        Ok(found) => found.map(|meta| ObservedSecret::new(&meta, &cx.key)),
        Err(error) => {
            tracing::warn!(%namespace, secret = %name, %error, "a Secret of an earlier name cannot be read, so it stays");
            return Fate::Stays;
        }
    };
    let Some(orphan) = orphan(&at.binding, former, found.as_ref()) else { return Fate::Absent };
    match is_in_use(permit.reads().await, namespace, name).await {
        Ok(true) => return Fate::Stays,
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(%namespace, secret = %name, %error, "whether a Secret is in use cannot be told, so it stays");
            return Fate::Stays;
        }
    }
    match delete_secret(permit.writes().await, namespace, &orphan).await {
        Ok(true) => Fate::Deleted,
        Ok(false) => Fate::Stays,
        Err(error) => {
            tracing::warn!(%namespace, secret = %name, %error, "a Secret of an earlier name could not be deleted");
            Fate::Stays
        }
    }
}

/// Whether a pod that has not ended, or a template that makes pods, refers to the Secret `name`.
async fn is_in_use(client: ReadClient<'_>, namespace: &str, name: &str) -> Result<bool, kube::Error> {
    let uses = |pod: Option<&PodSpec>| pod.is_some_and(|pod| refers_to(pod, name));
    let template = |template: &PodTemplateSpec| uses(template.spec.as_ref());
    let pod = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed")) && uses(pod.spec.as_ref())
    };
    let deployment = |of: &Deployment| of.spec.as_ref().is_some_and(|spec| template(&spec.template));
    let stateful_set = |of: &StatefulSet| of.spec.as_ref().is_some_and(|spec| template(&spec.template));
    let daemon_set = |of: &DaemonSet| of.spec.as_ref().is_some_and(|spec| template(&spec.template));
    let cron_job = |of: &CronJob| {
        let job = of.spec.as_ref().and_then(|cron| cron.job_template.spec.as_ref());
        job.is_some_and(|job| template(&job.template))
    };
    let job = |of: &Job| {
        let ended = of.status.as_ref().is_some_and(|status| status.completion_time.is_some());
        !ended && of.spec.as_ref().is_some_and(|job| template(&job.template))
    };
    Ok(any_object(client, namespace, pod).await?
        || any_object(client, namespace, deployment).await?
        || any_object(client, namespace, stateful_set).await?
        || any_object(client, namespace, daemon_set).await?
        || any_object(client, namespace, cron_job).await?
        || any_object(client, namespace, job).await?)
}
