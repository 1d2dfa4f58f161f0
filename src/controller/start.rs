//! The first looks after a start. Many bindings that share secrets are about to ask AWS: questions wait until all of them
//! are known, so that each is asked once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::binding::name::BindingName;

/// Something that every binding comes to once after a start.
#[derive(Debug)]
pub struct Gathering {
    left: Mutex<HashSet<BindingName>>,
    complete: watch::Sender<bool>,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { left: Mutex::default(), complete: watch::channel(true).0 }
    }
}

impl Gathering {
    /// Begins with these bindings.
    pub fn begin(&self, bindings: impl IntoIterator<Item = BindingName>) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = bindings.into_iter().collect();
        self.complete.send_replace(left.is_empty());
    }

    /// Notes that a binding came to it, or that it never will.
    pub fn arrived(&self, binding: &BindingName) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.remove(binding) && left.is_empty() {
            *left = HashSet::new();
            self.complete.send_replace(true);
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
        self.complete.send_replace(true);
    }

    /// Whether all have arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.complete.borrow()
    }

    /// Waits until all have arrived.
    pub async fn all(&self) {
        // The sender lives as long as what is waited for here.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }
}

/// What bindings come to on their first looks.
#[derive(Debug, Default)]
pub struct FirstLooks {
    /// It is known which secrets a binding depends on.
    pub interests: Gathering,
    /// It is known which values it needs.
    pub demands: Gathering,
    /// It is known which workloads it restarts at present.
    pub rollouts: Gathering,
}

impl FirstLooks {
    /// Begins with these bindings.
    pub fn begin(&self, bindings: &[BindingName]) {
        self.interests.begin(bindings.iter().cloned());
        self.demands.begin(bindings.iter().cloned());
        self.rollouts.begin(bindings.iter().cloned());
    }

    /// Notes that a binding was looked at.
    pub fn looked_at(&self, binding: &BindingName) {
        self.interests.arrived(binding);
        self.demands.arrived(binding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

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
        gathering.arrived(&b);
        assert!(complete().await);
        gathering.begin([a]);
        gathering.end();
        assert!(complete().await);
        gathering.begin([]);
        assert!(complete().await);
    }
}
