//! What is remembered of a binding from one pass to the next. All of it can be lost: a restart
//! costs a look at the versions of the secrets, which all bindings share.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::SecretBindingStatus;
use crate::domain::name::BindingName;
use crate::domain::render::key::TargetKey;
use crate::domain::render::rejection::Rejection;
use crate::domain::rollout::plan;
use crate::domain::rotation::age::UnknownAge;
use crate::domain::rotation::key_source::KeySource;

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
    /// The pause after the last of them.
    pause: Duration,
    /// When the sources were last known at their present versions.
    pub verified: Option<Instant>,
    /// Inputs that are known to give no Secret.
    pub rejected: Option<(String, Rejection)>,
    /// The generation for which no Secret of an earlier name is left.
    pub tidy: Option<i64>,
    /// The last status written, with the resource version it gave the binding, until the watch has shown it.
    pub reported: Option<(u64, Box<SecretBindingStatus>)>,
    /// What is remembered of its restarts.
    pub rollout: plan::RolloutHistory,
    /// The keys of which it is to be found out since when they have their values.
    pub unaged: BTreeMap<String, UnknownAge>,
    /// Whether that is under way.
    pub walking: bool,
    /// When that is tried again, where it failed.
    pub walk_again: Option<Instant>,
    /// Where the keys of rules come from that are acted on, and of which versions and which binding that was found.
    pub key_sources: Option<(Vec<String>, BTreeMap<TargetKey, KeySource>)>,
    repairs: VecDeque<Instant>,
}

impl Memory {
    /// Notes a success.
    pub fn succeeded(&mut self) {
        (self.failures, self.pause) = (0, Duration::ZERO);
    }

    /// Notes a failure and answers how long to wait: twice as long each time, at most `cap` or five minutes, and
    /// shortened by up to a half so that bindings that failed together do not come back together. `jitter` is between
    /// 0 and 1.
    pub fn failed(&mut self, cap: Duration, jitter: f64) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20)).min(cap.max(MAX_PAUSE));
        self.failures = self.failures.saturating_add(1);
        self.pause = pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
        self.pause
    }

    /// How old a failure that another binding met may be to be taken for this one's, so that many bindings of one
    /// secret that cannot be had do not ask for it each.
    #[must_use]
    pub fn shares_failures_of(&self) -> Duration {
        self.pause / 2
    }

    /// How long until older versions are looked through for the ages of keys; `None` where that is not to be done, or
    /// is under way.
    #[must_use]
    pub fn next_walk(&self, publishes: bool, now: Instant) -> Option<Duration> {
        let at = || self.walk_again.map_or(Duration::ZERO, |again| again.saturating_duration_since(now));
        (publishes && !self.unaged.is_empty() && !self.walking).then(at)
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
pub struct Memories(Mutex<HashMap<BindingName, (String, Memory)>>);

impl Memories {
    fn lock(&self) -> MutexGuard<'_, HashMap<BindingName, (String, Memory)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the memory of the binding of this name, with its uid.
    pub fn take(&self, binding: &BindingName) -> Option<(String, Memory)> {
        self.lock().remove(binding)
    }

    /// Puts a memory back.
    pub fn put(&self, binding: &BindingName, uid: String, memory: Memory) {
        self.lock().insert(binding.clone(), (uid, memory));
    }

    /// Drops a written status once the watch shows it, or what came after it.
    pub fn shown(&self, binding: &BindingName, resource_version: Option<u64>) {
        if let Some((_, memory)) = self.lock().get_mut(binding)
            && memory.reported.as_ref().is_some_and(|(written, _)| resource_version >= Some(*written))
        {
            memory.reported = None;
        }
    }

    /// The bindings that are remembered.
    #[must_use]
    pub fn names(&self) -> Vec<BindingName> {
        self.lock().keys().cloned().collect()
    }

    /// Forgets a deleted binding.
    pub fn forget(&self, binding: &BindingName) {
        self.lock().remove(binding);
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
    fn a_written_status_is_kept_until_the_watch_shows_it() {
        let (memories, name) = (Memories::default(), BindingName::new("n", "b"));
        let memory = Memory { reported: Some((7, Box::default())), ..Memory::default() };
        memories.put(&name, "u".to_owned(), memory);
        for (shown, kept) in [(None, true), (Some(6), true), (Some(7), false)] {
            memories.shown(&name, shown);
            let (_, memory) = memories.take(&name).unwrap();
            assert_eq!(memory.reported.is_some(), kept, "{shown:?}");
            memories.put(&name, "u".to_owned(), memory);
        }
    }
}
