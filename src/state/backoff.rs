//! The pauses after failures.

use std::time::Duration;

/// The longest pause after a failure, unless the refresh interval is longer.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The failures of one binding since its last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    pause: Duration,
}

impl Backoff {
    /// The backoff after one more failure: twice as long each time, at most `cap` or five minutes, and shortened by up
    /// to a half, so that bindings that failed together do not come back together. `jitter` is between 0 and 1.
    #[must_use]
    pub fn failed(self, cap: Duration, jitter: f64) -> Self {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20)).min(cap.max(MAX_PAUSE));
        Self { failures: self.failures.saturating_add(1), pause: pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0) }
    }

    /// The pause until the next try.
    #[must_use]
    pub const fn pause(self) -> Duration {
        self.pause
    }

    /// How old a failure that another binding met may be to count as this one's, so that many bindings of one secret
    /// that cannot be read do not ask for it each.
    #[must_use]
    pub fn shares_failures_of(self) -> Duration {
        self.pause / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_start_again_after_a_success() {
        let minute = Duration::from_secs(60);
        let series = |cap: Duration, count: usize| -> Vec<u64> {
            let mut backoff = Backoff::default();
            let next = || {
                backoff = backoff.failed(cap, 0.0);
                Some(backoff.pause().as_secs())
            };
            std::iter::from_fn(next).take(count).collect()
        };
        assert_eq!(series(minute, 11), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(Backoff::default().failed(minute, 1.0).pause(), Duration::from_millis(500));
        assert_eq!(series(Duration::from_secs(86_400), 40).last(), Some(&86_400));
    }
}
