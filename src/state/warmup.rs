//! The warmup after a start: barriers that every binding reaches once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::name::BindingName;

/// A point that every binding reaches once after a start.
#[derive(Debug)]
pub struct Barrier {
    left: Mutex<HashSet<BindingName>>,
    count: watch::Sender<usize>,
}

impl Default for Barrier {
    fn default() -> Self {
        Self { left: Mutex::default(), count: watch::channel(0).0 }
    }
}

impl Barrier {
    /// Begins with these bindings.
    pub fn begin(&self, bindings: impl IntoIterator<Item = BindingName>) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = bindings.into_iter().collect();
        self.count.send_replace(left.len());
    }

    /// Counts a binding that reached the point, or never will.
    pub fn arrived(&self, binding: &BindingName) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.remove(binding) {
            if left.is_empty() {
                *left = HashSet::new();
            }
            self.count.send_replace(left.len());
        }
    }

    /// The number of bindings of a namespace that have not reached it.
    #[must_use]
    pub fn left_in(&self, namespace: &str) -> usize {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.iter().filter(|binding| &*binding.namespace == namespace).count()
    }

    /// Opens the barrier for all.
    pub fn end(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = HashSet::new();
        self.count.send_replace(0);
    }

    /// Whether all bindings have reached it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.count.borrow() == 0
    }

    /// Waits until all bindings have reached it.
    pub async fn all(&self) {
        self.all_but(0).await;
    }

    /// Waits until all but `few` bindings have reached it.
    pub async fn all_but(&self, few: usize) {
        // The sender lives as long as what is waited for here.
        let _ = self.count.subscribe().wait_for(|left| *left <= few).await;
    }
}

/// The barriers of the first reconciles.
#[derive(Debug, Default)]
pub struct Warmup {
    /// The target was observed.
    pub targets: Barrier,
    /// The reads were requested.
    pub reads: Barrier,
    /// The reconcile has ended.
    pub reconciles: Barrier,
    /// The restarts under way were observed.
    pub rollouts: Barrier,
}

impl Warmup {
    /// Counts a binding whose reconcile has ended, or that gets none.
    pub fn reconciled(&self, binding: &BindingName) {
        self.targets.arrived(binding);
        self.reads.arrived(binding);
        self.reconciles.arrived(binding);
        self.rollouts.arrived(binding);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_complete_with_the_last_to_arrive() {
        let gathering = Barrier::default();
        let complete = async || timeout(Duration::from_secs(1), gathering.all()).await.is_ok();
        assert!(complete().await, "without a start nobody is waited for");
        let (a, b) = (BindingName::new("n", "a"), BindingName::new("n", "b"));
        gathering.begin([a.clone(), b.clone()]);
        gathering.arrived(&a);
        gathering.arrived(&a);
        assert!(!complete().await);
        assert_eq!((gathering.left_in("n"), gathering.left_in("m")), (1, 0));
        gathering.all_but(1).await;
        gathering.arrived(&b);
        assert!(complete().await);
        gathering.begin([a]);
        gathering.end();
        assert!(complete().await);
        gathering.begin([]);
        assert!(complete().await);
    }
}
