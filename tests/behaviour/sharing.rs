//! One read serves all who ask, one call serves twenty secrets, and what IAM does not allow is done otherwise.

use std::time::Duration;

use bindery::api::SecretBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::publishing::guide;
use crate::support::operator::Setup;
use crate::support::{Fault, Operator, World, eventually};

const DENIED: Fault = Fault::Error(400, "AccessDeniedException", "User: x is not authorized to perform this action");

fn is_ready(binding: &SecretBinding) -> bool {
    let conditions = binding.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn all_ready(world: &World, count: usize) {
    eventually("all bindings to be ready", Duration::from_secs(150), || async {
        let bindings = world.bindings().list(&ListParams::default()).await.unwrap();
        (bindings.iter().filter(|binding| is_ready(binding)).count() == count).then_some(())
    })
    .await;
}

/// Twelve secrets, each wanted by five bindings, and no operator yet.
async fn wanted(name: &str, refresh: &str) -> World {
    let world = World::new(name).await;
    for secret in 0..12 {
        world.put(&format!("s{secret}"), &guide()).await;
    }
    for binding in 0..60 {
        let source = world.secret_id(&format!("s{}", binding % 12));
        let spec = json!({"refreshInterval": refresh, "dataFrom": [{"secret": source}]});
        world.bind(&format!("b{binding}"), spec).await;
    }
    world
}

async fn rotate(world: &World, secret: &str, value: &str) {
    let mut payload = guide();
    payload["S3_BUCKET"] = json!(value);
    world.put(secret, &payload).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_start_one_call_serves_twelve_secrets_and_sixty_bindings() {
    let world = wanted("batch", "5m").await;
    let mut operator = world.operator();
    all_ready(&world, 60).await;
    assert_eq!(world.proxy.count("BatchGetSecretValue"), 1);
    assert_eq!(world.proxy.count("GetSecretValue"), 0);
    let records = world.records();
    assert_eq!(records.len(), 12, "one record for each value");
    assert!(records.iter().all(|record| record["served"].as_array().unwrap().len() == 5));
    assert!(records.iter().all(|record| record["requestId"] == records[0]["requestId"]), "a batch has one request");

    // After a restart one list proves that nothing changed.
    operator.kill();
    let before = world.proxy.calls().len();
    operator.restart();
    eventually("the list", Duration::from_secs(60), || async { (world.proxy.count("ListSecrets") > 0).then_some(()) })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let since: Vec<String> = world.proxy.calls().split_off(before).into_iter().map(|call| call.operation).collect();
    // Each process asks once as whom AWS knows it.
    let of_secrets: Vec<&str> =
        since.iter().map(String::as_str).filter(|asked| *asked != "GetCallerIdentity").collect();
    assert_eq!(of_secrets, ["ListSecrets"], "nothing else is asked");
    assert!(since.len() <= 2, "{since:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_list_shows_is_confirmed_and_read_once_for_all() {
    let world = wanted("swept", "10s").await;
    let _operator = world.operator();
    all_ready(&world, 60).await;
    rotate(&world, "s3", "rotated-to-this").await;
    for binding in [3, 15, 27, 39, 51] {
        world.wait_value(&format!("b{binding}"), "S3_BUCKET", "rotated-to-this").await;
    }
    let id = world.secret_id("s3");
    let about: Vec<String> = world.proxy.calls_for(&id).into_iter().map(|call| call.operation).collect();
    assert_eq!(about, ["BatchGetSecretValue", "DescribeSecret", "GetSecretValue"]);
    let served = world.records().last().unwrap()["served"].as_array().unwrap().clone();
    assert_eq!(served.len(), 5, "one read for all five");
    assert!(served.iter().all(|served| served["reason"] == "changed"));
    let described = world.proxy.count("DescribeSecret");
    assert_eq!(described, 1, "the others are known by the list alone");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_iam_allows_neither_batches_nor_lists_each_secret_is_described_and_read_by_itself() {
    let world = wanted("one-by-one", "10s").await;
    world.proxy.fail(&["BatchGetSecretValue", "ListSecrets"], DENIED);
    let _operator = world.operator();
    all_ready(&world, 60).await;
    assert_eq!((world.proxy.count("BatchGetSecretValue"), world.proxy.count("GetSecretValue")), (1, 12));
    eventually("each secret to be described", Duration::from_secs(60), || async {
        (world.proxy.count("DescribeSecret") >= 12).then_some(())
    })
    .await;
    assert_eq!(world.proxy.count("ListSecrets"), 1, "what IAM refused is not tried again at once");
    rotate(&world, "s7", "rotated-by-description").await;
    world.wait_value("b7", "S3_BUCKET", "rotated-by-description").await;
    world.wait_value("b55", "S3_BUCKET", "rotated-by-description").await;
    assert_eq!(world.proxy.count("GetSecretValue"), 13);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_iam_allows_only_to_read_one_binding_of_a_secret_finds_the_change_for_all() {
    let world = wanted("read-only", "10s").await;
    world.proxy.fail(&["DescribeSecret", "ListSecrets"], DENIED);
    let _operator = world.operator();
    all_ready(&world, 60).await;
    let before = world.records().len();
    rotate(&world, "s1", "rotated-by-reading").await;
    for binding in [1, 13, 25, 37, 49] {
        world.wait_value(&format!("b{binding}"), "S3_BUCKET", "rotated-by-reading").await;
    }
    // Each interval costs a read of each secret, however many bindings share it.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let reads = world.records().len() - before;
    assert!(reads <= 12 * 6, "{reads} reads of 12 secrets in some 30 s");
    world.end().await;
}

/// Two hundred bindings whose values are read long before most of them can be written, and an operator that has
/// published the first of them.
async fn waiting(name: &str) -> (World, Operator) {
    let world = World::new(name).await;
    world.put("app", &guide()).await;
    for binding in 0..200 {
        let source = json!([{"secret": world.secret_id("app")}]);
        world.bind(&format!("b{binding}"), json!({"dataFrom": source, "target": {"deletionPolicy": "Retain"}})).await;
    }
    let operator = Operator::start(Setup { flags: vec!["--concurrency=1".to_owned()], ..world.setup() });
    eventually("some Secrets", Duration::from_secs(60), || async { (published(&world).await >= 10).then_some(()) })
        .await;
    (world, operator)
}

async fn published(world: &World) -> usize {
    let managed = ListParams::default().labels("bindery.dev/managed=true");
    world.secrets().list_metadata(&managed).await.unwrap().items.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_waits_for_its_turn_is_not_written_for_a_binding_that_is_deleted_or_suspended() {
    let (world, _operator) = waiting("superseded").await;
    let odd = |binding: usize| format!("b{}", 2 * binding + 1);
    let even = |binding: usize| format!("b{}", 2 * binding);
    let all = (0..100).map(|binding| {
        let (world, suspended, deleted) = (&world, even(binding), odd(binding));
        async move {
            let suspend = json!({"spec": {"suspend": true}});
            world.bindings().patch(&suspended, &PatchParams::default(), &Patch::Merge(&suspend)).await.unwrap();
            world.bindings().delete(&deleted, &DeleteParams::default()).await.unwrap();
        }
    });
    futures::future::join_all(all).await;
    let at_once = published(&world).await;
    eventually("all that are left to be suspended", Duration::from_secs(150), || async {
        let bindings = world.bindings().list(&ListParams::default()).await.unwrap();
        let suspended = |binding: &SecretBinding| {
            let conditions = binding.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Suspended" && condition.status == "True")
        };
        bindings.iter().all(suspended).then_some(())
    })
    .await;
    let later = published(&world).await;
    println!("{at_once} Secrets when the last binding was suspended or deleted, {later} in the end, of 200");
    assert!(later <= at_once + 5 && later < 200, "{at_once} Secrets, and {later} in the end");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_waits_for_its_turn_is_not_written_once_its_grant_is_withdrawn() {
    let (world, _operator) = waiting("withdrawn").await;
    world.delete_grant(&world.namespace).await;
    let at_once = published(&world).await;
    eventually("all bindings to know where they stand", Duration::from_secs(150), || async {
        let bindings = world.bindings().list(&ListParams::default()).await.unwrap();
        let judged = |binding: &SecretBinding| {
            let conditions = binding.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Granted" && condition.status == "False")
        };
        bindings.iter().all(judged).then_some(())
    })
    .await;
    let later = published(&world).await;
    println!("{at_once} Secrets when the grant went, {later} in the end, of 200");
    assert!(later <= at_once + 5, "{at_once} Secrets when the grant went, {later} in the end");
    assert!(later < 200);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_id_does_not_spoil_the_batch() {
    let world = wanted("spoiled", "5m").await;
    // moto refuses a whole batch for one secret without a value.
    world.aws.create_secret().name(world.secret_id("empty")).send().await.unwrap();
    world.bind("empty", json!({"dataFrom": [{"secret": world.secret_id("empty")}]})).await;
    world.bind("absent", json!({"dataFrom": [{"secret": world.secret_id("absent")}]})).await;
    let _operator = world.operator();
    all_ready(&world, 60).await;
    assert!(world.condition("empty", "Fetched").await.unwrap().0.starts_with("False/"));
    world.wait("absent", "Fetched", "False/SecretNotFound").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_new_bindings_of_a_running_operator_share_reads_that_begin_after_they_ask() {
    let world = World::new("joins").await;
    world.put("app", &guide()).await;
    let operator = Operator::start(world.setup());
    world.bind("first", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("first").await;
    world.proxy.fail(&["GetSecretValue"], Fault::Slow(Duration::from_millis(400)));
    let binds = (0..100).map(|binding| {
        let world = &world;
        async move {
            world.bind(&format!("b{binding}"), json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
        }
    });
    futures::future::join_all(binds).await;
    all_ready(&world, 101).await;
    let reads = world.records().iter().filter(|record| record["outcome"] == "read").count();
    assert!(reads <= 8, "{reads} reads for 101 bindings of one secret");
    drop(operator);
    world.end().await;
}
