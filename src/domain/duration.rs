//! Durations as bindings write them: `30s`, `5m`, `1d12h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::quoted::Quoted;

/// The longest duration, in seconds: ten years of 365 days.
pub const MAX_SECONDS: u64 = 10 * 365 * 86_400;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A span of time in whole seconds, from 0 to ten years, written as `^([0-9]+(d|h|m|s))+$` where `d` is 24 hours.
///
/// Parts add up in any order (`30m1h` is `1h30m`); `Display` gives the canonical form, largest unit first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// Why a text is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is not made of numbers and units.
    #[error("{} is not a duration: write numbers with the units d, h, m, s, such as `30s`, `5m` or `1d12h`", Quoted(.text))]
    Malformed {
        /// The text.
        text: String,
    },
    /// The sum is over [`MAX_SECONDS`].
    #[error("the duration {} is longer than ten years (3650d): shorten it", Quoted(.text))]
    TooLong {
        /// The text.
        text: String,
    },
}

impl Span {
    /// The span as the standard library's type.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl TryFrom<&str> for Span {
    type Error = DurationError;

    fn try_from(text: &str) -> Result<Self, DurationError> {
        let malformed = || DurationError::Malformed { text: text.to_owned() };
        let mut total: u64 = 0;
        let mut number: Option<u64> = None;
        for c in text.chars() {
            if let Some(digit) = c.to_digit(10) {
                number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(u64::from(digit)));
            } else {
                let (_, seconds) = UNITS.iter().find(|(unit, _)| *unit == c).ok_or_else(malformed)?;
                let count = number.take().ok_or_else(malformed)?;
                total = total.saturating_add(count.saturating_mul(*seconds));
            }
        }
        if text.is_empty() || number.is_some() {
            return Err(malformed());
        }
        if total > MAX_SECONDS {
            return Err(DurationError::TooLong { text: text.to_owned() });
        }
        Ok(Self(Duration::from_secs(total)))
    }
}

impl FromStr for Span {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        Self::try_from(text)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, seconds) in UNITS {
            if rest >= seconds {
                write!(f, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::domain::duration::{DurationError, MAX_SECONDS, Span};

    #[test]
    fn durations() {
        let cases: &[(&str, u64, &str)] = &[
            ("0s", 0, "0s"),
            ("0d0h", 0, "0s"),
            ("10s", 10, "10s"),
            ("5m", 300, "5m"),
            ("90s", 90, "1m30s"),
            ("1d12h", 129_600, "1d12h"),
            ("12h1d", 129_600, "1d12h"),
            ("1h1h", 7_200, "2h"),
            ("0000000000000000000000000000007d", 604_800, "7d"),
            ("3650d", MAX_SECONDS, "3650d"),
        ];
        for (text, seconds, canonical) in cases {
            let span = Span::try_from(*text).unwrap();
            assert_eq!(span.get().as_secs(), *seconds, "{text}");
            assert_eq!(span.to_string(), *canonical);
        }
    }

    #[test]
    fn malformed_durations() {
        for text in ["", "5", "m", "5 m", "5m ", "-5m", "1.5h", "5M", "5ms", "1w", "5m5", "٥m", "1e3s", "\n"] {
            let error = Span::try_from(text).unwrap_err();
            assert!(matches!(error, DurationError::Malformed { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn long_durations_are_refused_without_overflow() {
        for text in ["3651d", "99999999999999999999999999d", "18446744073709551615d18446744073709551615d"] {
            let error = Span::try_from(text).unwrap_err();
            assert!(matches!(error, DurationError::TooLong { .. }), "{text}: {error}");
        }
        assert!(Span::try_from("9".repeat(5000).as_str()).unwrap_err().to_string().len() < 300);
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same(seconds in 0..=MAX_SECONDS) {
            let span = Span::try_from(format!("{seconds}s").as_str()).unwrap();
            prop_assert_eq!(Span::try_from(span.to_string().as_str()).unwrap(), span);
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text in "([0-9]{1,22}[dhms]){0,4}.{0,3}") {
            if let Ok(span) = Span::try_from(text.as_str()) {
                prop_assert!(span.get().as_secs() <= MAX_SECONDS);
            }
        }
    }
}
