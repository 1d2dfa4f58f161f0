//! What every binding comes to once after a start.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::name::BindingName;

/// Something that every binding comes to once after a start.
#[derive(Debug)]
pub struct Gathering {
    left: Mutex<HashSet<BindingName>>,
    count: watch::Sender<usize>,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { left: Mutex::default(), count: watch::channel(0).0 }
    }
}

impl Gathering {
    /// Begins with these bindings.
    pub fn begin(&self, bindings: impl IntoIterator<Item = BindingName>) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = bindings.into_iter().collect();
        self.count.send_replace(left.len());
    }

    /// Notes that a binding came to it, or that it never will.
    pub fn arrived(&self, binding: &BindingName) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.remove(binding) {
            if left.is_empty() {
                *left = HashSet::new();
            }
            self.count.send_replace(left.len());
        }
    }

    /// How many of a namespace are still to come.
    #[must_use]
    pub fn left_in(&self, namespace: &str) -> usize {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.iter().filter(|binding| &*binding.namespace == namespace).count()
    }

    /// Ends it, whoever is still to come.
    pub fn end(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = HashSet::new();
        self.count.send_replace(0);
    }

    /// Whether all have arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.count.borrow() == 0
    }

    /// Waits until all have arrived.
    pub async fn all(&self) {
        self.all_but(0).await;
    }

    /// Waits until all but so many have arrived.
    pub async fn all_but(&self, few: usize) {
        // The sender lives as long as what is waited for here.
        let _ = self.count.subscribe().wait_for(|left| *left <= few).await;
    }
}

/// What bindings come to on their first looks.
#[derive(Debug, Default)]
pub struct FirstLooks {
    /// It was looked at what a binding's target is.
    pub targets: Gathering,
    /// It is known which values it needs.
    pub demands: Gathering,
    /// Its pass has ended.
    pub passes: Gathering,
    /// It is known which workloads it restarts at present.
    pub rollouts: Gathering,
}

impl FirstLooks {
    /// Notes that a pass over a binding has ended, or that there will be none.
    pub fn passed(&self, binding: &BindingName) {
        self.targets.arrived(binding);
        self.demands.arrived(binding);
        self.passes.arrived(binding);
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
        let gathering = Gathering::default();
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
