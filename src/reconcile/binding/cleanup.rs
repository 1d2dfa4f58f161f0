//! Deletes what an earlier name of the target left behind.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec};

use crate::domain::binding::Binding;
use crate::domain::rollout::consumers::refers_to;
use crate::domain::target::orphan::{self, Orphan};
use crate::kubernetes::api_server::{Permit, ReadClient};
use crate::kubernetes::list::any_object;
use crate::kubernetes::write::delete_secret;
use crate::reconcile::context::Context;

/// What became of the Secrets of earlier names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The names of those that stay for now, since something refers to them.
    pub remaining: Vec<String>,
}

/// Deletes the Secrets of earlier names that nothing refers to. A failure here is no failure of the binding: the Secret
/// under the new name is published. `tidy` is the generation for which none was left.
pub async fn cleanup(cx: &Context, binding: &Binding, tidy: Option<i64>, permit: &Permit<'_>) -> Cleaned {
    if tidy == Some(binding.generation) {
        return Cleaned::default();
    }
    let orphans = cx.state.targets.of(&binding.namespace, |targets| {
        orphan::find(binding, targets.iter().map(|(name, secret)| (name.as_str(), &**secret)))
    });
    let mut remaining = Vec::new();
    for orphan in orphans {
        if !Box::pin(delete(&binding.namespace, &orphan, permit)).await {
            remaining.push(orphan.name);
        }
    }
    Cleaned { remaining }
}

/// Deletes a Secret if nothing refers to it. True where it is gone.
async fn delete(namespace: &str, orphan: &Orphan, permit: &Permit<'_>) -> bool {
    let name = &orphan.name;
    let gone = match is_in_use(permit.reads().await, namespace, name).await {
        Ok(true) => false,
        Ok(false) => {
            let deleted = delete_secret(permit.writes().await, namespace, orphan).await;
            deleted.unwrap_or_else(|error| {
                tracing::warn!(%namespace, secret = %name, %error, "a Secret of an earlier name could not be deleted");
                false
            })
        }
        Err(error) => {
            tracing::warn!(%namespace, secret = %name, %error, "whether a Secret is in use cannot be told, so it stays");
            false
        }
    };
    if gone {
        tracing::info!(%namespace, secret = %name, "deleted a Secret of an earlier name");
    }
    gone
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
