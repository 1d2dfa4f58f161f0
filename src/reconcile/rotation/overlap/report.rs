//! What is told of overlaps.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::api::{Reason, SecretBindingStatus};
use crate::domain::rotation::due::Activity;
use crate::domain::rotation::overlap::Wait;
use crate::domain::rotation::record::{Flight, Record};
use crate::reconcile::rotation::overlap::observed::OverlapReport;

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
            Some(Wait::Off(off)) => Activity {
                under_way: Some(what(flight)),
                trouble: Some((Reason::FeatureOff, format!("{off}; both values stay published until then"))),
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
