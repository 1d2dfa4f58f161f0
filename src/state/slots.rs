//! How many workloads are restarted at a time, over all bindings, and whose turn it is.
//!
//! Observations say what is in flight, so that an operator that starts in the middle counts what its predecessor
//! began. A namespace begins another restart only while more slots are free than it holds. So one whose restarts never
//! end leaves slots to others, and they to the next. Who waited longest comes first.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::WorkloadReference;
use crate::domain::name::BindingName;

/// An observation that is older holds no slot: restarts under way are observed every half minute, and have failed after
/// ten minutes without progress.
const HELD: Duration = Duration::from_secs(900);

/// A binding that waits and does not ask again for this long leaves its turn to others. Bindings ask every half minute.
const TURN: Duration = Duration::from_secs(90);

/// The restarts of all bindings.
#[derive(Debug)]
pub struct Slots {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: HashMap<BindingName, InFlight>,
    waiting: HashMap<BindingName, Waiting>,
}

#[derive(Debug)]
struct InFlight {
    workloads: BTreeSet<WorkloadReference>,
    seen: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    seen: Instant,
}

impl State {
    fn has(&self, namespace: &str, workload: &WorkloadReference) -> bool {
        self.in_flight.iter().any(|(binding, of)| &*binding.namespace == namespace && of.workloads.contains(workload))
    }

    /// How many workloads each namespace has in flight.
    fn held(&self) -> HashMap<Arc<str>, usize> {
        let mut workloads: HashMap<Arc<str>, BTreeSet<&WorkloadReference>> = HashMap::new();
        for (binding, of) in &self.in_flight {
            workloads.entry(binding.namespace.clone()).or_default().extend(&of.workloads);
        }
        workloads.into_iter().map(|(namespace, workloads)| (namespace, workloads.len())).collect()
    }

    /// Since when each namespace waits.
    fn waiting(&self) -> HashMap<Arc<str>, Instant> {
        let mut since: HashMap<Arc<str>, Instant> = HashMap::new();
        for (binding, waiting) in &self.waiting {
            let earliest = since.entry(binding.namespace.clone()).or_insert(waiting.since);
            *earliest = waiting.since.min(*earliest);
        }
        since
    }

    fn forget_old(&mut self, now: Instant) {
        self.in_flight.retain(|_, of| now.saturating_duration_since(of.seen) < HELD);
        self.waiting.retain(|_, waiting| now.saturating_duration_since(waiting.seen) < TURN);
    }

    /// Whether it is the turn of a namespace: it holds less than is free, and those that waited longer leave it a slot.
    fn is_turn(&self, namespace: &str, max: usize, now: Instant) -> bool {
        let held = self.held();
        let free = max.saturating_sub(held.values().sum());
        let of = |namespace: &str| held.get(namespace).copied().unwrap_or(0);
        let waiting = self.waiting();
        let since = waiting.get(namespace).copied().unwrap_or(now);
        let before = waiting.iter().filter(|(other, at)| &***other != namespace && **at < since && of(other) < free);
        of(namespace) < free && before.count() < free
    }
}

impl Slots {
    /// Room for so many workloads.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records which workloads an observation for `binding` shows in flight; `waits` says that it has more to restart.
    /// Returns the bindings that wait for a slot, where one is free.
    pub fn observe(
        &self,
        binding: &BindingName,
        workloads: BTreeSet<WorkloadReference>,
        waits: bool,
        now: Instant,
    ) -> Vec<BindingName> {
        let mut state = self.state();
        state.forget_old(now);
        if !waits {
            state.waiting.remove(binding);
        }
        if workloads.is_empty() {
            state.in_flight.remove(binding);
        } else {
            state.in_flight.insert(binding.clone(), InFlight { workloads, seen: now });
        }
        let free = self.max.saturating_sub(state.held().values().sum());
        if free == 0 {
            return Vec::new();
        }
        let mut waiting: Vec<_> = state.waiting.iter().filter(|(name, _)| *name != binding).collect();
        waiting.sort_by_key(|(_, waiting)| waiting.since);
        waiting.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// Takes a slot for a workload. False where there is none for its namespace; the binding then waits.
    pub fn begin(&self, binding: &BindingName, workload: &WorkloadReference, now: Instant) -> bool {
        let mut state = self.state();
        state.forget_old(now);
        if !state.has(&binding.namespace, workload) {
            if !state.is_turn(&binding.namespace, self.max, now) {
                state.waiting.entry(binding.clone()).or_insert(Waiting { since: now, seen: now }).seen = now;
                return false;
            }
            // The namespace had its turn.
            let of_namespace = state.waiting.iter_mut().filter(|(name, _)| name.namespace == binding.namespace);
            of_namespace.for_each(|(_, waiting)| waiting.since = now);
        }
        let of = state.in_flight.entry(binding.clone()).or_insert(InFlight { workloads: BTreeSet::new(), seen: now });
        of.workloads.insert(workload.clone());
        true
    }

    /// Gives back the slot of a workload that was not restarted after all.
    pub fn end(&self, binding: &BindingName, workload: &WorkloadReference) {
        if let Some(of) = self.state().in_flight.get_mut(binding) {
            of.workloads.remove(workload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WorkloadKind;

    fn workload(name: &str) -> WorkloadReference {
        WorkloadReference { kind: WorkloadKind::Deployment, name: name.to_owned() }
    }

    fn binding(name: &str) -> BindingName {
        of("n", name)
    }

    fn of(namespace: &str, name: &str) -> BindingName {
        BindingName::new(namespace, name)
    }

    /// The slots, with each call one second after the one before.
    struct Clocked {
        slots: Slots,
        now: Instant,
    }

    impl Clocked {
        fn new(max: usize) -> Self {
            Self { slots: Slots::new(max), now: Instant::now() }
        }

        fn begin(&mut self, binding: &BindingName, name: &str) -> bool {
            self.now += Duration::from_secs(1);
            self.slots.begin(binding, &workload(name), self.now)
        }

        fn observe(&mut self, binding: &BindingName, names: &[&str], waits: bool) -> Vec<BindingName> {
            self.now += Duration::from_secs(1);
            self.slots.observe(binding, names.iter().map(|name| workload(name)).collect(), waits, self.now)
        }
    }

    #[test]
    fn a_slot_is_taken_given_back_and_offered_to_those_who_wait() {
        let mut slots = Clocked::new(1);
        assert!(slots.begin(&binding("a"), "web"));
        assert!(slots.begin(&binding("b"), "web"), "it is the same workload");
        assert!(!slots.begin(&binding("c"), "worker"));
        assert!(!slots.begin(&of("m", "a"), "web"), "of another namespace");
        assert!(slots.observe(&binding("a"), &[], false).is_empty(), "b's observation still shows it");
        assert_eq!(
            slots.observe(&binding("b"), &[], false),
            [binding("c"), of("m", "a")],
            "who waited longest is first"
        );
        assert!(slots.begin(&binding("c"), "worker"));
        slots.slots.end(&binding("c"), &workload("worker"));
        assert!(slots.begin(&of("m", "a"), "web"));
    }

    #[test]
    fn what_an_observation_shows_in_flight_counts_even_beyond_the_limit() {
        let mut slots = Clocked::new(2);
        slots.observe(&binding("a"), &["a", "b", "c"], false);
        assert!(!slots.begin(&of("m", "b"), "d"));
        slots.observe(&binding("a"), &["a"], false);
        assert!(slots.begin(&of("m", "b"), "d"));
    }

    #[test]
    fn a_namespace_whose_restarts_never_end_leaves_slots_to_others_and_they_to_the_next() {
        let mut slots = Clocked::new(5);
        let begun = |slots: &mut Clocked, namespace: &str| {
            (0..5).filter(|number| slots.begin(&of(namespace, "b"), &format!("w{number}"))).count()
        };
        let held = ["first", "second", "third", "fourth"].map(|namespace| begun(&mut slots, namespace));
        assert_eq!(held, [3, 1, 1, 0]);
        for max in 1..20 {
            let mut slots = Clocked::new(max);
            assert!(begun(&mut slots, "first") >= 1 && (max == 1 || begun(&mut slots, "second") >= 1), "{max}");
        }
    }

    #[test]
    fn namespaces_take_turns_however_many_bindings_of_one_wait() {
        let mut slots = Clocked::new(1);
        assert!(slots.begin(&of("many", "0"), "w0"));
        for number in 1..9 {
            assert!(!slots.begin(&of("many", &number.to_string()), &format!("w{number}")));
        }
        assert!(!slots.begin(&of("one", "b"), "w"));
        let mut turns = Vec::new();
        let mut running = of("many", "0");
        for _ in 0..3 {
            let offered = slots.observe(&running, &[], false);
            // Whoever comes first, the slot goes to the one whose turn it is.
            let taken =
                offered.iter().rev().find(|name| slots.begin(name, &format!("w{}", name.name))).unwrap().clone();
            turns.push(taken.namespace.to_string());
            running = taken;
        }
        assert_eq!(turns, ["many", "one", "many"]);
    }

    #[test]
    fn who_is_not_heard_of_any_more_holds_no_slot_and_no_turn() {
        let mut slots = Clocked::new(1);
        assert!(slots.begin(&of("silent", "b"), "w"));
        assert!(!slots.begin(&of("gone", "b"), "w"));
        slots.now += TURN;
        assert!(!slots.begin(&binding("a"), "w"), "the restart may still be under way");
        slots.now += HELD;
        assert!(slots.begin(&binding("a"), "w"));
    }
}
