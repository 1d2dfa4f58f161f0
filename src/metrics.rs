//! What Prometheus sees. Series of one binding go with it; label values come from closed sets.

mod rotation_times;

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::metrics::rotation_times::RotationTimes;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AwsLabels {
    operation: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    kind: &'static str,
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabel {
    policy: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BindingLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RestartLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    region: String,
    queue: String,
}

/// A number of seconds that need not be whole.
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        // From 1 ms, a call to a server beside the operator, to 16 s, just above the longest deadline.
        Histogram::new(exponential_buckets(0.001, 2.0, 15))
    }
}

/// The times of a message of an events queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MessageTimes {
    /// When it came, in seconds since 1970.
    pub received: i64,
    /// How many seconds it had been in the queue, where that is known.
    pub in_queue: Option<f64>,
    /// How many seconds before its event had happened, where that is known.
    pub since_event: Option<f64>,
}

/// The metric families of one operator process.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<OutcomeLabel, Counter>,
    reconcile_duration: Histogram,
    aws_requests: Family<AwsLabels, Counter>,
    aws_duration: Family<OperationLabel, Histogram, Latency>,
    binding_ready: Family<BindingLabels, Gauge>,
    binding_verified: Family<BindingLabels, Gauge>,
    rotation_next: Family<BindingLabels, Gauge>,
    rotation_times: Mutex<RotationTimes>,
    watch_errors: Family<KindLabel, Counter>,
    watch_age: Family<WatchLabels, Seconds>,
    propagation: Histogram,
    events: Family<ResultLabel, Counter>,
    events_last: Family<QueueLabels, Gauge>,
    events_received: Family<QueueLabels, Gauge>,
    events_queue_lag: Family<QueueLabels, Seconds>,
    events_lag: Family<QueueLabels, Seconds>,
    restarts: Family<RestartLabels, Counter>,
    leader: Gauge,
    fence_active: Family<PolicyLabel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            reconciles: Family::default(),
            reconcile_duration: Latency.new_metric(),
            aws_requests: Family::default(),
            aws_duration: Family::new_with_constructor(Latency),
            binding_ready: Family::default(),
            binding_verified: Family::default(),
            rotation_next: Family::default(),
            rotation_times: Mutex::default(),
            watch_errors: Family::default(),
            watch_age: Family::default(),
            // From 0.1 s to a day: by events, by the sweep, by a binding that is checked once a day.
            propagation: Histogram::new(exponential_buckets(0.1, 2.5, 16)),
            events: Family::default(),
            events_last: Family::default(),
            events_received: Family::default(),
            events_queue_lag: Family::default(),
            events_lag: Family::default(),
            restarts: Family::default(),
            leader: Gauge::default(),
            fence_active: Family::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = self.registry.sub_registry_with_prefix("bindery");
        registry.register("reconcile", "Reconciles of a binding, by how they ended", self.reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "How long a reconcile of a binding takes",
            self.reconcile_duration.clone(),
        );
        registry.register("aws_requests", "Calls to AWS, by operation and answer", self.aws_requests.clone());
        registry.register(
            "aws_request_duration_seconds",
            "How long calls to AWS take, retries of the SDK included",
            self.aws_duration.clone(),
        );
        registry.register("binding_ready", "1 where the binding is Ready, else 0", self.binding_ready.clone());
        registry.register(
            "binding_verified_timestamp_seconds",
            "When the sources of the binding were last known at their present versions",
            self.binding_verified.clone(),
        );
        registry.register(
            "rotation_next_timestamp_seconds",
            "When the first rotation rule of the binding is due, in the past where it is overdue; _other stands for the bindings beyond 200 in a namespace",
            self.rotation_next.clone(),
        );
        registry.register("watch_errors", "Failures of the watches on the API server", self.watch_errors.clone());
        let age = "Seconds since a watch was last heard of: by an event, a complete list, or its end in time";
        registry.register("watch_age_seconds", age, self.watch_age.clone());
        registry.register(
            "propagation_seconds",
            "From the creation of a version at AWS, which has whole seconds, to the Secret that holds it",
            self.propagation.clone(),
        );
        registry.register("events", "Messages of the events queues, by what became of them", self.events.clone());
        registry.register(
            "events_last_timestamp_seconds",
            "When the last message of the queue came",
            self.events_last.clone(),
        );
        registry.register(
            "events_received_timestamp_seconds",
            "When the queue was last read without a failure, whether or not it held a message",
            self.events_received.clone(),
        );
        registry.register(
            "events_queue_lag_seconds",
            "How long the last message had been in the queue when it came",
            self.events_queue_lag.clone(),
        );
        registry.register(
            "events_lag_seconds",
            "How long before its message came the last event had happened",
            self.events_lag.clone(),
        );
        self.with_process()
    }

    /// The same with the families about workloads and the process itself.
    fn with_process(mut self) -> Self {
        let registry = self.registry.sub_registry_with_prefix("bindery");
        let restarts = "Restarts of workloads, by kind and result: started, done, failed, refused";
        registry.register("restarts", restarts, self.restarts.clone());
        registry.register("leader", "1 while this process holds the lease", self.leader.clone());
        let fence = "1 where the admission policy refuses what it must refuse the operator, 0 where it does not";
        registry.register("fence_active", fence, self.fence_active.clone());
        self
    }

    /// Counts one call to AWS. Codes come from AWS, so their number is bounded by cutting their length.
    pub fn aws_request(&self, operation: &'static str, code: &str, duration: Duration) {
        let code = code.chars().filter(char::is_ascii_alphanumeric).take(48).collect();
        self.aws_requests.get_or_create(&AwsLabels { operation, code }).inc();
        self.aws_duration.get_or_create(&OperationLabel { operation }).observe(duration.as_secs_f64());
    }

    /// Counts one reconcile.
    pub fn reconciled(&self, outcome: &'static str, duration: Duration) {
        self.reconciles.get_or_create(&OutcomeLabel { outcome }).inc();
        self.reconcile_duration.observe(duration.as_secs_f64());
    }

    /// Sets what is known of one binding; `verified` is in seconds since 1970.
    pub fn binding(&self, namespace: &str, name: &str, ready: bool, verified: Option<i64>) {
        let labels = BindingLabels { namespace: namespace.to_owned(), name: name.to_owned() };
        self.binding_ready.get_or_create(&labels).set(i64::from(ready));
        if let Some(seconds) = verified {
            self.binding_verified.get_or_create(&labels).set(seconds);
        }
    }

    /// Drops the series of a deleted binding.
    pub fn forget(&self, namespace: &str, name: &str) {
        let labels = BindingLabels { namespace: namespace.to_owned(), name: name.to_owned() };
        self.binding_ready.remove(&labels);
        self.binding_verified.remove(&labels);
        self.rotation(namespace, name, None);
    }

    /// Sets when the first rule of a binding is due, in seconds since 1970; `None` where no rule has a due time.
    pub fn rotation(&self, namespace: &str, name: &str, due: Option<i64>) {
        let mut times = self.rotation_times.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, due) in times.set(namespace, name, due) {
            let labels = BindingLabels { namespace: namespace.to_owned(), name };
            match due {
                Some(seconds) => {
                    self.rotation_next.get_or_create(&labels).set(seconds);
                }
                None => {
                    self.rotation_next.remove(&labels);
                }
            }
        }
    }

    /// Sets how long ago the watch of a kind in a namespace (none = all) was last heard of.
    pub fn watch_age(&self, kind: &'static str, namespace: String, age: Duration) {
        self.watch_age.get_or_create(&WatchLabels { kind, namespace }).set(age.as_secs_f64());
    }

    /// Counts one failure of a watch.
    pub fn watch_error(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&KindLabel { kind }).inc();
    }

    /// Notes how long a new version took from AWS to a Secret.
    pub fn propagated(&self, time: SignedDuration) {
        self.propagation.observe(time.as_secs_f64().max(0.0));
    }

    /// Counts one message of an events queue.
    pub fn event(&self, result: &'static str) {
        self.events.get_or_create(&ResultLabel { result }).inc();
    }

    /// Notes that a queue was read, at `now` in seconds since 1970. `region` is empty where the queue has none.
    pub fn queue_read(&self, region: &str, queue: &str, now: i64) {
        let labels = QueueLabels { region: region.to_owned(), queue: queue.to_owned() };
        self.events_received.get_or_create(&labels).set(now);
    }

    /// Sets when the last message of a queue came, and its lags.
    pub fn queue_message(&self, region: &str, queue: &str, message: MessageTimes) {
        let labels = QueueLabels { region: region.to_owned(), queue: queue.to_owned() };
        self.events_last.get_or_create(&labels).set(message.received);
        if let Some(seconds) = message.in_queue {
            self.events_queue_lag.get_or_create(&labels).set(seconds);
        }
        if let Some(seconds) = message.since_event {
            self.events_lag.get_or_create(&labels).set(seconds);
        }
    }

    /// Counts one restart of a workload that began, or how it ended.
    pub fn restarted(&self, kind: &'static str, result: &'static str) {
        self.restarts.get_or_create(&RestartLabels { kind, result }).inc();
    }

    /// Tells whether this process holds the lease.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Tells whether a policy of the fence holds.
    pub fn fence(&self, policy: &'static str, holds: bool) {
        self.fence_active.get_or_create(&PolicyLabel { policy }).set(i64::from(holds));
    }

    /// The exposition in the OpenMetrics text format.
    ///
    /// # Errors
    /// Where a label or value cannot be written, which the types of this module do not allow.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    #[test]
    fn the_series_of_a_rotation_goes_with_the_rules_and_with_the_binding() {
        let metrics = Metrics::default();
        let shown = |name: &str| {
            let series = format!("bindery_rotation_next_timestamp_seconds{{namespace=\"n\",name=\"{name}\"}} ");
            metrics.encode().unwrap().lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned))
        };
        metrics.rotation("n", "b", Some(5));
        metrics.rotation("n", "c", Some(9));
        assert_eq!((shown("b").as_deref(), shown("c").as_deref()), (Some("5"), Some("9")));
        metrics.rotation("n", "b", Some(8));
        assert_eq!(shown("b").as_deref(), Some("8"));
        metrics.rotation("n", "b", None);
        assert_eq!((shown("b"), shown("c").as_deref()), (None, Some("9")));
        metrics.forget("n", "c");
        assert_eq!(shown("c"), None);
    }

    #[test]
    fn a_scrape_of_many_bindings_with_many_rules_stays_small() {
        let metrics = Metrics::default();
        for binding in 0..60 {
            let name = format!("a-binding-with-a-name-of-forty-characters{binding}");
            let due = (0..50).map(|rule| Rule { due: 1_800_000_000 + rule });
            metrics.binding("a-namespace-of-its-own", &name, true, Some(1_800_000_000));
            metrics.rotation("a-namespace-of-its-own", &name, due.map(|rule| rule.due).min());
        }
        let length = metrics.encode().unwrap().len();
        assert!(length < 100_000, "{length} bytes");
        for binding in 0..1000 {
            metrics.rotation("full", &format!("b{binding}"), Some(1_800_000_000 - binding));
        }
        let text = metrics.encode().unwrap();
        let series: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("bindery_rotation_next_timestamp_seconds{namespace=\"full\""))
            .collect();
        assert_eq!(series.len(), 201);
        assert!(series.iter().any(|line| line.contains("name=\"_other\"} 1799999001")), "{series:#?}");
    }

    struct Rule {
        due: i64,
    }
}
