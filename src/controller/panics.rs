//! The pauses of bindings whose reconcile panicked: one that always does must not take the time of the others.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::name::BindingName;
use crate::state::backoff::Backoff;

/// The bindings whose last reconcile panicked.
#[derive(Debug, Default)]
pub struct Panics(HashMap<BindingName, Backoff>);

impl Panics {
    /// The pause after one more panic. `jitter` is between 0 and 1.
    pub fn pause(&mut self, binding: &BindingName, jitter: f64) -> Duration {
        let backoff = self.0.entry(binding.clone()).or_default();
        *backoff = backoff.failed(Duration::ZERO, jitter);
        backoff.pause()
    }

    /// Forgets the panics of a binding whose reconcile ended.
    pub fn forget(&mut self, binding: &BindingName) {
        self.0.remove(binding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_that_always_panics_is_tried_less_and_less_often_and_others_at_once() {
        let (mut panics, bad, other) =
            (Panics::default(), BindingName::new("n", "bad"), BindingName::new("n", "other"));
        let pauses: Vec<u64> = (0..10).map(|_| panics.pause(&bad, 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(panics.pause(&other, 0.0).as_secs(), 1);
        panics.forget(&bad);
        assert_eq!(panics.pause(&bad, 0.0).as_secs(), 1);
    }
}
