//! The consumer of an events queue: it receives messages from SQS, handles their events and deletes the messages.
//!
//! It deletes a message after its event was handled, never before. So it handles each event at least once and keeps no
//! state beyond the process: SQS [delivers][visibility] the messages in flight again.
//!
//! [visibility]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::receive_message::ReceiveMessageOutput;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use aws_smithy_types::timeout::TimeoutConfig;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::aws::events::address::QueueName;
use crate::aws::events::address::region_of;
use crate::aws::events::failure::{QueueFailure, QueueOperation, warning};
use crate::aws::events::health::QueueHealth;
use crate::aws::events::health::seconds_between;
use crate::aws::events::message::{Ignored, SecretEvent, parse};
use crate::domain::secret::error::SourceErrorKind;
use crate::metrics::{MessageTimes, Metrics};

/// How long a receive call waits for a message, in seconds. This is the maximum of SQS, so that an idle queue costs
/// three calls a minute.
const WAIT_SECONDS: i32 = 20;
/// The most messages of one receive or delete call.
const BATCH: u8 = 10;
/// How long a delete call waits for further handled messages.
const BATCH_WINDOW: Duration = Duration::from_millis(200);
/// The most messages in flight, from their receive call to the end of their delete call.
const IN_FLIGHT: usize = 100;
/// The deadline of one event. The calls to AWS have shorter deadlines of their own.
const HANDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// One attempt may take this long: a long poll of [`WAIT_SECONDS`], and half of it again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// All attempts of one call together may take this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection may take this long to open; the SDK's own value.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

/// The pause after the first failure, before jitter.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The client for the queue with this URL: in the region of the URL, and with time for a long poll. Credentials,
/// endpoints and the HTTP stack are those of `config`.
#[must_use]
pub fn client(config: &SdkConfig, url: &str) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    let mut builder = aws_sdk_sqs::config::Builder::from(config).timeout_config(timeouts);
    if let Some(region) = region_of(url) {
        builder = builder.region(Region::new(region));
    }
    Client::from_conf(builder.build())
}

/// The pause after this many failures in a row. It doubles with each failure, from a second to a minute. `jitter`,
/// drawn uniformly, shortens it by up to a half.
fn pause(failures: u32, jitter: u16) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    let longest = (FIRST_PAUSE * 2_u32.pow(doublings)).min(MAX_PAUSE);
    longest / 2 + longest / 2 * u32::from(u16::MAX - jitter) / u32::from(u16::MAX)
}

/// A received message, with its permit of [`IN_FLIGHT`].
struct ReceivedMessage {
    receipt: String,
    permit: OwnedSemaphorePermit,
}

/// The consumer of one events queue.
pub struct EventConsumer {
    client: Client,
    url: String,
    name: QueueName,
    metrics: Arc<Metrics>,
    health: Arc<QueueHealth>,
    warned_malformed: AtomicBool,
    warned_foreign: AtomicBool,
}

impl EventConsumer {
    /// A consumer of the queue with this URL. `client` must be a client of the region of the queue, with an attempt
    /// timeout above the 20 s of a long poll. [`client`] builds it, with 30 s for an attempt and 60 s for a call.
    ///
    /// The identity of the client needs `sqs:ReceiveMessage` and `sqs:DeleteMessage` on the queue, and `kms:Decrypt`
    /// where the queue is encrypted with a key of KMS.
    #[must_use]
    pub fn new(client: Client, url: String, metrics: Arc<Metrics>, health: Arc<QueueHealth>) -> Self {
        // The queue has its line in the health from the start.
        health.with(&url, |_| ());
        let name = QueueName::of(&url);
        let (warned_malformed, warned_foreign) = (AtomicBool::default(), AtomicBool::default());
        Self { client, url, name, metrics, health, warned_malformed, warned_foreign }
    }

    /// Consumes messages until the future is dropped. That also ends the handling of the messages in flight, which SQS
    /// delivers again.
    ///
    /// `handle` returns whether the event is handled. A message stays in the queue where `handle` returns false, panics
    /// or takes more than two minutes; SQS delivers it again after the visibility timeout of the queue. The same event
    /// can arrive more than once, also at the same time, and events arrive in any order.
    pub async fn consume<F, Fut>(self, handle: F)
    where
        F: Fn(SecretEvent) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let consumer = Arc::new(self);
        // The channel has room for all messages in flight, so no sender waits.
        let (done, handled) = mpsc::channel(IN_FLIGHT);
        tokio::join!(consumer.clone().receive_all(handle, done), consumer.clone().delete_all(handled));
    }

    async fn receive_all<F, Fut>(self: Arc<Self>, handle: F, done: mpsc::Sender<ReceivedMessage>)
    where
        F: Fn(SecretEvent) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut tasks = JoinSet::new();
        loop {
            while let Some(ended) = tasks.try_join_next() {
                if ended.is_err() {
                    self.metrics.event("left");
                    tracing::error!(queue = %self.name, "handling an event failed by a panic; SQS delivers its message again");
                }
            }
            // The semaphore is never closed.
            let Ok(mut permits) = in_flight.clone().acquire_many_owned(u32::from(BATCH)).await else { return };
            let messages = match self.receive().await {
                Ok(answer) => answer.messages.unwrap_or_default(),
                Err(failure) => {
                    drop(permits);
                    let failures = self.record_failure(&failure);
                    sleep(pause(failures, fastrand::u16(..))).await;
                    continue;
                }
            };
            for message in messages {
                // SQS answers no more messages than the call allows. It would deliver a surplus again.
                let (Some(permit), Some(receipt)) = (permits.split(1), message.receipt_handle.clone()) else {
                    continue;
                };
                let received = ReceivedMessage { receipt, permit };
                match self.parse(&message) {
                    Ok(event) => {
                        let (consumer, handle, done) = (self.clone(), handle.clone(), done.clone());
                        tasks.spawn(async move { consumer.handle(handle(event), received, done).await });
                    }
                    Err(_) if done.send(received).await.is_err() => return,
                    Err(_) => {}
                }
            }
        }
    }

    async fn receive(&self) -> Result<ReceiveMessageOutput, QueueFailure> {
        let started = Instant::now();
        let result = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .wait_time_seconds(WAIT_SECONDS)
            .max_number_of_messages(i32::from(BATCH))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(|error| QueueFailure::new(QueueOperation::Receive, &error));
        self.count(QueueOperation::Receive, started, result.as_ref().err());
        let answer = result?;
        let now = Timestamp::now();
        self.health.with(&self.url, |state| state.received = Some(now));
        self.metrics.queue_read(&self.name.region, &self.name.name, now.as_second());
        self.record_success(QueueOperation::Receive);
        Ok(answer)
    }

    /// Parses one message and records its age.
    fn parse(&self, message: &Message) -> Result<SecretEvent, Ignored> {
        let mut parsed = parse(message.body().unwrap_or_default());
        let now = Timestamp::now();
        let sent = attribute(message, &MessageSystemAttributeName::SentTimestamp);
        let sent = sent.and_then(|sent| Timestamp::from_millisecond(sent).ok());
        if let Ok(event) = &mut parsed {
            event.sent = sent;
        }
        let in_queue = sent.map(|sent| seconds_between(sent, now));
        let since_event = parsed.as_ref().ok().and_then(|event| event.time).map(|time| seconds_between(time, now));
        let times = MessageTimes { received: now.as_second(), in_queue, since_event };
        self.metrics.queue_message(&self.name.region, &self.name.name, times);
        self.health.with(&self.url, |state| {
            state.message = Some(now);
            state.in_queue = in_queue;
            state.since_event = since_event;
        });
        if let Err(ignored) = parsed {
            self.metrics.event(ignored.as_str());
            let warned = match ignored {
                Ignored::Malformed => &self.warned_malformed,
                Ignored::Foreign => &self.warned_foreign,
                Ignored::Failed | Ignored::Irrelevant => return parsed,
            };
            if !warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the queue {} holds other messages than events of Secrets Manager ({ignored}); they are deleted, and only counted from now on; let Bindery's rule alone fill it, without an input transformer",
                    self.name
                );
            }
        } else if let Some(times @ 2..) = attribute(message, &MessageSystemAttributeName::ApproximateReceiveCount) {
            tracing::debug!(queue = %self.name, times, "SQS delivered a message again");
        }
        parsed
    }

    async fn handle(
        &self,
        handling: impl Future<Output = bool>,
        message: ReceivedMessage,
        done: mpsc::Sender<ReceivedMessage>,
    ) {
        if timeout(HANDLE_TIMEOUT, handling).await.unwrap_or(false) {
            self.metrics.event("handled");
            // Without a receiver the consumer ended, and SQS delivers the message again.
            let _ = done.send(message).await;
        } else {
            self.metrics.event("left");
        }
    }

    async fn delete_all(self: Arc<Self>, mut handled: mpsc::Receiver<ReceivedMessage>) {
        // A slow call must not delay the others. The messages in flight bound their number.
        let mut calls = JoinSet::new();
        while let Some(batch) = next_batch(&mut handled).await {
            while calls.try_join_next().is_some() {}
            let consumer = self.clone();
            calls.spawn(async move { consumer.delete(batch).await });
        }
    }

    async fn delete(&self, batch: Vec<ReceivedMessage>) {
        let mut call = self.client.delete_message_batch().queue_url(&self.url);
        for (index, message) in batch.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&message.receipt)
                .build();
            // The builder fails only without an id or a receipt.
            let Ok(entry) = entry else { continue };
            call = call.entries(entry);
        }
        let started = Instant::now();
        let result = call.send().await.map_err(|error| QueueFailure::new(QueueOperation::Delete, &error));
        self.count(QueueOperation::Delete, started, result.as_ref().err());
        let undeleted = match result {
            Err(failure) => {
                self.record_failure(&failure);
                batch.len()
            }
            Ok(answer) => {
                // A single receipt can expire, where handling took longer than the visibility timeout.
                if answer.successful.is_empty()
                    && let Some(entry) = answer.failed.first()
                {
                    let code = entry.code().chars().filter(char::is_ascii_alphanumeric).take(64).collect();
                    let (operation, kind) = (QueueOperation::Delete, SourceErrorKind::Unavailable);
                    self.record_failure(&QueueFailure { operation, kind, code });
                } else {
                    self.record_success(QueueOperation::Delete);
                }
                answer.failed.len()
            }
        };
        for _ in 0..undeleted {
            self.metrics.event("undeleted");
        }
        // The permits make room for other messages only now.
        drop(batch.into_iter().map(|message| message.permit).collect::<Vec<_>>());
    }

    fn count(&self, operation: QueueOperation, started: Instant, failure: Option<&QueueFailure>) {
        let code = failure.map_or("ok", |failure| failure.code.as_str());
        self.metrics.aws_request(operation.name(), code, started.elapsed());
    }

    /// Records a failure, and logs it where it is new. Returns the number of failures in a row.
    fn record_failure(&self, failure: &QueueFailure) -> u32 {
        let (is_new, failures) = self.health.with(&self.url, |state| {
            let episode = state.episode(failure.operation);
            (episode.record_failure(&failure.code, Timestamp::now()), episode.failures)
        });
        if is_new {
            tracing::warn!("{}", warning(&self.name, failure));
        }
        failures
    }

    /// Records a success, and logs it where it ends a series of failures.
    fn record_success(&self, operation: QueueOperation) {
        if let Some(failures) = self.health.with(&self.url, |state| state.episode(operation).record_success()) {
            let recovery = match operation {
                QueueOperation::Receive => "can be read again",
                QueueOperation::Delete => "lets its messages be deleted again",
            };
            tracing::info!(failures, "the queue {} {recovery}", self.name);
        }
    }
}

/// An attribute of a message that is a whole number.
fn attribute(message: &Message, name: &MessageSystemAttributeName) -> Option<i64> {
    message.attributes()?.get(name)?.parse().ok()
}

/// Waits for a first item, and then up to [`BATCH_WINDOW`] for up to [`BATCH`] items in all. `None` at the end of the
/// channel.
async fn next_batch<T>(from: &mut mpsc::Receiver<T>) -> Option<Vec<T>> {
    let mut batch = vec![from.recv().await?];
    let end = Instant::now() + BATCH_WINDOW;
    while batch.len() < usize::from(BATCH)
        && let Ok(Some(next)) = timeout_at(end, from.recv()).await
    {
        batch.push(next);
    }
    Some(batch)
}

#[cfg(test)]
mod tests;
