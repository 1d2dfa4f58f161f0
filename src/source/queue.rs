//! The events queue: messages are taken from SQS, handled, and deleted once they are.
//!
//! A message is deleted after its event was handled, never before. So each event is handled at least once, and nothing
//! of it needs to outlive the process: what was under way when it ended is [delivered again][visibility].
//!
//! [visibility]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::receive_message::ReceiveMessageOutput;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use k8s_openapi::jiff::{SpanRound, Timestamp, Unit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::event::{Ignored, SecretEvent, parse};
use super::{SourceError, SourceErrorKind};
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
/// Failures in a row after which a queue counts as broken, and not as one whose answer was lost.
const BROKEN: u32 = 3;
/// Codes of failures that are told apart in one episode. AWS gives the same few.
const TOLD: usize = 8;

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

/// The region in the URL of a queue: `https://sqs.<region>.amazonaws.com/<account>/<name>`, or one of the [other
/// endpoints of SQS][endpoints]. None where the host names no region, as `localhost`.
///
/// [endpoints]: https://docs.aws.amazon.com/general/latest/gr/sqs-service.html
#[must_use]
pub fn region_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).split(':').next()?;
    if host == "queue.amazonaws.com" {
        return Some("us-east-1".to_owned());
    }
    let labels: Vec<&str> = host.split('.').collect();
    // `sqs.<region>` everywhere, VPC endpoints included; `<region>.queue` in URLs of old.
    let region = labels.windows(2).find_map(|pair| match *pair {
        ["sqs" | "sqs-fips", region] | [region, "queue"] if is_region(region) => Some(region),
        _ => None,
    });
    region.map(str::to_owned)
}

/// Words and a number, as in `eu-west-1` and `us-gov-east-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// How long to wait after this many failures in a row: twice as long each time, from a second to a minute, less up to a
/// half by `jitter`, of which all values are as likely.
fn pause(failures: u32, jitter: u16) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    let longest = (FIRST_PAUSE * 2_u32.pow(doublings)).min(MAX_PAUSE);
    longest / 2 + longest / 2 * u32::from(u16::MAX - jitter) / u32::from(u16::MAX)
}

/// A queue by which people know it: its name and its region.
#[derive(Clone, Debug, PartialEq, Eq)]
struct QueueName {
    region: String,
    name: String,
}

impl QueueName {
    fn of(url: &str) -> Self {
        let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let region = region_of(url).unwrap_or_default();
        Self { region, name: name.chars().filter(char::is_ascii_graphic).take(80).collect() }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.region.is_empty() { Ok(()) } else { write!(f, " ({})", self.region) }
    }
}

/// The calls that Bindery makes to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Receive,
    Delete,
}

impl Call {
    const fn operation(self) -> &'static str {
        match self {
            Self::Receive => "ReceiveMessage",
            Self::Delete => "DeleteMessageBatch",
        }
    }

    /// The right that the call needs.
    const fn right(self) -> &'static str {
        match self {
            Self::Receive => "sqs:ReceiveMessage",
            Self::Delete => "sqs:DeleteMessage",
        }
    }

    const fn cannot(self) -> &'static str {
        match self {
            Self::Receive => "cannot be read",
            Self::Delete => "gives its messages, which cannot be deleted",
        }
    }

    const fn meanwhile(self) -> &'static str {
        match self {
            Self::Receive => "changes are found by the sweep until it can",
            Self::Delete => "they come again and are handled again until they can",
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    call: Call,
    kind: SourceErrorKind,
    /// AWS's code, or a word of the same style where AWS gave none.
    code: String,
}

impl Failed {
    fn new<E>(call: Call, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let classified = SourceError::from_sdk("", error);
        let code = classified.code.filter(|code| !code.is_empty()).unwrap_or_else(|| {
            let word = match error {
                SdkError::TimeoutError(_) => "TimedOut",
                SdkError::DispatchFailure(_) => "NotReached",
                SdkError::ConstructionFailure(_) => "NotSent",
                _ => "BadAnswer",
            };
            word.to_owned()
        });
        Self { call, kind: classified.kind, code }
    }

    /// What to do about it. Codes are those of the [SQS API][errors].
    ///
    /// [errors]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html#API_ReceiveMessage_Errors
    fn cure(&self) -> String {
        let right = self.call.right();
        if self.code.starts_with("KMS.") || self.code.starts_with("Kms") {
            return "allow kms:Decrypt on the key of the queue and check that the key is enabled".to_owned();
        }
        match self.kind {
            SourceErrorKind::CredentialsFailed => {
                "check the operator's role, its token and its clock: it has no valid AWS credentials".to_owned()
            }
            SourceErrorKind::Throttled => "this passes by itself".to_owned(),
            SourceErrorKind::AccessDenied => format!("allow {right} on the queue, and check --events-queue-url"),
            _ if matches!(self.code.as_str(), "TimedOut" | "NotReached" | "BadAnswer") => {
                "check the way to SQS: network, proxy, endpoint".to_owned()
            }
            _ => format!("check --events-queue-url and the right {right}"),
        }
    }
}

/// Failures of one call in a row, up to the next success.
#[derive(Clone, Debug, Default)]
struct Episode {
    failures: u32,
    since: Option<Timestamp>,
    code: String,
    told: BTreeSet<String>,
}

impl Episode {
    /// Notes a failure. Whether it is news: the first of the episode, or the first with this code.
    fn failed(&mut self, code: &str, now: Timestamp) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        code.clone_into(&mut self.code);
        self.told.len() < TOLD && self.told.insert(code.to_owned())
    }

    /// Notes a success: after how many failures, none if there was none.
    fn succeeded(&mut self) -> Option<u32> {
        let failures = std::mem::take(self).failures;
        (failures > 0).then_some(failures)
    }
}

/// What is known of one queue.
#[derive(Clone, Debug, Default)]
struct State {
    received: Option<Timestamp>,
    message: Option<Timestamp>,
    /// Seconds.
    in_queue: Option<f64>,
    /// Seconds.
    since_event: Option<f64>,
    receive: Episode,
    delete: Episode,
}

impl State {
    fn episode(&mut self, call: Call) -> &mut Episode {
        match call {
            Call::Receive => &mut self.receive,
            Call::Delete => &mut self.delete,
        }
    }

    fn line(&self, queue: &QueueName, now: Timestamp) -> String {
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
fn age(then: Timestamp, now: Timestamp) -> String {
    let span = now
        .since(then.min(now))
        .and_then(|span| span.round(SpanRound::new().smallest(Unit::Second).largest(Unit::Hour)));
    span.map_or_else(|_| "long".to_owned(), |span| format!("{span:#}"))
}

fn seconds_between(then: Timestamp, now: Timestamp) -> f64 {
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

    fn lines_at(&self, now: Timestamp) -> Vec<String> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().map(|(url, state)| state.line(&QueueName::of(url), now)).collect()
    }

    fn with<T>(&self, url: &str, change: impl FnOnce(&mut State) -> T) -> T {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        change(queues.entry(url.to_owned()).or_default())
    }
}

/// A message that is done with, and what it holds of [`UNDER_WAY`].
struct Taken {
    receipt: String,
    permit: OwnedSemaphorePermit,
}

/// One events queue.
pub struct Queue {
    client: Client,
    url: String,
    name: QueueName,
    metrics: Arc<Metrics>,
    health: Arc<QueueHealth>,
    told_malformed: AtomicBool,
    told_foreign: AtomicBool,
}

impl Queue {
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

fn complaint(queue: &QueueName, failed: &Failed) -> String {
    let Failed { call, code, .. } = failed;
    format!("the queue {queue} {} ({code}); {}; {}", call.cannot(), call.meanwhile(), failed.cure())
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
mod tests {
    use std::io::Write;
    use std::sync::atomic::AtomicUsize;

    use aws_config::BehaviorVersion;
    use aws_credential_types::Credentials;
    use aws_sdk_sqs::config::StalledStreamProtectionConfig;
    use aws_sdk_sqs::config::retry::RetryConfig;
    use aws_smithy_async::rt::sleep::TokioSleep;
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
    use aws_smithy_types::body::SdkBody;
    use serde_json::{Value, json};
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const URL: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/bindery-events";
    const DENIED: &str = "AccessDeniedException";
    const GONE: &str = "AWS.SimpleQueueService.NonExistentQueue";

    #[test]
    fn the_region_of_a_queue_stands_in_its_url() {
        for (url, region) in [
            (URL, Some("eu-west-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", Some("cn-north-1")),
            ("https://sqs.us-gov-east-1.amazonaws.com/123456789012/q", Some("us-gov-east-1")),
            ("https://sqs.us-iso-east-1.c2s.ic.gov/123456789012/q", Some("us-iso-east-1")),
            ("https://sqs-fips.us-east-2.amazonaws.com/123456789012/q", Some("us-east-2")),
            ("https://sqs.eu-west-1.api.aws/123456789012/q", Some("eu-west-1")),
            ("https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q", Some("eu-west-1")),
            ("https://eu-west-1.queue.amazonaws.com/123456789012/q", Some("eu-west-1")),
            ("https://queue.amazonaws.com/123456789012/q", Some("us-east-1")),
            ("http://sqs.eu-west-1.localhost.localstack.cloud:4566/000000000000/q", Some("eu-west-1")),
            ("http://user@sqs.eu-west-1.example.com:1/q", Some("eu-west-1")),
            ("http://localhost:4566/000000000000/sqs.eu-west-1.q", None),
            ("http://127.0.0.1:5000/123456789012/q", None),
            ("http://[::1]:5000/123456789012/q", None),
            ("https://sqs.amazonaws.com/123456789012/q", None),
            ("https://sqs.eu-west.amazonaws.com/123456789012/q", None),
            ("sqs.eu-west-1.amazonaws.com/123456789012/q", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(region_of(url).as_deref(), region, "{url}");
        }
    }

    #[test]
    fn pauses_double_from_a_second_to_a_minute_less_up_to_a_half() {
        for (failures, longest) in [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (u32::MAX, 60)] {
            let longest = Duration::from_secs(longest);
            assert_eq!(pause(failures, 0), longest, "{failures}");
            assert_eq!(pause(failures, u16::MAX), longest / 2, "{failures}");
            let between = pause(failures, u16::MAX / 2);
            assert!(longest / 2 < between && between < longest, "{failures} {between:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_whole_with_ten_and_waits_no_longer_than_200_ms_for_them() {
        let (give, mut take) = mpsc::channel(100);
        let started = Instant::now();
        for n in 0..23 {
            give.send(n).await.unwrap();
        }
        assert_eq!(next_batch(&mut take).await, Some((0..10).collect()));
        assert_eq!(next_batch(&mut take).await, Some((10..20).collect()));
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(next_batch(&mut take).await, Some(vec![20, 21, 22]));
        assert!(started.elapsed() < Duration::from_millis(202), "{:?}", started.elapsed());

        // One that comes in time does not put off the end for the others.
        let giving = async {
            for n in 0..3 {
                sleep(Duration::from_millis(150)).await;
                give.send(n).await.unwrap();
            }
        };
        let taking = async { (next_batch(&mut take).await, next_batch(&mut take).await) };
        let ((), batches) = tokio::join!(giving, taking);
        assert_eq!(batches, (Some(vec![0, 1]), Some(vec![2])));

        give.send(7).await.unwrap();
        drop(give);
        assert_eq!(next_batch(&mut take).await, Some(vec![7]));
        assert_eq!(next_batch(&mut take).await, None);
    }

    #[test]
    fn a_complaint_says_what_is_wrong_what_happens_meanwhile_and_what_to_do() {
        use SourceErrorKind as K;
        let said =
            |call, kind, code: &str| complaint(&QueueName::of(URL), &Failed { call, kind, code: code.to_owned() });
        assert_eq!(
            said(Call::Receive, K::Unavailable, GONE),
            "the queue bindery-events (eu-west-1) cannot be read (AWS.SimpleQueueService.NonExistentQueue); changes \
             are found by the sweep until it can; check --events-queue-url and the right sqs:ReceiveMessage"
        );
        for (call, kind, code, cure) in [
            (Call::Receive, K::AccessDenied, DENIED, "allow sqs:ReceiveMessage on the queue"),
            (Call::Delete, K::AccessDenied, DENIED, "allow sqs:DeleteMessage on the queue"),
            (Call::Receive, K::Unavailable, "KMS.AccessDeniedException", "allow kms:Decrypt"),
            (Call::Receive, K::CredentialsFailed, "ExpiredToken", "valid AWS credentials"),
            (Call::Receive, K::Throttled, "ThrottlingException", "passes by itself"),
            (Call::Receive, K::Unavailable, "NotReached", "network, proxy, endpoint"),
        ] {
            assert!(said(call, kind, code).contains(cure), "{}", said(call, kind, code));
        }
    }

    #[test]
    fn an_episode_tells_each_code_once_and_ends_with_the_first_success() {
        let mut episode = Episode::default();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(episode.succeeded(), None);
        assert!(episode.failed(GONE, now));
        assert!(!episode.failed(GONE, now));
        assert!(episode.failed(DENIED, now));
        assert!(!episode.failed(GONE, now));
        for n in 0..100 {
            episode.failed(&n.to_string(), now);
        }
        assert_eq!(episode.told.len(), TOLD);
        assert_eq!(episode.succeeded(), Some(104));
        assert!(episode.failed(GONE, now));
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
        health.with(URL, |state| state.receive.failed(GONE, at(5)));
        health.with(URL, |state| state.receive.failed(GONE, at(6)));
        assert!(!health.is_broken());
        health.with(URL, |state| state.receive.failed(DENIED, at(7)));
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
        health.with(URL, |state| state.receive.succeeded());
        assert!(!health.is_broken());
    }

    /// SQS as far as the consumer sees it. Times are tokio's, so that hours pass at once.
    #[derive(Default, Debug)]
    struct Sqs {
        /// Bodies that wait, with how often each was given.
        waiting: Mutex<Vec<(usize, String, u32)>>,
        deleted: Mutex<Vec<usize>>,
        receives: AtomicUsize,
        batches: Mutex<Vec<usize>>,
        /// Codes of the next calls to receive.
        receive_fails: Mutex<Vec<&'static str>>,
        delete_fails: Mutex<Option<&'static str>>,
    }

    impl Sqs {
        fn put(&self, body: &str) {
            let mut waiting = self.waiting.lock().unwrap();
            let id = waiting.len();
            waiting.push((id, body.to_owned(), 0));
        }

        async fn answer(&self, operation: &str, request: Value) -> Result<Value, &'static str> {
            if operation == "AmazonSQS.ReceiveMessage" {
                self.receives.fetch_add(1, Ordering::Relaxed);
                assert_eq!((&request["WaitTimeSeconds"], &request["MaxNumberOfMessages"]), (&json!(20), &json!(10)));
                assert_eq!(request["VisibilityTimeout"], Value::Null);
                {
                    let mut fails = self.receive_fails.lock().unwrap();
                    if !fails.is_empty() {
                        return Err(fails.remove(0));
                    }
                }
                let given: Vec<Value> = {
                    let mut waiting = self.waiting.lock().unwrap();
                    let given = waiting.iter_mut().filter(|(.., times)| *times == 0).take(10);
                    given
                        .map(|(id, body, times)| {
                            *times += 1;
                            let attributes = json!({"SentTimestamp": "1800000000000", "ApproximateReceiveCount": "1"});
                            json!({"ReceiptHandle": id.to_string(), "Body": body, "Attributes": attributes})
                        })
                        .collect()
                };
                if given.is_empty() {
                    sleep(Duration::from_secs(20)).await;
                }
                return Ok(json!({"Messages": given}));
            }
            assert_eq!(operation, "AmazonSQS.DeleteMessageBatch");
            let entries = request["Entries"].as_array().unwrap();
            self.batches.lock().unwrap().push(entries.len());
            if let Some(code) = *self.delete_fails.lock().unwrap() {
                if code != "entry" {
                    return Err(code);
                }
                let failed: Vec<Value> = entries
                    .iter()
                    .map(|entry| json!({"Id": entry["Id"], "SenderFault": true, "Code": "ReceiptHandleIsInvalid"}))
                    .collect();
                return Ok(json!({"Failed": failed, "Successful": []}));
            }
            self.deleted
                .lock()
                .unwrap()
                .extend(entries.iter().map(|entry| entry["ReceiptHandle"].as_str().unwrap().parse::<usize>().unwrap()));
            let successful: Vec<Value> = entries.iter().map(|entry| json!({"Id": entry["Id"]})).collect();
            Ok(json!({"Failed": [], "Successful": successful}))
        }

        fn deleted(&self) -> Vec<usize> {
            let mut deleted = self.deleted.lock().unwrap().clone();
            deleted.sort_unstable();
            deleted
        }
    }

    #[derive(Debug)]
    struct Wire(Arc<Sqs>);

    impl HttpConnector for Wire {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let sqs = self.0.clone();
            HttpConnectorFuture::new(async move {
                let operation = request.headers().get("x-amz-target").unwrap().to_owned();
                let body = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
                let (status, code, body) = match sqs.answer(&operation, body).await {
                    Ok(body) => (200, None, body),
                    Err(code) => (400, Some(code), json!({"__type": code, "message": "told-by-aws"})),
                };
                let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_string()));
                if let Some(code) = code {
                    response.headers_mut().insert("x-amzn-query-error", format!("{code};Sender"));
                }
                Ok(response)
            })
        }
    }

    /// What is logged on this thread.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    struct Bench {
        sqs: Arc<Sqs>,
        metrics: Arc<Metrics>,
        health: Arc<QueueHealth>,
        log: Log,
        _logging: tracing::subscriber::DefaultGuard,
    }

    impl Bench {
        fn new() -> Self {
            let log = Log::default();
            // The SDK logs bodies at TRACE; the operator caps it as here.
            let filter = Targets::new().with_default(LevelFilter::TRACE).with_target("aws", LevelFilter::INFO);
            let layer = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false).with_filter(filter);
            let subscriber = tracing_subscriber::registry().with(layer);
            Self {
                sqs: Arc::default(),
                metrics: Arc::default(),
                health: Arc::default(),
                log,
                _logging: tracing::subscriber::set_default(subscriber),
            }
        }

        fn queue(&self) -> Queue {
            let connector = SharedHttpConnector::new(Wire(self.sqs.clone()));
            let config = aws_sdk_sqs::Config::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .region(Region::new("eu-west-1"))
                .credentials_provider(Credentials::new("id", "key", None, None, "test"))
                .retry_config(RetryConfig::disabled())
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .sleep_impl(TokioSleep::new())
                .http_client(http_client_fn(move |_, _| connector.clone()))
                .build();
            Queue::new(Client::from_conf(config), URL.to_owned(), self.metrics.clone(), self.health.clone())
        }

        /// Consumes for this long.
        async fn run<F, Fut>(&self, seconds: u64, handle: F)
        where
            F: Fn(SecretEvent) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = bool> + Send + 'static,
        {
            let _ = timeout(Duration::from_secs(seconds), self.queue().consume(handle)).await;
        }

        fn logged(&self, text: &str) -> usize {
            String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap().matches(text).count()
        }

        fn counted(&self, result: &str) -> usize {
            let text = self.metrics.encode().unwrap();
            let line = format!("bindery_events_total{{result=\"{result}\"}} ");
            text.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
        }
    }

    fn event() -> String {
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/events/put-pending.json")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_handled_or_says_nothing_is_deleted_and_no_word_of_it_is_logged() {
        let bench = Bench::new();
        for body in [&event(), "garbage-body", &event().replace("aws.secretsmanager", "aws.other"), "", &event()] {
            bench.sqs.put(body);
        }
        let seen = Arc::new(AtomicUsize::default());
        let first = seen.clone();
        bench.run(30, move |_| std::future::ready(first.fetch_add(1, Ordering::Relaxed) == 0)).await;
        assert_eq!(seen.load(Ordering::Relaxed), 2);
        assert_eq!(bench.sqs.deleted(), [0, 1, 2, 3]);
        for (result, count) in [("handled", 1), ("left", 1), ("malformed", 2), ("foreign", 1), ("undeleted", 0)] {
            assert_eq!(bench.counted(result), count, "{result}");
        }
        // Each kind of strange message is told once.
        assert_eq!(bench.logged("holds other messages"), 2);
        for text in ["garbage-body", "autorepost", "203.0.113.7"] {
            assert_eq!(bench.logged(text), 0, "{text}");
        }
        let exposition = bench.metrics.encode().unwrap();
        for series in [
            "bindery_events_last_timestamp_seconds{region=\"eu-west-1\",queue=\"bindery-events\"} ",
            "bindery_events_received_timestamp_seconds{region=\"eu-west-1\",queue=\"bindery-events\"} ",
            "bindery_events_queue_lag_seconds{region=\"eu-west-1\",queue=\"bindery-events\"} ",
            "bindery_events_lag_seconds{region=\"eu-west-1\",queue=\"bindery-events\"} ",
            "bindery_aws_requests_total{operation=\"ReceiveMessage\",code=\"ok\"} ",
            "bindery_aws_requests_total{operation=\"DeleteMessageBatch\",code=\"ok\"} ",
        ] {
            assert!(exposition.contains(series), "{series} in {exposition}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_cannot_be_read_is_told_of_once_and_again_when_it_can() {
        let bench = Bench::new();
        *bench.sqs.receive_fails.lock().unwrap() = vec![GONE; 9];
        let started = Instant::now();
        let fails = || bench.sqs.receive_fails.lock().unwrap().len();
        let watch = async {
            while fails() > 0 {
                sleep(Duration::from_millis(10)).await;
            }
            assert!(bench.health.is_broken());
            // 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 s after the first eight, or half of it at least.
            let waited = started.elapsed().as_secs();
            assert!((91..=184).contains(&waited), "{waited} s");
            sleep(Duration::from_secs(81)).await;
        };
        tokio::select! {
            () = bench.run(1000, |_| std::future::ready(true)) => panic!("it ended"),
            () = watch => {}
        }
        assert!(!bench.health.is_broken());
        let complaint = "WARN bindery::source::queue: the queue bindery-events (eu-west-1) cannot be read \
                         (AWS.SimpleQueueService.NonExistentQueue); changes are found by the sweep until it can; check \
                         --events-queue-url and the right sqs:ReceiveMessage";
        assert_eq!(bench.logged(complaint), 1);
        assert_eq!(bench.logged(" WARN "), 1);
        assert_eq!(bench.logged("can be read again"), 1);
        let exposition = bench.metrics.encode().unwrap();
        let code =
            "bindery_aws_requests_total{operation=\"ReceiveMessage\",code=\"AWSSimpleQueueServiceNonExistentQueue\"} 9";
        assert!(exposition.contains(code), "{exposition}");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_messages_are_handled_and_deleted_with_a_hundred_under_way_at_most() {
        let bench = Bench::new();
        for _ in 0..10_000 {
            bench.sqs.put(&event());
        }
        let (now, most) = (Arc::new(AtomicUsize::default()), Arc::new(AtomicUsize::default()));
        let counters = (now.clone(), most.clone());
        bench
            .run(7000, move |_| {
                let (now, most) = counters.clone();
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    sleep(Duration::from_secs(60)).await;
                    now.fetch_sub(1, Ordering::Relaxed);
                    true
                }
            })
            .await;
        assert_eq!(most.load(Ordering::Relaxed), UNDER_WAY);
        assert_eq!(bench.sqs.deleted(), (0..10_000).collect::<Vec<_>>());
        assert!(bench.sqs.batches.lock().unwrap().iter().all(|&size| size <= 10));
        assert_eq!(bench.sqs.batches.lock().unwrap().len(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_panics_or_does_not_end_leaves_its_message_and_the_others_go_on() {
        let bench = Bench::new();
        for _ in 0..40 {
            bench.sqs.put(&event());
        }
        let seen = Arc::new(AtomicUsize::default());
        bench
            .run(400, move |_| {
                let n = seen.fetch_add(1, Ordering::Relaxed);
                async move {
                    match n {
                        0 => panic!("a defect"),
                        1 => std::future::pending().await,
                        _ => true,
                    }
                }
            })
            .await;
        assert_eq!(bench.sqs.deleted(), (2..40).collect::<Vec<_>>());
        assert_eq!((bench.counted("left"), bench.counted("handled")), (2, 38));
        assert_eq!(bench.logged("handling an event failed"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_cannot_be_deleted_are_told_of_once_counted_and_hold_up_nothing() {
        for (fails, code) in [(DENIED, DENIED), ("entry", "ReceiptHandleIsInvalid")] {
            let bench = Bench::new();
            for _ in 0..250 {
                bench.sqs.put(&event());
            }
            *bench.sqs.delete_fails.lock().unwrap() = Some(fails);
            bench.run(60, |_| std::future::ready(true)).await;
            assert_eq!((bench.counted("handled"), bench.counted("undeleted")), (250, 250), "{code}");
            let complaint = format!("gives its messages, which cannot be deleted ({code}); they come again");
            assert_eq!((bench.logged(&complaint), bench.logged(" WARN ")), (1, 1), "{code}");
            assert!(bench.health.is_broken());
            assert_eq!(bench.logged("told-by-aws"), 0);

            *bench.sqs.delete_fails.lock().unwrap() = None;
            bench.sqs.put(&event());
            bench.run(60, |_| std::future::ready(true)).await;
            assert!(!bench.health.is_broken());
            assert_eq!(bench.logged("lets its messages be deleted again"), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_ends_with_the_consumer() {
        let bench = Bench::new();
        bench.sqs.put(&event());
        let held = Arc::new(());
        let hold = held.clone();
        bench
            .run(10, move |_| {
                let hold = hold.clone();
                async move {
                    std::future::pending::<()>().await;
                    drop(hold);
                    true
                }
            })
            .await;
        // Aborted tasks are dropped when the runtime comes to them.
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(bench.sqs.deleted(), [] as [usize; 0]);
    }

    #[tokio::test]
    async fn the_client_is_for_the_region_of_the_queue_and_has_time_for_a_long_poll() {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url("http://127.0.0.1:1")
            .build();
        for (url, region) in [(URL, "eu-west-1"), ("http://127.0.0.1:1/123456789012/q", "us-east-1")] {
            let client = client(&config, url);
            assert_eq!(client.config().region().map(Region::as_ref), Some(region));
            let timeouts = client.config().timeout_config().unwrap();
            assert_eq!(timeouts.operation_attempt_timeout(), Some(Duration::from_secs(30)));
            assert_eq!(timeouts.operation_timeout(), Some(Duration::from_secs(60)));
            assert!(timeouts.read_timeout().is_none());
        }
        // The future of a consumer can be spawned.
        let queue = Queue::new(client(&config, URL), URL.to_owned(), Arc::default(), Arc::default());
        tokio::spawn(queue.consume(|_| std::future::ready(true))).abort();
    }
}
