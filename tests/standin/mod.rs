//! A small and faithful stand-in of AWS Secrets Manager, for tests and measurements. README.md says what it models.
//!
//! What decides is pure (`secret`, `store`, `listing`, `throttle`, `operations`); `server` speaks HTTP.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faults;
mod listing;
mod operations;
mod parameters;
mod reads;
mod refusal;
mod rotation;
mod secret;
mod server;
mod shape;
mod state;
mod store;
mod sts;
mod throttle;
mod writes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use state::State;
use tokio::net::TcpListener;

/// How the stand-in behaves. All but `account` and `region` can be changed while it runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Each answer comes this long after its call.
    pub latency: Duration,
    /// Calls of Secrets Manager a second, and how many at once after a quiet time; beyond it they are throttled.
    pub rate: Option<(f64, f64)>,
    /// `ListSecrets` shows the world as it was this long ago, ten minutes at most.
    pub list_lag: Duration,
    /// How long a rotation takes.
    pub rotation_delay: Duration,
    /// What a rotation makes of the current text.
    pub rotated: fn(&str) -> String,
    /// The account of the secrets.
    pub account: String,
    /// The region of the secrets.
    pub region: String,
    /// Whether IAM allows `BatchGetSecretValue`.
    pub batch_allowed: bool,
    /// Whether IAM allows `ListSecrets`.
    pub list_allowed: bool,
    /// Whether IAM allows `DescribeSecret`.
    pub describe_allowed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(10),
            rate: None,
            list_lag: Duration::ZERO,
            rotation_delay: Duration::from_secs(1),
            rotated: rotation::other_texts,
            account: "123456789012".to_owned(),
            region: "eu-west-1".to_owned(),
            batch_allowed: true,
            list_allowed: true,
            describe_allowed: true,
        }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it came.
    pub at: Instant,
    /// The operation, such as `GetSecretValue`.
    pub operation: String,
    /// The ids that it names.
    pub secrets: Vec<String>,
    /// The status of the answer.
    pub status: u16,
    /// The error, if it is one.
    pub code: Option<String>,
    /// How many values are in the answer.
    pub values: u32,
    /// The request id in the answer.
    pub request_id: String,
}

struct Shared {
    state: Mutex<State>,
}

/// A running stand-in. It serves until the runtime that it was started in ends.
#[derive(Clone)]
pub struct StandIn {
    /// Where it listens.
    pub endpoint: String,
    shared: Arc<Shared>,
}

impl StandIn {
    /// Starts one on a free port.
    pub async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { state: Mutex::new(State::new(options)) });
        tokio::spawn(server::serve(listener, shared.clone()));
        Self { endpoint, shared }
    }

    fn with<T>(&self, use_: impl FnOnce(&mut State) -> T) -> T {
        use_(&mut self.shared.state.lock().unwrap())
    }

    /// Changes how it behaves, from now on.
    pub fn set_options(&self, change: impl FnOnce(&mut Options)) {
        self.with(|state| change(&mut state.options));
    }

    /// Creates the secret or puts a new current version, past latency, counts and throttling; answers the version's id.
    ///
    /// # Panics
    /// If the secret waits for its deletion, or AWS would not take the name or the text.
    pub fn put(&self, name: &str, text: &str) -> String {
        self.with(|state| state.put(name, text, SystemTime::now()))
    }

    /// The same as if it had been done at `time`. Times must not go backwards.
    ///
    /// # Panics
    /// As [`StandIn::put`].
    pub fn put_at(&self, name: &str, text: &str, time: SystemTime) -> String {
        self.with(|state| state.put(name, text, time))
    }

    /// The ARN of a secret.
    pub fn arn(&self, name: &str) -> Option<String> {
        let now = SystemTime::now();
        self.with(|state| state.store.secret(name, "DescribeSecret", now).ok().map(|secret| secret.arn.clone()))
    }

    /// The calls so far by operation, throttled ones included.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.with(|state| state.counts.clone())
    }

    /// How many calls were throttled so far.
    pub fn throttled(&self) -> u64 {
        self.with(|state| state.throttled)
    }

    /// How many values were sent so far, each of a batch counted.
    pub fn values_sent(&self) -> u64 {
        self.with(|state| state.values)
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.with(|state| state.calls.clone())
    }

    /// Forgets the calls so far.
    pub fn reset(&self) {
        self.with(|state| {
            state.calls.clear();
            state.counts.clear();
            (state.throttled, state.values) = (0, 0);
        });
    }

    /// Lets reads of a secret's value fail from now on: by themselves with this error, in a batch among `Errors`.
    pub fn fail(&self, secret: &str, code: &str, message: &str) {
        self.with(|state| state.faults.fail(secret, code, message));
    }

    /// Lets reads of a secret's value pass again.
    pub fn heal(&self, secret: &str) {
        self.with(|state| state.faults.heal(secret));
    }
}
