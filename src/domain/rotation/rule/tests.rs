use serde_json::json;

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "reads better at the calls")]
fn parse(manifest: serde_json::Value) -> Result<Rule, RuleError> {
    let mut whole = json!({"name": "r", "keys": ["A"]});
    whole.as_object_mut().unwrap().extend(manifest.as_object().unwrap().clone());
    Rule::parse(&serde_json::from_value(whole).unwrap())
}

#[test]
fn each_error_names_its_field_and_what_to_do() {
    for (manifest, field, words) in [
        (json!({"keys": []}), "keys", "give at least one key"),
        (json!({"keys": ["A B"]}), "keys", "cannot be in a key"),
        (json!({"every": "7d", "schedule": "0 9 * * *"}), "schedule", "not both"),
        (json!({"every": "soon"}), "every", "soon"),
        (json!({"every": "0d"}), "every", "longer than 0s"),
        (json!({"schedule": "0 9 * *"}), "schedule", "five fields"),
        (json!({"schedule": "0 9 * * *", "timeZone": "Mars/Olympus"}), "schedule", "Mars/Olympus"),
        (json!({"every": "7d", "warnBefore": "1 day"}), "warnBefore", "1 day"),
        (json!({"action": "RotateSecret"}), "action", "needs a clock"),
        (json!({"every": "7d", "action": "RunJob"}), "runJob", "name the CronJob"),
        (json!({"every": "7d", "runJob": {"cronJob": "j"}}), "runJob", "belongs to action: RunJob"),
        (json!({"every": "3h59m", "action": "Generate"}), "every", "at least 4h"),
        (json!({"every": "4h", "action": "Generate", "generate": {"bytes": 8}}), "generate.bytes", "from 16 to 1024"),
        (json!({"keys": ["A", "B"], "overlap": {"strategy": "Immediate", "hold": "1d"}}), "overlap", "exactly one"),
        (json!({"overlap": {"strategy": "Immediate", "hold": "x"}}), "overlap.hold", "x"),
        (
            json!({"overlap": {"strategy": "Immediate", "hold": "1d", "previousKey": "A"}}),
            "overlap.previousKey",
            "taken",
        ),
        (json!({"overlap": {"strategy": "Staged", "hold": "1d", "nextKey": "A"}}), "overlap.nextKey", "taken"),
        (
            json!({"overlap": {"strategy": "Staged", "hold": "1d", "nextKey": "B", "previousKey": "B"}}),
            "overlap.previousKey",
            "taken",
        ),
        (
            json!({"overlap": {"strategy": "Staged", "hold": "1d", "nextKey": "B C"}}),
            "overlap.nextKey",
            "cannot be in a key",
        ),
    ] {
        let (found, said) = parse(manifest.clone()).expect_err(&manifest.to_string());
        assert_eq!(found, field, "{manifest}: {said}");
        assert!(said.contains(words), "{manifest}: {said}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let rule = parse(json!({})).unwrap();
    assert_eq!((rule.action.clone(), rule.warn_before, rule.has_clock()), (Action::Notify, Duration::ZERO, false));
    assert!(parse(json!({"notAfter": "2026-12-01T00:00:00Z"})).unwrap().has_clock());
    let rule = parse(json!({"every": "90d", "action": "Generate"})).unwrap();
    assert_eq!(rule.action, Action::Generate(Recipe { bytes: 32, encoding: GenerateEncoding::Base64 }));
    let overlap = parse(json!({"overlap": {"strategy": "Staged", "hold": "14d"}})).unwrap().overlap.unwrap();
    assert_eq!(
        (overlap.group.as_str(), overlap.next_key.as_str(), overlap.previous_key.as_str()),
        ("r", "A_NEXT", "A_PREVIOUS")
    );
    assert_eq!(overlap.hold, Duration::from_secs(14 * 86_400));
}

#[test]
fn a_clock_is_due_after_the_change() {
    let due = |manifest, rotated: &str| {
        parse(manifest).unwrap().clock.unwrap().due(rotated.parse().unwrap()).unwrap().to_string()
    };
    assert_eq!(due(json!({"every": "1d12h"}), "2026-11-01T00:00:00Z"), "2026-11-02T12:00:00Z");
    assert_eq!(due(json!({"schedule": "0 9 * * MON"}), "2026-11-01T00:00:00Z"), "2026-11-02T09:00:00Z");
    // Keys that are changed at the hour itself are due a week later.
    assert_eq!(due(json!({"schedule": "0 9 * * MON"}), "2026-11-02T09:00:00Z"), "2026-11-09T09:00:00Z");
}

#[test]
fn only_what_writes_or_runs_needs_the_grant() {
    for (manifest, needs) in [
        (json!({}), None),
        (json!({"every": "1d", "action": "RotateSecret"}), Some(RotationAction::RotateSecret)),
        (json!({"every": "1d", "action": "Generate"}), Some(RotationAction::Generate)),
        (json!({"every": "1d", "action": "RunJob", "runJob": {"cronJob": "j"}}), Some(RotationAction::RunJob)),
    ] {
        assert_eq!(parse(manifest).unwrap().action.needs(), needs);
    }
}
