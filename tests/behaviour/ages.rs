//! How old keys are, and whether rotation rules are due.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::restart::{audited_writes, versions};
use crate::support::serving::get;
use crate::support::world::CANARY;
use crate::support::{Fault, World, eventually};

const DAY: Duration = Duration::from_secs(86_400);

fn contact() -> Value {
    json!({"name": "Growth team", "email": "growth@example.com"})
}

/// A binding of the secret `app` with these rules.
fn spec(world: &World, rules: &Value) -> Value {
    json!({"dataFrom": [{"secret": world.secret_id("app")}], "rotation": rules})
}

/// When each ruled key was last changed, in seconds since 1970, and whether it may be older.
async fn ages(world: &World, binding: &str) -> BTreeMap<String, (i64, bool)> {
    let status = world.bindings().get(binding).await.unwrap().status.unwrap_or_default();
    let keys = status.rotation.into_iter().flat_map(|rule| rule.keys);
    keys.filter_map(|age| Some((age.key, (age.last_rotated_time?.0.as_second(), age.at_least)))).collect()
}

async fn wait_ages(world: &World, binding: &str, expected: &[(&str, i64, bool)]) {
    let expected: BTreeMap<String, (i64, bool)> =
        expected.iter().map(|(key, second, at_least)| ((*key).to_owned(), (*second, *at_least))).collect();
    let started = std::time::Instant::now();
    loop {
        let ages = ages(world, binding).await;
        if ages == expected {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{ages:?} should be {expected:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The reads for ages so far, each by what it served.
fn age_reads(world: &World) -> usize {
    world.records().iter().filter(|record| record["served"][0]["reason"] == "age").count()
}

fn days_ago(days: u32) -> (SystemTime, i64) {
    let time = SystemTime::now() - DAY * days;
    let second = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    (time, i64::try_from(second).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_goes_its_way_by_the_clock_and_each_step_has_its_event() {
    let (world, aws) = World::with_stand_in("clock").await;
    let app = world.secret_id("app");
    let value = |n: u32| format!(r#"{{"COOKIE": "{CANARY}-{n}", "OTHER": "{CANARY}"}}"#);
    aws.put(&app, &value(1));
    let operator = world.operator();
    world.bind("app", spec(&world, &json!([]))).await;
    world.wait_ready("app").await;
    // Each state lasts for twenty seconds, so that also a busy machine sees it.
    aws.put(&app, &value(2));
    let rules =
        json!([{"name": "session", "keys": ["COOKIE"], "every": "40s", "warnBefore": "20s", "contact": contact()}]);
    world.bind("app", spec(&world, &rules)).await;
    world.annotate("app", "bindery.dev/sync", "0").await;
    world.wait("app", "RotationCurrent", "True/Current").await;
    world.wait("app", "RotationCurrent", "True/DueSoon").await;
    let message = world.wait("app", "RotationCurrent", "False/RotationOverdue").await;
    for part in ["\"session\"", "COOKIE", "Growth team, growth@example.com"] {
        assert!(message.contains(part), "{message}");
    }
    world.wait("app", "Ready", "True/Published").await;
    let status = world.bindings().get("app").await.unwrap().status.unwrap();
    let rule = &status.rotation[0];
    assert_eq!(status.rotation_state.as_deref(), Some("Overdue"));
    assert_eq!(status.next_rotation_time, rule.next_rotation_time);
    let (rotated, due) = (rule.last_rotated_time.clone().unwrap().0, rule.next_rotation_time.clone().unwrap().0);
    assert_eq!(due.duration_since(rotated).as_secs(), 40);
    let told = status.conditions.iter().find(|condition| condition.type_ == "RotationCurrent").unwrap();
    let late = told.last_transition_time.0.duration_since(due);
    // Nothing else would wake it before the sweep, a minute apart.
    assert!((0..=10).contains(&late.as_secs()), "the operator wakes when the rule is due, not {late} later");

    let series = format!("bindery_rotation_next_timestamp_seconds{{namespace=\"{}\",name=\"app\"}}", world.namespace);
    let metrics = || async { get(&operator.address, "/metrics").await.map(|(_, text)| text) };
    assert!(metrics().await.unwrap().contains(&format!("{series} {}", due.as_second())));

    // Another key is no rotation; the key is.
    aws.put(&app, &format!(r#"{{"COOKIE": "{CANARY}-2", "OTHER": "{CANARY}-2"}}"#));
    world.annotate("app", "bindery.dev/sync", "1").await;
    world.wait_value("app", "OTHER", &format!("{CANARY}-2")).await;
    world.wait("app", "RotationCurrent", "False/RotationOverdue").await;
    aws.put(&app, &value(3));
    world.annotate("app", "bindery.dev/sync", "2").await;
    world.wait("app", "RotationCurrent", "True/Current").await;
    let events: Vec<String> = eventually("all Events", Duration::from_secs(60), || async {
        let events = world.events("app").await;
        let of_rule = |event: &&String| event.contains("\"session\"");
        let events: Vec<String> = events.iter().filter(of_rule).cloned().collect();
        (events.len() >= 3).then_some(events)
    })
    .await;
    let kinds: Vec<&str> = events.iter().map(|event| event.split(':').next().unwrap()).collect();
    assert_eq!(kinds, ["Warning/DueSoon", "Warning/RotationOverdue", "Normal/Current"]);
    assert!(events[1].contains("Growth team, growth@example.com"), "{events:?}");

    // The series go with the rule.
    world.bind("app", spec(&world, &json!([]))).await;
    eventually("the series to go", Duration::from_secs(60), || async {
        metrics().await.filter(|text| !text.contains(&series)).map(|_| ())
    })
    .await;
    assert_eq!(world.condition("app", "RotationCurrent").await, None);
    assert_eq!(world.bindings().get("app").await.unwrap().status.unwrap().rotation_state, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_sight_looks_back_once_and_an_age_outlives_restarts_edits_and_the_secret() {
    let (world, aws) = World::with_stand_in("sight").await;
    let app = world.secret_id("app");
    let value = |a: u32, b: u32| format!(r#"{{"A": "{CANARY}-{a}", "B": "{CANARY}-{b}"}}"#);
    let put = |days: u32, text: String| {
        let (time, second) = days_ago(days);
        aws.put_at(&app, &text, time);
        second
    };
    put(40, value(1, 1));
    let a = put(30, value(2, 1));
    let b = put(20, value(2, 2));
    let c = put(10, format!(r#"{{"A": "{CANARY}-2", "B": "{CANARY}-2", "C": "{CANARY}"}}"#));
    let mut operator = world.operator();
    let rules = json!([{"name": "both", "keys": ["A", "B"], "every": "25d"}]);
    world.bind("app", spec(&world, &rules)).await;
    world.wait_ready("app").await;
    wait_ages(&world, "app", &[("A", a, false), ("B", b, false)]).await;
    let message = world.wait("app", "RotationCurrent", "False/RotationOverdue").await;
    assert!(message.contains("A was last changed at"), "{message}");
    assert_eq!(age_reads(&world), 3, "back to the version in which A is another");

    let quiet = |what: &'static str| {
        let (world, reads) = (&world, age_reads(&world));
        move || assert_eq!(age_reads(world), reads, "{what}")
    };
    // After a restart nothing is asked again.
    let unchanged = quiet("a restart");
    let before = versions(&world).await;
    operator.kill();
    operator.restart();
    tokio::time::sleep(Duration::from_secs(5)).await;
    unchanged();
    assert_eq!(versions(&world).await, before);
    // A deleted Secret comes back and is as old as before.
    world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    eventually("the Secret to be back", Duration::from_secs(60), || async { world.data("app").await.map(|_| ()) })
        .await;
    wait_ages(&world, "app", &[("A", a, false), ("B", b, false)]).await;
    unchanged();
    // Keys may go to other rules, and rules may get other names.
    let rules = json!([{"name": "one", "keys": ["B"], "every": "25d"}, {"name": "two", "keys": ["A"], "every": "90d"}]);
    world.bind("app", spec(&world, &rules)).await;
    world.wait("app", "RotationCurrent", "True/Current").await;
    wait_ages(&world, "app", &[("A", a, false), ("B", b, false)]).await;
    unchanged();
    // A key that is newly ruled is read once and looked for in older versions.
    let rules = json!([{"name": "three", "keys": ["A", "C"], "every": "90d"}]);
    world.bind("app", spec(&world, &rules)).await;
    wait_ages(&world, "app", &[("A", a, false), ("C", c, false)]).await;
    assert_eq!(age_reads(&world), 5, "the present version, and the one in which C is not");
    // The loss of the fingerprint key is no change.
    let unchanged = quiet("another fingerprint key");
    let fingerprint = |world: &World| {
        let bindings = world.bindings();
        async move { bindings.get("app").await.unwrap().status.unwrap().rotation[0].keys[0].fingerprint.clone() }
    };
    let old = fingerprint(&world).await;
    operator.kill();
    let key = format!("bindery-{}-fingerprint-key", world.namespace);
    world.secrets().delete(&key, &DeleteParams::default()).await.unwrap();
    operator.restart();
    eventually("another fingerprint", Duration::from_secs(60), || async {
        (fingerprint(&world).await != old).then_some(())
    })
    .await;
    wait_ages(&world, "app", &[("A", a, false), ("C", c, false)]).await;
    unchanged();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_seen_of_older_versions_is_no_failure_and_is_said() {
    let (world, aws) = World::with_stand_in("unseen").await;
    let app = world.secret_id("app");
    let value = |n: u32| format!(r#"{{"A": "{CANARY}-{n}"}}"#);
    aws.put_at(&app, &value(1), days_ago(40).0);
    let (time, since) = days_ago(30);
    aws.put_at(&app, &value(2), time);
    // A passing failure: published all the same, and looked at later.
    world.proxy.fail(&["ListSecretVersionIds"], Fault::Error(500, "InternalServiceError", "try again"));
    let _operator = world.operator();
    let rules = json!([{"name": "r", "keys": ["A"], "every": "7d"}]);
    world.bind("app", spec(&world, &rules)).await;
    world.wait_ready("app").await;
    let message = world.wait("app", "RotationCurrent", "Unknown/NotEvaluated").await;
    assert!(message.contains("not known yet"), "{message}");
    world.proxy.heal();
    wait_ages(&world, "app", &[("A", since, false)]).await;
    world.wait("app", "Ready", "True/Published").await;
    // A refusal is final.
    world
        .proxy
        .fail(&["ListSecretVersionIds"], Fault::Error(400, "AccessDeniedException", "User: x is not authorized"));
    let refused = world.secret_id("refused");
    aws.put_at(&refused, &value(3), time);
    let spec = json!({"dataFrom": [{"secret": refused}], "rotation": rules});
    world.bind("refused", spec).await;
    wait_ages(&world, "refused", &[("A", since, true)]).await;
    let message = world.wait("refused", "RotationCurrent", "False/RotationOverdue").await;
    assert!(message.contains("or before (older versions cannot be seen)"), "{message}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_is_overdue_until_the_key_is_changed() {
    let world = World::new("emergency").await;
    world.put("app", &json!({"A": format!("{CANARY}-1")})).await;
    let _operator = world.operator();
    let rules =
        json!([{"name": "meta", "keys": ["A"], "contact": contact()}, {"name": "slow", "keys": ["A"], "every": "90d"}]);
    world.bind("app", spec(&world, &rules)).await;
    world.wait("app", "RotationCurrent", "True/Current").await;
    world.annotate("app", "bindery.dev/rotation", "emergency-meat").await;
    eventually("the complaint", Duration::from_secs(60), || async {
        let events = world.events("app").await;
        events.iter().any(|event| event.starts_with("Warning/InvalidSpec") && event.contains("\"meat\"")).then_some(())
    })
    .await;
    let message = world.wait("app", "RotationCurrent", "True/Current").await;
    assert!(message.contains("meat"), "{message}");
    world.annotate("app", "bindery.dev/rotation", "emergency-meta").await;
    let message = world.wait("app", "RotationCurrent", "False/RotationOverdue").await;
    assert!(message.contains("emergency") && message.contains("Growth team"), "{message}");
    world.wait("app", "Ready", "True/Published").await;
    world.put("app", &json!({"A": format!("{CANARY}-2")})).await;
    world.annotate("app", "bindery.dev/sync", "1").await;
    world.wait("app", "RotationCurrent", "True/Current").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_bindings_with_rules_cost_little_at_first_sight_and_nothing_after() {
    let (world, aws) = World::with_stand_in("many").await;
    let app = world.secret_id("app");
    for (days, value) in [(30, 1), (20, 1), (10, 1)] {
        aws.put_at(&app, &format!(r#"{{"A": "{CANARY}-{value}", "B": "{CANARY}-{days}"}}"#), days_ago(days).0);
    }
    let rules = json!([{"name": "a", "keys": ["A"], "every": "365d", "warnBefore": "30d"}, {"name": "b", "keys": ["B"], "schedule": "0 9 1 1 *"}]);
    let names: Vec<String> = (0..100).map(|n| format!("b{n}")).collect();
    for name in &names {
        world.bind(name, spec(&world, &rules)).await;
    }
    let mut operator = world.operator();
    for name in &names {
        world.wait(name, "RotationCurrent", "True/Current").await;
    }
    let lists = world.proxy.count("ListSecretVersionIds");
    let reads = world.proxy.count("GetSecretValue") + world.proxy.count("BatchGetSecretValue");
    assert!(lists <= 20 && reads <= 40, "one walk serves those who ask together: {lists} lists, {reads} reads");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (before, written) = (versions(&world).await, audited_writes(&world));
    operator.kill();
    operator.restart();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(operator.is_running());
    assert_eq!(versions(&world).await, before);
    assert_eq!(audited_writes(&world), written);
    assert_eq!(world.proxy.count("GetSecretValue") + world.proxy.count("BatchGetSecretValue"), reads);
    assert_eq!(world.proxy.count("ListSecretVersionIds"), lists);
    world.end().await;
}
