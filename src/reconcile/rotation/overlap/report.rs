//! What is told of overlaps.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::{Reason, SecretBindingStatus};
use crate::domain::note::Note;
use crate::domain::render::key::TargetKey;
use crate::domain::rotation::due::Activity;
use crate::domain::rotation::overlap::{Command, Step, Wait};
use crate::domain::rotation::record::{Flight, Record};
use crate::reconcile::binding::requeue::until;
use crate::reconcile::rotation::overlap::Seen;

/// How often pods and Jobs are looked at while a phase waits for them: at first, and at last.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is told of an overlap at the end of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlapReport {
    /// The key.
    pub key: TargetKey,
    /// The rule; `None` where it was removed while its change is under way.
    pub rule: Option<String>,
    /// The record as it stands on the target.
    pub record: Option<Record>,
    /// What is waited for.
    pub waits: Option<Wait>,
    /// When to look again.
    pub again: Option<Duration>,
    /// What is to be told once.
    pub note: Option<Note>,
}

impl Seen {
    /// What is told of it where it stays as it is.
    pub(crate) fn report(&self, step: &Step, record: Option<&Record>, now: Timestamp) -> OverlapReport {
        let flight = record.and_then(|record| record.flight.as_ref());
        let since = flight.and_then(|flight| flight.since.or(self.written));
        let age =
            since.map_or(Duration::ZERO, |since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
        let poll = step.waits.is_some().then(|| (age / 10).clamp(POLL.0, POLL.1));
        OverlapReport {
            key: self.key.clone(),
            rule: self.rule.as_ref().map(|(name, _)| name.clone()),
            record: record.cloned(),
            waits: step.waits.clone(),
            again: match step.wake {
                Some(wake) => Some(until(wake, now)),
                None => poll,
            },
            note: self.command.filter(|_| step.record == self.record).map(|command| without_effect(command, self)),
        }
    }
}

/// The Event for a command that changes nothing.
fn without_effect(command: Command, seen: &Seen) -> Note {
    let (verb, rule) = match command {
        Command::Abort => ("abort", &seen.rule),
        Command::Retire => ("retire", &seen.rule),
    };
    let rule = rule.as_ref().map_or(seen.key.as_str(), |(name, _)| name.as_str());
    let why = match seen.record.as_ref().and_then(|record| record.flight.as_ref()) {
        None => "no change of the key is under way",
        Some(flight) if flight.aborted => "it goes back to the old value already",
        Some(_) => "another binding of the group has retired the old value, or it was asked before",
    };
    Note { warning: true, reason: Reason::OverlapBlocked, text: format!("{verb}-{rule} has no effect: {why}") }
}

/// What the overlaps of a binding are for the status: by rule, or where that was removed, by the rule that the status
/// knows the key by.
#[must_use]
pub fn activities(
    reports: &[OverlapReport],
    before: &SecretBindingStatus,
    written: Option<Timestamp>,
) -> BTreeMap<String, Activity> {
    let of = |report: &OverlapReport| {
        let by_key = || before.rotation.iter().find(|was| was.keys.iter().any(|age| age.key == report.key.as_str()));
        let name = report.rule.clone().or_else(|| Some(by_key()?.name.clone()))?;
        let record = report.record.as_ref()?;
        let what = |flight: &Flight| {
            let action = if flight.aborted { "goes back to the old value" } else { "comes to a new value" };
            format!("the key {} {action} ({})", report.key, flight.phase.as_str())
        };
        let activity = record.flight.as_ref().map(|flight| match &report.waits {
            Some(Wait::Blocked(why)) => Activity {
                under_way: Some(what(flight)),
                trouble: Some((Reason::OverlapBlocked, why.clone())),
                ..Activity::default()
            },
            Some(Wait::For(why)) => {
                Activity { under_way: Some(format!("{}: {why}", what(flight))), ..Activity::default() }
            }
            None => Activity { under_way: Some(what(flight)), ..Activity::default() },
        });
        let blocked = match (&record.flight, &report.waits) {
            (None, Some(Wait::Blocked(why))) => Some((Reason::OverlapBlocked, why.clone())),
            _ => None,
        };
        let waits = blocked.as_ref().map(|_| format!("the key {} has a new value that is not taken up", report.key));
        let activity = activity.unwrap_or(Activity { under_way: waits, trouble: blocked, ..Activity::default() });
        let phase = record.phase().map(|phase| phase.as_str().to_owned());
        Some((name, Activity { phase, record: Some(copy(record, written)), ..activity }))
    };
    reports.iter().filter_map(of).collect()
}

/// The copy of a record in the status, with the time of the last write where that is meant.
fn copy(record: &Record, written: Option<Timestamp>) -> String {
    let mut record = record.clone();
    if let Some(flight) = &mut record.flight {
        flight.since = flight.since.or(written);
    }
    serde_json::to_string(&record).unwrap_or_default()
}
