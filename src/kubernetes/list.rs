//! Lists of objects of a namespace, page by page.

use std::collections::HashSet;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, ObjectList};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::api::WorkloadKind;
use crate::domain::rollout::manifest::WorkloadManifest;
use crate::domain::target::SecretMeta;
use crate::kubernetes::api_server::ReadClient;
use crate::kubernetes::deadline::timed_out;
use crate::kubernetes::grant_object::GrantObject;
use crate::kubernetes::workloads::resource;

/// The time for one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The objects of one page.
const PAGE: u32 = 250;
/// The names of one page.
const NAMES_PAGE: u32 = 500;

/// The workloads of a kind in a namespace; `None` where the API server does not know the kind.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn list_workloads(
    client: ReadClient<'_>,
    namespace: &str,
    kind: WorkloadKind,
) -> Result<Option<Vec<WorkloadManifest>>, kube::Error> {
    let permitted = client.request().await;
    let api: Api<WorkloadManifest> = Api::namespaced_with(permitted.client.clone(), namespace, &resource(kind));
    match collect(&api, Some).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        listed => listed.map(Some),
    }
}

/// What `reduce` keeps of the pods of a namespace.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn list_pods<T: Send>(
    client: ReadClient<'_>,
    namespace: &str,
    reduce: impl Fn(Pod) -> Option<T> + Send,
) -> Result<Vec<T>, kube::Error> {
    let permitted = client.request().await;
    collect(&Api::namespaced(permitted.client.clone(), namespace), reduce).await
}

/// A grant, as it is stored now; `None` where there is none. It is listed by its name, so that the right to list grants
/// suffices.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn find_grant(client: ReadClient<'_>, name: &str) -> Result<Option<GrantObject>, kube::Error> {
    let permitted = client.request().await;
    let api: Api<GrantObject> = Api::all(permitted.client.clone());
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    let listed = timeout(PAGE_TIMEOUT, api.list(&named)).await.map_err(|_| timed_out())??;
    Ok(listed.items.into_iter().next())
}

/// Whether `test` holds for any object of a kind in a namespace.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn any_object<K>(
    client: ReadClient<'_>,
    namespace: &str,
    test: impl Fn(&K) -> bool + Send,
) -> Result<bool, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug + Send,
{
    let permitted = client.request().await;
    let api: &Api<K> = &Api::namespaced(permitted.client.clone(), namespace);
    let list = |params: ListParams| async move { api.list(&params).await };
    let read = pages((PAGE, usize::MAX), list, |page: Vec<K>| {
        if page.iter().any(&test) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    Ok(read.await? == Pages::Some)
}

/// The names of the Secrets of a namespace, with at most `most` requests; `None` where they take more.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn list_secret_names(
    client: ReadClient<'_>,
    namespace: &str,
    most: usize,
) -> Result<Option<HashSet<String>>, kube::Error> {
    let permitted = client.request().await;
    let api: &Api<SecretMeta> = &Api::namespaced(permitted.client.clone(), namespace);
    let mut names = HashSet::new();
    let list = |params: ListParams| async move { api.list(&params).await };
    let read = pages((NAMES_PAGE, most), list, |page| {
        names.extend(page.iter().map(kube::ResourceExt::name_any));
        ControlFlow::Continue(())
    });
    Ok((read.await? == Pages::All).then_some(names))
}

async fn collect<K, T>(api: &Api<K>, reduce: impl Fn(K) -> Option<T>) -> Result<Vec<T>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    let list = |params: ListParams| async move { api.list(&params).await };
    let read = pages((PAGE, usize::MAX), list, |page| {
        found.extend(page.into_iter().filter_map(&reduce));
        ControlFlow::Continue(())
    });
    read.await?;
    Ok(found)
}

/// How far a list was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    /// To its end.
    All,
    /// Not to its end.
    Some,
}

/// Reads a list page by page, until `take` breaks off, the list ends, or as many pages were read as allowed. Each page
/// has a deadline of its own.
async fn pages<K: Clone, F: Future<Output = Result<ObjectList<K>, kube::Error>>>(
    (size, most): (u32, usize),
    list: impl Fn(ListParams) -> F,
    mut take: impl FnMut(Vec<K>) -> ControlFlow<()>,
) -> Result<Pages, kube::Error> {
    let mut params = ListParams::default().limit(size);
    for _ in 0..most {
        let page = timeout(PAGE_TIMEOUT, list(params.clone())).await.map_err(|_| timed_out())??;
        if take(page.items).is_break() {
            return Ok(Pages::Some);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(Pages::All),
        }
    }
    Ok(Pages::Some)
}
