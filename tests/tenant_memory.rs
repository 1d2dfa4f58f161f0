//! How much memory one tenant can take from the operator, within what the API server lets anybody store: large bindings,
//! workloads, pods and Secrets, many of each. It runs alone, since it keeps the store of the API server busy.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures for those who read the output of a test")]

#[path = "standin/mod.rs"]
mod standin;
#[path = "behaviour/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the behaviour tests, which use all of it")]
mod support;

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Resource;
use kube::api::PostParams;
use kube::core::Request;
use serde_json::{Value, json};

use support::world::CANARY;
use support::{Operator, World, eventually, workloads};

/// How long a phase may take.
const LIMIT: Duration = Duration::from_secs(300);

/// How many objects of each kind there are; `BINDERY_LARGE_OBJECTS` sets another number.
fn count() -> usize {
    std::env::var("BINDERY_LARGE_OBJECTS").map_or(12, |text| text.parse().unwrap())
}

/// The limit of the chart, in KiB.
fn limit() -> u64 {
    let values = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/bindery/values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let limit = values["resources"]["limits"]["memory"].as_str().unwrap();
    limit.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() * 1024
}

/// Makes many objects of a kind.
async fn make_many<K>(world: &World, count: usize, make: impl Fn(usize) -> Value)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    let list = Request::new(K::url_path(&(), Some(&world.namespace)));
    let made = (0..count).map(|number| {
        let object = make(number);
        let request = list.create(&PostParams::default(), object.to_string().into_bytes()).unwrap();
        async move {
            for tries in 0.. {
                match world.client.request_text(request.clone()).await {
                    Ok(_) => return,
                    // It was asked for before.
                    Err(kube::Error::Api(status)) if status.code == 409 => return,
                    // So much is more than the store of the API server writes in time.
                    Err(kube::Error::Api(status)) if status.code >= 500 && tries < 10 => {
                        tokio::time::sleep(Duration::from_secs(2)).await;
                    }
                    Err(error) => panic!("number {number} of {}: {error}", object["kind"]),
                }
            }
        }
    });
    futures::stream::iter(made).buffer_unordered(4).collect::<Vec<()>>().await;
}

/// The specification of a pod that is as large as it may be, in as many pieces as possible, and finds no node.
fn large_pod() -> Value {
    let of = |number: usize| json!({"name": format!("V{number:05}"), "value": "x".repeat(30)});
    let env: Vec<Value> = (0..11_000).map(of).collect();
    let whole = json!([{"secretRef": {"name": "env"}}]);
    json!({
        "containers": [{"name": "c", "image": "example.com/c:1", "env": env, "envFrom": whole}],
        "nodeSelector": {"nowhere": "true"}, "terminationGracePeriodSeconds": 0,
    })
}

fn object(kind: &str, api_version: &str, number: usize, more: &Value) -> Value {
    let metadata =
        json!({"name": format!("large-{number:03}"), "labels": {"app": "large", "bindery.dev/managed": "true"}});
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// Makes the objects of a tenant who means no good.
async fn burden(world: &World, count: usize) {
    let pod = large_pod();
    let template = json!({"metadata": {"labels": {"app": "large"}}, "spec": pod});
    let deployment =
        json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "large"}}, "template": template}});
    make_many::<Deployment>(world, count, |number| object("Deployment", "apps/v1", number, &deployment)).await;
    make_many::<Pod>(world, count, |number| object("Pod", "v1", number, &json!({"spec": pod}))).await;
    let data: serde_json::Map<String, Value> =
        (0..40_000).map(|number| (format!("K{number:05}"), json!("dg=="))).collect();
    make_many::<Secret>(world, count, |number| object("Secret", "v1", number, &json!({"data": data}))).await;
    // As large as Bindery takes them, and as large as the API server does.
    let text = "{{A}}".repeat(16_384 / 5);
    let templates = json!({"T": text, "U": text, "V": text, "W": text});
    let kept = json!({"spec": {"dataFrom": [{"secret": world.secret_id("app")}], "target": {"template": templates}}});
    let globs: Vec<String> = (0..100).map(|number| format!("{number:03}{}", "x".repeat(120))).collect();
    let source = json!({"secret": world.secret_id("app"), "include": globs, "exclude": globs});
    let refused = json!({"spec": {"dataFrom": vec![source; 40]}});
    make_many::<bindery::api::SecretBinding>(world, count, |number| {
        let more = if number % 2 == 0 { &kept } else { &refused };
        object("SecretBinding", "bindery.dev/v1alpha1", number, more)
    })
    .await;
}

async fn change(world: &World, value: &str) {
    world.put("app", &json!({"A": format!("{CANARY}-{value}")})).await;
    world.annotate("worker", "bindery.dev/sync", value).await;
    eventually("the value to be published", LIMIT, || async {
        let data = world.data("env").await?;
        (data.get("A").map(String::as_str) == Some(&format!("{CANARY}-{value}"))).then_some(())
    })
    .await;
}

/// Waits until every binding has a condition.
async fn all_are_judged(world: &World, count: usize) {
    eventually("each binding to be judged", LIMIT, || async {
        let bindings = world.bindings().list(&kube::api::ListParams::default()).await.unwrap().items;
        let judged = bindings.iter().filter(|binding| {
            binding
                .status
                .as_ref()
                .is_some_and(|status| status.conditions.iter().any(|condition| condition.type_ == "Ready"))
        });
        (judged.count() == count + 1).then_some(())
    })
    .await;
}

/// Waits until the memory has been the same for a while, since the operator goes on for itself.
async fn peak(operator: &Operator, phase: &str, began: Instant) -> u64 {
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (peak, now) = (operator.peak_kib(), operator.resident_kib());
    println!("{phase}: {} MiB at most, {} MiB now, {} s", peak / 1024, now / 1024, began.elapsed().as_secs());
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_objects_of_one_tenant_do_not_take_the_operator_over_its_memory_limit() {
    let (world, count, limit) = (World::new("memory").await, count(), limit());
    world.put("app", &json!({"A": format!("{CANARY}-1")})).await;
    let began = Instant::now();
    burden(&world, count).await;
    println!(
        "{count} objects of each kind, made in {} s; the limit is {} MiB",
        began.elapsed().as_secs(),
        limit / 1024
    );
    workloads::apply(&world, "tool", &workloads::manifest("Deployment", "whole", &workloads::whole("env"))).await;

    let began = Instant::now();
    let mut operator = world.operator();
    world
        .bind(
            "worker",
            json!({
                "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "env"},
                "refreshInterval": "0s", "restart": {"policy": "Consumers"},
            }),
        )
        .await;
    all_are_judged(&world, count).await;
    let mut most = peak(&operator, "start", began).await;

    let began = Instant::now();
    change(&world, "2").await;
    eventually("the restart", LIMIT, || workloads::mark(&world, "Deployment", "whole", "env")).await;
    most = most.max(peak(&operator, "change", began).await);

    let began = Instant::now();
    operator.kill();
    operator.restart();
    change(&world, "3").await;
    most = most.max(peak(&operator, "restart", began).await);
    assert!(most < limit, "{most} KiB at most, and the limit is {limit} KiB");
    let (state, message) = world.condition("large-001", "Ready").await.unwrap();
    assert!(state == "False/InvalidSpec" && message.contains("spec is too large"), "{state}: {message}");
    drop(operator);
    world.end().await;
}
