//! Whether the watches work.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A watch that fails for this long makes the process unhealthy.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(600);
/// A watch that failed and then was quiet for this long works again: each failed attempt would show.
const QUIET: Duration = Duration::from_secs(120);

/// Whether the watches work, for `/healthz` and `/readyz`.
#[derive(Debug, Default)]
pub struct WatchHealth(Mutex<HashMap<&'static str, Failing>>);

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

impl WatchHealth {
    /// Notes that a watch works.
    pub fn works(&self, kind: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
    }

    /// Notes that a watch failed.
    pub fn fails(&self, kind: &'static str) {
        let now = Instant::now();
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failing.entry(kind).or_insert(Failing { since: now, last: now }).last = now;
    }

    fn failing(&self) -> Vec<(&'static str, Duration)> {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failing.retain(|_, failing| failing.last.elapsed() < QUIET);
        let mut kinds: Vec<_> = failing.iter().map(|(kind, failing)| (*kind, failing.since.elapsed())).collect();
        kinds.sort_unstable();
        kinds
    }

    /// What to say of watches that fail at present.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |(kind, time): (&str, Duration)| format!("the watch of {kind} fails since {} s", time.as_secs());
        self.failing().into_iter().map(line).collect()
    }

    /// Whether a watch fails for so long that a new process may do better.
    #[must_use]
    pub fn is_wedged(&self) -> bool {
        self.failing().iter().any(|(_, time)| *time > UNHEALTHY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_again_and_again_is_told_and_at_last_unhealthy() {
        let health = WatchHealth::default();
        for _ in 0..21 {
            health.fails("Secret");
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        assert_eq!(health.lines(), ["the watch of Secret fails since 630 s"]);
        assert!(health.is_wedged());
        health.works("Secret");
        assert!(health.lines().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_quiet_after_a_failure_works() {
        let health = WatchHealth::default();
        health.fails("Secret");
        assert_eq!(health.lines().len(), 1);
        tokio::time::advance(Duration::from_secs(700)).await;
        assert!(!health.is_wedged() && health.lines().is_empty());
    }
}
