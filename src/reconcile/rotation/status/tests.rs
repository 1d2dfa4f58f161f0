use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::api::KeyAge;
use crate::api::{SecretBinding, SecretBindingSpec};
use crate::reconcile::binding::attempt::{Attempt, RotationResults};
use crate::reconcile::binding::status::{self, Findings};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn binding(rules: &serde_json::Value, command: Option<&str>) -> Binding {
    let spec = json!({"dataFrom": [{"secret": "app"}], "rotation": rules});
    let spec: SecretBindingSpec = serde_json::from_value(spec).unwrap();
    let mut manifest = SecretBinding::new("worker", spec);
    manifest.metadata.annotations = command.map(|text| [("bindery.dev/rotation".to_owned(), text.to_owned())].into());
    Binding::parse(&manifest).unwrap()
}

fn tiktok(clock: &serde_json::Value) -> serde_json::Value {
    let mut rule = json!({
        "name": "tiktok-session", "keys": ["TIKTOK_COOKIE", "TIKTOK_SESSION_ID"], "warnBefore": "1d",
        "contact": {"name": "Growth team", "email": "growth@example.com"},
    });
    rule.as_object_mut().unwrap().extend(clock.as_object().unwrap().clone());
    json!([rule])
}

fn ages(of: &[(&str, &str)]) -> BTreeMap<String, KeyAge> {
    let age = |(key, rotated): &(&str, &str)| KeyAge {
        key: (*key).to_owned(),
        fingerprint: format!("k.{rotated}"),
        last_rotated_time: Some(Time(time(rotated))),
        at_least: false,
    };
    of.iter().map(|of| (of.0.to_owned(), age(of))).collect()
}

fn found(of: &[(&str, &str)], changed: &[&str]) -> Found {
    let changed = changed.iter().map(ToString::to_string).collect();
    Found {
        ages: Some(ages(of)),
        changed,
        aws: Some(BTreeMap::new()),
        activities: Some(BTreeMap::new()),
        acted: Some(BTreeMap::new()),
    }
}

/// One pass: the status after it, and what was told.
fn pass(
    binding: &Binding,
    before: &SecretBindingStatus,
    found: &Found,
    now: Timestamp,
) -> (SecretBindingStatus, RotationReport) {
    let rotation = RotationResults { found: found.clone(), ..RotationResults::default() };
    let attempt = Attempt { rotation, ..Attempt::default() };
    let interval = std::time::Duration::from_secs(300);
    let binding_of = Some(binding);
    let findings =
        Findings { binding: binding_of, generation: 1, attempt: &attempt, error: None, interval, looks_again: true };
    let status = status::status(before, findings, now).status;
    let told = rotation_report(binding, before, found, now);
    (status, told)
}

fn shown(status: &SecretBindingStatus) -> String {
    let condition = status.conditions.iter().find(|condition| condition.type_ == "RotationCurrent");
    condition.map_or_else(String::new, |condition| format!("{}/{}", condition.status, condition.reason))
}

fn events(told: &RotationReport) -> Vec<String> {
    told.notes
        .iter()
        .map(|note| format!("{} {}", if note.warning { "Warning" } else { "Normal" }, note.reason))
        .collect()
}

/// Follows the clock from wake-up to wake-up and answers what is shown from when on.
fn follow(binding: &Binding, status: &mut SecretBindingStatus, start: Timestamp) -> Vec<String> {
    let (mut now, mut seen) = (start, Vec::new());
    loop {
        let (after, told) = pass(
            binding,
            status,
            &Found { aws: Some(BTreeMap::new()), activities: Some(BTreeMap::new()), ..Found::default() },
            now,
        );
        seen.push(format!(
            "{now} {} {} {}",
            after.rotation_state.as_deref().unwrap_or("-"),
            shown(&after),
            events(&told).join(",")
        ));
        *status = after;
        let Some(wake) = told.wake else { return seen };
        // A moment before, nothing is different, so that nothing is written.
        let early = wake.checked_sub(SignedDuration::from_millis(1)).unwrap();
        let (same, told) = pass(
            binding,
            status,
            &Found { aws: Some(BTreeMap::new()), activities: Some(BTreeMap::new()), ..Found::default() },
            early,
        );
        assert_eq!((&same, told.notes.len(), told.wake), (&*status, 0, Some(wake)));
        now = wake;
    }
}

#[test]
fn the_weekly_rule_goes_its_way_at_exact_times_by_age_and_by_calendar() {
    // A Wednesday; the calendar asks for the next Monday at nine in Berlin.
    let rotated = "2026-11-04T10:00:00Z";
    for (clock, soon, due) in [
        (json!({"every": "7d"}), "2026-11-10T10:00:00Z", "2026-11-11T10:00:00Z"),
        (
            json!({"schedule": "0 9 * * MON", "timeZone": "Europe/Berlin"}),
            "2026-11-08T08:00:00Z",
            "2026-11-09T08:00:00Z",
        ),
    ] {
        let binding = binding(&tiktok(&clock), None);
        let keys = [("TIKTOK_COOKIE", rotated), ("TIKTOK_SESSION_ID", "2026-11-06T00:00:00Z")];
        let mut status = SecretBindingStatus::default();
        let start = time("2026-11-06T00:00:01Z");
        status = pass(&binding, &status, &found(&keys, &[]), start).0;
        assert_eq!(
            follow(&binding, &mut status, start),
            [
                format!("{start} Current True/Current "),
                format!("{soon} DueSoon True/DueSoon Warning DueSoon"),
                format!("{due} Overdue False/RotationOverdue Warning RotationOverdue"),
            ]
        );
        let (_, told) = pass(&binding, &SecretBindingStatus::default(), &found(&keys, &[]), time(due));
        let text = &told.notes[0].text;
        for part in ["tiktok-session", "TIKTOK_COOKIE, TIKTOK_SESSION_ID", due, "Growth team, growth@example.com"] {
            assert!(text.contains(part), "{text}");
        }
        // One key of two is not enough; both are.
        let now = "2026-11-12T00:00:00Z";
        let half = [("TIKTOK_COOKIE", rotated), ("TIKTOK_SESSION_ID", now)];
        let (half, told) = pass(&binding, &status, &found(&half, &["TIKTOK_SESSION_ID"]), time(now));
        assert_eq!((shown(&half), told.notes.len()), ("False/RotationOverdue".to_owned(), 0));
        let both = [("TIKTOK_COOKIE", now), ("TIKTOK_SESSION_ID", now)];
        let (both, told) = pass(&binding, &half, &found(&both, &["TIKTOK_COOKIE"]), time(now));
        assert_eq!((shown(&both), events(&told)), ("True/Current".to_owned(), vec!["Normal Current".to_owned()]));
        assert!(told.wake.is_some());
    }
}

fn two() -> serde_json::Value {
    json!([{"name": "a", "keys": ["A"], "every": "1d"}, {"name": "b", "keys": ["B"], "every": "2d"},
        {"name": "c", "keys": ["C"], "contact": {"name": "Meta"}}])
}

#[test]
fn each_rule_that_becomes_overdue_has_its_event() {
    let (binding, start) = (binding(&two(), None), "2026-11-01T00:00:00Z");
    let keys = [("A", start), ("B", start), ("C", start)];
    let (mut status, _) = pass(&binding, &SecretBindingStatus::default(), &found(&keys, &[]), time(start));
    assert_eq!(
        follow(&binding, &mut status, time(start)),
        [
            "2026-11-01T00:00:00Z Current True/Current ",
            "2026-11-02T00:00:00Z Overdue False/RotationOverdue Warning RotationOverdue",
            "2026-11-03T00:00:00Z Overdue False/RotationOverdue Warning RotationOverdue",
        ]
    );
    let told = rotation_report(&binding, &status, &found(&keys, &[]), time("2026-11-04T00:00:00Z"));
    let message = told.condition.unwrap().2;
    assert!(message.contains("\"a\"") && message.contains("\"b\"") && !message.contains("\"c\""), "{message}");
    assert_eq!(told.due.iter().map(|(rule, _)| rule.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(status.rotation[2].contact.as_ref().unwrap().name, "Meta");
}

#[test]
fn rules_without_a_clock_have_no_condition() {
    let binding = binding(&json!([{"name": "c", "keys": ["C"], "contact": {"name": "Meta"}}]), None);
    let found = found(&[("C", "2026-11-01T00:00:00Z")], &[]);
    let (status, told) = pass(&binding, &SecretBindingStatus::default(), &found, time("2026-12-01T00:00:00Z"));
    assert_eq!((shown(&status).as_str(), told.wake, told.due.len()), ("", None, 0));
    assert_eq!((status.rotation_state, status.rotation[0].state), (None, None));
}

#[test]
fn an_emergency_lasts_until_all_keys_were_changed_after_it_and_is_declared_once_per_text() {
    let rules = tiktok(&json!({"every": "7d"}));
    let (calm, urgent) = (binding(&rules, None), binding(&rules, Some("emergency-tiktok-session")));
    let start = "2026-11-01T00:00:00Z";
    let keys = [("TIKTOK_COOKIE", start), ("TIKTOK_SESSION_ID", start)];
    let (before, _) = pass(&calm, &SecretBindingStatus::default(), &found(&keys, &[]), time(start));
    let now = time("2026-11-02T00:00:00Z");
    let (status, told) = pass(&urgent, &before, &found(&keys, &[]), now);
    assert_eq!(events(&told), ["Warning RotationOverdue"]);
    assert!(told.notes[0].text.contains("emergency") && told.notes[0].text.contains("Growth team"), "{told:?}");
    assert_eq!(shown(&status), "False/RotationOverdue");
    assert_eq!(status.last_handled_rotation.as_deref(), Some("emergency-tiktok-session"));
    let (same, told) = pass(&urgent, &status, &found(&keys, &[]), time("2026-11-02T01:00:00Z"));
    assert_eq!((&same, told.notes.len()), (&status, 0));
    // A rollback to an older version is a change as well.
    let half = [("TIKTOK_COOKIE", "2026-10-01T00:00:00Z"), ("TIKTOK_SESSION_ID", start)];
    let (half, _) = pass(&urgent, &same, &found(&half, &["TIKTOK_COOKIE"]), time("2026-11-02T02:00:00Z"));
    assert_eq!(
        (shown(&half).as_str(), &half.rotation[0].emergency_keys),
        ("False/RotationOverdue", &vec!["TIKTOK_SESSION_ID".to_owned()])
    );
    let later = "2026-11-02T03:00:00Z";
    let both = [("TIKTOK_COOKIE", later), ("TIKTOK_SESSION_ID", later)];
    let (over, told) = pass(&urgent, &half, &found(&both, &["TIKTOK_SESSION_ID"]), time(later));
    assert_eq!((shown(&over).as_str(), events(&told)), ("True/Current", vec!["Normal Current".to_owned()]));
    assert_eq!(over.rotation[0].emergency_since, None);
    assert_eq!(pass(&urgent, &over, &found(&both, &[]), time("2026-11-02T04:00:00Z")).0, over, "the text was handled");
    let again = binding(&rules, Some("emergency-tiktok-session again"));
    let (again, _) = pass(&again, &over, &found(&both, &[]), time("2026-11-02T05:00:00Z"));
    assert_eq!(shown(&again), "False/RotationOverdue");
}

#[test]
fn a_command_for_no_rule_is_said_and_does_nothing() {
    for text in ["emergency-tiktok", "abort-x", "nonsense"] {
        let binding = binding(&tiktok(&json!({"every": "7d"})), Some(text));
        let start = "2026-11-01T00:00:00Z";
        let found = found(&[("TIKTOK_COOKIE", start), ("TIKTOK_SESSION_ID", start)], &[]);
        let (status, told) = pass(&binding, &SecretBindingStatus::default(), &found, time(start));
        assert_eq!(events(&told), ["Warning InvalidSpec"]);
        assert_eq!((shown(&status).as_str(), status.rotation_state.as_deref()), ("True/Current", Some("Current")));
        let message = told.condition.unwrap().2;
        assert!(message.contains("bindery.dev/rotation"), "{message}");
        let (same, told) = pass(&binding, &status, &found, time("2026-11-01T01:00:00Z"));
        assert_eq!((&same, told.notes.len()), (&status, 0));
    }
}

#[test]
fn what_is_under_way_or_failed_is_told_by_rule_and_kept_where_a_pass_did_not_look() {
    let (binding, start) = (binding(&two(), None), "2026-11-01T00:00:00Z");
    let keys = [("A", start), ("B", start), ("C", start)];
    let (before, _) = pass(&binding, &SecretBindingStatus::default(), &found(&keys, &[]), time(start));
    let with = |activity: Activity| Found {
        activities: Some(BTreeMap::from([("a".to_owned(), activity)])),
        ..found(&keys, &[])
    };
    let now = time("2026-11-02T00:00:00Z");
    let rotating = Activity { under_way: Some("AWS rotates app".to_owned()), ..Activity::default() };
    let (status, told) = pass(&binding, &before, &with(rotating), now);
    assert_eq!((shown(&status).as_str(), events(&told)), ("True/Rotating", vec!["Normal Rotating".to_owned()]));
    let blind = Found::default();
    assert_eq!(pass(&binding, &status, &blind, time("2026-11-02T01:00:00Z")).0, status);
    let trouble = Some((Reason::RotationFailed, "no answer within 24h".to_owned()));
    let (failed, told) = pass(&binding, &status, &with(Activity { trouble, ..Activity::default() }), now);
    assert_eq!(
        (shown(&failed).as_str(), events(&told)),
        ("False/RotationFailed", vec!["Warning RotationFailed".to_owned()])
    );
    assert_eq!(pass(&binding, &failed, &blind, time("2026-11-02T01:00:00Z")).0, failed);
    let phase = Activity {
        under_way: Some("Promoted".to_owned()),
        trouble: Some((Reason::OverlapBlocked, "the pod x-1 holds the gate".to_owned())),
        phase: Some("Promoted".to_owned()),
        record: None,
    };
    let (blocked, _) = pass(&binding, &before, &with(phase), now);
    assert_eq!(
        (shown(&blocked).as_str(), blocked.rotation_state.as_deref()),
        ("False/OverlapBlocked", Some("Promoted"))
    );
    assert_eq!(pass(&binding, &blocked, &blind, time("2026-11-02T01:00:00Z")).0, blocked);
}

#[test]
fn what_is_not_known_yet_is_unknown_and_never_touches_ready() {
    let (binding, start) = (binding(&two(), None), "2026-11-01T00:00:00Z");
    let (status, told) = pass(&binding, &SecretBindingStatus::default(), &found(&[("A", start)], &[]), time(start));
    assert_eq!((shown(&status).as_str(), events(&told).len()), ("Unknown/NotEvaluated", 0));
    assert!(status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
    let (status, _) = pass(&binding, &status, &found(&[("A", start)], &[]), time("2026-11-05T00:00:00Z"));
    assert_eq!(shown(&status), "False/RotationOverdue");
    assert!(status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
}

#[test]
fn a_new_emergency_has_its_action_begun_at_once_and_not_at_the_next_look_at_aws() {
    let now = time("2026-11-02T12:00:00Z");
    let found = found(&[("TIKTOK_COOKIE", "2026-11-01T12:00:00Z"), ("TIKTOK_SESSION_ID", "2026-11-01T12:00:00Z")], &[]);
    for (clock, wake) in [(json!({"every": "7d", "action": "RotateSecret"}), Some(now)), (json!({"every": "7d"}), None)]
    {
        let urgent = binding(&tiktok(&clock), Some("emergency-tiktok-session"));
        let (status, told) = pass(&urgent, &SecretBindingStatus::default(), &found, now);
        assert_eq!(told.wake, wake);
        let (_, told) = pass(&urgent, &status, &found, now);
        assert_eq!(told.wake, None, "it is new once");
    }
}
