//! Two namespaces of one operator: one asks without end, and the other does not notice.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};
use serde_json::json;

use crate::support::aws_proxy::Sent;
use crate::support::operator::Setup;
use crate::support::{Operator, World, eventually};

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
