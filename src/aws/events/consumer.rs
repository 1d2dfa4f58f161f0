//! The events queue: messages are taken from SQS, handled, and deleted once they are.
//!
//! A message is deleted after its event was handled, never before. So each event is handled at least once, and nothing
//! of it needs to outlive the process: what was under way when it ended is [delivered again][visibility].
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
use crate::aws::events::failure::{Call, Failed, complaint};
use crate::aws::events::health::QueueHealth;
use crate::aws::events::health::seconds_between;
use crate::aws::events::message::{Ignored, SecretEvent, parse};
use crate::domain::secret::error::SourceErrorKind;
use crate::metrics::Metrics;

/// How long SQS waits for a message before it answers that there is none, in seconds. The longest that it takes, so that
/// an idle queue costs three calls a minute.
const WAIT_SECONDS: i32 = 20;
/// The most messages of one call, to receive and to delete.
const BATCH: u8 = 10;
/// A handled message waits this long for others to be deleted with it.
const BATCH_WINDOW: Duration = Duration::from_millis(200);
/// Messages that may be under way at once, from the call that receives them to the end of the one that deletes them.
const UNDER_WAY: usize = 100;
/// What is found out about an event takes calls to AWS, each with a deadline of its own. This one holds where they do not.
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

/// How long to wait after this many failures in a row: twice as long each time, from a second to a minute, less up to a
/// half by `jitter`, of which all values are as likely.
fn pause(failures: u32, jitter: u16) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    let longest = (FIRST_PAUSE * 2_u32.pow(doublings)).min(MAX_PAUSE);
    longest / 2 + longest / 2 * u32::from(u16::MAX - jitter) / u32::from(u16::MAX)
}

/// A message that is done with, and what it holds of [`UNDER_WAY`].
struct Taken {
    receipt: String,
    permit: OwnedSemaphorePermit,
}

/// One events queue.
pub struct EventConsumer {
    client: Client,
    url: String,
    name: QueueName,
    metrics: Arc<Metrics>,
    health: Arc<QueueHealth>,
    told_malformed: AtomicBool,
    told_foreign: AtomicBool,
}

impl EventConsumer {
    /// The queue with this URL. `client` must be one for the region of the queue, whose attempts may take longer than
    /// the 20 s of a long poll and do end some time: [`client`] makes it, with 30 s for an attempt and 60 s for a call.
    ///
    /// Its identity needs `sqs:ReceiveMessage` and `sqs:DeleteMessage` on the queue, and `kms:Decrypt` where the queue
    /// is encrypted with a key of KMS.
    #[must_use]
    pub fn new(client: Client, url: String, metrics: Arc<Metrics>, health: Arc<QueueHealth>) -> Self {
        // So that it has its line from the start.
        health.with(&url, |_| ());
        let name = QueueName::of(&url);
        let (told_malformed, told_foreign) = (AtomicBool::default(), AtomicBool::default());
        Self { client, url, name, metrics, health, told_malformed, told_foreign }
    }

    /// Takes messages until it is dropped, which also ends the handling of those under way: they come again.
    ///
    /// `handle` answers whether what the event says is known now. If not, or if it takes more than two minutes, or
    /// panics, the message is left in the queue and delivered again after the queue's visibility time-out. The same
    /// event can come more than once, at the same time too, and events come in any order.
    pub async fn consume<F, Fut>(self, handle: F)
    where
        F: Fn(SecretEvent) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let queue = Arc::new(self);
        // There is room for all, so nobody waits to hand a message over.
        let (done, handled) = mpsc::channel(UNDER_WAY);
        tokio::join!(queue.clone().take(handle, done), queue.clone().delete_taken(handled));
    }

    async fn take<F, Fut>(self: Arc<Self>, handle: F, done: mpsc::Sender<Taken>)
    where
        F: Fn(SecretEvent) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(UNDER_WAY));
        let mut tasks = JoinSet::new();
        loop {
            while let Some(ended) = tasks.try_join_next() {
                if ended.is_err() {
                    self.metrics.event("left");
                    tracing::error!(queue = %self.name, "handling an event failed in a way that is an error of the program; its message comes again");
                }
            }
            // Never closed.
            let Ok(mut permits) = room.clone().acquire_many_owned(u32::from(BATCH)).await else { return };
            let messages = match self.receive().await {
                Ok(answer) => answer.messages.unwrap_or_default(),
                Err(failed) => {
                    drop(permits);
                    let failures = self.failed(&failed);
                    sleep(pause(failures, fastrand::u16(..))).await;
                    continue;
                }
            };
            for message in messages {
                // SQS gives no more than was asked for. If it did, the rest would come again.
                let (Some(permit), Some(receipt)) = (permits.split(1), message.receipt_handle.clone()) else {
                    continue;
                };
                let taken = Taken { receipt, permit };
                match self.look_at(&message) {
                    Ok(event) => {
                        let (queue, handle, done) = (self.clone(), handle.clone(), done.clone());
                        tasks.spawn(async move { queue.handle(handle(event), taken, done).await });
                    }
                    Err(_) if done.send(taken).await.is_err() => return,
                    Err(_) => {}
                }
            }
        }
    }

    async fn receive(&self) -> Result<ReceiveMessageOutput, Failed> {
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
            .map_err(|error| Failed::new(Call::Receive, &error));
        self.count(Call::Receive, started, result.as_ref().err());
        let answer = result?;
        let now = Timestamp::now();
        self.health.with(&self.url, |state| state.received = Some(now));
        self.metrics.queue_read(&self.name.region, &self.name.name, now.as_second());
        self.succeeded(Call::Receive);
        Ok(answer)
    }

    /// Reads one message, and notes how old it is.
    fn look_at(&self, message: &Message) -> Result<SecretEvent, Ignored> {
        let parsed = parse(message.body().unwrap_or_default());
        let now = Timestamp::now();
        let sent = attribute(message, &MessageSystemAttributeName::SentTimestamp);
        let sent = sent.and_then(|sent| Timestamp::from_millisecond(sent).ok());
        let in_queue = sent.map(|sent| seconds_between(sent, now));
        let since_event = parsed.as_ref().ok().and_then(|event| event.time).map(|time| seconds_between(time, now));
        self.metrics.queue_message(&self.name.region, &self.name.name, now.as_second(), in_queue, since_event);
        self.health.with(&self.url, |state| {
            state.message = Some(now);
            state.in_queue = in_queue;
            state.since_event = since_event;
        });
        if let Err(ignored) = parsed {
            self.metrics.event(ignored.as_str());
            let told = match ignored {
                Ignored::Malformed => &self.told_malformed,
                Ignored::Foreign => &self.told_foreign,
                Ignored::Failed | Ignored::Irrelevant => return parsed,
            };
            if !told.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the queue {} holds other messages than events of Secrets Manager ({ignored}); they are deleted, and only counted from now on; let Bindery's rule alone fill it, without an input transformer",
                    self.name
                );
            }
        } else if let Some(times @ 2..) = attribute(message, &MessageSystemAttributeName::ApproximateReceiveCount) {
            tracing::debug!(queue = %self.name, times, "a message comes again");
        }
        parsed
    }

    async fn handle(&self, handling: impl Future<Output = bool>, taken: Taken, done: mpsc::Sender<Taken>) {
        if timeout(HANDLE_TIMEOUT, handling).await.unwrap_or(false) {
            self.metrics.event("handled");
            // Where nobody takes it any more, it comes again.
            let _ = done.send(taken).await;
        } else {
            self.metrics.event("left");
        }
    }

    async fn delete_taken(self: Arc<Self>, mut handled: mpsc::Receiver<Taken>) {
        // A call that hangs must not keep the others waiting. Their number is bounded by the messages under way.
        let mut calls = JoinSet::new();
        while let Some(batch) = next_batch(&mut handled).await {
            while calls.try_join_next().is_some() {}
            let queue = self.clone();
            calls.spawn(async move { queue.delete(batch).await });
        }
    }

    async fn delete(&self, batch: Vec<Taken>) {
        let mut call = self.client.delete_message_batch().queue_url(&self.url);
        for (index, taken) in batch.iter().enumerate() {
            let entry =
                DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(&taken.receipt).build();
            // Only without an id or a receipt there is none.
            let Ok(entry) = entry else { continue };
            call = call.entries(entry);
        }
        let started = Instant::now();
        let result = call.send().await.map_err(|error| Failed::new(Call::Delete, &error));
        self.count(Call::Delete, started, result.as_ref().err());
        let undeleted = match result {
            Err(failed) => {
                self.failed(&failed);
                batch.len()
            }
            Ok(answer) => {
                // One receipt can be too old, where handling took longer than the visibility time-out.
                if answer.successful.is_empty()
                    && let Some(entry) = answer.failed.first()
                {
                    let code = entry.code().chars().filter(char::is_ascii_alphanumeric).take(64).collect();
                    self.failed(&Failed { call: Call::Delete, kind: SourceErrorKind::Unavailable, code });
                } else {
                    self.succeeded(Call::Delete);
                }
                answer.failed.len()
            }
        };
        for _ in 0..undeleted {
            self.metrics.event("undeleted");
        }
        // Only now there is room for others.
        drop(batch.into_iter().map(|taken| taken.permit).collect::<Vec<_>>());
    }

    fn count(&self, call: Call, started: Instant, failed: Option<&Failed>) {
        let code = failed.map_or("ok", |failed| failed.code.as_str());
        self.metrics.aws_request(call.operation(), code, started.elapsed());
    }

    /// Notes a failure and tells what is news of it. How many there are in a row.
    fn failed(&self, failed: &Failed) -> u32 {
        let (news, failures) = self.health.with(&self.url, |state| {
            let episode = state.episode(failed.call);
            (episode.failed(&failed.code, Timestamp::now()), episode.failures)
        });
        if news {
            tracing::warn!("{}", complaint(&self.name, failed));
        }
        failures
    }

    fn succeeded(&self, call: Call) {
        if let Some(failures) = self.health.with(&self.url, |state| state.episode(call).succeeded()) {
            let again = match call {
                Call::Receive => "can be read again",
                Call::Delete => "lets its messages be deleted again",
            };
            tracing::info!(failures, "the queue {} {again}", self.name);
        }
    }
}

/// A whole number that SQS says of a message.
fn attribute(message: &Message, name: &MessageSystemAttributeName) -> Option<i64> {
    message.attributes()?.get(name)?.parse().ok()
}

/// Waits for one, and then up to [`BATCH_WINDOW`] for up to [`BATCH`] in all. None when there will be no more.
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
