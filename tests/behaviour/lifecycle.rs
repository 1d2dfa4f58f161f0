//! What becomes of the Secret when its binding goes or is made anew.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;

use crate::publishing::guide;
use crate::support::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_goes_with_its_binding_or_stays_as_the_policy_says() {
    let world = World::new("policy").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    let spec = |policy: &str| json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"deletionPolicy": policy}});
    world.bind("goes", spec("Delete")).await;
    world.bind("stays", spec("Retain")).await;
    world.bind("changes", spec("Delete")).await;
    for binding in ["goes", "stays", "changes"] {
        world.wait_ready(binding).await;
    }
    world.bind("changes", spec("Retain")).await;
    eventually("the owner reference to go", Duration::from_secs(10), || async {
        let secret = world.secrets().get("changes").await.unwrap();
        secret.metadata.owner_references.unwrap_or_default().is_empty().then_some(())
    })
    .await;
    for binding in ["goes", "stays", "changes"] {
        world.bindings().delete(binding, &DeleteParams::default()).await.unwrap();
    }
    eventually("the Secret to be collected", Duration::from_secs(30), || async {
        world.data("goes").await.is_none().then_some(())
    })
    .await;
    assert!(world.data("stays").await.is_some());
    assert!(world.data("changes").await.is_some());

    // A binding of the same name goes on with the Secret that its predecessor left.
    world.bind("stays", spec("Retain")).await;
    world.wait_ready("stays").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_without_waiting_for_the_operator() {
    let world = World::new("namespace").await;
    world.put("app", &guide()).await;
    let mut operator = world.operator();
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    operator.kill();
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    eventually("the namespace to be gone", Duration::from_secs(60), || async {
        namespaces.get_opt(&world.namespace).await.unwrap().is_none().then_some(())
    })
    .await;
}
