//! Two namespaces of one operator: one asks without end, and the other does not notice.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};
use serde_json::json;

use crate::support::api_proxy::{ApiRequest, Verb};
use crate::support::aws_proxy::Sent;
use crate::support::operator::Setup;
use crate::support::{ApiFault, Operator, World, eventually};

const LIMIT: Duration = Duration::from_secs(120);

/// Gives the operator of `of` the rights in `other` that the operator of `other` has.
async fn admit(of: &World, other: &World) {
    let api: Api<RoleBinding> = Api::namespaced(other.client.clone(), &other.namespace);
    for role in api.list(&ListParams::default()).await.unwrap() {
        let Some(subject) = role.subjects.as_ref().and_then(|subjects| subjects.first()) else { continue };
        let name = subject.name.replace(&other.namespace, &of.namespace);
        let subject = Subject { name, namespace: Some(of.namespace.clone()), ..subject.clone() };
        let name = format!("{}-too", role.metadata.name.unwrap());
        let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
        let too = RoleBinding { metadata, role_ref: role.role_ref, subjects: Some(vec![subject]) };
        api.create(&PostParams::default(), &too).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_asks_again_and_again_runs_out_alone_and_another_follows_its_secret() {
    let (noisy, quiet) = (World::new("noisy").await, World::new("quiet").await);
    admit(&noisy, &quiet).await;
    for world in [&noisy, &quiet] {
        world.put("app", &json!({"A": "one"})).await;
    }
    let mut setup = noisy.setup();
    setup.namespaces.push(quiet.namespace.clone());
    // 25 calls, and one in four seconds.
    let _operator = Operator::start(Setup { flags: vec!["--aws-tenant-rate=0.25".to_owned()], ..setup });
    for world in [&noisy, &quiet] {
        let spec = json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]});
        world.bind("app", spec).await;
        world.wait_ready("app").await;
    }

    let values = || noisy.proxy.calls().iter().filter(|call| call.sent == Sent::Value).count();
    let mut text = 0;
    eventually("the budget to be used up", LIMIT, || {
        text += 1;
        let (noisy, text) = (&noisy, text.to_string());
        async move {
            noisy.annotate("app", "bindery.dev/sync", &text).await;
            let (state, message) = noisy.condition("app", "Fetched").await?;
            (state == "False/TenantLimit" && message.contains("--aws-tenant-rate")).then_some(())
        }
    })
    .await;
    let used = values();
    println!("{used} reads after {text} texts");
    assert!(used <= 60, "{used}");
    assert_eq!(noisy.condition("app", "Ready").await.unwrap().0, "True/Published");
    assert_eq!(noisy.data("app").await.unwrap()["A"], "one");

    // Meanwhile the other one follows its secret.
    quiet.put("app", &json!({"A": "two"})).await;
    quiet.wait_value("app", "A", "two").await;
    assert_eq!(quiet.condition("app", "Fetched").await.unwrap().0, "True/Verified");
    // The flood ends, and what it asked for last is done.
    noisy.wait("app", "Fetched", "True/Verified").await;
    noisy.end().await;
    quiet.end().await;
}

/// Has the operator look for what refers to the Secrets of earlier names, in lists that take long.
async fn rename_all(world: &World, names: &[String]) {
    for name in names {
        let source = json!([{"secret": world.secret_id("app")}]);
        world.bind(name, json!({"dataFrom": source, "target": {"name": format!("{name}-new")}})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_lists_take_long_does_not_hold_up_the_changes_of_another() {
    let (noisy, quiet) = (World::new("long-lists").await, World::new("short-lists").await);
    admit(&noisy, &quiet).await;
    for world in [&noisy, &quiet] {
        world.put("app", &json!({"A": "one"})).await;
    }
    let proxy = noisy.api_proxy().await;
    let mut setup = noisy.setup_through(&proxy);
    setup.namespaces.push(quiet.namespace.clone());
    let _operator = Operator::start(Setup { flags: vec!["--concurrency=4".to_owned()], ..setup });
    let spec = json!({"refreshInterval": "10s", "dataFrom": [{"secret": quiet.secret_id("app")}]});
    quiet.bind("app", spec).await;
    quiet.wait_ready("app").await;
    let names: Vec<String> = (0..8).map(|number| format!("b{number}")).collect();
    for name in &names {
        noisy.bind(name, json!({"dataFrom": [{"secret": noisy.secret_id("app")}]})).await;
    }
    for name in &names {
        noisy.wait_ready(name).await;
    }

    // As long as a large list may take.
    let namespace = noisy.namespace.clone();
    let long = move |request: &ApiRequest| {
        request.verb == Verb::List && request.is_of("pods") && request.namespace.as_ref() == Some(&namespace)
    };
    let pods = noisy.namespace.clone();
    proxy.fail(ApiFault::Delay(Duration::from_secs(14)), long);
    rename_all(&noisy, &names).await;
    eventually("the lists to be under way", LIMIT, || async {
        let lists = proxy.under_way(|request| request.is_of("pods") && request.namespace.as_ref() == Some(&pods));
        (lists >= 3).then_some(())
    })
    .await;
    let changed = std::time::Instant::now();
    quiet.annotate("app", "bindery.dev/sync", "now").await;
    quiet.put("app", &json!({"A": "two"})).await;
    quiet.annotate("app", "bindery.dev/sync", "again").await;
    quiet.wait_value("app", "A", "two").await;
    let took = changed.elapsed();
    println!("the other namespace had its value after {took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    proxy.heal();
    noisy.end().await;
    quiet.end().await;
}
