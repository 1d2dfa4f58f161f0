//! Who waits for which value, and what is read with one call. Pure.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::aws::api::BATCH_LIMIT;
use crate::aws::read_request::ReadRequest;
use crate::aws::shared_version::SharedVersion;
use crate::domain::secret::error::SourceError;
use crate::domain::secret::reference::Source;

/// What a demand is answered with.
pub type Answer = Result<Arc<SharedVersion>, SourceError>;

/// One demand that waits.
pub struct PendingRead {
    /// For whom.
    pub asker: ReadRequest,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

impl fmt::Debug for PendingRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRead").field("binding", &self.asker.binding).finish_non_exhaustive()
    }
}

/// The demands for one source that one read serves.
pub type Group = (Source, Vec<PendingRead>);

/// The demands of one identity.
#[derive(Debug, Default)]
pub struct ReadQueue {
    /// The sources that wait, the one that waits longest first.
    order: VecDeque<Source>,
    waiting: HashMap<Source, Vec<PendingRead>>,
    /// Those who joined a read that was already under way.
    joined: HashMap<Source, Vec<PendingRead>>,
}

impl ReadQueue {
    /// Adds a demand.
    pub fn ask(&mut self, source: &Source, demand: PendingRead) {
        match self.joined.get_mut(source) {
            Some(joined) if demand.asker.version_id.is_some() => joined.push(demand),
            _ => self.wait(source, demand),
        }
    }

    fn wait(&mut self, source: &Source, demand: PendingRead) {
        if let Some(waiting) = self.waiting.get_mut(source) {
            waiting.push(demand);
        } else {
            self.order.push_back(source.clone());
            self.waiting.insert(source.clone(), vec![demand]);
        }
    }

    /// How many calls the waiting demands are worth.
    #[must_use]
    pub fn calls(&self, batches: bool) -> usize {
        if batches { self.order.len().div_ceil(BATCH_LIMIT) } else { self.order.len() }
    }

    /// Whether nobody waits and no read is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.order.is_empty() && self.joined.is_empty()
    }

    /// Takes what is read with the next call: several sources at AWSCURRENT where `batches` are possible, else one.
    /// ReadQueue that nobody waits for any more are dropped.
    pub fn next(&mut self, batches: bool) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut passed_over = VecDeque::new();
        while let Some(source) = self.order.pop_front() {
            let fits = groups.first().is_none_or(|(first, _)| {
                batches && first.version.is_current() && source.version.is_current() && groups.len() < BATCH_LIMIT
            });
            // Another read of the same source is under way: this one begins after it, so that answers stay apart.
            if !fits || self.joined.contains_key(&source) {
                passed_over.push_back(source);
                continue;
            }
            let mut demands = self.waiting.remove(&source).unwrap_or_default();
            demands.retain(|demand| !demand.answer.is_closed());
            if !demands.is_empty() {
                self.joined.insert(source.clone(), Vec::new());
                groups.push((source, demands));
            }
        }
        self.order = passed_over;
        groups
    }

    /// Ends a read of a source. Answers those who joined it and are served by the version that was read; the others
    /// wait again. A read that failed (`None`) answers all of them.
    pub fn settle(&mut self, source: &Source, version_id: Option<&str>) -> Vec<PendingRead> {
        let mut served = Vec::new();
        for demand in self.joined.remove(source).unwrap_or_default() {
            if version_id.is_none_or(|id| demand.asker.version_id.as_deref() == Some(id)) {
                served.push(demand);
            } else {
                self.wait(source, demand);
            }
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::audit::ReadReason;
    use crate::aws::read_request::Selection;
    use crate::domain::name::BindingName;
    use crate::domain::secret::reference::VersionSelector;

    fn source(name: &str) -> Source {
        Source { secret: name.parse().unwrap(), version: VersionSelector::default() }
    }

    fn previous(name: &str) -> Source {
        Source { version: VersionSelector::stage("AWSPREVIOUS").unwrap(), ..source(name) }
    }

    fn demand(binding: &str, wanted: Option<&str>) -> (PendingRead, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let asker = ReadRequest {
            binding: BindingName::new("n", binding),
            grant: "g".to_owned(),
            reason: ReadReason::Created,
            version_id: wanted.map(str::to_owned),
            check: Arc::new(|_| Ok(Selection::default())),
        };
        (PendingRead { asker, answer }, receiver)
    }

    fn names(groups: &[Group]) -> Vec<(String, usize)> {
        groups.iter().map(|(source, demands)| (source.secret.to_string(), demands.len())).collect()
    }

    #[test]
    fn those_who_ask_for_the_same_are_served_by_one_read_and_twenty_secrets_by_one_call() {
        let mut demands = ReadQueue::default();
        let mut receivers = Vec::new();
        for binding in 0..100 {
            let (demand, receiver) = demand(&binding.to_string(), None);
            demands.ask(&source(&format!("s{}", binding % 25)), demand);
            receivers.push(receiver);
        }
        assert_eq!((demands.calls(true), demands.calls(false)), (2, 25));
        let first = demands.next(true);
        assert_eq!(first.len(), BATCH_LIMIT);
        assert!(first.iter().all(|(_, demands)| demands.len() == 4));
        assert_eq!(demands.next(true).len(), 5);
        assert!(demands.next(true).is_empty());
    }

    #[test]
    fn other_stages_and_a_refused_batch_are_read_one_by_one_in_the_order_of_asking() {
        let mut demands = ReadQueue::default();
        let mut receivers = Vec::new();
        for source in [previous("a"), source("b"), previous("c"), source("d")] {
            let (demand, receiver) = demand("x", None);
            demands.ask(&source, demand);
            receivers.push(receiver);
        }
        assert_eq!(names(&demands.next(true)), [("a".to_owned(), 1)]);
        assert_eq!(names(&demands.next(true)), [("b".to_owned(), 1), ("d".to_owned(), 1)]);
        assert_eq!(names(&demands.next(false)), [("c".to_owned(), 1)]);
    }

    #[test]
    fn a_demand_joins_a_read_under_way_only_for_the_version_that_it_answers() {
        let mut demands = ReadQueue::default();
        let (first, _first) = demand("first", None);
        demands.ask(&source("s"), first);
        assert_eq!(names(&demands.next(true)), [("s".to_owned(), 1)]);
        let (same, _same) = demand("same", Some("v2"));
        let (other, _other) = demand("other", Some("v3"));
        let (forced, _forced) = demand("forced", None);
        for demand in [same, other, forced] {
            demands.ask(&source("s"), demand);
        }
        assert!(demands.next(true).is_empty(), "a second read waits for the first");
        let served = demands.settle(&source("s"), Some("v2"));
        assert_eq!(served.iter().map(|demand| &*demand.asker.binding.name).collect::<Vec<_>>(), ["same"]);
        assert_eq!(names(&demands.next(true)), [("s".to_owned(), 2)]);
        assert!(demands.settle(&source("s"), None).is_empty());
        assert!(demands.is_idle());
    }

    #[test]
    fn a_failure_answers_all_who_joined_and_nothing_is_read_for_those_who_left() {
        let mut demands = ReadQueue::default();
        let (first, _first) = demand("first", None);
        demands.ask(&source("s"), first);
        demands.next(true);
        let (joined, _joined) = demand("joined", Some("v"));
        demands.ask(&source("s"), joined);
        assert_eq!(demands.settle(&source("s"), None).len(), 1);
        let (gone, receiver) = demand("gone", None);
        demands.ask(&source("t"), gone);
        drop(receiver);
        assert!(demands.next(true).is_empty());
        assert!(demands.is_idle());
    }
}
