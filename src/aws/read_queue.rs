//! The queue of pending reads of one identity, and the choice of the reads that one call serves. Pure.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::aws::api::BATCH_LIMIT;
use crate::aws::read_request::ReadRequest;
use crate::aws::shared_version::SharedVersion;
use crate::aws::value_memory::MemoryPermit;
use crate::domain::secret::error::SourceError;
use crate::domain::secret::reference::Source;

/// The answer to a read request.
pub type ReadAnswer = Result<Arc<SharedVersion>, SourceError>;

/// A read request that has no answer yet.
pub struct PendingRead {
    /// The request.
    pub request: ReadRequest,
    /// The receiver of the answer.
    pub answer: oneshot::Sender<ReadAnswer>,
}

impl fmt::Debug for PendingRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRead").field("binding", &self.request.binding).finish_non_exhaustive()
    }
}

/// The pending reads of one source, which one read serves.
#[derive(Debug)]
pub struct ReadGroup {
    /// The source.
    pub source: Source,
    /// The number of the read, which no other read of this queue has.
    pub number: u64,
    /// The pending reads.
    pub reads: Vec<PendingRead>,
    /// The memory that its value takes of the share of a namespace.
    pub share: Option<MemoryPermit>,
}

/// A read in flight.
#[derive(Debug)]
struct ReadInFlight {
    number: u64,
    /// The requests that joined it.
    joined: Vec<PendingRead>,
}

/// The pending reads of one identity.
#[derive(Debug, Default)]
pub struct ReadQueue {
    /// The sources with pending reads, in the order of their first request.
    order: VecDeque<Source>,
    waiting: HashMap<Source, Vec<PendingRead>>,
    /// The sources with a read in flight.
    in_flight: HashMap<Source, ReadInFlight>,
    /// The number of the last read.
    last: u64,
}

impl ReadQueue {
    /// Adds a pending read. It joins a read in flight where that read can answer it.
    pub fn push(&mut self, source: &Source, read: PendingRead) {
        match self.in_flight.get_mut(source) {
            Some(in_flight) if read.request.version_id.is_some() => in_flight.joined.push(read),
            _ => self.enqueue(source, read),
        }
    }

    /// Whether a pending read makes a call that no other one makes.
    #[must_use]
    pub fn needs_call(&self, source: &Source, read: &ReadRequest) -> bool {
        let joins = read.version_id.is_some() && self.in_flight.contains_key(source);
        !joins && !self.waiting.contains_key(source)
    }

    fn enqueue(&mut self, source: &Source, read: PendingRead) {
        if let Some(waiting) = self.waiting.get_mut(source) {
            waiting.push(read);
        } else {
            self.order.push_back(source.clone());
            self.waiting.insert(source.clone(), vec![read]);
        }
    }

    /// The number of calls that serve the waiting reads. `batches` says whether one call may read several secrets.
    #[must_use]
    pub fn calls(&self, batches: bool) -> usize {
        if batches { self.order.len().div_ceil(BATCH_LIMIT) } else { self.order.len() }
    }

    /// Whether no read waits or is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.order.is_empty() && self.in_flight.is_empty()
    }

    /// Removes the reads of the next call: those of several sources at AWSCURRENT where `batches` are possible, else
    /// those of one source. Drops reads whose receiver is gone.
    pub fn next(&mut self, batches: bool) -> Vec<ReadGroup> {
        let mut groups: Vec<ReadGroup> = Vec::new();
        let mut skipped = VecDeque::new();
        while let Some(source) = self.order.pop_front() {
            let fits = groups.first().is_none_or(|ReadGroup { source: first, .. }| {
                batches && first.version.is_current() && source.version.is_current() && groups.len() < BATCH_LIMIT
            });
            // A second read of a source begins after the first one ended, so that their answers stay apart.
            if !fits || self.in_flight.contains_key(&source) {
                skipped.push_back(source);
                continue;
            }
            let mut reads = self.waiting.remove(&source).unwrap_or_default();
            reads.retain(|read| !read.answer.is_closed());
            if !reads.is_empty() {
                self.last += 1;
                let number = self.last;
                self.in_flight.insert(source.clone(), ReadInFlight { number, joined: Vec::new() });
                groups.push(ReadGroup { source, number, reads, share: None });
            }
        }
        self.order = skipped;
        groups
    }

    /// Ends the read of a source. Returns the joined reads that the read version answers, and enqueues the others. A
    /// read that failed (`None`) answers all of them.
    pub fn finish(&mut self, source: &Source, version_id: Option<&str>) -> Vec<PendingRead> {
        let mut served = Vec::new();
        let joined = self.in_flight.remove(source).map(|in_flight| in_flight.joined);
        for read in joined.unwrap_or_default() {
            if version_id.is_none_or(|id| read.request.version_id.as_deref() == Some(id)) {
                served.push(read);
            } else {
                self.enqueue(source, read);
            }
        }
        served
    }

    /// Drops a read that nobody goes on with, and the requests that joined it. Their senders learn of it.
    pub fn abandon(&mut self, source: &Source, number: u64) {
        if self.in_flight.get(source).is_some_and(|in_flight| in_flight.number == number) {
            self.in_flight.remove(source);
        }
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

    fn pending(binding: &str, version_id: Option<&str>) -> (PendingRead, oneshot::Receiver<ReadAnswer>) {
        let (answer, receiver) = oneshot::channel();
        let request = ReadRequest {
            binding: BindingName::new("n", binding),
            grant: "g".to_owned(),
            reason: ReadReason::Created,
            version_id: version_id.map(str::to_owned),
            check: Arc::new(|_| Ok(Selection::default())),
        };
        (PendingRead { request, answer }, receiver)
    }

    fn names(groups: &[ReadGroup]) -> Vec<(String, usize)> {
        groups.iter().map(|group| (group.source.secret.to_string(), group.reads.len())).collect()
    }

    #[test]
    fn those_who_ask_for_the_same_are_served_by_one_read_and_twenty_secrets_by_one_call() {
        let mut queue = ReadQueue::default();
        let mut receivers = Vec::new();
        for binding in 0..100 {
            let (read, receiver) = pending(&binding.to_string(), None);
            queue.push(&source(&format!("s{}", binding % 25)), read);
            receivers.push(receiver);
        }
        assert_eq!((queue.calls(true), queue.calls(false)), (2, 25));
        let first = queue.next(true);
        assert_eq!(first.len(), BATCH_LIMIT);
        assert!(first.iter().all(|group| group.reads.len() == 4));
        assert_eq!(queue.next(true).len(), 5);
        assert!(queue.next(true).is_empty());
    }

    #[test]
    fn other_stages_and_a_refused_batch_are_read_one_by_one_in_the_order_of_asking() {
        let mut queue = ReadQueue::default();
        let mut receivers = Vec::new();
        for source in [previous("a"), source("b"), previous("c"), source("d")] {
            let (read, receiver) = pending("x", None);
            queue.push(&source, read);
            receivers.push(receiver);
        }
        assert_eq!(names(&queue.next(true)), [("a".to_owned(), 1)]);
        assert_eq!(names(&queue.next(true)), [("b".to_owned(), 1), ("d".to_owned(), 1)]);
        assert_eq!(names(&queue.next(false)), [("c".to_owned(), 1)]);
    }

    #[test]
    fn a_demand_joins_a_read_under_way_only_for_the_version_that_it_answers() {
        let mut queue = ReadQueue::default();
        let (first, _first) = pending("first", None);
        queue.push(&source("s"), first);
        assert_eq!(names(&queue.next(true)), [("s".to_owned(), 1)]);
        let (same, _same) = pending("same", Some("v2"));
        let (other, _other) = pending("other", Some("v3"));
        let (forced, _forced) = pending("forced", None);
        for read in [same, other, forced] {
            queue.push(&source("s"), read);
        }
        assert!(queue.next(true).is_empty(), "a second read waits for the first");
        let served = queue.finish(&source("s"), Some("v2"));
        assert_eq!(served.iter().map(|read| &*read.request.binding.name).collect::<Vec<_>>(), ["same"]);
        assert_eq!(names(&queue.next(true)), [("s".to_owned(), 2)]);
        assert!(queue.finish(&source("s"), None).is_empty());
        assert!(queue.is_idle());
    }

    #[test]
    fn a_failure_answers_all_who_joined_and_nothing_is_read_for_those_who_left() {
        let mut queue = ReadQueue::default();
        let (first, _first) = pending("first", None);
        queue.push(&source("s"), first);
        queue.next(true);
        let (joined, _joined) = pending("joined", Some("v"));
        queue.push(&source("s"), joined);
        assert_eq!(queue.finish(&source("s"), None).len(), 1);
        let (gone, receiver) = pending("gone", None);
        queue.push(&source("t"), gone);
        drop(receiver);
        assert!(queue.next(true).is_empty());
        assert!(queue.is_idle());
    }
}
