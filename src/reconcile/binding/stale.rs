//! How long a failure that passes by itself leaves a binding Ready.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

/// A passing failure is reported as such for this many refresh intervals; then the binding is `Stale`.
pub const STALE_AFTER_INTERVALS: u32 = 3;

/// How long a passing failure leaves `Ready` as it was.
#[must_use]
pub fn stale_after(interval: Duration) -> SignedDuration {
    SignedDuration::try_from(interval.saturating_mul(STALE_AFTER_INTERVALS)).unwrap_or(SignedDuration::MAX)
}
