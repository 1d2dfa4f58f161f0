mod sqs;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_sdk_sqs::config::StalledStreamProtectionConfig;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::http::{SharedHttpConnector, http_client_fn};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::aws::events::consumer::tests::sqs::{Sqs, Wire};

const URL: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/bindery-events";
const DENIED: &str = "AccessDeniedException";
const GONE: &str = "AWS.SimpleQueueService.NonExistentQueue";

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
    let (sender, mut receiver) = mpsc::channel(100);
    let started = Instant::now();
    for n in 0..23 {
        sender.send(n).await.unwrap();
    }
    assert_eq!(next_batch(&mut receiver).await, Some((0..10).collect()));
    assert_eq!(next_batch(&mut receiver).await, Some((10..20).collect()));
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(next_batch(&mut receiver).await, Some(vec![20, 21, 22]));
    assert!(started.elapsed() < Duration::from_millis(202), "{:?}", started.elapsed());

    // A later message does not delay the batch.
    let sending = async {
        for n in 0..3 {
            sleep(Duration::from_millis(150)).await;
            sender.send(n).await.unwrap();
        }
    };
    let receiving = async { (next_batch(&mut receiver).await, next_batch(&mut receiver).await) };
    let ((), batches) = tokio::join!(sending, receiving);
    assert_eq!(batches, (Some(vec![0, 1]), Some(vec![2])));

    sender.send(7).await.unwrap();
    drop(sender);
    assert_eq!(next_batch(&mut receiver).await, Some(vec![7]));
    assert_eq!(next_batch(&mut receiver).await, None);
}

/// The log of this thread.
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

    fn consumer(&self) -> EventConsumer {
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
        EventConsumer::new(Client::from_conf(config), URL.to_owned(), self.metrics.clone(), self.health.clone())
    }

    /// Consumes for this long.
    async fn run<F, Fut>(&self, seconds: u64, handle: F)
    where
        F: Fn(SecretEvent) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let _ = timeout(Duration::from_secs(seconds), self.consumer().consume(handle)).await;
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
    let handled = Arc::new(AtomicUsize::default());
    let first = handled.clone();
    bench.run(30, move |_| std::future::ready(first.fetch_add(1, Ordering::Relaxed) == 0)).await;
    assert_eq!(handled.load(Ordering::Relaxed), 2);
    assert_eq!(bench.sqs.deleted(), [0, 1, 2, 3]);
    for (result, count) in [("handled", 1), ("left", 1), ("malformed", 2), ("foreign", 1), ("undeleted", 0)] {
        assert_eq!(bench.counted(result), count, "{result}");
    }
    // Each kind of foreign message is reported once.
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
    let complaint = "WARN bindery::aws::events::consumer: the queue bindery-events (eu-west-1) cannot be read \
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
    assert_eq!(most.load(Ordering::Relaxed), IN_FLIGHT);
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
    let handled = Arc::new(AtomicUsize::default());
    bench
        .run(400, move |_| {
            let n = handled.fetch_add(1, Ordering::Relaxed);
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
        assert_eq!(bench.logged("said-by-aws"), 0);

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
    let guard = Arc::new(());
    let handler = guard.clone();
    bench
        .run(10, move |_| {
            let handler = handler.clone();
            async move {
                std::future::pending::<()>().await;
                drop(handler);
                true
            }
        })
        .await;
    // The runtime drops aborted tasks on its next turn.
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&guard), 1);
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
    // The runtime can spawn the future of a consumer.
    let consumer = EventConsumer::new(client(&config, URL), URL.to_owned(), Arc::default(), Arc::default());
    tokio::spawn(consumer.consume(|_| std::future::ready(true))).abort();
}
