//! When the next rotation of each binding is due, with a bound on the series of a namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// So many bindings of a namespace have a series of their own.
const MOST: usize = 200;
/// The name of the series for all others. No binding can have it.
const OTHERS: &str = "_other";

/// The due times of all bindings, in seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct RotationTimes {
    namespaces: HashMap<String, NamespaceTimes>,
}

#[derive(Debug, Default)]
struct NamespaceTimes {
    /// Of the bindings with a series of their own.
    shown: BTreeMap<String, i64>,
    /// Of the others.
    others: BTreeMap<String, i64>,
    /// The same, the earliest first.
    earliest: BTreeSet<(i64, String)>,
}

/// A series with the value that it has now; `None` where it goes.
pub(super) type Change = (String, Option<i64>);

impl RotationTimes {
    /// Sets when the next rotation of a binding is due; `None` where none is. Answers the series that change.
    pub(super) fn set(&mut self, namespace: &str, name: &str, due: Option<i64>) -> Vec<Change> {
        let times = match due {
            Some(_) => self.namespaces.entry(namespace.to_owned()).or_default(),
            None => match self.namespaces.get_mut(namespace) {
                Some(times) => times,
                None => return Vec::new(),
            },
        };
        let changes = times.set(name, due);
        if times.shown.is_empty() {
            self.namespaces.remove(namespace);
        }
        changes
    }
}

impl NamespaceTimes {
    fn set(&mut self, name: &str, due: Option<i64>) -> Vec<Change> {
        let before = self.first_other();
        let mut changes = Vec::new();
        match due {
            Some(due) if self.shown.contains_key(name) || (self.shown.len() < MOST && self.others.is_empty()) => {
                self.shown.insert(name.to_owned(), due);
                changes.push((name.to_owned(), Some(due)));
            }
            Some(due) => {
                self.remove_other(name);
                self.others.insert(name.to_owned(), due);
                self.earliest.insert((due, name.to_owned()));
            }
            None => {
                self.remove_other(name);
                if self.shown.remove(name).is_some() {
                    changes.push((name.to_owned(), None));
                    changes.extend(self.promote());
                }
            }
        }
        let now = self.first_other();
        if now != before {
            changes.push((OTHERS.to_owned(), now));
        }
        changes
    }

    /// Gives one of the others a series of its own.
    fn promote(&mut self) -> Option<Change> {
        let (due, name) = self.earliest.pop_first()?;
        self.others.remove(&name);
        self.shown.insert(name.clone(), due);
        Some((name, Some(due)))
    }

    fn remove_other(&mut self, name: &str) {
        if let Some(due) = self.others.remove(name) {
            self.earliest.remove(&(due, name.to_owned()));
        }
    }

    fn first_other(&self) -> Option<i64> {
        self.earliest.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The series are bounded, each tells the truth, and the earliest time of all is always among them.
        #[test]
        fn no_due_time_is_lost_however_bindings_come_and_go(
            steps in proptest::collection::vec((0..260u16, proptest::option::weighted(0.8, 0..1000i64)), 0..900),
        ) {
            let (mut times, mut series, mut truth) = (RotationTimes::default(), BTreeMap::new(), BTreeMap::new());
            for (binding, due) in steps {
                let name = format!("b{binding}");
                for (name, value) in times.set("n", &name, due) {
                    match value {
                        Some(value) => series.insert(name, value),
                        None => series.remove(&name),
                    };
                }
                match due {
                    Some(due) => truth.insert(name, due),
                    None => truth.remove(&name),
                };
                prop_assert!(series.len() <= MOST + 1);
                prop_assert_eq!(series.values().min(), truth.values().min());
                for (name, value) in series.iter().filter(|(name, _)| *name != OTHERS) {
                    prop_assert_eq!(truth.get(name), Some(value));
                }
                prop_assert_eq!(series.contains_key(OTHERS), truth.len() > MOST);
            }
        }
    }
}
