//! What the operator does with the rights that it has: by default those to publish and no more, and inside a fence.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::operator::{Setup, read_log};
use crate::support::serving::get;
use crate::support::world::{CANARY, DEFAULT_RIGHTS};
use crate::support::{Operator, World, eventually, release, workloads};

/// The tests of publishing, in a process of their own whose worlds have the rights that the chart gives by default. Each
/// world's end compares what its operator asked with what it may.
#[test]
fn what_is_said_of_publishing_holds_under_the_rights_that_the_chart_gives_by_default() {
    if std::env::var_os(DEFAULT_RIGHTS).is_some() {
        return;
    }
    let mut tests = Command::new(std::env::current_exe().unwrap());
    let done = tests.arg("publishing::").env(DEFAULT_RIGHTS, "1").output().unwrap();
    let output = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{output}");
    assert!(output.contains("test publishing::") && output.contains(" 0 failed"), "{output}");
}

/// A binding that needs each of what is off.
async fn bind_all_that_is_off(world: &World) {
    let source = json!([{"secret": world.secret_id("app")}]);
    let rule =
        json!({"name": "renew", "keys": ["A"], "every": "90d", "action": "RunJob", "runJob": {"cronJob": "renew"}});
    world
        .bind("restarts", json!({"grant": world.namespace, "dataFrom": source, "restart": {"policy": "Consumers"}}))
        .await;
    let by_account = format!("{}-account", world.namespace);
    let aws = json!({"region": "eu-west-1", "accountId": "123456789012", "serviceAccountName": "default"});
    let names = json!({"names": [world.namespace]});
    let secrets = json!([{"name": world.secret_id("*")}]);
    world.grant_with(&by_account, json!({"namespaces": names, "secrets": secrets, "aws": aws})).await;
    world.bind("account", json!({"grant": by_account, "dataFrom": source})).await;
    let by_jobs = format!("{}-jobs", world.namespace);
    let rotation = json!([{"action": "RunJob", "secrets": [world.secret_id("*")], "keys": ["*"]}]);
    let aws = json!({"region": "eu-west-1"});
    world
        .grant_with(&by_jobs, json!({"namespaces": names, "secrets": secrets, "aws": aws, "rotation": rotation}))
        .await;
    world.bind("jobs", json!({"grant": by_jobs, "dataFrom": source, "rotation": [rule]})).await;
    world.wait_ready("jobs").await;
    world.annotate("jobs", "bindery.dev/rotation", "emergency-renew").await;
}

/// Ends a world with the grants of [`bind_all_that_is_off`].
async fn end(world: World) {
    for grant in ["account", "jobs"] {
        world.delete_grant(&format!("{}-{grant}", world.namespace)).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_needs_what_is_switched_off_says_which_value_turns_it_on_and_nothing_is_tried() {
    let world = World::with_default_rights("off").await;
    world.put("app", &json!({"A": format!("{CANARY}-value-a")})).await;
    let operator = world.operator();
    bind_all_that_is_off(&world).await;
    for (binding, condition, flag, value) in [
        ("restarts", "RolledOut", "--enable-restarts", "rbac.restarts=true"),
        ("account", "Granted", "--enable-service-account-tokens", "rbac.serviceAccountTokens=true"),
        ("jobs", "RotationCurrent", "--enable-jobs", "rbac.jobs=true"),
    ] {
        let message = world.wait(binding, condition, "False/FeatureOff").await;
        assert!(message.contains(flag) && message.contains(value), "{message}");
        assert!(!message.contains("403"), "{message}");
        eventually("an Event", Duration::from_secs(60), || async {
            world.events(binding).await.iter().any(|event| event.starts_with("Warning/FeatureOff")).then_some(())
        })
        .await;
    }
    // What is off keeps nothing from being published.
    world.wait_ready("restarts").await;
    world.wait_ready("jobs").await;
    world.wait("account", "Ready", "False/FeatureOff").await;
    let by_account = format!("{}-account", world.namespace);
    eventually("the grant to say so", Duration::from_secs(60), || async {
        let grants: Api<bindery::api::SecretGrant> = Api::all(world.client.clone());
        let conditions = grants.get(&by_account).await.unwrap().status?.conditions;
        conditions.iter().any(|condition| condition.reason == "FeatureOff").then_some(())
    })
    .await;
    let user = format!("system:serviceaccount:{0}:bindery-{0}", world.namespace);
    let tried: Vec<String> = release::calls_of(&user).into_iter().map(|call| call.what).collect();
    let of_features = ["batch/", "/serviceaccounts", "patch apps/", "argoproj.io/"];
    let tried: Vec<&String> = tried.iter().filter(|call| of_features.iter().any(|part| call.contains(part))).collect();
    assert!(tried.is_empty(), "{tried:?}");
    drop(operator);

    // Turned on, the same bindings go on without an edit.
    release::install(&format!("bindery-{}", world.namespace), &world.namespace, &world.folder, true);
    let operator = Operator::start(Setup { features: true, ..world.setup() });
    world.wait("restarts", "RolledOut", "True/RolledOut").await;
    world.wait("account", "Granted", "True/Allowed").await;
    let message = world.wait("jobs", "RotationCurrent", "False/RotationFailed").await;
    assert!(message.contains("the CronJob \"renew\" does not exist"), "{message}");
    drop(operator);
    end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_only_where_the_cron_job_and_its_namespace_consent() {
    let world = World::new("consent").await;
    world.put("app", &json!({"A": format!("{CANARY}-value-a")})).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    let consent = |word: Value| Patch::Merge(json!({"metadata": {"annotations": {"bindery.dev/run": word}}}));
    namespaces.patch(&world.namespace, &PatchParams::default(), &consent(json!(null))).await.unwrap();
    workloads::cron_job(&world, "renew").await;
    let operator = world.operator();
    bind_all_that_is_off(&world).await;
    let message = world.wait("jobs", "RotationCurrent", "False/RotationFailed").await;
    assert!(message.contains("Namespace") && message.contains("bindery.dev/run=allowed"), "{message}");
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    assert!(jobs.list(&ListParams::default()).await.unwrap().items.is_empty());
    // Consent is heard at once, not at the next try.
    namespaces.patch(&world.namespace, &PatchParams::default(), &consent(json!("allowed"))).await.unwrap();
    eventually("the Job", Duration::from_secs(45), || async {
        jobs.list(&ListParams::default()).await.unwrap().items.pop()
    })
    .await;
    drop(operator);
    end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_fence_is_away_says_so_and_what_to_do_and_stays_ready() {
    let world = World::new("unfenced").await;
    let policies: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let name = |policy: &str| format!("bindery-{}-{policy}", world.namespace);
    let mut operator = world.operator();
    // The status line and the body of /readyz, and the metrics.
    let told = |address: String| async move {
        let (status, body) = get(&address, "/readyz").await?;
        let (_, metrics) = get(&address, "/metrics").await?;
        Some((status, body, metrics))
    };
    let until = |address: String, policy: &'static str, holds: bool| async move {
        let metric = format!("bindery_fence_active{{policy=\"{policy}\"}} {}", u8::from(holds));
        let line = if holds {
            format!("the admission policy of {policy} fences")
        } else {
            format!("NO FENCE: no admission policy of {policy}")
        };
        eventually(&format!("{policy} to hold: {holds}"), Duration::from_secs(120), || async {
            let (status, body, metrics) = told(address.clone()).await?;
            (metrics.contains(&metric) && body.contains(&line)).then_some((status, body))
        })
        .await
    };
    for policy in ["secrets", "tokens", "jobs"] {
        until(operator.address.clone(), policy, true).await;
    }
    let warnings = || {
        let log = read_log(&world.folder, "operator.log");
        log.lines().filter(|line| line.contains("WARN") && line.contains("no admission policy fences in")).count()
    };
    // A fence that was put up a moment ago may not stand yet at the first test.
    let before = warnings();
    // Taken away while it runs.
    let mut kept = Vec::new();
    for policy in ["secrets", "tokens", "jobs"] {
        kept.push(policies.get(&name(policy)).await.unwrap());
        policies.delete(&name(policy), &DeleteParams::default()).await.unwrap();
    }
    for policy in ["secrets", "tokens", "jobs"] {
        let (status, body) = until(operator.address.clone(), policy, false).await;
        assert!(status.contains("200"), "the operator does its work: {status}");
        assert!(body.contains("admissionPolicy.enabled=true") && body.contains("--fence=none"), "{body}");
    }
    assert_eq!(warnings() - before, 3, "each once");
    // Away at the start.
    assert_eq!(operator.terminate().await, Some(0));
    operator.restart();
    until(operator.address.clone(), "secrets", false).await;
    for mut binding in kept {
        binding.metadata =
            ObjectMeta { name: binding.metadata.name, labels: binding.metadata.labels, ..ObjectMeta::default() };
        policies.create(&PostParams::default(), &binding).await.unwrap();
    }
    until(operator.address.clone(), "jobs", true).await;
    until(operator.address.clone(), "secrets", true).await;
    drop(operator);

    // Away on purpose.
    let operator = Operator::start(Setup { flags: vec!["--fence=none".to_owned()], ..world.setup() });
    world.put("app", &json!({"A": format!("{CANARY}-value-a")})).await;
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    let (_, body, metrics) = told(operator.address.clone()).await.unwrap();
    assert!(!body.contains("admission policy"), "{body}");
    assert!(!metrics.contains("bindery_fence_active{"), "{metrics}");
    drop(operator);
    world.end().await;
}
