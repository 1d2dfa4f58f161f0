//! Which names of Secrets are taken, found for many bindings at once: after a start, when most of a namespace's bindings
//! may have nothing published yet, one list of names takes the place of a request for each.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use crate::reconcile::context::Context;

/// The names of one page.
const PAGE: u32 = 500;
/// How long a page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A list is worth a request more than this many single ones.
const WORTH: usize = 20;
/// How long the names are relied on. A write rests on a name's being free only as far as the API server agrees.
const FRESH: Duration = Duration::from_secs(60);

/// The names in a namespace; `None` where they could not be listed, or not with fewer requests than one by one.
type Names = Arc<OnceCell<Option<HashSet<String>>>>;

/// The names that were taken a moment ago, by namespace.
#[derive(Debug, Default)]
pub struct Taken(Mutex<HashMap<String, (Instant, Names)>>);

impl Taken {
    /// Whether it is known, without a request of its own, that there is no Secret of this name.
    pub async fn is_free(&self, context: &Context, namespace: &str, name: &str) -> bool {
        let names = {
            let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lists.retain(|_, (since, _)| since.elapsed() < FRESH);
            lists.get(namespace).map(|(_, names)| names.clone())
        };
        let names = match names {
            Some(names) => names,
            None if context.first_looks.targets.left_in(namespace) > WORTH => {
                let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                lists.entry(namespace.to_owned()).or_insert_with(|| (Instant::now(), Names::default())).1.clone()
            }
            None => return false,
        };
        let most = || context.first_looks.targets.left_in(namespace) / WORTH;
        let names = names.get_or_init(|| list(context, namespace, most())).await;
        names.as_ref().is_some_and(|names| !names.contains(name))
    }
}

/// Lists the names of all Secrets of a namespace, with at most so many requests.
async fn list(context: &Context, namespace: &str, most: usize) -> Option<HashSet<String>> {
    let _permit = context.requests.acquire().await.ok();
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut names = HashSet::new();
    for _ in 0..most {
        // A namespace that cannot be listed is looked at name by name, which tells why.
        let page = timeout(PAGE_TIMEOUT, api.list_metadata(&params)).await.ok()?.ok()?;
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Some(names),
        }
    }
    None
}
