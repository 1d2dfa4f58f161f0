//! Events that wait to be published. Namespaces take turns: one with thousands of Events delays that of another by one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Events that wait beyond this number are given up.
pub(super) const MAX_WAITING: usize = 20_000;

/// The most that wait for one namespace.
pub(super) const MAX_OF_NAMESPACE: usize = 5_000;

/// What waits, for one who takes it.
#[derive(Debug)]
pub(super) struct EventQueue<T> {
    waiting: Mutex<Waiting<T>>,
    added: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    of: HashMap<Arc<str>, VecDeque<T>>,
    /// The namespaces of `of`, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    count: usize,
}

impl<T> Default for EventQueue<T> {
    fn default() -> Self {
        let waiting = Waiting { of: HashMap::new(), turns: VecDeque::new(), count: 0 };
        Self { waiting: Mutex::new(waiting), added: Notify::new() }
    }
}

impl<T> EventQueue<T> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one behind the others of its namespace. False where there is no room.
    pub(super) fn push(&self, namespace: &Arc<str>, event: T) -> bool {
        let mut waiting = self.waiting();
        let of_namespace = waiting.of.get(namespace).map_or(0, VecDeque::len);
        if waiting.count >= MAX_WAITING || of_namespace >= MAX_OF_NAMESPACE {
            return false;
        }
        if of_namespace == 0 {
            waiting.turns.push_back(namespace.clone());
        }
        waiting.of.entry(namespace.clone()).or_default().push_back(event);
        waiting.count += 1;
        drop(waiting);
        self.added.notify_one();
        true
    }

    /// Takes the first of the namespace whose turn it is.
    pub(super) fn next(&self) -> Option<T> {
        let mut waiting = self.waiting();
        let namespace = waiting.turns.pop_front()?;
        let of_namespace = waiting.of.get_mut(&namespace)?;
        let event = of_namespace.pop_front();
        if of_namespace.is_empty() {
            waiting.of.remove(&namespace);
        } else {
            waiting.turns.push_back(namespace);
        }
        waiting.count = waiting.count.saturating_sub(1);
        event
    }

    /// The same, once there is one.
    pub(super) async fn wait(&self) -> T {
        loop {
            let added = self.added.notified();
            if let Some(event) = self.next() {
                return event;
            }
            added.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_namespace_with_thousands_of_events_delays_that_of_another_by_one() {
        let (queue, noisy, quiet) = (EventQueue::default(), Arc::from("noisy"), Arc::from("quiet"));
        let pushed = (0..30_000).filter(|number| queue.push(&noisy, *number)).count();
        assert_eq!(pushed, MAX_OF_NAMESPACE);
        assert!(queue.push(&quiet, -1) && queue.push(&quiet, -2));
        let taken: Vec<i32> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(taken[..6], [0, -1, 1, -2, 2, 3], "of each namespace in order");
        assert_eq!(taken.len(), MAX_OF_NAMESPACE + 2);
        assert!(queue.waiting().of.is_empty() && queue.waiting().turns.is_empty() && queue.waiting().count == 0);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let queue = EventQueue::default();
        let pushed = (0..30_000).filter(|number| queue.push(&Arc::from((number % 100).to_string()), *number)).count();
        assert_eq!(pushed, MAX_WAITING);
    }

    #[test]
    fn who_waits_gets_the_next_one() {
        let (queue, namespace) = (EventQueue::default(), Arc::from("n"));
        let mut waits = Box::pin(queue.wait());
        assert_eq!((&mut waits).now_or_never(), None);
        queue.push(&namespace, 1);
        assert_eq!(waits.now_or_never(), Some(1));
    }
}
