//! Times as Kubernetes keeps them.

use k8s_openapi::jiff::Timestamp;

/// The time without fractions: times in a status have whole seconds, as they come back from the API server.
#[must_use]
pub fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
