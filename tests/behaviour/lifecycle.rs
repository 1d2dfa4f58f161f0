//! What becomes of the Secret when its binding goes or is made anew.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::publishing::guide;
use crate::support::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_goes_with_its_binding_or_stays_as_the_policy_says() {
    let world = World::new("policy").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    let spec =
        |policy: &str| json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"deletionPolicy": policy}});
    world.bind("goes", spec("Delete")).await;
    world.bind("stays", spec("Retain")).await;
    world.bind("changes", spec("Delete")).await;
    for binding in ["goes", "stays", "changes"] {
        world.wait_ready(binding).await;
    }
    world.bind("changes", spec("Retain")).await;
    eventually("the owner reference to go", Duration::from_secs(60), || async {
        let secret = world.secrets().get("changes").await.unwrap();
        secret.metadata.owner_references.unwrap_or_default().is_empty().then_some(())
    })
    .await;
    for binding in ["goes", "stays", "changes"] {
        world.bindings().delete(binding, &DeleteParams::default()).await.unwrap();
    }
    eventually("the Secret to be collected", Duration::from_secs(60), || async {
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
async fn a_rename_publishes_the_new_secret_first_and_deletes_the_old_one_when_nothing_reads_it() {
    let world = World::new("renamed").await;
    world.put("app", &guide()).await;
    let mut operator = world.operator();
    let spec = |name: &str| json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": name}});
    world.bind("app", spec("first")).await;
    world.wait_ready("app").await;
    let user = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "user"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "first"}}]}]},
            },
        },
    });
    let deployments: kube::Api<k8s_openapi::api::apps::v1::Deployment> =
        kube::Api::namespaced(world.client.clone(), &world.namespace);
    deployments.patch("user", &PatchParams::apply("test"), &Patch::Apply(&user)).await.unwrap();

    world.bind("app", spec("second")).await;
    let second = eventually("the new Secret", Duration::from_secs(60), || world.data("second")).await;
    eventually("the status to say that the old one stays", Duration::from_secs(60), || async {
        let (_, message) = world.condition("app", "Applied").await?;
        (message.contains("\"second\" holds") && message.contains("earlier name, first, stays")).then_some(())
    })
    .await;
    assert_eq!(world.data("first").await.unwrap(), second);

    deployments.delete("user", &DeleteParams::default()).await.unwrap();
    // The next pass finds it out of use; a restart of the operator in between loses nothing.
    operator.kill();
    operator.restart();
    eventually("the old Secret to go", Duration::from_secs(60), || async {
        world.data("first").await.is_none().then_some(())
    })
    .await;
    assert_eq!(world.data("second").await.unwrap(), second);
    world.wait_ready("app").await;
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
