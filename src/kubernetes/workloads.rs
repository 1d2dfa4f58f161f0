//! Reads of workloads and pods, namespace by namespace. They are looked at while a restart is due or under way, and
//! never watched.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::api::WorkloadKind;
use crate::domain::rollout::manifest::WorkloadManifest;

const READ_TIMEOUT: Duration = Duration::from_secs(10);
const PAGE: u32 = 250;

/// How the API server names a kind of workload.
#[must_use]
pub fn resource(kind: WorkloadKind) -> ApiResource {
    let (group, version, plural) = match kind {
        WorkloadKind::Deployment => ("apps", "v1", "deployments"),
        WorkloadKind::StatefulSet => ("apps", "v1", "statefulsets"),
        WorkloadKind::DaemonSet => ("apps", "v1", "daemonsets"),
        WorkloadKind::Rollout => ("argoproj.io", "v1alpha1", "rollouts"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind.as_str()), plural)
}

/// The workloads of a kind in a namespace; `None` where the API server does not know the kind.
///
/// # Errors
/// Where the API server does not tell.
pub async fn list_workloads(
    client: &Client,
    namespace: &str,
    kind: WorkloadKind,
) -> Result<Option<Vec<WorkloadManifest>>, kube::Error> {
    let api: Api<WorkloadManifest> = Api::namespaced_with(client.clone(), namespace, &resource(kind));
    match list(&api, Some).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        listed => listed.map(Some),
    }
}

/// What `reduce` keeps of the pods of a namespace.
///
/// # Errors
/// Where the API server does not tell.
pub async fn list_pods<T>(
    client: &Client,
    namespace: &str,
    reduce: impl Fn(Pod) -> Option<T>,
) -> Result<Vec<T>, kube::Error> {
    list(&Api::namespaced(client.clone(), namespace), reduce).await
}

async fn list<K, T>(api: &Api<K>, reduce: impl Fn(K) -> Option<T>) -> Result<Vec<T>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let (mut found, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let late = |_| kube::Error::Service(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        let page = timeout(READ_TIMEOUT, api.list(&params)).await.map_err(late)??;
        found.extend(page.items.into_iter().filter_map(&reduce));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}
