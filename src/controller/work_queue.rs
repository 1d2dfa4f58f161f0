//! When which binding is reconciled next. Pure: times are arguments.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use crate::domain::name::BindingName;

/// The time of the next reconcile of each binding, and whether one is under way. There are never two for one binding.
#[derive(Debug, Default)]
pub struct WorkQueue {
    bindings: HashMap<BindingName, Entry>,
    /// What is due, the earliest first, and of the same time what was asked for first.
    due: BTreeMap<(Instant, u64), BindingName>,
    asked: u64,
}

#[derive(Debug, Default)]
struct Entry {
    /// The place in `due`, or during a reconcile the one to come.
    next: Option<(Instant, u64)>,
    running: bool,
}

impl WorkQueue {
    /// Requests a reconcile of a binding. Of several times the earliest counts. A reconcile under way ends first.
    pub fn ask(&mut self, binding: &BindingName, at: Instant) {
        self.asked += 1;
        let entry = self.bindings.entry(binding.clone()).or_default();
        if entry.next.is_some_and(|(before, _)| before <= at) {
            return;
        }
        let place = (at, self.asked);
        let before = entry.next.replace(place);
        if !entry.running {
            if let Some(before) = before {
                self.due.remove(&before);
            }
            self.due.insert(place, binding.clone());
        }
    }

    /// Whether a reconcile of a binding is under way, or due by this time.
    #[must_use]
    pub fn is_due_by(&self, binding: &BindingName, at: Instant) -> bool {
        self.bindings.get(binding).is_some_and(|entry| entry.running || entry.next.is_some_and(|(next, _)| next <= at))
    }

    /// Takes a binding whose time has come. Its reconcile is then under way.
    pub fn next(&mut self, now: Instant) -> Option<BindingName> {
        let (&place, _) = self.due.first_key_value().filter(|((at, _), _)| *at <= now)?;
        let binding = self.due.remove(&place)?;
        if let Some(entry) = self.bindings.get_mut(&binding) {
            *entry = Entry { next: None, running: true };
        }
        Some(binding)
    }

    /// Ends a reconcile. The next one is at this time, or earlier on request.
    pub fn ended(&mut self, binding: &BindingName, next: Option<Instant>) {
        if let Some(next) = next {
            self.ask(binding, next);
        }
        let Some(entry) = self.bindings.get_mut(binding) else { return };
        entry.running = false;
        match entry.next {
            Some(place) => {
                self.due.insert(place, binding.clone());
            }
            None => {
                self.bindings.remove(binding);
            }
        }
    }

    /// When the next reconcile is due.
    #[must_use]
    pub fn wakes(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(name: &str) -> BindingName {
        BindingName::new("n", name)
    }

    fn taken(queue: &mut WorkQueue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.next(now)).map(|binding| binding.name.to_string()).collect()
    }

    #[test]
    fn the_earliest_time_counts_and_at_the_same_time_who_came_first() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        queue.ask(&name("b"), at(5));
        queue.ask(&name("a"), at(1));
        queue.ask(&name("c"), at(1));
        queue.ask(&name("a"), at(9));
        assert_eq!(queue.wakes(), Some(at(1)));
        assert!(taken(&mut queue, now).is_empty());
        assert_eq!(taken(&mut queue, at(1)), ["a", "c"]);
        queue.ask(&name("b"), at(2));
        assert_eq!(queue.wakes(), Some(at(2)));
        assert_eq!(taken(&mut queue, at(9)), ["b"]);
        assert_eq!(queue.wakes(), None);
    }

    #[test]
    fn who_is_due_soon_or_under_way_needs_no_second_look() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        queue.ask(&name("a"), later);
        assert!(!queue.is_due_by(&name("a"), now) && queue.is_due_by(&name("a"), later));
        assert_eq!(taken(&mut queue, later), ["a"]);
        assert!(queue.is_due_by(&name("a"), now), "it is under way");
        queue.ended(&name("a"), None);
        assert!(!queue.is_due_by(&name("a"), later));
    }

    #[test]
    fn two_passes_over_one_binding_are_never_under_way() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        queue.ask(&name("a"), now);
        assert_eq!(taken(&mut queue, now), ["a"]);
        queue.ask(&name("a"), now);
        assert!(taken(&mut queue, now).is_empty() && queue.wakes().is_none());
        queue.ended(&name("a"), Some(later));
        assert_eq!(taken(&mut queue, now), ["a"], "who asked meanwhile is not put off");
        queue.ended(&name("a"), Some(later));
        assert_eq!(queue.wakes(), Some(later));
        assert_eq!(taken(&mut queue, later), ["a"]);
        queue.ended(&name("a"), None);
        assert!(queue.wakes().is_none() && queue.bindings.is_empty());
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap as Model, BTreeSet};
    use std::time::Duration;

    #[derive(Clone, Debug)]
    enum Step {
        Ask(u8, u64),
        Next(u64),
        Ended(u8, Option<u64>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4u8, 0..9u64).prop_map(|(binding, at)| Step::Ask(binding, at)),
            (0..9u64).prop_map(Step::Next),
            (0..4u8, proptest::option::of(0..9u64)).prop_map(|(binding, at)| Step::Ended(binding, at)),
        ]
    }

    proptest! {
        /// Against the plainest model: of each binding the earliest time asked for, and a set of reconciles.
        #[test]
        fn nothing_that_was_asked_for_is_lost_or_early(steps in proptest::collection::vec(step(), 0..60)) {
            let start = Instant::now();
            let at = |seconds: u64| start + Duration::from_secs(seconds);
            let name = |binding: u8| BindingName::new("n", &binding.to_string());
            let (mut queue, mut wanted, mut running) = (WorkQueue::default(), Model::new(), BTreeSet::new());
            let earlier = |wanted: &mut Model<BindingName, Instant>, binding: BindingName, at: Instant| {
                let entry = wanted.entry(binding).or_insert(at);
                *entry = at.min(*entry);
            };
            for step in steps {
                match step {
                    Step::Ask(binding, seconds) => {
                        queue.ask(&name(binding), at(seconds));
                        earlier(&mut wanted, name(binding), at(seconds));
                    }
                    Step::Next(seconds) => {
                        let first = wanted.iter().filter(|(name, _)| !running.contains(*name)).map(|(_, at)| *at).min();
                        match queue.next(at(seconds)) {
                            Some(binding) => {
                                prop_assert!(!running.contains(&binding));
                                let due = wanted.remove(&binding);
                                prop_assert!(due.is_some() && due == first && due <= Some(at(seconds)));
                                running.insert(binding);
                            }
                            None => prop_assert!(first.is_none_or(|first| first > at(seconds))),
                        }
                    }
                    Step::Ended(binding, next) => {
                        if running.remove(&name(binding)) {
                            queue.ended(&name(binding), next.map(at));
                            if let Some(next) = next {
                                earlier(&mut wanted, name(binding), at(next));
                            }
                        }
                    }
                }
                let free = wanted.iter().filter(|(name, _)| !running.contains(*name)).map(|(_, at)| *at).min();
                prop_assert_eq!(queue.wakes(), free);
            }
        }
    }
}
