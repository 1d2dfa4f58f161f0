//! The settings of the operator, as all layers read them.

use std::time::Duration;

/// Settings that reconciles need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often sources are checked where a binding does not say; zero = never by the clock.
    pub refresh_interval: Duration,
    /// How many requests to the API server are under way at once.
    pub concurrency: usize,
    /// How many workloads are restarted at a time.
    pub max_rollouts: usize,
    /// The namespaces that are watched; none = all.
    pub watch_namespaces: Vec<String>,
    /// The region of the operator's own configuration.
    pub region: Option<String>,
    /// The metadata prefixes that targets may not carry.
    pub denied_metadata: Vec<String>,
    /// The name of this process among its replicas.
    pub identity: String,
}

impl Settings {
    /// The interval by which `Stale` is judged where a binding is never checked by the clock.
    #[must_use]
    pub fn stale_interval(&self) -> Duration {
        if self.refresh_interval.is_zero() { Duration::from_secs(300) } else { self.refresh_interval }
    }
}
