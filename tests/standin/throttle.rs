//! The rate that AWS allows: a token bucket. Pure: the time is an argument.

use std::time::Instant;

/// What is left of the allowance.
#[derive(Default)]
pub struct Bucket {
    /// None until the first call, when it is full.
    state: Option<(f64, Instant)>,
}

impl Bucket {
    /// Whether a call at this time is within `rate` calls a second and `burst` at once.
    pub fn allows(&mut self, rate: f64, burst: f64, now: Instant) -> bool {
        let (left, since) = self.state.unwrap_or((burst, now));
        let gained = now.saturating_duration_since(since).as_secs_f64() * rate;
        let left = (left + gained).min(burst);
        let allowed = left >= 1.0;
        // Calls that come out of order, by a thread's turn, gain nothing twice.
        self.state = Some((if allowed { left - 1.0 } else { left }, now.max(since)));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let allowed = (0..10).filter(|_| bucket.allows(2.0, 4.0, start)).count();
        assert_eq!(allowed, 4, "the burst");
        assert!(!bucket.allows(2.0, 4.0, start + Duration::from_millis(400)));
        assert!(bucket.allows(2.0, 4.0, start + Duration::from_millis(500)));
        assert!(!bucket.allows(2.0, 4.0, start + Duration::from_millis(900)));

        let mut allowed = 0;
        for milliseconds in 1000..11_000 {
            allowed += usize::from(bucket.allows(2.0, 4.0, start + Duration::from_millis(milliseconds)));
        }
        assert_eq!(allowed, 20, "two a second, whatever is asked");
    }

    #[test]
    fn a_quiet_time_saves_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        bucket.allows(100.0, 3.0, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| bucket.allows(100.0, 3.0, later)).count(), 3);
    }
}
