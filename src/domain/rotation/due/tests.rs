use super::*;
use crate::api::{Contact, RotationRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rule(edit: impl FnOnce(&mut RotationRule)) -> Rule {
    let mut manifest = RotationRule {
        name: "tiktok-session".to_owned(),
        keys: vec!["A".to_owned(), "B".to_owned()],
        contact: Some(Contact { name: "Growth team".to_owned(), ..Contact::default() }),
        ..RotationRule::default()
    };
    edit(&mut manifest);
    Rule::parse(&manifest).unwrap()
}

fn weekly() -> Rule {
    rule(|rule| (rule.every, rule.warn_before) = (Some("7d".to_owned()), Some("1d".to_owned())))
}

fn age(key: &str, rotated: &str, at_least: bool) -> (String, KeyAge) {
    let age = KeyAge {
        key: key.to_owned(),
        fingerprint: "f".to_owned(),
        last_rotated_time: Some(Time(time(rotated))),
        at_least,
    };
    (key.to_owned(), age)
}

fn ages() -> BTreeMap<String, KeyAge> {
    BTreeMap::from([age("A", "2026-11-01T12:00:00Z", false), age("B", "2026-11-05T00:00:00Z", false)])
}

fn facts(ages: &BTreeMap<String, KeyAge>) -> Facts<'_> {
    Facts { ages, emergency: None, activity: None, aws: &[] }
}

#[test]
fn the_oldest_key_decides_and_each_state_begins_exactly_when_the_one_before_said() {
    let ages = ages();
    let mut now = time("2026-11-05T00:00:00Z");
    let mut seen = Vec::new();
    loop {
        let state = rule_state(&weekly(), facts(&ages), now);
        seen.push((state.state.unwrap(), now.to_string()));
        let Some(wake) = state.wake else { break };
        let just_before = wake.checked_sub(k8s_openapi::jiff::SignedDuration::from_nanos(1)).unwrap();
        assert_eq!(rule_state(&weekly(), facts(&ages), just_before).state, state.state);
        now = wake;
    }
    let expected = [
        (RotationState::Current, "2026-11-05T00:00:00Z"),
        (RotationState::DueSoon, "2026-11-07T12:00:00Z"),
        (RotationState::Overdue, "2026-11-08T12:00:00Z"),
    ];
    assert_eq!(seen, expected.map(|(state, time)| (state, time.to_owned())));
}

#[test]
fn a_message_names_rule_keys_time_and_contact() {
    let overdue = rule_state(&weekly(), facts(&ages()), time("2026-12-01T00:00:00Z"));
    assert_eq!(
        overdue.message,
        "the rule \"tiktok-session\" was due at 2026-11-08T12:00:00Z: change A, B; A was last changed at 2026-11-01T12:00:00Z; ask Growth team"
    );
    let mut guessed = ages();
    guessed.extend([age("A", "2026-11-01T12:00:00Z", true)]);
    let overdue = rule_state(&weekly(), facts(&guessed), time("2026-12-01T00:00:00Z"));
    assert!(overdue.message.contains("2026-11-01T12:00:00Z, or before (older versions cannot be seen)"), "{overdue:?}");
}

#[test]
fn an_expiry_counts_however_young_the_keys_are_and_without_a_clock() {
    let expiry = Some(Time(time("2026-11-06T00:00:00Z")));
    let both = rule(|rule| (rule.every, rule.not_after) = (Some("7d".to_owned()), expiry.clone()));
    let state = rule_state(&both, facts(&ages()), time("2026-11-05T00:00:00Z"));
    assert_eq!(state.due, Some(time("2026-11-06T00:00:00Z")));
    let alone = rule(|rule| rule.not_after = expiry);
    let none = BTreeMap::new();
    let state = rule_state(&alone, facts(&none), time("2026-11-05T00:00:00Z"));
    assert_eq!((state.state, state.wake), (Some(RotationState::Current), Some(time("2026-11-06T00:00:00Z"))));
    assert_eq!(rule_state(&alone, facts(&none), time("2026-11-06T00:00:00Z")).state, Some(RotationState::Overdue));
}

#[test]
fn a_rule_without_a_clock_has_no_state_and_one_with_unknown_keys_none_yet() {
    let state = rule_state(&rule(|_| {}), facts(&ages()), time("2030-01-01T00:00:00Z"));
    assert_eq!((state.state, state.wake, state.due), (None, None, None));
    let half = BTreeMap::from([age("A", "2026-11-01T12:00:00Z", false)]);
    let state = rule_state(&weekly(), facts(&half), time("2026-11-02T00:00:00Z"));
    assert_eq!(state.state, None);
    assert!(state.message.contains("not known yet"), "{state:?}");
}

#[test]
fn a_key_that_is_not_published_is_named_and_the_others_decide() {
    let mut ages = ages();
    ages.insert("B".to_owned(), KeyAge { key: "B".to_owned(), ..KeyAge::default() });
    let state = rule_state(&weekly(), facts(&ages), time("2026-11-05T00:00:00Z"));
    assert_eq!(state.state, Some(RotationState::Current));
    assert!(state.message.contains("B is not published"), "{state:?}");
}

#[test]
fn an_emergency_is_overdue_now_also_without_a_clock() {
    let since = time("2026-11-02T00:00:00Z");
    let emergency = Emergency { since, keys: vec!["B".to_owned()] };
    let ages = ages();
    for rule in [weekly(), rule(|_| {})] {
        let facts = Facts { emergency: Some(&emergency), ..facts(&ages) };
        let state = rule_state(&rule, facts, time("2026-11-02T00:00:01Z"));
        assert_eq!((state.state, state.due), (Some(RotationState::Overdue), Some(since)));
        let message =
            "the rule \"tiktok-session\" is an emergency since 2026-11-02T00:00:00Z: change B; ask Growth team";
        assert_eq!(state.message, message);
    }
}

#[test]
fn what_is_under_way_is_rotating_and_what_failed_is_said() {
    let activity = |under_way: Option<&str>, trouble: Option<&str>| Activity {
        under_way: under_way.map(str::to_owned),
        trouble: trouble.map(|what| (Reason::RotationFailed, what.to_owned())),
        phase: None,
        record: None,
    };
    let (ages, late) = (ages(), time("2026-12-01T00:00:00Z"));
    let of = |activity: &Activity| rule_state(&weekly(), Facts { activity: Some(activity), ..facts(&ages) }, late);
    let rotating = of(&activity(Some("the Job rotate-1 runs"), None));
    assert_eq!((rotating.state, rotating.wake), (Some(RotationState::Rotating), None));
    assert_eq!(rotating.message, "the rule \"tiktok-session\" rotates: the Job rotate-1 runs");
    let failed = of(&activity(None, Some("the Job rotate-1 failed; delete it")));
    assert_eq!(failed.state, Some(RotationState::Overdue));
    assert!(failed.message.contains("the Job rotate-1 failed; delete it"), "{failed:?}");
}

#[test]
fn what_aws_itself_failed_to_do_is_said_when_it_matters_and_not_before() {
    let next = time("2026-11-20T00:00:00Z");
    let of = AwsRotation {
        name: "app".to_owned(),
        rotation: RotationDates { enabled: true, next: Some(next), last: None },
        pending: true,
    };
    let (ages, aws) = (ages(), [&of]);
    let at = |now| rule_state(&weekly(), Facts { aws: &aws, ..facts(&ages) }, now);
    let current = at(time("2026-11-06T00:00:00Z"));
    assert!(!current.message.contains("AWS"), "{current:?}");
    let overdue = at(time("2026-11-10T00:00:00Z"));
    assert_eq!(overdue.wake, Some(next), "the message changes then");
    assert!(overdue.message.contains("AWSPENDING") && !overdue.message.contains("should have come"), "{overdue:?}");
    let later = at(next);
    assert!(later.message.contains("AWS's own rotation of app should have come by 2026-11-20T00:00:00Z"), "{later:?}");
    assert_eq!(later.wake, None);
}
