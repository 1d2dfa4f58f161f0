//! Labels, annotations and keys that a binding may put on its Secret.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::operator::Setup;
use crate::support::world::CANARY;
use crate::support::{Operator, World, eventually};

async fn allow(world: &World, keys: Value) {
    let grants: Api<bindery::api::SecretGrant> = Api::all(world.client.clone());
    let edit = json!({"spec": {"targetMetadata": keys}});
    grants.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_by_which_a_tool_would_find_the_secret_is_set_only_where_flag_or_grant_allows_it() {
    let world = World::new("metadata").await;
    world.put("app", &json!({"A": format!("{CANARY}-value-a")})).await;
    allow(&world, json!([])).await;
    let flags = vec!["--allow-target-metadata=cost-*,app.kubernetes.io/instance".to_owned()];
    let operator = Operator::start(Setup { flags, ..world.setup() });
    let source = json!([{"secret": world.secret_id("app")}]);
    let bind = |name: &'static str, target: Value| world.bind(name, json!({"dataFrom": source, "target": target}));
    // Tools whose keys nobody listed, with a prefix and without.
    for (name, field, key) in [
        ("kubed", "annotations", "kubed.appscode.com/sync"),
        ("synator", "annotations", "synator/sync"),
        ("secretsync", "labels", "secretsync.example.com/copy"),
        ("jenkins", "labels", "jenkins.io/credentials-type"),
        ("flux", "labels", "kustomize.toolkit.fluxcd.io/name"),
        ("grafana", "labels", "grafana_datasource"),
        ("managed", "labels", "app.kubernetes.io/managed-by"),
        ("argocd", "labels", "argocd.argoproj.io/secret-type"),
    ] {
        bind(name, json!({field: {key: "x"}})).await;
        let message = world.wait(name, "Granted", "False/AccessDenied").await;
        assert!(message.contains(key) && message.contains(field), "{message}");
        assert!(message.contains("--allow-target-metadata") && message.contains("allowTargetMetadata"), "{message}");
        assert_eq!(message.contains("spec.targetMetadata"), name != "managed", "{message}");
        assert!(world.data(name).await.is_none(), "nothing is published");
    }
    bind("never", json!({"labels": {"node.kubernetes.io/x": "y"}})).await;
    let message = world.wait("never", "Ready", "False/InvalidSpec").await;
    assert!(message.contains("never set; remove it"), "{message}");
    bind(
        "allowed",
        json!({"labels": {"app.kubernetes.io/name": "a", "app.kubernetes.io/instance": "b", "cost-centre": "c"}}),
    )
    .await;
    world.wait_ready("allowed").await;
    let labels = world.secrets().get("allowed").await.unwrap().metadata.labels.unwrap();
    assert_eq!((labels["app.kubernetes.io/instance"].as_str(), labels["cost-centre"].as_str()), ("b", "c"));
    // The grant allows one more at once, and takes it back: what is published stays.
    allow(&world, json!(["argocd.argoproj.io/*"])).await;
    world.wait_ready("argocd").await;
    world.wait("flux", "Granted", "False/AccessDenied").await;
    allow(&world, json!([])).await;
    world.wait("argocd", "Granted", "False/AccessDenied").await;
    assert!(world.data("argocd").await.is_some());
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_cannot_allow_what_belongs_to_kubernetes_or_bindery() {
    let world = World::new("never").await;
    let grants: Api<bindery::api::SecretGrant> = Api::all(world.client.clone());
    for (key, accepted) in [
        ("bindery.dev/managed", false),
        ("x.bindery.dev/*", false),
        ("node.kubernetes.io/*", false),
        ("x.k8s.io/y", false),
        ("a b", false),
        ("app.kubernetes.io/*", true),
        ("example.com/x", true),
        ("grafana_*", true),
    ] {
        let edit = json!({"spec": {"targetMetadata": [key]}});
        let edited = grants.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(&edit)).await;
        assert_eq!(edited.is_ok(), accepted, "{key}: {edited:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_changes_how_programs_run_is_told_unless_the_binding_names_it() {
    let world = World::new("risky").await;
    let value = |name: &str| format!("{CANARY}-value-{name}");
    world.put("app", &json!({"DATABASE_URL": value("a"), "LD_PRELOAD": value("b"), "NODE_OPTIONS": value("c")})).await;
    let operator = world.operator();
    let source = json!([{"secret": world.secret_id("app")}]);
    world.bind("all", json!({"refreshInterval": "10s", "dataFrom": source})).await;
    world
        .bind("allowed", json!({"dataFrom": source, "target": {"allowKeys": ["LD_PRELOAD", "NODE_OPTIONS", "PATH"]}}))
        .await;
    let named = json!([{"key": "LD_PRELOAD", "from": {"secret": world.secret_id("app"), "key": "LD_PRELOAD"}}]);
    world.bind("named", json!({"data": named})).await;
    let listed = json!([{"secret": world.secret_id("app"), "include": ["NODE_OPTIONS"]}]);
    world.bind("listed", json!({"dataFrom": listed})).await;
    for name in ["all", "allowed", "named", "listed"] {
        world.wait_ready(name).await;
    }
    let told = |binding: &'static str| {
        let world = &world;
        async move { world.events(binding).await.into_iter().filter(|event| event.contains("RiskyKey")).collect::<Vec<_>>() }
    };
    let events = eventually("the Event", std::time::Duration::from_secs(60), || async {
        Some(told("all").await).filter(|events| !events.is_empty())
    })
    .await;
    assert!(events[0].starts_with("Warning/RiskyKey") && events[0].contains("LD_PRELOAD, NODE_OPTIONS"), "{events:?}");
    assert!(events[0].contains("spec.target.allowKeys"), "{events:?}");
    for condition in ["Ready", "Applied"] {
        let (state, message) = world.condition("all", condition).await.unwrap();
        assert_eq!(state, "True/Published");
        assert!(message.contains("LD_PRELOAD, NODE_OPTIONS came by a pattern"), "{message}");
    }
    // It is published all the same, told once, and told again where another comes.
    assert_eq!(world.data("all").await.unwrap()["LD_PRELOAD"], value("b"));
    world.put("app", &json!({"DATABASE_URL": value("d"), "LD_PRELOAD": value("b"), "NODE_OPTIONS": value("c"), "PATH": value("e")})).await;
    world.wait_value("all", "PATH", &value("e")).await;
    eventually("the Event of another key", std::time::Duration::from_secs(60), || async {
        told("all").await.iter().any(|event| event.contains("PATH")).then_some(())
    })
    .await;
    assert_eq!(told("all").await.len(), 2, "once for each set of keys");
    for name in ["allowed", "named", "listed"] {
        assert!(told(name).await.is_empty(), "{name}");
        let message = world.condition(name, "Ready").await.unwrap().1;
        assert!(!message.contains("by a pattern"), "{message}");
    }
    drop(operator);
    world.end().await;
}
