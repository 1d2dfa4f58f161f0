//! The locks of groups whose overlaps advance together.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The locks of groups, by namespace and name.
#[derive(Debug, Default)]
pub struct Groups(Mutex<HashMap<(String, String), Lock>>);

type Lock = Arc<tokio::sync::Mutex<()>>;

impl Groups {
    /// Locks groups of a namespace until the answer is dropped.
    pub async fn lock(&self, namespace: &str, groups: BTreeSet<String>) -> Vec<OwnedMutexGuard<()>> {
        let mut held = Vec::new();
        // In the order of their names, so that two reconciles never wait for each other.
        for group in groups {
            let lock = {
                let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
                locks.entry((namespace.to_owned(), group)).or_default().clone()
            };
            held.push(lock.lock_owned().await);
        }
        held
    }
}
