//! The names of Secrets in a namespace, listed once for many bindings: after a start, when most bindings of a namespace
//! may have nothing published yet, one list of names takes the place of a request for each.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

/// How long the names are relied on. A write rests on a free name only as far as the API server agrees.
const FRESH: Duration = Duration::from_secs(60);

/// The names in a namespace; `None` where they could not be listed, or not with fewer requests than one by one.
pub type SecretNameList = Arc<OnceCell<Option<HashSet<String>>>>;

/// The lists of names, by namespace.
#[derive(Debug, Default)]
pub struct SecretNames(Mutex<HashMap<String, (Instant, SecretNameList)>>);

impl SecretNames {
    /// The list of a namespace that was begun a moment ago. Where there is none, one is begun if it is `worth` it.
    #[must_use]
    pub fn of(&self, namespace: &str, worth: impl FnOnce() -> bool) -> Option<SecretNameList> {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|_, (since, _)| since.elapsed() < FRESH);
        if let Some((_, names)) = lists.get(namespace) {
            return Some(names.clone());
        }
        worth().then(|| {
            lists.entry(namespace.to_owned()).or_insert_with(|| (Instant::now(), SecretNameList::default())).1.clone()
        })
    }
}
