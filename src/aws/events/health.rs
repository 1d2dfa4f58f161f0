//! What is known of the queues, for `/readyz`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::{SpanRound, Timestamp, Unit};

use crate::aws::events::address::QueueName;
use crate::aws::events::failure::Call;

/// Failures in a row after which a queue counts as broken, and not as one whose answer was lost.
const BROKEN: u32 = 3;
/// Codes of failures that are told apart in one episode. AWS gives the same few.
pub(super) const TOLD: usize = 8;

/// Failures of one call in a row, up to the next success.
#[derive(Clone, Debug, Default)]
pub(super) struct Episode {
    pub(super) failures: u32,
    pub(super) since: Option<Timestamp>,
    pub(super) code: String,
    pub(super) told: BTreeSet<String>,
}

impl Episode {
    /// Notes a failure. Whether it is news: the first of the episode, or the first with this code.
    pub(super) fn failed(&mut self, code: &str, now: Timestamp) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        code.clone_into(&mut self.code);
        self.told.len() < TOLD && self.told.insert(code.to_owned())
    }

    /// Notes a success: after how many failures, none if there was none.
    pub(super) fn succeeded(&mut self) -> Option<u32> {
        let failures = std::mem::take(self).failures;
        (failures > 0).then_some(failures)
    }
}

/// What is known of one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) received: Option<Timestamp>,
    pub(super) message: Option<Timestamp>,
    /// Seconds.
    pub(super) in_queue: Option<f64>,
    /// Seconds.
    pub(super) since_event: Option<f64>,
    pub(super) receive: Episode,
    pub(super) delete: Episode,
}

impl State {
    pub(super) fn episode(&mut self, call: Call) -> &mut Episode {
        match call {
            Call::Receive => &mut self.receive,
            Call::Delete => &mut self.delete,
        }
    }

    pub(super) fn line(&self, queue: &QueueName, now: Timestamp) -> String {
        let failing = [(Call::Receive, &self.receive), (Call::Delete, &self.delete)].into_iter().filter_map(
            |(call, Episode { failures, since, code, .. })| {
                let since = age((*since)?, now);
                Some(format!("{} for {since} ({code}, {failures} in a row); {}", call.cannot(), call.meanwhile()))
            },
        );
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

/// Whole seconds, in the largest units that they fill.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    let span = now
        .since(then.min(now))
        .and_then(|span| span.round(SpanRound::new().smallest(Unit::Second).largest(Unit::Hour)));
    span.map_or_else(|_| "long".to_owned(), |span| format!("{span:#}"))
}

pub(super) fn seconds_between(then: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64().max(0.0)
}

/// What is known of all queues: for the text of `/readyz`. A queue that cannot be read is no reason not to be ready,
/// since changes are found without it.
#[derive(Debug, Default)]
pub struct QueueHealth {
    queues: Mutex<BTreeMap<String, State>>,
}

impl QueueHealth {
    /// One sentence for each queue, by its URL: since when it cannot be read and why, when it was last read, how old its
    /// last message was. Empty where there is no queue.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines_at(Timestamp::now())
    }

    /// Whether a queue cannot be read, or its messages not be deleted, and three calls in a row say so.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.values().any(|state| state.receive.failures >= BROKEN || state.delete.failures >= BROKEN)
    }

    pub(super) fn lines_at(&self, now: Timestamp) -> Vec<String> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().map(|(url, state)| state.line(&QueueName::of(url), now)).collect()
    }

    pub(super) fn with<T>(&self, url: &str, change: impl FnOnce(&mut State) -> T) -> T {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        change(queues.entry(url.to_owned()).or_default())
    }
}
