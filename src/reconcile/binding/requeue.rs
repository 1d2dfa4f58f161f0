//! When a binding is reconciled next, as pure functions.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use crate::api::{ConditionType, SecretBindingStatus};
use crate::domain::binding::Refresh;
use crate::domain::time::until;
use crate::reconcile::binding::attempt::Attempt;
use crate::reconcile::binding::stale::stale_after;
use crate::reconcile::binding::status::Report;
use crate::reconcile::error::{Class, Error};
use crate::reconcile::refresh::interval;
use crate::settings::Settings;
use crate::state::backoff::Backoff;
use crate::state::history::History;

/// How often a Secret of an earlier name is observed while something still refers to it.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// While a status cannot be written, reconciles keep at least this pause: what asks for one at once may wait for the
/// status to tell of it.
const UNWRITTEN_PAUSE: Duration = Duration::from_secs(2);

/// The clocks of a binding.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The refresh interval; `None` where the clock asks for nothing.
    pub interval: Option<Duration>,
    /// The interval by which `Stale` is judged.
    pub stale_interval: Duration,
    /// The time.
    pub now: Timestamp,
}

impl Timing {
    /// The clocks of a binding with this refresh interval.
    #[must_use]
    pub fn new(settings: &Settings, refresh: Refresh, now: Timestamp) -> Self {
        let interval = interval(settings, refresh);
        Self { interval, stale_interval: interval.unwrap_or(settings.stale_interval()), now }
    }
}

/// What came of a reconcile.
#[derive(Clone, Copy)]
pub struct ReconcileOutcome<'a> {
    /// The results of the steps.
    pub attempt: &'a Attempt,
    /// What ended it, where it was not done.
    pub error: Option<&'a Error>,
    /// What was said of it.
    pub report: &'a Report,
    /// Whether that was written only now, after a failure.
    pub late: bool,
}

/// The pause until the next reconcile: the earliest of all that asks for one. `random` is between 0 and 1. `now` is the
/// time of the clock that never goes back.
#[must_use]
pub fn requeue(
    outcome: ReconcileOutcome<'_>,
    history: History,
    timing: &Timing,
    now: Instant,
    random: f64,
) -> (History, Option<Duration>) {
    let ReconcileOutcome { attempt, error, report, late } = outcome;
    let (backoff, next) = match error.map(Error::class) {
        None | Some(Class::NewVersion) => {
            (Backoff::default(), next_look(history.verified, timing.interval, now, random))
        }
        Some(Class::Edit | Class::Watched) => (history.backoff, None),
        Some(Class::Passing | Class::Retry) => {
            let backoff = history.backoff.failed(timing.stale_interval, random);
            let stale = until_stale(&report.status, timing.stale_interval, timing.now);
            (backoff, Some(stale.map_or(backoff.pause(), |stale| stale.min(backoff.pause()))))
        }
    };
    let expiry = attempt.grant.as_ref().and_then(|grant| grant.expires).map(|end| until(end, timing.now));
    let overlaps = attempt.rotation.overlaps.iter().flatten().filter_map(|overlap| overlap.again).min();
    let wake = report.wake.map(|wake| until(wake, timing.now));
    let backfill = history.ages.next_backfill(now).filter(|_| error.is_none());
    let all = [next, expiry, overlaps, attempt.rollout.next, attempt.rotation.next, wake, backfill];
    let next = all.into_iter().flatten().min();
    let cleans_up = attempt.published.as_ref().is_some_and(|published| !published.remaining().is_empty());
    let next = if let Some(unwritten) = &history.unwritten {
        let pause = unwritten.pause(now);
        Some(next.map_or(pause, |next| next.max(UNWRITTEN_PAUSE).min(pause)))
    } else if late {
        // What waited for the status to tell of it begins.
        Some(Duration::ZERO)
    } else if cleans_up {
        Some(next.map_or(CLEAN_UP, |next| next.min(CLEAN_UP)))
    } else {
        next
    };
    (History { backoff, ..history }, next)
}

/// When to observe AWS again: after the interval since the last observation, less up to a tenth, so that bindings that began
/// together drift apart. `None` where the clock asks for nothing.
#[must_use]
pub fn next_look(verified: Option<Instant>, interval: Option<Duration>, now: Instant, jitter: f64) -> Option<Duration> {
    let interval = interval?.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 10.0);
    let since = verified.map_or(Duration::ZERO, |verified| now.duration_since(verified));
    Some(interval.saturating_sub(since).max(Duration::from_millis(100)))
}

/// How long until a passing failure makes the binding `Stale`; `None` where none is under way.
#[must_use]
pub fn until_stale(status: &SecretBindingStatus, interval: Duration, now: Timestamp) -> Option<Duration> {
    let find = |type_: ConditionType| status.conditions.iter().find(|condition| condition.type_ == type_.as_str());
    let failed = |type_| find(type_).filter(|condition| condition.status == "False");
    let failing = failed(ConditionType::Fetched).or_else(|| failed(ConditionType::Applied))?;
    find(ConditionType::Ready).filter(|ready| ready.status == "True")?;
    let left = stale_after(interval) - now.duration_since(failing.last_transition_time.0);
    Some(Duration::try_from(left).unwrap_or_default().max(Duration::from_millis(100)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::refresh::relied_on_for;

    #[test]
    fn the_next_look_comes_an_interval_after_the_last_less_a_tenth_at_most() {
        let observed = Instant::now();
        let now = observed + Duration::from_secs(100);
        let interval = Some(Duration::from_secs(300));
        let next = |jitter| next_look(Some(observed), interval, now, jitter).unwrap();
        assert_eq!(next(0.0), Duration::from_secs(200));
        assert_eq!(next(1.0), Duration::from_secs(170));
        assert_eq!(next_look(Some(observed), None, now, 0.0), None);
        // The observation that comes earliest finds what is known too old to be relied on.
        assert_eq!(relied_on_for(interval), Duration::from_secs(270));
        assert_eq!(relied_on_for(None), Duration::MAX);
    }
}
