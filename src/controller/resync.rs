//! A net under the watches: every binding is reconciled at least once in a while, whatever became of its trigger. That
//! costs nothing where the clock asks for it sooner, and where nothing changed it asks nobody for anything.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::controller::work_queue::WorkQueue;
use crate::domain::name::BindingName;

/// Within this time every binding has its turn.
const PERIOD: Duration = Duration::from_secs(600);
/// The parts of a period; each binding has its turn in one of them, so that they do not come all at once.
const PARTS: u32 = 60;

/// Whose turn it is.
pub struct Resync {
    clock: Interval,
    part: u32,
    spread: RandomState,
}

impl Default for Resync {
    fn default() -> Self {
        // The first reconciles after a start are not to be overtaken.
        let mut clock = interval_at(Instant::now() + PERIOD, PERIOD / PARTS);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { clock, part: 0, spread: RandomState::new() }
    }
}

impl Resync {
    /// Waits for the next turn.
    pub async fn tick(&mut self) {
        self.clock.tick().await;
        self.part = (self.part + 1) % PARTS;
    }

    /// Requests a reconcile of the bindings whose turn it is, but for those that have one within a period anyway.
    pub fn ask(&self, queue: &mut WorkQueue, bindings: impl Iterator<Item = BindingName>) {
        let now = Instant::now();
        for binding in bindings {
            let part = self.spread.hash_one(&binding) % u64::from(PARTS);
            if part == u64::from(self.part) && !queue.is_due_by(&binding, now + PERIOD) {
                queue.ask(&binding, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[tokio::test(start_paused = true)]
    async fn every_binding_whose_trigger_was_lost_has_its_turn_within_ten_minutes_and_not_all_at_once() {
        let (mut resync, mut queue) = (Resync::default(), WorkQueue::default());
        let names: Vec<BindingName> = (0..1000).map(|number| BindingName::new("n", &number.to_string())).collect();
        queue.ask(&names[0], Instant::now() + Duration::from_hours(24));
        let mut turns: BTreeMap<BindingName, u32> = BTreeMap::new();
        for _ in 0..PARTS {
            resync.tick().await;
            resync.ask(&mut queue, names.iter().cloned());
            let taken: Vec<BindingName> = std::iter::from_fn(|| queue.next(Instant::now())).collect();
            assert!(taken.len() < 100, "{} at once", taken.len());
            for binding in taken {
                queue.ended(&binding, None);
                *turns.entry(binding).or_default() += 1;
            }
        }
        assert_eq!(turns.len(), names.len());
        assert!(turns.values().all(|turns| *turns == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_reconciled_by_the_clock_anyway_is_left_alone() {
        let mut resync = Resync::default();
        let binding = BindingName::new("n", "a");
        for _ in 0..PARTS {
            resync.tick().await;
            let (mut queue, due) = (WorkQueue::default(), Instant::now() + Duration::from_secs(300));
            queue.ask(&binding, due);
            resync.ask(&mut queue, std::iter::once(binding.clone()));
            assert_eq!(queue.wakes(), Some(due));
        }
    }
}
