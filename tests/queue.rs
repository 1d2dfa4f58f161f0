//! The events queue on SQS and EventBridge as moto serves them: `make test`, or
//! `tests/cluster/cluster run -- cargo test --test queue`.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures for those who read the output of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::{Future, ready};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use bindery::aws::events::consumer::{EventConsumer, client};
use bindery::aws::events::health::QueueHealth;
use bindery::aws::events::message::SecretEvent;
use bindery::metrics::Metrics;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbC123";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn endpoint() -> String {
    std::env::var("AWS_ENDPOINT_URL")
        .expect("these tests need SQS: run `make test`, or `tests/cluster/cluster run -- cargo test --test queue`")
}

/// The recorded messages by their names.
fn recorded() -> BTreeMap<String, String> {
    let files = fs::read_dir(Path::new(&root()).join("tests/events")).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// A queue of its own for one test, and what is known of it.
struct Bench {
    config: SdkConfig,
    sqs: Client,
    url: String,
    metrics: Arc<Metrics>,
    health: Arc<QueueHealth>,
    _alone: MutexGuard<'static, ()>,
}

/// One test at a time: memory and times are those of the process.
static ALONE: AsyncMutex<()> = AsyncMutex::const_new(());

impl Bench {
    /// The queue does not exist yet.
    async fn new(name: &str) -> Self {
        let alone = ALONE.lock().await;
        let endpoint = endpoint();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .load()
            .await;
        let url = format!("{endpoint}/123456789012/{name}-{:08x}", fastrand::u32(..));
        let sqs = Client::new(&config);
        Self { config, sqs, url, metrics: Arc::default(), health: Arc::default(), _alone: alone }
    }

    fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    async fn create(&self, visibility_timeout: &str) {
        let made = self
            .sqs
            .create_queue()
            .queue_name(self.name())
            .attributes(QueueAttributeName::VisibilityTimeout, visibility_timeout)
            .send()
            .await
            .unwrap();
        assert!(made.queue_url().unwrap().ends_with(self.name()));
    }

    async fn send(&self, bodies: impl IntoIterator<Item = String>) {
        let bodies: Vec<String> = bodies.into_iter().collect();
        for chunk in bodies.chunks(10) {
            let mut call = self.sqs.send_message_batch().queue_url(&self.url);
            for (index, body) in chunk.iter().enumerate() {
                let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body);
                call = call.entries(entry.build().unwrap());
            }
            assert!(call.send().await.unwrap().failed().is_empty());
        }
    }

    /// Messages in the queue, waiting or under way.
    async fn left(&self) -> usize {
        let answer = self
            .sqs
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .unwrap();
        let attributes = answer.attributes.unwrap();
        [QueueAttributeName::ApproximateNumberOfMessages, QueueAttributeName::ApproximateNumberOfMessagesNotVisible]
            .iter()
            .map(|name| attributes[name].parse::<usize>().unwrap())
            .sum()
    }

    async fn emptied(&self, limit: Duration) {
        let started = Instant::now();
        while self.left().await > 0 {
            assert!(started.elapsed() < limit, "{} messages are left after {limit:?}", self.left().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn consume<F, Fut>(&self, handle: F) -> Consumer
    where
        F: Fn(SecretEvent) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let client = client(&self.config, &self.url);
        let queue = EventConsumer::new(client, self.url.clone(), self.metrics.clone(), self.health.clone());
        Consumer(tokio::spawn(queue.consume(handle)))
    }

    fn counted(&self, result: &str) -> usize {
        self.series(&format!("bindery_events_total{{result=\"{result}\"}} ")).map_or(0, |count| count.parse().unwrap())
    }

    fn series(&self, start: &str) -> Option<String> {
        self.metrics.encode().unwrap().lines().find_map(|line| line.strip_prefix(start).map(str::to_owned))
    }
}

/// Ends with the test.
struct Consumer(JoinHandle<()>);

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is logged on this thread. Tests of the log run on one.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let filter = Targets::new().with_default(LevelFilter::TRACE).with_target("aws", LevelFilter::INFO);
        let layer = tracing_subscriber::fmt::layer().with_writer(self.clone()).with_ansi(false).with_filter(filter);
        tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
    }

    fn count(&self, text: &str) -> usize {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().matches(text).count()
    }
}

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

async fn eventually(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_recorded_message_is_taken_for_what_it_is_and_none_is_left() {
    let bench = Bench::new("shapes").await;
    bench.create("30").await;
    let log = Log::default();
    let _logging = log.start();
    let recorded = recorded();
    let garbage = ["x", "{}", "[]", "null", "{\"detail\":", "{\"source\":\"aws.secretsmanager\"}"].map(str::to_owned);
    let long = format!("\"{}\"", "x".repeat(200_000));
    bench.send(recorded.values().cloned().chain(garbage)).await;
    bench.send([long]).await;
    let seen: Arc<Mutex<BTreeSet<(String, String)>>> = Arc::default();
    let seeing = seen.clone();
    let _consumer = bench.consume(move |event| {
        assert!(!event.secret.ids.is_empty());
        seeing.lock().unwrap().insert((event.action, event.secret.ids.join(" ")));
        ready(true)
    });
    bench.emptied(Duration::from_secs(30)).await;
    let starting = |word: &str| recorded.keys().filter(|name| name.starts_with(word)).count();
    let ignored = ["failed-", "irrelevant-", "foreign-", "malformed-"].map(starting);
    let handled = recorded.len() - ignored.iter().sum::<usize>();
    assert_eq!(bench.counted("handled"), handled);
    assert_eq!(bench.counted("failed_call"), ignored[0]);
    assert_eq!(bench.counted("irrelevant"), ignored[1]);
    assert_eq!(bench.counted("foreign"), ignored[2]);
    assert_eq!(bench.counted("malformed"), ignored[3] + 7);
    assert_eq!((bench.counted("left"), bench.counted("undeleted")), (0, 0));
    assert_eq!(seen.lock().unwrap().len(), handled - 1, "two puts name the secret alike");
    let lag = format!("bindery_events_queue_lag_seconds{{region=\"\",queue=\"{}\"}} ", bench.name());
    let lag: f64 = bench.series(&lag).unwrap().parse().unwrap();
    assert!((0.0..30.0).contains(&lag), "{lag}");
    let lines = bench.health.lines();
    assert!(lines.len() == 1 && lines[0].contains("last message"), "{lines:?}");
    for text in ["autorepost", "assumed-role", "xxxx", "SubscriptionConfirmation"] {
        assert_eq!(log.count(text), 0, "{text} is in the log");
    }
    println!("{} messages of each shape; {}", recorded.len() + 7, lines[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_by_the_thousand_are_all_handled_and_deleted_in_bounded_memory() {
    // moto takes a tenth of a second and more to give ten messages, so the ten thousand are left to those who ask for them.
    let messages: usize = std::env::var("BINDERY_TEST_MESSAGES").map_or(1_000, |number| number.parse().unwrap());
    let bench = Bench::new("duplicates").await;
    // Longer than the test, so that what is counted twice was given twice for another reason.
    bench.create("600").await;
    let (seen, now, most) =
        (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counters = (seen.clone(), now.clone(), most.clone());
    let before = MEMORY.current_usage_as_mb();
    MEMORY.reset_peak_usage();
    let started = Instant::now();
    let _consumer = bench.consume(move |event| {
        let (seen, now, most) = counters.clone();
        async move {
            assert!(event.concerns(ARN, "autorepost/production/app"));
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // About what a DescribeSecret takes.
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            seen.fetch_add(1, Ordering::Relaxed);
            true
        }
    });
    // To delete a message moto looks at each one in the queue, twice. So they come bit by bit, always some more than are
    // taken.
    let body = recorded()["put-pending"].clone();
    for sent in (0..messages).step_by(100) {
        bench.send(std::iter::repeat_n(body.clone(), 100)).await;
        eventually("room", Duration::from_secs(60), || sent < seen.load(Ordering::Relaxed) + 300).await;
    }
    eventually("all to be handled", Duration::from_secs(60), || seen.load(Ordering::Relaxed) >= messages).await;
    bench.emptied(Duration::from_secs(60)).await;
    let took = started.elapsed().as_secs_f64();
    let peak = MEMORY.peak_usage_as_mb() - before;
    let most = most.load(Ordering::Relaxed);
    println!(
        "{messages} messages sent, handled and deleted in {took:.1} s, at most {most} at once, {peak:.1} MB at the peak"
    );
    assert_eq!(seen.load(Ordering::Relaxed), messages);
    assert_eq!((bench.counted("handled"), bench.counted("undeleted")), (messages, 0));
    assert!(most <= 100, "{most}");
    assert!(peak < 32.0, "{peak} MB");
}

#[tokio::test]
async fn a_message_that_was_not_handled_comes_again_and_is_then_deleted() {
    let bench = Bench::new("again").await;
    bench.create("1").await;
    bench.send([recorded()["update-version-stage"].clone()]).await;
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let handling = times.clone();
    let _consumer = bench.consume(move |_| {
        let mut times = handling.lock().unwrap();
        times.push(Instant::now());
        ready(times.len() > 2)
    });
    bench.emptied(Duration::from_secs(30)).await;
    // Past the next visibility time-out it does not come once more.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let times = times.lock().unwrap();
    assert_eq!((times.len(), bench.counted("left"), bench.counted("handled")), (3, 2, 1));
    assert!(times[1] - times[0] >= Duration::from_millis(900), "{:?}", times[1] - times[0]);
}

#[tokio::test]
async fn a_message_taken_by_a_consumer_that_was_dropped_comes_to_the_next() {
    let bench = Bench::new("dropped").await;
    bench.create("2").await;
    bench.send([recorded()["rotation-succeeded"].clone()]).await;
    let taken = Arc::<AtomicUsize>::default();
    let taking = taken.clone();
    let first = bench.consume(move |_| {
        taking.fetch_add(1, Ordering::Relaxed);
        std::future::pending()
    });
    eventually("the message", Duration::from_secs(60), || taken.load(Ordering::Relaxed) == 1).await;
    drop(first);
    let _second = bench.consume(|_| ready(true));
    bench.emptied(Duration::from_secs(30)).await;
    assert_eq!(bench.counted("handled"), 1);
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_told_of_once_and_read_when_it_does() {
    let bench = Bench::new("late").await;
    let log = Log::default();
    let _logging = log.start();
    let consumer = bench.consume(|_| ready(true));
    eventually("three failures", Duration::from_secs(60), || bench.health.is_broken()).await;
    assert!(!consumer.0.is_finished());
    let lines = bench.health.lines();
    let said = "cannot be read for ";
    assert!(lines[0].contains(said) && lines[0].contains("(AWS.SimpleQueueService.NonExistentQueue, 3"), "{lines:?}");
    bench.create("30").await;
    bench.send([recorded()["delete-secret"].clone()]).await;
    bench.emptied(Duration::from_secs(30)).await;
    eventually("the good news", Duration::from_secs(60), || log.count("can be read again") == 1).await;
    assert!(!bench.health.is_broken());
    let complaint = format!(
        "the queue {} cannot be read (AWS.SimpleQueueService.NonExistentQueue); changes are found by the sweep until it \
         can; check --events-queue-url and the right sqs:ReceiveMessage",
        bench.name()
    );
    assert_eq!((log.count(&complaint), log.count(" WARN "), log.count(" ERROR ")), (1, 1, 0));
    assert_eq!(bench.counted("handled"), 1);
}

#[tokio::test]
async fn an_idle_queue_is_polled_without_a_failure_and_its_next_message_is_taken_at_once() {
    let bench = Bench::new("idle").await;
    bench.create("30").await;
    let _consumer = bench.consume(|_| ready(true));
    tokio::time::sleep(Duration::from_secs(23)).await;
    let polled = bench.series("bindery_aws_requests_total{operation=\"ReceiveMessage\",code=\"ok\"} ");
    assert_eq!(polled.as_deref(), Some("1"), "{}", bench.metrics.encode().unwrap());
    assert!(!bench.metrics.encode().unwrap().contains("code=\"TimedOut\""));
    let sent = Instant::now();
    bench.send([recorded()["create-secret"].clone()]).await;
    eventually("the message", Duration::from_secs(60), || bench.counted("handled") == 1).await;
    println!("taken {} ms after it was sent", sent.elapsed().as_millis());
}

/// A call to EventBridge. moto looks at the service in the credential and at no signature.
async fn eventbridge(operation: &str, body: &Value) -> Value {
    let request = Request::post(endpoint())
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("AWSEvents.{operation}"))
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=testing/20260914/eu-west-1/events/aws4_request, SignedHeaders=host, Signature=0",
        )
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let http = HttpClient::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let answer = http.request(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(status.is_success(), "{operation}: {status} {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

/// The pattern of the rule in `deploy/aws/bindery.yaml`.
fn shipped_pattern() -> Value {
    let template = fs::read_to_string(root().join("deploy/aws/bindery.yaml")).unwrap();
    let rule = template.split_once("\n  SecretChangesRule:\n").unwrap().1;
    let pattern = rule.split_once("      EventPattern:\n").unwrap().1.split_once("      Targets:\n").unwrap().0;
    serde_saphyr::from_str(pattern).unwrap()
}

#[tokio::test]
async fn what_the_shipped_rule_lets_through_arrives_and_is_understood() {
    let bench = Bench::new("rule").await;
    bench.create("30").await;
    let pattern = shipped_pattern();
    let rule = bench.name();
    // A bus of its own: rules of other tests on the common one have targets that may be gone.
    eventbridge("CreateEventBus", &json!({"Name": rule})).await;
    let made = json!({"Name": rule, "EventBusName": rule, "State": "ENABLED", "EventPattern": pattern.to_string()});
    eventbridge("PutRule", &made).await;
    let queue_arn = format!("arn:aws:sqs:eu-west-1:123456789012:{rule}");
    let targets = json!({"Rule": rule, "EventBusName": rule, "Targets": [{"Id": "queue", "Arn": queue_arn}]});
    eventbridge("PutTargets", &targets).await;

    let names: Vec<&str> =
        pattern["detail"]["eventName"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut expected = BTreeMap::new();
    let (mut put, mut kept_out) = (0, 0);
    for (file, body) in recorded() {
        let event: Value = serde_json::from_str(&body).unwrap();
        // moto gives events its own region and no account, and EventBridge carries no notifications of SNS.
        if !event["detail"].is_object() || event["region"] != "eu-west-1" || file.starts_with("malformed-no-account") {
            continue;
        }
        let ignored = ["irrelevant-", "foreign-", "malformed-"].iter().any(|word| file.starts_with(word));
        let action = event["detail"]["eventName"].as_str().unwrap_or_default();
        let entry = json!({
            "EventBusName": rule, "Source": event["source"], "DetailType": event["detail-type"],
            "Detail": event["detail"].to_string(),
        });
        let answer = eventbridge("PutEvents", &json!({"Entries": [entry]})).await;
        assert_eq!(answer["FailedEntryCount"], 0, "{file}: {answer}");
        put += 1;
        if names.contains(&action) && !ignored && !file.starts_with("failed-") {
            *expected.entry(action.to_owned()).or_insert(0) += 1;
        } else {
            kept_out += 1;
        }
    }
    let seen: Arc<Mutex<BTreeMap<String, i32>>> = Arc::default();
    let seeing = seen.clone();
    let _consumer = bench.consume(move |event| {
        *seeing.lock().unwrap().entry(event.action).or_insert(0) += 1;
        ready(event.account == "123456789012" && event.region == "eu-west-1")
    });
    bench.emptied(Duration::from_secs(30)).await;
    assert_eq!(*seen.lock().unwrap(), expected, "{}", bench.metrics.encode().unwrap());
    println!("{put} events put, {kept_out} kept out by the rule or ignored, {} handled", bench.counted("handled"));
    for name in names {
        assert!(expected.contains_key(name), "no recorded event {name} went through the rule");
    }
}
