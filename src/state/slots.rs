//! How many workloads are restarted at a time, over all bindings.
//!
//! Observations say what is in flight, so that an operator that starts in the middle counts what its predecessor
//! began.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::WorkloadReference;
use crate::domain::name::BindingName;

/// The restarts of all bindings.
#[derive(Debug)]
pub struct Slots {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: HashMap<BindingName, BTreeSet<WorkloadReference>>,
    waiting: HashSet<BindingName>,
}

impl State {
    fn has(&self, namespace: &str, workload: &WorkloadReference) -> bool {
        self.in_flight
            .iter()
            .any(|(binding, workloads)| &*binding.namespace == namespace && workloads.contains(workload))
    }

    fn count(&self) -> usize {
        let of = |(binding, workloads): (&'_ BindingName, &'_ BTreeSet<WorkloadReference>)| {
            workloads.iter().map(|workload| (binding.namespace.clone(), workload.clone())).collect::<Vec<_>>()
        };
        self.in_flight.iter().flat_map(of).collect::<BTreeSet<_>>().len()
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

    /// Notes which workloads a look for `binding` shows in flight. Answers the bindings that waited for a place, where
    /// there is one now.
    pub fn observe(&self, binding: &BindingName, workloads: BTreeSet<WorkloadReference>) -> Vec<BindingName> {
        let mut state = self.state();
        state.waiting.remove(binding);
        if workloads.is_empty() {
            state.in_flight.remove(binding);
        } else {
            state.in_flight.insert(binding.clone(), workloads);
        }
        if !state.waiting.is_empty() && state.count() < self.max { state.waiting.drain().collect() } else { Vec::new() }
    }

    /// Takes a place for a workload. False where there is none; the binding then waits.
    pub fn begin(&self, binding: &BindingName, workload: &WorkloadReference) -> bool {
        let mut state = self.state();
        if !state.has(&binding.namespace, workload) && state.count() >= self.max {
            state.waiting.insert(binding.clone());
            return false;
        }
        state.in_flight.entry(binding.clone()).or_default().insert(workload.clone());
        true
    }

    /// Gives back the place of a workload that was not restarted after all.
    pub fn end(&self, binding: &BindingName, workload: &WorkloadReference) {
        if let Some(workloads) = self.state().in_flight.get_mut(binding) {
            workloads.remove(workload);
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
        BindingName::new("n", name)
    }

    #[test]
    fn a_place_is_taken_given_back_and_offered_to_those_who_wait() {
        let slots = Slots::new(1);
        assert!(slots.begin(&binding("a"), &workload("web")));
        assert!(slots.begin(&binding("b"), &workload("web")), "it is the same workload");
        assert!(!slots.begin(&binding("c"), &workload("worker")));
        assert!(!slots.begin(&BindingName::new("m", "a"), &workload("web")), "of another namespace");
        assert!(slots.observe(&binding("a"), BTreeSet::new()).is_empty(), "b's look still shows it");
        let mut offered = slots.observe(&binding("b"), BTreeSet::new());
        offered.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        assert_eq!(offered, [BindingName::new("m", "a"), binding("c")]);
        assert!(slots.begin(&binding("c"), &workload("worker")));
        slots.end(&binding("c"), &workload("worker"));
        assert!(slots.begin(&binding("a"), &workload("web")));
    }

    #[test]
    fn what_a_look_shows_in_flight_counts_even_beyond_the_limit() {
        let slots = Slots::new(2);
        slots.observe(&binding("a"), BTreeSet::from([workload("a"), workload("b"), workload("c")]));
        assert!(!slots.begin(&binding("b"), &workload("d")));
        slots.observe(&binding("a"), BTreeSet::from([workload("a")]));
        assert!(slots.begin(&binding("b"), &workload("d")));
    }
}
