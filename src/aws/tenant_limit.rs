//! The budget of AWS calls of each namespace, so that no tenant takes those of the others: neither by a new text in
//! `bindery.dev/sync` again and again, nor by thousands of bindings, nor by messages to the events queue.
//!
//! A call that serves several namespaces is paid by one of them. What joins a call under way, or is known, costs nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A namespace may save the calls of this many seconds, for its first reads and for a change of many secrets at once.
const SAVINGS: f64 = 100.0;

/// The budgets of all namespaces.
#[derive(Debug)]
pub struct TenantLimits {
    /// Calls a second for each namespace.
    rate: f64,
    budgets: Mutex<HashMap<String, Budget>>,
}

/// What a namespace had at one time.
#[derive(Clone, Copy, Debug)]
struct Budget {
    calls: f64,
    at: Instant,
}

impl Budget {
    /// What it has now.
    fn now(self, rate: f64, now: Instant) -> f64 {
        (self.calls + now.duration_since(self.at).as_secs_f64() * rate).min(most(rate))
    }
}

/// The most that a namespace can save.
fn most(rate: f64) -> f64 {
    (rate * SAVINGS).max(1.0)
}

impl TenantLimits {
    /// Budgets that refill at this rate, in calls a second.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rate, budgets: Mutex::default() }
    }

    /// Takes one call from the budget of the first of these namespaces that has one. False where none has.
    pub fn pay<'a>(&self, namespaces: impl IntoIterator<Item = &'a str>) -> bool {
        self.pay_for(1.0, namespaces)
    }

    /// The same for a call that is as scarce as this number of others.
    pub fn pay_for<'a>(&self, calls: f64, namespaces: impl IntoIterator<Item = &'a str>) -> bool {
        let (rate, now) = (self.rate, Instant::now());
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.into_iter().any(|namespace| {
            let has = budgets.get(namespace).map_or(most(rate), |budget| budget.now(rate, now));
            if has < calls {
                return false;
            }
            if !budgets.contains_key(namespace) {
                // A full budget is as good as none, so namespaces that are gone leave nothing behind.
                budgets.retain(|_, budget| budget.now(rate, now) < most(rate));
            }
            budgets.insert(namespace.to_owned(), Budget { calls: has - calls, at: now });
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_asks_without_end_gets_its_rate_and_the_others_get_theirs() {
        let limits = TenantLimits::new(10.0);
        let count = |namespace: &str| (0..10_000).filter(|_| limits.pay([namespace])).count();
        assert_eq!(count("noisy"), 1000);
        assert!(limits.pay(["quiet"]), "another namespace has its own");
        assert!(limits.pay(["noisy", "quiet"]) && !limits.pay(["noisy"]), "one that can pays for both");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(count("noisy"), 50);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(count("noisy"), 1000);
        assert!(!limits.pay([]));
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_that_come_and_go_leave_nothing_behind() {
        let limits = TenantLimits::new(10.0);
        for number in 0..10_000 {
            assert!(limits.pay([number.to_string().as_str()]));
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert!(limits.budgets.lock().unwrap().len() <= 12);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lowest_rate_still_lets_a_call_through_now_and_then() {
        let limits = TenantLimits::new(0.1);
        assert!((0..10).all(|_| limits.pay(["n"])) && !limits.pay(["n"]));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(limits.pay(["n"]));
    }
}
