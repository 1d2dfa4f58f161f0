use serde_json::json;

use super::*;

fn parse(manifest: serde_json::Value) -> Result<Restart, (&'static str, String)> {
    Restart::parse(Some(&serde_json::from_value(manifest).unwrap()))
}

#[test]
fn each_error_names_its_field_and_what_to_do() {
    let one = json!([{"kind": "Deployment", "name": "worker"}]);
    let window = |schedule: &str, duration: &str, zone: &str| json!({"policy": "Consumers", "window": {"schedule": schedule, "duration": duration, "timeZone": zone}});
    for (manifest, field, words) in [
        (json!({"policy": "Listed"}), "workloads", "name the workloads"),
        (json!({"policy": "Consumers", "workloads": one}), "workloads", "belongs to policy: Listed"),
        (json!({"workloads": one}), "workloads", "belongs to policy: Listed"),
        (window("0 2 * *", "3h", "UTC"), "window.schedule", "five fields"),
        (window("0 2 * * *", "3h", "Mars/Olympus"), "window.schedule", "Mars/Olympus"),
        (window("0 2 * * *", "0h", "UTC"), "window.duration", "longer than 0s"),
        (window("0 2 * * *", "long", "UTC"), "window.duration", "long"),
    ] {
        let (found, said) = parse(manifest.clone()).expect_err(&manifest.to_string());
        assert_eq!(found, field, "{manifest}: {said}");
        assert!(said.contains(words), "{manifest}: {said}");
    }
}

#[test]
fn nothing_said_restarts_nothing() {
    assert!(!Restart::parse(None).unwrap().restarts_any());
    assert!(!parse(json!({})).unwrap().restarts_any());
    assert!(!parse(json!({"policy": "Never"})).unwrap().restarts_any());
    assert!(parse(json!({"policy": "Consumers"})).unwrap().restarts_any());
    let twice = json!([{"kind": "Deployment", "name": "a"}, {"kind": "Deployment", "name": "a"}]);
    let RestartScope::Listed(listed) = parse(json!({"policy": "Listed", "workloads": twice})).unwrap().scope else {
        panic!()
    };
    assert_eq!(listed.len(), 1);
}

#[test]
fn a_window_is_open_from_its_first_moment_to_just_before_its_last() {
    let manifest = json!({"policy": "Consumers",
        "window": {"schedule": "0 2 * * *", "duration": "3h", "timeZone": "Europe/Berlin"}});
    let window = parse(manifest).unwrap().window.unwrap();
    let wait = |now: &str| window.wait(now.parse().unwrap()).as_millis();
    assert_eq!(wait("2026-11-10T00:59:59.999Z"), 1);
    assert_eq!(wait("2026-11-10T01:00:00Z"), 0, "it opens");
    assert_eq!(wait("2026-11-10T03:59:59.999Z"), 0);
    assert_eq!(wait("2026-11-10T04:00:00Z"), 21 * 3_600_000, "it is closed");
    assert_eq!(wait("2026-11-10T12:00:00Z"), 13 * 3_600_000);
}

#[test]
fn windows_that_overlap_are_always_open() {
    let manifest = json!({"policy": "Consumers", "window": {"schedule": "0 * * * *", "duration": "2h"}});
    let window = parse(manifest).unwrap().window.unwrap();
    for now in ["2026-11-10T00:00:00Z", "2026-11-10T00:30:00Z", "2026-11-10T23:59:59Z"] {
        assert_eq!(window.wait(now.parse().unwrap()), Duration::ZERO, "{now}");
    }
}
