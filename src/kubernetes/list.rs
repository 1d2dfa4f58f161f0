//! Lists of objects of a namespace, page by page and object by object. One object that cannot be read stops no other.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::core::Request;
use kube::{Api, Client, Resource as _};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::api::WorkloadKind;
use crate::domain::rollout::manifest::WorkloadManifest;
use crate::domain::rollout::pod::PodManifest;
use crate::kubernetes::api_server::ReadClient;
use crate::kubernetes::deadline::timed_out;
use crate::kubernetes::grant_object::GrantObject;
use crate::kubernetes::object_stream::{next_limit, read_list};
use crate::kubernetes::workloads::resource;

/// The time for one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(15);
/// The objects of the first page, when nobody knows how large they are.
const FIRST_PAGE: u32 = 25;
/// The most objects of a page.
const PAGE: u32 = 250;
/// The names of one page.
const NAMES_PAGE: u32 = 500;
/// The most objects that are named as unreadable.
const MAX_UNREADABLE: usize = 5;

/// What was listed.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// What was kept of the objects.
    pub objects: Vec<T>,
    /// The names of objects that this version cannot read, the first five.
    pub unreadable: Vec<String>,
}

impl<T> Listed<T> {
    fn new() -> Self {
        Self { objects: Vec::new(), unreadable: Vec::new() }
    }

    /// Adds what `reduce` keeps of an object.
    fn add<K: DeserializeOwned>(&mut self, object: &[u8], reduce: impl Fn(K) -> Option<T>) {
        match serde_json::from_slice(object) {
            Ok(read) => self.objects.extend(reduce(read)),
            // What the reader says may have a value in it.
            Err(_) if self.unreadable.len() < MAX_UNREADABLE => self.unreadable.push(name_of(object)),
            Err(_) => {}
        }
    }
}

/// The name of an object, whatever else it is.
pub(super) fn name_of(object: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        metadata: Name,
    }
    #[derive(serde::Deserialize)]
    struct Name {
        name: String,
    }
    serde_json::from_slice(object).map_or_else(|_| "without a name".to_owned(), |named: Named| named.metadata.name)
}

/// What `reduce` keeps of the workloads of a kind in a namespace; `None` where the API server does not know the kind.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn list_workloads<T: Send>(
    client: ReadClient<'_>,
    namespace: &str,
    kind: WorkloadKind,
    reduce: impl Fn(WorkloadManifest) -> Option<T> + Send + Sync,
) -> Result<Option<Listed<T>>, kube::Error> {
    let url = kube::core::DynamicObject::url_path(&resource(kind), Some(namespace));
    match collect(client, url, reduce).await {
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
    reduce: impl Fn(PodManifest) -> Option<T> + Send + Sync,
) -> Result<Listed<T>, kube::Error> {
    collect(client, Pod::url_path(&(), Some(namespace)), reduce).await
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

/// The names of the Secrets of a namespace, with at most `most` requests; `None` where they take more.
///
/// # Errors
/// Where the API server does not answer, or refuses.
pub async fn list_secret_names(
    client: ReadClient<'_>,
    namespace: &str,
    most: usize,
) -> Result<Option<HashSet<String>>, kube::Error> {
    let permitted = client.list().await;
    let mut names = HashSet::new();
    let list = Request::new(Secret::url_path(&(), Some(namespace)));
    let page = |params: &ListParams| list.list_metadata(params);
    let read = pages(permitted.client, page, PageBounds { first: NAMES_PAGE, largest: NAMES_PAGE, most }, |object| {
        names.insert(name_of(object));
        ControlFlow::Continue(())
    });
    Ok((read.await? == Pages::All).then_some(names))
}

async fn collect<K: DeserializeOwned, T: Send>(
    client: ReadClient<'_>,
    url: String,
    reduce: impl Fn(K) -> Option<T> + Send + Sync,
) -> Result<Listed<T>, kube::Error> {
    let mut listed = Listed::new();
    each_object(client, url, |object| {
        listed.add(object, &reduce);
        ControlFlow::Continue(())
    })
    .await?;
    Ok(listed)
}

/// Calls `take` with the text of each object of a list, until it breaks off.
pub(super) async fn each_object(
    client: ReadClient<'_>,
    url: String,
    take: impl FnMut(&[u8]) -> ControlFlow<()> + Send,
) -> Result<(), kube::Error> {
    let permitted = client.list().await;
    let list = Request::new(url);
    let bounds = PageBounds { first: FIRST_PAGE, largest: PAGE, most: usize::MAX };
    pages(permitted.client, |params| list.list(params), bounds, take).await.map(|_| ())
}

/// How far a list was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    /// To its end.
    All,
    /// Not to its end.
    Some,
}

/// The bounds of pages.
#[derive(Clone, Copy)]
struct PageBounds {
    /// The objects of the first page.
    first: u32,
    /// The most objects of a page.
    largest: u32,
    /// The most pages.
    most: usize,
}

/// Reads a list page by page, until `take` breaks off, the list ends, or as many pages were read as allowed. Each page
/// has a deadline of its own.
async fn pages(
    client: &Client,
    request: impl Fn(&ListParams) -> Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    bounds: PageBounds,
    mut take: impl FnMut(&[u8]) -> ControlFlow<()> + Send,
) -> Result<Pages, kube::Error> {
    let mut params = ListParams::default().limit(bounds.first);
    for _ in 0..bounds.most {
        let mut flow = ControlFlow::Continue(());
        let page = request(&params).map_err(kube::Error::BuildRequest)?;
        let read = read_list(client, page, |object| {
            if flow.is_continue() {
                flow = take(object);
            }
        });
        let page = timeout(PAGE_TIMEOUT, read).await.map_err(|_| timed_out())??;
        if flow.is_break() {
            return Ok(Pages::Some);
        }
        params.limit = Some(next_limit(&page, bounds.largest));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(Pages::All),
        }
    }
    Ok(Pages::Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_is_named_and_stops_no_other() {
        let mut listed = Listed::new();
        for object in [
            r#"{"metadata": {"name": "good"}}"#,
            r#"{"metadata": {"name": "bad"}, "spec": 7}"#,
            r#"{"metadata": 5}"#,
            r#"{"metadata": {"name": "late"}, "spec": {}}"#,
        ] {
            listed.add(object.as_bytes(), |pod: PodManifest| Some(pod.name().to_owned()));
        }
        assert_eq!(listed.objects, ["good", "late"]);
        assert_eq!(listed.unreadable, ["bad", "without a name"]);
    }
}
