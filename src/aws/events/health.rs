//! The health of the events queues, for `/readyz`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::{SpanRound, Timestamp, Unit};

use crate::aws::events::address::QueueName;
use crate::aws::events::failure::QueueOperation;

/// The failures in a row after which a queue counts as broken. Fewer can be lost answers.
const BROKEN: u32 = 3;
/// The error codes that one episode reports. AWS answers few.
const MAX_CODES: usize = 8;

/// The failures of one operation in a row, up to the next success.
#[derive(Clone, Debug, Default)]
pub(super) struct FailureEpisode {
    pub(super) failures: u32,
    since: Option<Timestamp>,
    /// The last error code.
    code: String,
    /// The error codes that were reported.
    reported: BTreeSet<String>,
}

impl FailureEpisode {
    /// Records a failure. Returns whether to report it: it is the first of the episode with this code.
    pub(super) fn record_failure(&mut self, code: &str, now: Timestamp) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        code.clone_into(&mut self.code);
        self.reported.len() < MAX_CODES && self.reported.insert(code.to_owned())
    }

    /// Records a success. Returns the number of failures before it, if there were any.
    pub(super) fn record_success(&mut self) -> Option<u32> {
        let failures = std::mem::take(self).failures;
        (failures > 0).then_some(failures)
    }
}

/// The state of one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct QueueState {
    /// The last successful receive call.
    pub(super) received: Option<Timestamp>,
    /// The last message.
    pub(super) message: Option<Timestamp>,
    /// The time that the last message was in the queue, in seconds.
    pub(super) in_queue: Option<f64>,
    /// The age of the last event, in seconds.
    pub(super) since_event: Option<f64>,
    pub(super) receive: FailureEpisode,
    pub(super) delete: FailureEpisode,
}

impl QueueState {
    pub(super) fn episode(&mut self, operation: QueueOperation) -> &mut FailureEpisode {
        match operation {
            QueueOperation::Receive => &mut self.receive,
            QueueOperation::Delete => &mut self.delete,
        }
    }

    fn line(&self, queue: &QueueName, now: Timestamp) -> String {
        let failing = [(QueueOperation::Receive, &self.receive), (QueueOperation::Delete, &self.delete)]
            .into_iter()
            .filter_map(|(operation, FailureEpisode { failures, since, code, .. })| {
                let since = age((*since)?, now);
                Some(format!(
                    "{} for {since} ({code}, {failures} in a row); {}",
                    operation.symptom(),
                    operation.fallback()
                ))
            });
        let received = match self.received {
            Some(received) => format!("last read {} ago", age(received, now)),
            None => "not read yet".to_owned(),
        };
        let message = self.message.map(|message| {
            let lag = match (self.since_event, self.in_queue) {
                (Some(event), Some(queue)) => format!(" ({event:.1} s after its event, {queue:.1} s in the queue)"),
                (Some(event), None) => format!(" ({event:.1} s after its event)"),
                (None, Some(queue)) => format!(" ({queue:.1} s in the queue)"),
                (None, None) => String::new(),
            };
            format!("last message {} ago{lag}", age(message, now))
        });
        let parts: Vec<String> = failing.chain([received]).chain(message).collect();
        format!("events queue {queue}: {}", parts.join("; "))
    }
}

/// The time between, in whole seconds and the largest units that fit.
fn age(then: Timestamp, now: Timestamp) -> String {
    let span = now
        .since(then.min(now))
        .and_then(|span| span.round(SpanRound::new().smallest(Unit::Second).largest(Unit::Hour)));
    span.map_or_else(|_| "long".to_owned(), |span| format!("{span:#}"))
}

/// The seconds between, not less than 0.
pub(super) fn seconds_between(then: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64().max(0.0)
}

/// The health of all queues, for the text of `/readyz`. The operator stays ready while a queue is broken, since it
/// finds changes without the queue.
#[derive(Debug, Default)]
pub struct QueueHealth {
    queues: Mutex<BTreeMap<String, QueueState>>,
}

impl QueueHealth {
    /// One sentence for each queue: its failures, its last read, and the age of its last message. Empty without queues.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines_at(Timestamp::now())
    }

    /// Whether three receive or delete calls in a row failed for a queue.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.values().any(|state| state.receive.failures >= BROKEN || state.delete.failures >= BROKEN)
    }

    fn lines_at(&self, now: Timestamp) -> Vec<String> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().map(|(url, state)| state.line(&QueueName::of(url), now)).collect()
    }

    /// Changes the state of the queue with this URL. An unknown queue is added.
    pub(super) fn with<T>(&self, url: &str, change: impl FnOnce(&mut QueueState) -> T) -> T {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        change(queues.entry(url.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::events::failure::tests::{DENIED, GONE, URL};

    #[test]
    fn an_episode_tells_each_code_once_and_ends_with_the_first_success() {
        let mut episode = FailureEpisode::default();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(episode.record_success(), None);
        assert!(episode.record_failure(GONE, now));
        assert!(!episode.record_failure(GONE, now));
        assert!(episode.record_failure(DENIED, now));
        assert!(!episode.record_failure(GONE, now));
        for n in 0..100 {
            episode.record_failure(&n.to_string(), now);
        }
        assert_eq!(episode.reported.len(), MAX_CODES);
        assert_eq!(episode.record_success(), Some(104));
        assert!(episode.record_failure(GONE, now));
    }

    #[test]
    fn the_lines_say_what_is_known_of_each_queue() {
        let health = QueueHealth::default();
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        assert_eq!((health.lines_at(at(0)), health.is_broken()), (vec![], false));
        health.with(URL, |_| ());
        assert_eq!(health.lines_at(at(0)), ["events queue bindery-events (eu-west-1): not read yet"]);
        health.with(URL, |state| {
            state.received = Some(at(0));
            state.message = Some(at(0));
            state.in_queue = Some(0.4);
            state.since_event = Some(95.0);
        });
        assert_eq!(
            health.lines_at(at(3723)),
            [
                "events queue bindery-events (eu-west-1): last read 1h 2m 3s ago; last message 1h 2m 3s ago (95.0 s after \
                  its event, 0.4 s in the queue)"
            ]
        );
        health.with(URL, |state| state.receive.record_failure(GONE, at(5)));
        health.with(URL, |state| state.receive.record_failure(GONE, at(6)));
        assert!(!health.is_broken());
        health.with(URL, |state| state.receive.record_failure(DENIED, at(7)));
        assert!(health.is_broken());
        assert_eq!(
            health.lines_at(at(45)),
            [
                "events queue bindery-events (eu-west-1): cannot be read for 40s (AccessDeniedException, 3 in a row); changes \
                  are found by the sweep until it can; last read 45s ago; last message 45s ago (95.0 s after its event, \
                  0.4 s in the queue)"
            ]
        );
        // A clock that goes back makes nothing negative.
        assert!(health.lines_at(at(-10))[0].contains("last read 0s ago"), "{:?}", health.lines_at(at(-10)));
        health.with(URL, |state| state.receive.record_success());
        assert!(!health.is_broken());
    }
}
