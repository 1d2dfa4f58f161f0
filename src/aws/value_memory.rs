//! The memory that values occupy: as a whole, and for each namespace, so that no namespace has all of it.
//!
//! A value is held until the last binding that asked for it has rendered, and whoever can make a binding wait can have its
//! values held. So a quarter of the memory is left to the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The most memory that values occupy, in KiB.
const MEMORY_LIMIT_KIB: usize = 64 * 1024;
/// The most that the values of one namespace occupy.
const NAMESPACE_LIMIT_KIB: usize = MEMORY_LIMIT_KIB / 4 * 3;
/// The largest value, in KiB (AWS: 65,536 bytes).
const MAX_VALUE_KIB: u32 = 64;
/// How long a read waits for memory.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(30);

/// The memory of all values.
#[derive(Debug)]
pub struct ValueMemory {
    all: Arc<Semaphore>,
    namespaces: Mutex<HashMap<Box<str>, Arc<Semaphore>>>,
}

/// Memory for values, until it is dropped.
pub type MemoryPermit = OwnedSemaphorePermit;

impl Default for ValueMemory {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MEMORY_LIMIT_KIB)), namespaces: Mutex::default() }
    }
}

impl ValueMemory {
    /// Takes memory for this number of values. `None` where it is not there in time. The semaphores are never closed.
    pub async fn take(&self, values: u32) -> Option<MemoryPermit> {
        timeout(MEMORY_TIMEOUT, self.all.clone().acquire_many_owned(values * MAX_VALUE_KIB)).await.ok()?.ok()
    }

    /// Takes what one value needs of the share of the first of these namespaces that has it now.
    pub fn share<'a>(&self, namespaces: impl IntoIterator<Item = &'a str>) -> Option<MemoryPermit> {
        let now = |namespace| self.share_of(namespace).try_acquire_many_owned(MAX_VALUE_KIB).ok();
        namespaces.into_iter().find_map(now)
    }

    /// Waits for what one value needs of the share of a namespace. `None` where it is not there in time.
    pub async fn wait_for_share(&self, namespace: &str) -> Option<MemoryPermit> {
        timeout(MEMORY_TIMEOUT, self.share_of(namespace).acquire_many_owned(MAX_VALUE_KIB)).await.ok()?.ok()
    }

    fn share_of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = namespaces.get(namespace) {
            return share.clone();
        }
        // So namespaces that are gone leave nothing behind.
        namespaces.retain(|_, share| Arc::strong_count(share) > 1);
        let share = Arc::new(Semaphore::new(NAMESPACE_LIMIT_KIB));
        namespaces.insert(namespace.into(), share.clone());
        share
    }
}

/// What a value of this many bytes needs of what was taken for the largest.
pub fn split(permit: &mut MemoryPermit, bytes: usize) -> Option<MemoryPermit> {
    permit.split(bytes.div_ceil(1024).clamp(1, MAX_VALUE_KIB as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_namespace_leaves_a_quarter_of_the_memory_to_the_others() {
        let memory = ValueMemory::default();
        let mut held: Vec<_> = std::iter::from_fn(|| memory.share(["noisy"])).collect();
        assert_eq!(held.len(), 768);
        assert!(memory.wait_for_share("noisy").await.is_none());
        let mut quiet = memory.share(["noisy", "quiet"]).unwrap();
        assert_eq!(split(&mut quiet, 1025).unwrap().num_permits(), 2);
        held.pop();
        assert!(memory.wait_for_share("noisy").await.is_some());
        for number in 0..100 {
            drop(memory.share([number.to_string().as_str()]));
        }
        assert!(memory.namespaces.lock().unwrap().len() <= 3, "namespaces that are gone leave nothing behind");
    }
}
