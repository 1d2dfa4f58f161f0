//! Workloads come to run the values that are published: on a real control plane, whose controllers roll them out, and
//! with nodes whose pods become Ready by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::api_proxy::ApiFault;
use crate::support::operator::Setup;
use crate::support::workloads::{self, apply, manifest};
use crate::support::world::CANARY;
use crate::support::{Operator, World, eventually};

const MARK: &str = "secrets.bindery.dev/env";

/// The longest that a restart may take here: two seconds to settle, the controllers, and a look every few seconds.
const LIMIT: Duration = Duration::from_secs(90);

/// The payload of the guide's secret, as far as it matters here; `cookie` is what changes.
fn payload(cookie: &str, database: &str) -> Value {
    json!({"TIKTOK_COOKIE": format!("{CANARY}-cookie-{cookie}"), "DATABASE_URL": format!("{CANARY}-url-{database}")})
}

fn by_key(key: &str) -> Value {
    json!({"env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "env", "key": key}}}]})
}

fn whole() -> Value {
    workloads::whole("env")
}

fn api(world: &World, kind: &str) -> Api<DynamicObject> {
    workloads::api(&world.client, &world.namespace, kind)
}

async fn merge(world: &World, kind: &str, name: &str, patch: Value) {
    api(world, kind).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn pods(world: &World) -> Vec<Pod> {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    api.list(&ListParams::default()).await.unwrap().items
}

/// The uids of the pods of an app that are not being deleted.
async fn uids(world: &World, app: &str) -> Vec<String> {
    let mut uids: Vec<String> = pods(world)
        .await
        .into_iter()
        .filter(|pod| {
            pod.labels().get("app").map(String::as_str) == Some(app) && pod.metadata.deletion_timestamp.is_none()
        })
        .filter_map(|pod| pod.metadata.uid)
        .collect();
    uids.sort();
    uids
}

/// Waits until an app has so many pods, all of them Ready, and answers their uids.
async fn running(world: &World, app: &str, count: usize) -> Vec<String> {
    eventually(&format!("{app} to run"), LIMIT, || async {
        let ready = pods(world).await.into_iter().filter(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            pod.labels().get("app").map(String::as_str) == Some(app)
                && pod.metadata.deletion_timestamp.is_none()
                && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        (ready.count() == count).then_some(())
    })
    .await;
    // So that no pod is of the second of the change that follows.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    uids(world, app).await
}

/// Waits until all pods of an app are others than these.
async fn replaced(world: &World, app: &str, before: &[String]) {
    eventually(&format!("the pods of {app} to be replaced"), LIMIT, || async {
        let now = uids(world, app).await;
        (now.len() >= before.len() && now.iter().all(|uid| !before.contains(uid))).then_some(())
    })
    .await;
}

async fn mark(world: &World, kind: &str, name: &str) -> Option<String> {
    workloads::mark(world, kind, name, "env").await
}

async fn bind(world: &World, restart: Value) {
    let spec = json!({
        "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "env"},
        "refreshInterval": "10s", "restart": restart,
    });
    world.bind("worker", spec).await;
}

fn consumers() -> Value {
    json!({"policy": "Consumers"})
}

/// A world with these workloads at two pods each, a published Secret, and an operator with these flags.
async fn start(name: &str, restart: Value, workloads: &[Value], flags: &[&str]) -> (World, Operator) {
    let world = World::new(name).await;
    world.put("app", &payload("1", "1")).await;
    let flags = flags.iter().map(ToString::to_string).collect();
    let operator = Operator::start(Setup { flags, ..world.setup() });
    bind(&world, restart).await;
    world.wait("worker", "RolledOut", "True/RolledOut").await;
    for workload in workloads {
        apply(&world, "tool", workload).await;
    }
    (world, operator)
}

/// Rolls the value and waits until it is published.
async fn change(world: &World, cookie: &str) {
    world.put("app", &payload(cookie, "1")).await;
    world.annotate("worker", "bindery.dev/sync", cookie).await;
    world.wait_value("env", "TIKTOK_COOKIE", &format!("{CANARY}-cookie-{cookie}")).await;
}

async fn rolled_out(world: &World) -> String {
    // The status may still be of before the change.
    eventually("the rollout to begin", LIMIT, || async {
        let secret = world.secrets().get("env").await.unwrap();
        let changed = secret.annotations().contains_key("bindery.dev/changed");
        let status = world.bindings().get("worker").await.unwrap().status.unwrap();
        let (state, message) = world.condition("worker", "RolledOut").await?;
        let handled = status.rollout.and_then(|rollout| rollout.handled);
        (changed && state == "True/RolledOut" && handled.is_some()).then_some(message)
    })
    .await
}

/// Waits, after what held a rollout up is gone, until it has ended.
async fn ended(world: &World) {
    eventually("the rollout to end", Duration::from_secs(90), || async {
        world.condition("worker", "RolledOut").await.filter(|(state, _)| state == "True/RolledOut")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_restarts_the_pods_that_use_it_and_no_others() {
    let workloads = [
        manifest("Deployment", "cookie", &by_key("TIKTOK_COOKIE")),
        manifest("Deployment", "database", &by_key("DATABASE_URL")),
        manifest("Deployment", "whole", &whole()),
        manifest("StatefulSet", "set", &by_key("TIKTOK_COOKIE")),
        manifest("DaemonSet", "daemon", &whole()),
        manifest("Deployment", "none", &json!({})),
    ];
    let (world, operator) = start("rollout", consumers(), &workloads, &[]).await;
    let mut before = BTreeMap::new();
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(world.client.clone());
    let nodes = nodes.list(&ListParams::default()).await.unwrap().items.len();
    for app in ["cookie", "database", "whole", "set", "daemon", "none"] {
        let count = if app == "daemon" { nodes } else { 2 };
        before.insert(app, running(&world, app, count).await);
    }
    change(&world, "2").await;
    let secret = world.secrets().get("env").await.unwrap();
    assert_eq!(secret.annotations()["bindery.dev/changed"], r#"{"TIKTOK_COOKIE":null}"#);
    for app in ["cookie", "whole", "set", "daemon"] {
        replaced(&world, app, &before[app]).await;
    }
    let message = rolled_out(&world).await;
    assert_eq!(message, "every workload that restarts runs the current values");
    for app in ["database", "none"] {
        assert_eq!(uids(&world, app).await, before[app], "{app}");
        assert_eq!(mark(&world, "Deployment", app).await, None, "{app}");
    }
    let events = world.events("worker").await;
    assert!(events.iter().any(|event| event.starts_with("Normal/RolledOut")), "{events:?}");
    assert!(!events.iter().any(|event| event.starts_with("Warning")), "{events:?}");
    let metrics = reqwest_text(&operator).await;
    assert!(metrics.contains(r#"bindery_restarts_total{kind="Deployment",result="started"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"bindery_restarts_total{kind="Deployment",result="done"} 2"#), "{metrics}");

    // The next change gives the time of the one before.
    world.put("app", &payload("2", "2")).await;
    world.annotate("worker", "bindery.dev/sync", "next").await;
    replaced(&world, "database", &before["database"]).await;
    let secret = world.secrets().get("env").await.unwrap();
    let changed: Value = serde_json::from_str(&secret.annotations()["bindery.dev/changed"]).unwrap();
    assert!(changed["DATABASE_URL"].is_null() && changed["TIKTOK_COOKIE"].is_string(), "{changed}");
    drop(operator);
    world.end().await;
}

async fn reqwest_text(operator: &Operator) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(&operator.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// How often the operator listed workloads of the namespace, by the API server's audit log; `None` where the cluster
/// does not keep one that can be read.
fn lists(world: &World) -> Option<usize> {
    let folder = std::env::var("BINDERY_TEST_CLUSTER").ok()?;
    let log = std::fs::read_to_string(std::path::Path::new(&folder).join("audit.log")).ok()?;
    let user = format!("system:serviceaccount:{0}:bindery-{0}", world.namespace);
    let lists = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|event| {
        event["verb"] == "list"
            && event["user"]["username"] == user.as_str()
            && ["deployments", "pods", "rollouts"]
                .contains(&event["objectRef"]["resource"].as_str().unwrap_or_default())
    });
    Some(lists.count())
}

/// What must not move where nothing is restarted: the pods and the template.
async fn still(world: &World, app: &str) -> (Vec<String>, Option<i64>) {
    let object = api(world, "Deployment").get(app).await.unwrap();
    (uids(world, app).await, object.metadata.generation)
}

#[tokio::test(flavor = "multi_thread")]
async fn first_publication_a_new_start_and_unchanged_values_restart_nothing() {
    let world = World::new("restful").await;
    world.put("app", &payload("1", "1")).await;
    // There before the Secret is.
    apply(&world, "tool", &manifest("Deployment", "whole", &whole())).await;
    eventually("pods", LIMIT, || async { (uids(&world, "whole").await.len() == 2).then_some(()) }).await;
    let mut operator = world.operator();
    bind(&world, consumers()).await;
    world.wait("worker", "RolledOut", "True/RolledOut").await;
    running(&world, "whole", 2).await;
    let before = still(&world, "whole").await;
    assert_eq!(before.1, Some(1));
    // Another version with the same values, a new start, and other ways to restart.
    world.put("app", &payload("1", "1")).await;
    world.annotate("worker", "bindery.dev/sync", "again").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    operator.kill();
    operator.restart();
    world.wait_ready("worker").await;
    bind(&world, json!({"policy": "Never"})).await;
    eventually("the condition to go", LIMIT, || async {
        world.condition("worker", "RolledOut").await.is_none().then_some(())
    })
    .await;
    bind(&world, json!({"policy": "Listed", "workloads": [{"kind": "Deployment", "name": "whole"}]})).await;
    world.wait("worker", "RolledOut", "True/RolledOut").await;
    // The Secret is deleted and comes back as it was.
    world.secrets().delete("env", &DeleteParams::default()).await.unwrap();
    eventually("the Secret to be back", LIMIT, || world.data("env")).await;
    // Without the key of the digests, as after a restore, they mean nothing.
    let key = format!("bindery-{}-fingerprint-key", world.namespace);
    operator.kill();
    world.secrets().delete(&key, &DeleteParams::default()).await.unwrap();
    operator.restart();
    eventually("a new key", LIMIT, || async { world.secrets().get_opt(&key).await.unwrap() }).await;
    world.wait_ready("worker").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(still(&world, "whole").await, before);
    assert!(lists(&world).is_none_or(|lists| lists == 0), "nobody looked at workloads");
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_comes_back_with_other_values_restarts_its_consumers() {
    let (world, mut operator) = start("comeback", consumers(), &[manifest("Deployment", "whole", &whole())], &[]).await;
    let before = running(&world, "whole", 2).await;
    operator.kill();
    world.secrets().delete("env", &DeleteParams::default()).await.unwrap();
    world.put("app", &payload("2", "1")).await;
    operator.restart();
    world.wait_value("env", "TIKTOK_COOKIE", &format!("{CANARY}-cookie-2")).await;
    replaced(&world, "whole", &before).await;
    rolled_out(&world).await;
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_finished_once_by_an_operator_that_is_killed_in_the_middle() {
    let names = ["a", "b", "c", "d"];
    let workloads: Vec<Value> = names.iter().map(|name| manifest("Deployment", name, &whole())).collect();
    let (world, mut operator) = start("killed", consumers(), &workloads, &["--max-rollouts=1"]).await;
    let mut before = BTreeMap::new();
    for name in names {
        before.insert(name, running(&world, name, 2).await);
    }
    change(&world, "2").await;
    // Each time it is ended at another moment.
    for pause in [100, 2100, 2600, 900, 3100] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        operator.kill();
        operator.restart();
    }
    for name in names {
        replaced(&world, name, &before[name]).await;
    }
    rolled_out(&world).await;
    for name in names {
        let generation = api(&world, "Deployment").get(name).await.unwrap().metadata.generation;
        assert_eq!(generation, Some(2), "{name} was restarted once");
    }
    // What is finished costs no look, also for an operator that starts anew. The audit log may lag.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let looked = lists(&world);
    assert!(looked.is_none_or(|lists| lists > 0));
    operator.kill();
    operator.restart();
    world.annotate("worker", "bindery.dev/sync", "after").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(lists(&world), looked);
    drop(operator);
    world.end().await;
}

/// The pending and the failed workloads that the status names.
async fn named(world: &World) -> (Vec<String>, Vec<String>) {
    let rollout = world.bindings().get("worker").await.unwrap().status.unwrap().rollout.unwrap_or_default();
    (rollout.pending, rollout.failed)
}

async fn pending_with(world: &World, text: &str) {
    eventually(&format!("{text:?} to be pending"), LIMIT, || async {
        named(world).await.0.iter().any(|pending| pending.contains(text)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_and_what_waits_for_somebody_holds_no_place() {
    let mut paused = manifest("Deployment", "a-paused", &whole());
    paused["spec"]["paused"] = json!(false);
    let mut on_delete = manifest("StatefulSet", "b-ondelete", &whole());
    on_delete["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let mut partition = manifest("StatefulSet", "c-partition", &whole());
    partition["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    let mut opts_out = manifest("Deployment", "d-out", &whole());
    opts_out["metadata"]["annotations"] = json!({"bindery.dev/restart": "false"});
    let names = ["x", "y", "z"];
    let mut workloads = vec![paused, on_delete, partition, opts_out];
    workloads.extend(names.map(|name| manifest("Deployment", name, &whole())));
    let (world, operator) = start("budget", consumers(), &workloads, &["--max-rollouts=1"]).await;
    let mut before = BTreeMap::new();
    for name in ["a-paused", "b-ondelete", "c-partition", "d-out", "x", "y", "z"] {
        before.insert(name, running(&world, name, 2).await);
    }
    merge(&world, "Deployment", "a-paused", json!({"spec": {"paused": true}})).await;
    change(&world, "2").await;
    let most_at_once = async {
        let mut most = 0;
        loop {
            let mut rolling = 0;
            for name in names {
                let object = api(&world, "Deployment").get(name).await.unwrap();
                let status = &object.data["status"];
                let marked = object.data["spec"]["template"]["metadata"]["annotations"][MARK].is_string();
                let done = status["observedGeneration"].as_i64() == object.metadata.generation
                    && status["updatedReplicas"] == status["replicas"]
                    && status["availableReplicas"] == status["replicas"];
                rolling += usize::from(marked && !done);
            }
            most = most.max(rolling);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut left = 0;
            for name in names {
                left += uids(&world, name).await.iter().filter(|uid| before[name].contains(uid)).count();
            }
            if left == 0 {
                return most;
            }
        }
    };
    let most = tokio::time::timeout(Duration::from_secs(90), most_at_once).await.unwrap();
    assert!(most <= 1, "{most} were restarted at once");
    pending_with(&world, "Deployment a-paused: it is paused").await;
    pending_with(&world, "StatefulSet b-ondelete: its update strategy is OnDelete").await;
    pending_with(&world, "StatefulSet c-partition: its partition keeps the pods below number 1").await;
    let message = world.wait("worker", "RolledOut", "False/RolloutPending").await;
    assert!(message.contains("bindery.dev/restart says: Deployment d-out"), "{message}");
    assert_eq!(uids(&world, "d-out").await, before["d-out"]);
    assert_eq!(uids(&world, "b-ondelete").await, before["b-ondelete"], "Bindery deletes no pods");
    assert_eq!(uids(&world, "a-paused").await, before["a-paused"]);
    assert!(world.condition("worker", "Ready").await.unwrap().0 == "True/Published");

    // Each goes on as soon as somebody does what is said.
    merge(&world, "Deployment", "a-paused", json!({"spec": {"paused": false}})).await;
    merge(
        &world,
        "StatefulSet",
        "c-partition",
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}),
    )
    .await;
    let all: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    all.delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=b-ondelete")).await.unwrap();
    for name in ["a-paused", "b-ondelete", "c-partition"] {
        replaced(&world, name, &before[name]).await;
    }
    ended(&world).await;
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_fails_is_named_and_holds_no_place() {
    let mut bad = manifest("Deployment", "a-bad", &whole());
    bad["spec"]["progressDeadlineSeconds"] = json!(4);
    let good = manifest("Deployment", "b-good", &whole());
    let (world, operator) = start("failing", consumers(), &[bad, good], &["--max-rollouts=1"]).await;
    let (bad, good) = (running(&world, "a-bad", 2).await, running(&world, "b-good", 2).await);
    // From now on its new pods find no node.
    merge(&world, "Deployment", "a-bad", json!({"spec": {"paused": true}})).await;
    let nowhere = json!({"spec": {"template": {"spec": {"nodeSelector": {"nowhere": "true"}}}}});
    merge(&world, "Deployment", "a-bad", nowhere).await;
    merge(&world, "Deployment", "a-bad", json!({"spec": {"paused": false}})).await;
    change(&world, "2").await;
    replaced(&world, "b-good", &good).await;
    let message = world.wait("worker", "RolledOut", "False/RolloutFailed").await;
    assert!(message.contains("Deployment a-bad: restarted at 20"), "{message}");
    assert!(message.contains("its new pods did not become available within its progressDeadlineSeconds"), "{message}");
    assert!(!uids(&world, "a-bad").await.iter().all(|uid| !bad.contains(uid)), "old pods stay");
    assert!(world.condition("worker", "Ready").await.unwrap().0 == "True/Published");
    let cured = json!({"spec": {"template": {"spec": {"nodeSelector": null}}}});
    merge(&world, "Deployment", "a-bad", cured).await;
    ended(&world).await;
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_workloads_restart_also_without_a_reference_and_a_missing_one_is_named() {
    let workloads = ["reads-files", "consumer", "later"].map(|name| json!({"kind": "Deployment", "name": name}));
    let listed = json!({"policy": "Listed", "workloads": [workloads[0], workloads[2]]});
    let manifests = [manifest("Deployment", "reads-files", &json!({})), manifest("Deployment", "consumer", &whole())];
    let (world, operator) = start("listed", listed, &manifests, &[]).await;
    let (listed, consumer) = (running(&world, "reads-files", 2).await, running(&world, "consumer", 2).await);
    change(&world, "2").await;
    replaced(&world, "reads-files", &listed).await;
    pending_with(&world, "Deployment later: does not exist").await;
    assert_eq!(uids(&world, "consumer").await, consumer);
    apply(&world, "tool", &manifest("Deployment", "later", &json!({}))).await;
    rolled_out(&world).await;
    assert_eq!(mark(&world, "Deployment", "later").await, None, "it began with the current values");
    drop(operator);
    world.end().await;
}

/// A window that opens in half a year.
fn in_half_a_year() -> Value {
    let month = (k8s_openapi::jiff::Timestamp::now().strftime("%m").to_string().parse::<u32>().unwrap() + 5) % 12 + 1;
    json!({"policy": "Consumers", "window": {"schedule": format!("0 0 1 {month} *"), "duration": "1h"}})
}

/// A window that opened a minute ago at the latest.
fn at_once() -> Value {
    json!({"policy": "Consumers", "window": {"schedule": "* * * * *", "duration": "2m"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_delays_the_start() {
    let (world, operator) = start("window", in_half_a_year(), &[manifest("Deployment", "whole", &whole())], &[]).await;
    let before = running(&world, "whole", 2).await;
    change(&world, "2").await;
    pending_with(&world, "Deployment whole: waits for spec.restart.window, which opens at ").await;
    assert_eq!(uids(&world, "whole").await, before);
    bind(&world, at_once()).await;
    replaced(&world, "whole", &before).await;
    rolled_out(&world).await;
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_began_with_a_value_in_between_is_restarted_although_the_value_before_came_back() {
    let (world, operator) = start("returns", consumers(), &[manifest("Deployment", "whole", &whole())], &[]).await;
    let first = running(&world, "whole", 2).await;
    change(&world, "2").await;
    replaced(&world, "whole", &first).await;
    rolled_out(&world).await;
    let second = running(&world, "whole", 2).await;
    bind(&world, in_half_a_year()).await;
    change(&world, "3").await;
    pending_with(&world, "Deployment whole: waits for spec.restart.window").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // A node is drained, say: the new pod begins with the value in between.
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let drained = pods(&world).await.into_iter().find(|pod| pod.metadata.uid.as_ref() == second.first()).unwrap();
    api.delete(&drained.name_any(), &DeleteParams::default()).await.unwrap();
    eventually("another pod", LIMIT, || async {
        let now = uids(&world, "whole").await;
        (now.len() == 2 && !now.contains(&second[0])).then_some(())
    })
    .await;
    let between = running(&world, "whole", 2).await;
    change(&world, "2").await;
    pending_with(&world, "Deployment whole: waits for spec.restart.window").await;
    bind(&world, at_once()).await;
    replaced(&world, "whole", &between).await;
    rolled_out(&world).await;
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_that_never_end_in_one_namespace_leave_a_slot_to_others() {
    let (greedy, other) = (World::new("greedy").await, World::new("patient").await);
    let namespaces = vec![greedy.namespace.clone(), other.namespace.clone()];
    // The rights of a world are for its own namespace.
    let variables = vec![("KUBECONFIG".to_owned(), std::env::var("KUBECONFIG").unwrap())];
    let flags = vec!["--max-rollouts=2".to_owned()];
    let operator = Operator::start(Setup { namespaces, flags, variables, ..greedy.setup() });
    for world in [&greedy, &other] {
        world.put("app", &payload("1", "1")).await;
        bind(world, consumers()).await;
        world.wait("worker", "RolledOut", "True/RolledOut").await;
    }
    let names = ["a", "b", "c"];
    for name in names {
        let mut never = manifest("Deployment", name, &whole());
        never["spec"]["progressDeadlineSeconds"] = json!(2_000_000_000);
        never["spec"]["template"]["spec"]["nodeSelector"] = json!({"nowhere": "true"});
        apply(&greedy, "tool", &never).await;
        eventually("its pods", LIMIT, || async { (uids(&greedy, name).await.len() == 2).then_some(()) }).await;
    }
    apply(&other, "tool", &manifest("Deployment", "whole", &whole())).await;
    let before = running(&other, "whole", 2).await;
    change(&greedy, "2").await;
    pending_with(&greedy, "its pods are being replaced").await;
    pending_with(&greedy, "waits for other restarts to end (--max-rollouts)").await;
    change(&other, "2").await;
    replaced(&other, "whole", &before).await;
    rolled_out(&other).await;
    let mut marked = 0;
    for name in names {
        marked += usize::from(mark(&greedy, "Deployment", name).await.is_some());
    }
    assert_eq!(marked, 1, "the slot that is left is for others");
    drop(operator);
    greedy.end_without_records().await;
    other.end_without_records().await;
}

type Change = fn(&mut Value);

/// What is done to the objects of each kind whose name begins with `odd`.
const ODD: [(&str, Change); 3] = [
    ("deployments", |object| {
        if is_odd(object) {
            object["spec"]["replicas"] = json!("as many as there are");
        }
    }),
    ("pods", |object| {
        if is_odd(object) {
            object["metadata"]["creationTimestamp"] = json!("before time");
        }
    }),
    ("secrets", |object| {
        if is_odd(object) {
            object["metadata"]["managedFields"] = json!([{"time": "9999-12-31T23:59:59Z"}, 7]);
        }
    }),
];

fn is_odd(object: &Value) -> bool {
    object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("odd"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_a_pod_or_a_secret_that_cannot_be_read_stops_no_other() {
    let world = World::new("unread").await;
    let proxy = world.api_proxy().await;
    world.put("app", &payload("1", "1")).await;
    for name in ["whole", "odd"] {
        apply(&world, "tool", &manifest("Deployment", name, &whole())).await;
    }
    for (resource, change) in ODD {
        proxy.fail(ApiFault::Alter(change), move |request| request.is_of(resource) && !request.writes());
    }
    let operator = world.operator_through(&proxy, &[]);
    world.bind("odd", json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "odd"}})).await;
    bind(&world, consumers()).await;
    world.wait_ready("worker").await;
    eventually("the odd Secret", LIMIT, || world.data("odd")).await;
    let before = running(&world, "whole", 2).await;
    change(&world, "2").await;
    replaced(&world, "whole", &before).await;
    pending_with(&world, "Deployment odd: cannot be read by this version of Bindery").await;
    pending_with(&world, "the pod odd-").await;
    // A Secret of that kind that the watch shows does not stop what is published after it.
    world.secrets().delete("env", &DeleteParams::default()).await.unwrap();
    eventually("the Secret to be back", LIMIT, || world.data("env")).await;
    proxy.heal();
    rolled_out(&world).await;
    drop(operator);
    world.end().await;
}

/// Applies a manifest as `kubectl apply` does from the client: a three-way merge with the manifest applied before.
fn client_side(world: &World, manifest: &Value) {
    let text = manifest.to_string();
    crate::support::release::run("kubectl", &["apply", "--namespace", &world.namespace, "-f", "-"], Some(&text));
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_are_applied_again_keep_the_mark_and_restart_nothing() {
    let server_side = manifest("Deployment", "by-server", &whole());
    let client = manifest("Deployment", "by-client", &whole());
    let (world, operator) = start("manifests", consumers(), &[], &[]).await;
    apply(&world, "argocd-controller", &server_side).await;
    client_side(&world, &client);
    let mut before = BTreeMap::new();
    for name in ["by-server", "by-client"] {
        before.insert(name, running(&world, name, 2).await);
    }
    change(&world, "2").await;
    for name in ["by-server", "by-client"] {
        replaced(&world, name, &before[name]).await;
    }
    rolled_out(&world).await;
    for name in ["by-server", "by-client"] {
        let (now, marked) = (still(&world, name).await, mark(&world, "Deployment", name).await);
        assert!(marked.is_some());
        apply(&world, "argocd-controller", &server_side).await;
        client_side(&world, &client);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(still(&world, name).await, now, "{name}");
        assert_eq!(mark(&world, "Deployment", name).await, marked, "{name}");
    }
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_is_undone_three_times_is_not_fought_for() {
    let mut slow = manifest("Deployment", "fought", &whole());
    // Pods of the restart never get a node, so that it is never complete.
    slow["spec"]["template"]["spec"]["nodeSelector"] = json!({"type": "kwok"});
    let (world, operator) = start("fought", consumers(), &[slow], &[]).await;
    running(&world, "fought", 2).await;
    let nowhere = json!({"spec": {"template": {"spec": {"nodeSelector": {"nowhere": "true"}}}}});
    merge(&world, "Deployment", "fought", nowhere).await;
    change(&world, "2").await;
    for _ in 0..3 {
        eventually("the mark", LIMIT, || async {
            mark(&world, "Deployment", "fought").await.filter(|mark| mark != "mine")
        })
        .await;
        let removed = json!({"spec": {"template": {"metadata": {"annotations": {MARK: "mine"}}}}});
        let params = PatchParams { field_manager: Some("zealot".to_owned()), ..PatchParams::default() };
        api(&world, "Deployment").patch("fought", &params, &Patch::Merge(&removed)).await.unwrap();
    }
    let message = world.wait("worker", "RolledOut", "False/RolloutFailed").await;
    assert!(
        message.contains("the annotation of the restart was undone 3 times, and \"zealot\" wrote last"),
        "{message}"
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(mark(&world, "Deployment", "fought").await.as_deref(), Some("mine"));
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_rollouts_are_restarted_where_they_are_installed() {
    let world = World::new("argo").await;
    workloads::install_argo_rollouts(&world.client).await;
    world.put("app", &payload("1", "1")).await;
    let operator = world.operator();
    bind(&world, consumers()).await;
    world.wait("worker", "RolledOut", "True/RolledOut").await;
    let rollout = manifest("Rollout", "canary", &whole());
    apply(&world, "tool", &rollout).await;
    // The test plays the controller: it makes the ReplicaSets and the status.
    let replica_sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let status = |generation: i64, updated: i64| {
        let phase = if updated == 1 { "Healthy" } else { "Progressing" };
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "status": {"observedGeneration": generation.to_string(), "phase": phase, "replicas": 1, "updatedReplicas": updated, "availableReplicas": 1}})
    };
    let report = async |generation: i64, updated: i64| {
        let params = PatchParams::apply("argo").force();
        api(&world, "Rollout")
            .patch_status("canary", &params, &Patch::Apply(status(generation, updated)))
            .await
            .unwrap();
    };
    workloads::replica_set(&world, "canary", "1a", &whole()).await;
    running(&world, "canary", 1).await;
    report(1, 1).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    change(&world, "2").await;
    eventually("the mark", LIMIT, || mark(&world, "Rollout", "canary")).await;
    pending_with(&world, "Rollout canary: its pods are being replaced").await;
    let generation = api(&world, "Rollout").get("canary").await.unwrap().metadata.generation.unwrap();
    report(generation, 0).await;
    workloads::replica_set(&world, "canary", "2b", &whole()).await;
    running(&world, "canary", 2).await;
    replica_sets.delete("canary-1a", &DeleteParams::background()).await.unwrap();
    report(generation, 1).await;
    rolled_out(&world).await;
    drop(operator);
    world.end().await;
}
