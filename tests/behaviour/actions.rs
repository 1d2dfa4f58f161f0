//! What is done when a rule is due, in front of a Secrets Manager whose dates and labels are right.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::standin::StandIn;
use crate::support::aws_proxy::Fault;
use crate::support::{World, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// Lets the grant of a world allow actions.
async fn allow(world: &World, rotation: Value) {
    let spec = json!({
        "namespaces": {"names": [world.namespace]}, "secrets": [{"name": format!("{}/*", world.namespace)}],
        "aws": {"region": "eu-west-1"}, "rotation": rotation,
    });
    world.grant_with(&world.namespace.clone(), spec).await;
}

/// A binding of the secret `app` with one rule.
async fn bind(world: &World, name: &str, secrets: &[&str], rule: &Value) {
    let sources: Vec<Value> = secrets.iter().map(|secret| json!({"secret": world.secret_id(secret)})).collect();
    let spec = json!({"dataFrom": sources, "refreshInterval": "10s", "rotation": [rule]});
    world.bind(name, spec).await;
}

async fn emergency(world: &World, binding: &str, rule: &str) {
    world.annotate(binding, "bindery.dev/rotation", &format!("emergency-{rule}")).await;
}

async fn text(world: &World, secret: &str) -> String {
    let value = world.aws.get_secret_value().secret_id(world.secret_id(secret)).send().await.unwrap();
    value.secret_string.unwrap()
}

/// The labels of each version of a secret, those without any included.
async fn versions(world: &World, secret: &str) -> BTreeMap<String, Vec<String>> {
    let list = world.aws.list_secret_version_ids().secret_id(world.secret_id(secret)).include_deprecated(true);
    let versions = list.send().await.unwrap().versions.unwrap();
    versions.into_iter().map(|v| (v.version_id.unwrap(), v.version_stages.unwrap_or_default())).collect()
}

fn is_new(value: &str) -> bool {
    value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Waits until a key is published with a value that was made, and the rule is quiet again.
async fn rotated(world: &World, binding: &str, key: &str) -> String {
    let what = format!("{key} of {binding} to be new");
    let value = eventually(&what, LIMIT, || async {
        world.data(binding).await.and_then(|data| data.get(key).cloned()).filter(|value| is_new(value))
    })
    .await;
    world.note_value(&value);
    world.wait(binding, "RotationCurrent", "True/Current").await;
    value
}

fn generating(world: &World, keys: &[&str]) -> Value {
    json!([{"action": "Generate", "secrets": [format!("{}/*", world.namespace)], "keys": keys}])
}

fn rule(keys: &[&str]) -> Value {
    json!({"name": "key", "keys": keys, "every": "90d", "action": "Generate",
           "generate": {"bytes": 32, "encoding": "Hex"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn new_values_are_made_for_the_keys_that_are_due_and_nothing_else_changes() {
    let (world, stand_in) = World::with_stand_in("made").await;
    allow(&world, generating(&world, &["A", "B"])).await;
    let old = "{\n  \"A\": \"old-a\",\t\"deep\": {\"A\": \"stays\"}, \"B\":\"old-b\", \"C\": 7 }";
    stand_in.put(&world.secret_id("app"), old);
    let _operator = world.operator();
    bind(&world, "worker", &["app"], &rule(&["A", "B"])).await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    emergency(&world, "worker", "key").await;
    let (a, b) = (rotated(&world, "worker", "A").await, rotated(&world, "worker", "B").await);
    assert_ne!(a, b);
    assert_eq!(text(&world, "app").await, old.replace("old-a", &a).replace("old-b", &b));
    let labels: Vec<_> = versions(&world, "app").await.into_values().collect();
    assert_eq!(labels.len(), 2, "{labels:?}");
    assert!(labels.iter().flatten().all(|label| ["AWSCURRENT", "AWSPREVIOUS"].contains(&label.as_str())), "{labels:?}");
    let status = world.bindings().get("worker").await.unwrap().status.unwrap();
    assert_eq!((&status.rotation[0].acted_for, &status.rotation[0].emergency_since), (&None, &None));
    let events = world.events("worker").await;
    assert!(events.iter().any(|event| event.starts_with("Normal/Rotating")), "{events:?}");
    let writes = world.writes();
    let told: Vec<String> =
        writes.iter().map(|r| format!("{} {}", r["operation"], r["outcome"]).replace('"', "")).collect();
    assert_eq!(
        told,
        [
            "PutSecretValue intended",
            "PutSecretValue written",
            "UpdateSecretVersionStage intended",
            "UpdateSecretVersionStage written",
            "UpdateSecretVersionStage intended",
            "UpdateSecretVersionStage written",
        ]
    );
    for record in &writes {
        assert_eq!(
            (&record["binding"], &record["rule"], &record["keys"]),
            (&json!("worker"), &json!("key"), &json!(["A", "B"]))
        );
    }
    let written = writes.iter().filter(|record| record["outcome"] == "written");
    assert!(written.clone().count() == 3 && written.clone().all(|record| record["requestId"].is_string()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_does_not_allow_it_is_named_and_nothing_is_written() {
    let (world, stand_in) = World::with_stand_in("refused").await;
    allow(&world, generating(&world, &["OTHER"])).await;
    stand_in.put(&world.secret_id("app"), r#"{"A": "old"}"#);
    let _operator = world.operator();
    bind(&world, "worker", &["app"], &rule(&["A"])).await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    emergency(&world, "worker", "key").await;
    let message = world.wait("worker", "RotationCurrent", "False/RotationFailed").await;
    assert!(
        message.contains("does not allow Generate for the key \"A\"") && message.contains(&world.namespace),
        "{message}"
    );
    world.wait_ready("worker").await;
    assert_eq!(world.writes(), Vec::<Value>::new());
    // The grant is no object that the action waits for, so it is looked at again after a while.
    allow(&world, generating(&world, &["A"])).await;
    rotated(&world, "worker", "A").await;
    world.end().await;
}

/// Waits until AWS has been asked for an operation so often.
async fn asked(stand_in: &StandIn, operation: &str, times: u64) {
    let what = format!("{times} calls of {operation}");
    eventually(&what, LIMIT, || async {
        (stand_in.counts().get(operation).copied().unwrap_or_default() >= times).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_around_a_write_goes_on_with_the_same_value() {
    for (operation, times) in [("PutSecretValue", 1), ("UpdateSecretVersionStage", 1), ("UpdateSecretVersionStage", 2)]
    {
        for arrives in [true, false] {
            let (world, stand_in) = World::with_stand_in("killed").await;
            allow(&world, generating(&world, &["A"])).await;
            stand_in.put(&world.secret_id("app"), r#"{"A": "old", "B": "stays"}"#);
            let mut operator = world.operator();
            bind(&world, "worker", &["app"], &rule(&["A"])).await;
            world.wait("worker", "RotationCurrent", "True/Current").await;
            // Either AWS has the call and its answer is lost, or the call never comes to AWS.
            let fault = if arrives { Fault::Slow(LIMIT) } else { Fault::Hangup };
            if times == 1 {
                world.proxy.fail(&[operation], fault.clone());
            }
            emergency(&world, "worker", "key").await;
            if times == 2 {
                asked(&stand_in, operation, 1).await;
                world.proxy.fail(&[operation], fault);
            }
            if arrives {
                asked(&stand_in, operation, times).await;
            } else {
                eventually("a write that was cut off", LIMIT, || async {
                    world.writes().iter().any(|record| record["operation"] == operation).then_some(())
                })
                .await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            operator.kill();
            world.proxy.heal();
            operator.restart();
            let value = rotated(&world, "worker", "A").await;
            assert_eq!(text(&world, "app").await, format!("{{\"A\": \"{value}\", \"B\": \"stays\"}}"));
            let labels: Vec<_> = versions(&world, "app").await.into_values().collect();
            let case = format!("{operation} {times} {arrives}: {labels:?}");
            assert_eq!(labels.len(), 2, "{case}");
            assert!(labels.iter().flatten().all(|label| label != "BinderyPending"), "{case}");
            drop(operator);
            world.end_without_records().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_another_key_between_read_and_move_is_kept() {
    let (world, stand_in) = World::with_stand_in("edited").await;
    allow(&world, generating(&world, &["A"])).await;
    stand_in.put(&world.secret_id("app"), r#"{"A": "old", "B": "before"}"#);
    let _operator = world.operator();
    bind(&world, "worker", &["app"], &rule(&["A"])).await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    world.proxy.fail(&["PutSecretValue"], Fault::Slow(Duration::from_secs(3)));
    emergency(&world, "worker", "key").await;
    asked(&stand_in, "PutSecretValue", 1).await;
    stand_in.put(&world.secret_id("app"), r#"{"A": "old", "B": "after"}"#);
    world.proxy.heal();
    let value = rotated(&world, "worker", "A").await;
    assert_eq!(text(&world, "app").await, format!("{{\"A\": \"{value}\", \"B\": \"after\"}}"));
    let made =
        versions(&world, "app").await.into_values().filter(|labels| labels.iter().any(|label| label == "AWSCURRENT"));
    assert_eq!(made.count(), 1);
    world.wait_value("worker", "B", "after").await;
    world.end_without_records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_value_comes_into_the_secrets_of_all_bindings_of_a_group() {
    let (world, stand_in) = World::with_stand_in("group").await;
    allow(&world, generating(&world, &["KEY"])).await;
    for secret in ["app", "worker"] {
        stand_in.put(&world.secret_id(secret), &format!("{{\"KEY\": \"old-value\", \"NAME\": \"{secret}\"}}"));
    }
    let _operator = world.operator();
    for name in ["app", "worker"] {
        let mut rule = rule(&["KEY"]);
        rule["overlap"] = json!({"strategy": "Staged", "hold": "1h"});
        let spec = json!({
            "dataFrom": [{"secret": world.secret_id(name)}], "refreshInterval": "10s", "rotation": [rule],
            "restart": {"policy": "Consumers"},
        });
        world.bind(name, spec).await;
        world.wait("worker".min(name), "Ready", "True/Published").await;
    }
    world.wait_ready("worker").await;
    emergency(&world, "app", "key").await;
    let key = |text: String| serde_json::from_str::<Value>(&text).unwrap()["KEY"].as_str().unwrap().to_owned();
    let value = eventually("one new value in both secrets", LIMIT, || async {
        let values = (key(text(&world, "app").await), key(text(&world, "worker").await));
        (is_new(&values.0) && values.0 == values.1).then_some(values.0)
    })
    .await;
    world.note_value(&value);
    for secret in ["app", "worker"] {
        assert_eq!(text(&world, secret).await, format!("{{\"KEY\": \"{value}\", \"NAME\": \"{secret}\"}}"));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stand_in.counts()["PutSecretValue"], 2, "each secret is written once");
    world.end_without_records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_manager_is_asked_once_to_rotate_and_its_new_value_is_published() {
    let (world, stand_in) = World::with_stand_in("rotates").await;
    let granted = json!([{"action": "RotateSecret", "secrets": [format!("{}/*", world.namespace)], "keys": ["*"]}]);
    allow(&world, granted).await;
    stand_in.put(&world.secret_id("app"), r#"{"A": "old"}"#);
    set_up_rotation(&world).await;
    let _operator = world.operator();
    let rule = json!({"name": "key", "keys": ["A"], "every": "90d", "action": "RotateSecret"});
    bind(&world, "worker", &["app"], &rule).await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    stand_in.reset();
    emergency(&world, "worker", "key").await;
    world.wait("worker", "RotationCurrent", "True/Rotating").await;
    world.wait_value("worker", "A", "old-rotated").await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    assert_eq!(stand_in.counts()["RotateSecret"], 1);
    world.end().await;
}

/// Has Secrets Manager rotate the secret `app` by a function when it is asked to.
async fn set_up_rotation(world: &World) {
    let lambda = "arn:aws:lambda:eu-west-1:123456789012:function:rotate";
    let set_up = world.aws.rotate_secret().secret_id(world.secret_id("app")).rotation_lambda_arn(lambda);
    set_up.rotate_immediately(false).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bindings_and_an_operator_that_is_killed_rotate_once_for_each_due_date() {
    const DAYS: Duration = Duration::from_secs(90 * 86_400);
    // Either AWS has the call and its answer is lost, or the call never comes to AWS.
    for arrives in [true, false] {
        let (world, stand_in) = World::with_stand_in("due").await;
        let granted = json!([{"action": "RotateSecret", "secrets": [format!("{}/*", world.namespace)], "keys": ["*"]}]);
        allow(&world, granted).await;
        let soon = SystemTime::now() + Duration::from_secs(10);
        stand_in.put_at(&world.secret_id("app"), r#"{"A": "old"}"#, soon - DAYS);
        set_up_rotation(&world).await;
        stand_in.reset();
        world.proxy.fail(&["RotateSecret"], if arrives { Fault::Slow(LIMIT) } else { Fault::Hangup });
        let mut operator = world.operator();
        let rule = json!({"name": "key", "keys": ["A"], "every": "90d", "action": "RotateSecret"});
        for name in ["app", "worker"] {
            bind(&world, name, &["app"], &rule).await;
        }
        if arrives {
            asked(&stand_in, "RotateSecret", 1).await;
        } else {
            eventually("a call that was cut off", LIMIT, || async {
                world.writes().iter().any(|record| record["operation"] == "RotateSecret").then_some(())
            })
            .await;
        }
        operator.kill();
        world.proxy.heal();
        operator.restart();
        for name in ["app", "worker"] {
            world.wait_value(name, "A", "old-rotated").await;
            world.wait(name, "RotationCurrent", "True/Current").await;
        }
        let labels: Vec<_> = versions(&world, "app").await.into_values().collect();
        assert_eq!(labels.len(), 2, "one new version, whose call arrived before the kill: {arrives}; {labels:?}");
        drop(operator);
        world.end_without_records().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_set_up_for_rotation_is_named() {
    let (world, stand_in) = World::with_stand_in("unset").await;
    let granted = json!([{"action": "RotateSecret", "secrets": [format!("{}/*", world.namespace)], "keys": ["*"]}]);
    allow(&world, granted).await;
    stand_in.put(&world.secret_id("app"), r#"{"A": "old"}"#);
    let _operator = world.operator();
    let rule = json!({"name": "key", "keys": ["A"], "every": "90d", "action": "RotateSecret"});
    bind(&world, "worker", &["app"], &rule).await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    emergency(&world, "worker", "key").await;
    let message = world.wait("worker", "RotationCurrent", "False/RotationFailed").await;
    assert!(message.contains("set up its rotation there"), "{message}");
    world.end().await;
}

async fn jobs(world: &World) -> Vec<Job> {
    Api::<Job>::namespaced(world.client.clone(), &world.namespace).list(&ListParams::default()).await.unwrap().items
}

async fn one_job(world: &World) -> Job {
    eventually("one Job", LIMIT, || async {
        let mut jobs = jobs(world).await;
        assert!(jobs.len() <= 1, "{jobs:?}");
        jobs.pop()
    })
    .await
}

async fn end_job(world: &World, name: &str, conditions: Value) {
    let api: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    let now = "2026-01-01T00:00:00Z";
    let mut status = json!({"startTime": now, "conditions": conditions});
    if status["conditions"][0]["type"] == "SuccessCriteriaMet" {
        status["completionTime"] = json!(k8s_openapi::jiff::Timestamp::now().to_string());
    }
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({"status": status}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_run_once_for_all_bindings_with_the_rule_and_again_only_when_it_is_deleted() {
    let (world, stand_in) = World::with_stand_in("jobs").await;
    allow(&world, json!([{"action": "RunJob", "secrets": [format!("{}/*", world.namespace)], "keys": ["*"]}])).await;
    stand_in.put(&world.secret_id("app"), r#"{"COOKIE": "old", "OTHER": "x"}"#);
    let cron_jobs: Api<CronJob> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut cron_job = json!({
        "metadata": {"name": "renew"},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {
            // Whoever controls it says what becomes of it: here the test does.
            "managedBy": "example.com/test", "ttlSecondsAfterFinished": 1,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "example.com/c"}]}},
        }}},
    });
    cron_jobs.create(&PostParams::default(), &serde_json::from_value(cron_job.clone()).unwrap()).await.unwrap();
    let _operator = world.operator();
    let rule = json!({"name": "session", "keys": ["COOKIE"], "every": "7d", "action": "RunJob", "runJob": {"cronJob": "renew"}});
    bind(&world, "worker", &["app"], &rule).await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    emergency(&world, "worker", "session").await;
    let message = world.wait("worker", "RotationCurrent", "False/RotationFailed").await;
    assert!(message.contains("bindery.dev/run=allowed"), "{message}");
    assert!(jobs(&world).await.is_empty());

    cron_job["metadata"]["annotations"] = json!({"bindery.dev/run": "allowed"});
    cron_jobs.patch("renew", &PatchParams::default(), &Patch::Merge(&cron_job)).await.unwrap();
    // A touch lets a pass begin, which looks at what failed only after a while.
    let first = one_job(&world).await;
    let name = first.metadata.name.clone().unwrap();
    let owner = &first.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("SecretBinding", "worker"));
    assert!(first.spec.as_ref().unwrap().ttl_seconds_after_finished.is_none());
    world.wait("worker", "RotationCurrent", "True/Rotating").await;
    end_job(
        &world,
        &name,
        json!([
            {"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"},
            {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"},
        ]),
    )
    .await;
    let message = world.wait("worker", "RotationCurrent", "False/RotationFailed").await;
    assert!(message.contains(&name) && message.contains("BackoffLimitExceeded"), "{message}");

    let api: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    api.delete(&name, &DeleteParams::background()).await.unwrap();
    let again = eventually("the Job to run again", Duration::from_secs(90), || async {
        jobs(&world).await.into_iter().find(|job| job.metadata.uid != first.metadata.uid)
    })
    .await;
    assert_eq!(again.metadata.name.as_deref(), Some(name.as_str()));
    stand_in.put(&world.secret_id("app"), r#"{"COOKIE": "new-cookie", "OTHER": "x"}"#);
    end_job(
        &world,
        &name,
        json!([
            {"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"},
        ]),
    )
    .await;
    world.wait_value("worker", "COOKIE", "new-cookie").await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    assert_eq!(jobs(&world).await.len(), 1);
    world.end().await;
}
