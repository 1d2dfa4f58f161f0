//! The age backfills under way: who waits for one, and what was found, until a reconcile takes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::api::KeyAge;
use crate::domain::binding::Binding;
use crate::domain::grant::Access;
use crate::domain::name::BindingName;
use crate::domain::rotation::age::UnknownAge;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;

/// How long a process that ends waits for reads under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// One secret as one identity sees it, back from one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackfillPath {
    /// The identity that reads the versions.
    pub identity: Identity,
    /// The secret.
    pub secret: SecretId,
    /// The version that was read first.
    pub version_id: String,
}

/// A binding that waits for the ages of its keys.
pub struct BackfillRequest {
    /// The binding.
    pub binding: Arc<Binding>,
    /// Its name.
    pub name: BindingName,
    /// What its grant allows.
    pub access: Arc<Access>,
    /// The keys of unknown age.
    pub unknown: BTreeMap<String, UnknownAge>,
    /// Where the ages go; `None` where the backfill failed and is tried again.
    pub answer: oneshot::Sender<Option<BTreeMap<String, KeyAge>>>,
}

/// The backfills of all bindings.
pub struct AgeBackfills {
    waiting: Mutex<HashMap<BackfillPath, Vec<BackfillRequest>>>,
    found: Mutex<HashMap<BindingName, BTreeMap<String, KeyAge>>>,
    /// How many bindings wait.
    running: watch::Sender<usize>,
    stopping: AtomicBool,
}

impl Default for AgeBackfills {
    fn default() -> Self {
        let (running, _) = watch::channel(0);
        Self { waiting: Mutex::default(), found: Mutex::default(), running, stopping: AtomicBool::new(false) }
    }
}

impl AgeBackfills {
    fn waiting(&self) -> MutexGuard<'_, HashMap<BackfillPath, Vec<BackfillRequest>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<BindingName, BTreeMap<String, KeyAge>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was found for a binding; `None` while nothing has come.
    #[must_use]
    pub fn take(&self, binding: &BindingName) -> Option<BTreeMap<String, KeyAge>> {
        self.found().remove(binding)
    }

    /// Forgets a deleted binding.
    pub fn forget(&self, binding: &BindingName) {
        self.found().remove(binding);
    }

    /// Counts one more binding that waits.
    pub fn begin(&self) {
        self.running.send_modify(|running| *running += 1);
    }

    /// Keeps what was found for a binding, which waits no more.
    pub fn end(&self, binding: &BindingName, ages: BTreeMap<String, KeyAge>) {
        self.found().insert(binding.clone(), ages);
        self.running.send_modify(|running| *running -= 1);
    }

    /// Adds a request to those that wait for a path. True where it is the first, so that somebody must serve them.
    #[must_use]
    pub fn enqueue(&self, path: &BackfillPath, request: BackfillRequest) -> bool {
        let mut waiting = self.waiting();
        let first = !waiting.contains_key(path);
        waiting.entry(path.clone()).or_default().push(request);
        first
    }

    /// How many requests wait for a path.
    #[must_use]
    pub fn count(&self, path: &BackfillPath) -> usize {
        self.waiting().get(path).map_or(0, Vec::len)
    }

    /// Takes the requests that wait for a path. Where there is none the path is dropped under the same lock: a request
    /// that comes right after is the first again.
    #[must_use]
    pub fn next(&self, path: &BackfillPath) -> Option<Vec<BackfillRequest>> {
        let mut waiting = self.waiting();
        match waiting.get_mut(path) {
            Some(requests) if !requests.is_empty() => Some(std::mem::take(requests)),
            _ => {
                waiting.remove(path);
                None
            }
        }
    }

    /// Drops all that wait for a path: nobody serves it any more.
    pub fn abandon(&self, path: &BackfillPath) {
        self.waiting().remove(path);
    }

    /// Breaks the backfills off and waits until the reads under way are on record.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut running = self.running.subscribe();
        // The sender is right here.
        let _ = timeout(STOP_TIMEOUT, running.wait_for(|running| *running == 0)).await;
    }

    /// Whether the process is ending.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}
