//! Deny by default.

use std::time::Duration;

use bindery::api::SecretGrant;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::publishing::guide;
use crate::support::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_nothing_is_read_and_with_one_it_is_at_once() {
    let world = World::without_grant("denied").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let message = world.wait("app", "Granted", "False/AccessDenied").await;
    assert!(message.contains(&world.namespace) && message.contains(&world.secret_id("app")), "{message}");
    world.wait("app", "Ready", "False/AccessDenied").await;
    assert_eq!(world.condition("app", "Fetched").await.unwrap().0, "Unknown/NotEvaluated");
    assert!(world.data("app").await.is_none());
    assert_eq!(world.proxy.calls(), [], "no call reaches AWS");

    world.grant(&world.namespace.clone(), &["ap?"]).await;
    world.wait_ready("app").await;
    assert!(world.data("app").await.is_some());

    // The grant is narrowed: the Secret stays, the binding says so, and no further read takes place.
    world.grant(&world.namespace.clone(), &["app2"]).await;
    world.wait("app", "Granted", "False/AccessDenied").await;
    let calls = world.proxy.calls().len();
    assert!(world.data("app").await.is_some());
    world.annotate("app", "bindery.dev/sync", "please").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.proxy.calls().len(), calls);

    let grants: Api<SecretGrant> = Api::all(world.client.clone());
    grants.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.data("app").await.is_some(), "deleting a grant deletes nothing");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_grants_need_a_choice_and_a_missing_one_is_named() {
    let world = World::new("grants").await;
    world.put("app", &guide()).await;
    let other = format!("{}-other", world.namespace);
    world.grant(&other, &["app"]).await;
    let _operator = world.operator();
    let spec = |grant: Option<&str>| json!({"grant": grant, "dataFrom": [{"secret": world.secret_id("app")}]});
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let message = world.wait("app", "Granted", "False/AmbiguousGrant").await;
    assert!(message.contains(&other), "{message}");
    world.bind("app", spec(Some("nowhere"))).await;
    world.wait("app", "Granted", "False/GrantNotFound").await;
    assert_eq!(world.proxy.calls(), []);
    world.bind("app", spec(Some(&other))).await;
    world.wait_ready("app").await;
    assert_eq!(world.bindings().get("app").await.unwrap().status.unwrap().grant.as_deref(), Some(other.as_str()));
    let grants: Api<SecretGrant> = Api::all(world.client.clone());
    grants.delete(&other, &DeleteParams::default()).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arn_is_judged_by_the_name_that_aws_answers() {
    let world = World::without_grant("arn").await;
    world.put("app", &guide()).await;
    world.put("app-worker", &json!({"METRICS_PORT": "9400"})).await;
    // Allows app, and by that the ARN …/app-worker could be meant to be.
    world.grant(&world.namespace.clone(), &["app"]).await;
    let _operator = world.operator();
    let arn = |name: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{}", world.secret_id(name));
    world.bind("partial", json!({"dataFrom": [{"secret": arn("app")}]})).await;
    world.wait_ready("partial").await;
    world.bind("other", json!({"dataFrom": [{"secret": arn("app-worker")}]})).await;
    world.wait("other", "Granted", "False/AccessDenied").await;
    world.bind("abroad", json!({"dataFrom": [{"secret": arn("app").replace("eu-west-1", "eu-west-2")}]})).await;
    world.wait("abroad", "Granted", "False/AccessDenied").await;
    let read: Vec<String> =
        world.proxy.calls().into_iter().filter(|c| c.operation == "GetSecretValue").map(|c| c.secret).collect();
    assert_eq!(read, [arn("app")], "no value of another secret is read");
    eventually("the Secret", Duration::from_secs(5), || world.data("partial")).await;
    assert!(world.data("other").await.is_none());
    world.end().await;
}
