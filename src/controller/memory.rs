//! What is remembered of a binding from one pass to the next. All of it can be lost: a restart costs one look at AWS.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Rejection;
use crate::api::SecretBindingStatus;
use crate::binding::reference::Source;

/// Repairs are counted over this time.
const REPAIR_WINDOW: Duration = Duration::from_secs(600);
/// The longest pause after a failure, unless the refresh interval is longer.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What is remembered of one binding.
#[derive(Default)]
pub struct Memory {
    /// Failures since the last success.
    failures: u32,
    /// The versions that the sources had at the last look.
    pub verified: Option<Verified>,
    /// Inputs that are known to give no Secret.
    pub rejected: Option<(String, Rejection)>,
    /// The generation for which no Secret of an earlier name is left.
    pub tidy: Option<i64>,
    /// The last status written, with the resource version it gave the binding.
    pub reported: Option<(String, SecretBindingStatus)>,
    repairs: VecDeque<Instant>,
}

/// The versions of all sources at one time.
#[derive(Clone, Debug)]
pub struct Verified {
    /// When AWS was asked.
    pub at: Instant,
    /// For which generations of the binding and of the grant, and for which grant.
    pub asked_by: (i64, String, i64),
    /// The versions.
    pub versions: BTreeMap<Source, Known>,
}

/// One version of one secret, as AWS answered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The full ARN.
    pub arn: String,
    /// The name.
    pub name: String,
    /// The version id.
    pub version_id: String,
}

impl Memory {
    /// Notes a success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Notes a failure and answers how long to wait: twice as long each time, at most `cap` or five minutes, and
    /// shortened by up to a half so that bindings that failed together do not come back together. `jitter` is between
    /// 0 and 1.
    pub fn failed(&mut self, cap: Duration, jitter: f64) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20)).min(cap.max(MAX_PAUSE));
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// Notes that the target was put right.
    pub fn repaired(&mut self, now: Instant) {
        self.repairs.push_back(now);
    }

    /// How often the target was put right within the last ten minutes.
    pub fn repairs_within(&mut self, now: Instant) -> usize {
        while self.repairs.front().is_some_and(|first| now.duration_since(*first) > REPAIR_WINDOW) {
            self.repairs.pop_front();
        }
        self.repairs.len()
    }
}

/// The memories of all bindings, by namespace and name.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<(String, String), (String, Memory)>>);

impl Memories {
    /// Takes the memory of a binding; a binding of another uid under the same name starts with none.
    pub fn take(&self, namespace: &str, name: &str, uid: &str) -> Memory {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match memories.remove(&(namespace.to_owned(), name.to_owned())) {
            Some((known, memory)) if known == uid => memory,
            _ => Memory::default(),
        }
    }

    /// Puts a memory back.
    pub fn put(&self, namespace: &str, name: &str, uid: &str, memory: Memory) {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memories.insert((namespace.to_owned(), name.to_owned()), (uid.to_owned(), memory));
    }

    /// The bindings that are remembered.
    #[must_use]
    pub fn names(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Forgets a deleted binding.
    pub fn forget(&self, namespace: &str, name: &str) {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memories.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_start_again_after_a_success() {
        let mut memory = Memory::default();
        let pauses: Vec<u64> = (0..11).map(|_| memory.failed(Duration::from_secs(60), 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        memory.succeeded();
        assert_eq!(memory.failed(Duration::from_secs(60), 1.0), Duration::from_millis(500));
        let mut slow = Memory::default();
        let last = (0..40).map(|_| slow.failed(Duration::from_secs(86_400), 0.0)).last();
        assert_eq!(last, Some(Duration::from_secs(86_400)));
    }

    #[tokio::test(start_paused = true)]
    async fn repairs_are_counted_over_ten_minutes() {
        let mut memory = Memory::default();
        for _ in 0..4 {
            memory.repaired(Instant::now());
            tokio::time::advance(Duration::from_secs(150)).await;
        }
        memory.repaired(Instant::now());
        assert_eq!(memory.repairs_within(Instant::now()), 5);
        tokio::time::advance(Duration::from_secs(299)).await;
        assert_eq!(memory.repairs_within(Instant::now()), 3);
    }

    #[test]
    fn a_new_binding_of_an_old_name_remembers_nothing() {
        let memories = Memories::default();
        let mut memory = Memory::default();
        memory.failed(Duration::ZERO, 0.0);
        memories.put("n", "b", "uid-1", memory);
        assert_eq!(memories.take("n", "b", "uid-2").failures, 0);
    }
}
