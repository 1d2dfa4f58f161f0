//! How often the sources of a binding are observed.

use std::time::Duration;

use crate::domain::binding::Refresh;
use crate::settings::Settings;

/// The refresh interval of a binding; `None` where the clock asks for nothing.
#[must_use]
pub fn interval(settings: &Settings, refresh: Refresh) -> Option<Duration> {
    match refresh {
        Refresh::Default => Some(settings.refresh_interval).filter(|interval| !interval.is_zero()),
        Refresh::Every(interval) => Some(interval),
        Refresh::Never => None,
    }
}

/// For how long an observation of AWS is relied on. The last tenth of the interval is left to jitter.
#[must_use]
pub fn relied_on_for(interval: Option<Duration>) -> Duration {
    interval.map_or(Duration::MAX, |interval| interval.mul_f64(0.9))
}
