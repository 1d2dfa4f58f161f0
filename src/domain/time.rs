//! Times as Kubernetes keeps them, and the pauses until them.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// The time without fractions: times in a status have whole seconds, as they come back from the API server.
#[must_use]
pub fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// How long until a time, which is a moment later where it has passed.
#[must_use]
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default() + Duration::from_millis(10)
}
