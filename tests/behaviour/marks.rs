//! Marks that anybody can copy prove nothing: what Bindery did not write is never deleted, and what it wrote is known
//! again without them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::world::CANARY;
use crate::support::{World, eventually};

fn payload(number: u32) -> Value {
    json!({"A": format!("{CANARY}-a-{number}"), "B": format!("{CANARY}-b-{number}")})
}

fn spec(world: &World, target: &Value) -> Value {
    json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}], "target": target})
}

/// The Secret as `kubectl get -o yaml` shows it, to be made anew under another name or after a loss.
fn copied(secret: &Secret, name: &str) -> Secret {
    let mut copy = secret.clone();
    copy.metadata.name = Some(name.to_owned());
    (copy.metadata.uid, copy.metadata.resource_version) = (None, None);
    (copy.metadata.creation_timestamp, copy.metadata.managed_fields) = (None, None);
    copy
}

async fn create_as(world: &World, manager: &str, secret: &Secret) -> Secret {
    let params = PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
    world.secrets().create(&params, secret).await.unwrap()
}

async fn label(world: &World, name: &str, value: &str) {
    let change = json!({"metadata": {"labels": {"example.com/by-hand": value}}});
    world.secrets().patch(name, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
}

/// Waits until the Secret of a binding carries a label of its manifest.
async fn wait_for_label(world: &World, name: &str, key: &str) {
    eventually(&format!("the label {key} on {name}"), Duration::from_secs(60), || async {
        let labels = world.secrets().get(name).await.unwrap().metadata.labels?;
        labels.contains_key(key).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_secret_made_with_kubectl_create_is_never_deleted() {
    let world = World::new("copied").await;
    world.put("app", &payload(1)).await;
    let mut operator = world.operator();
    world.bind("app", spec(&world, &json!({}))).await;
    world.wait_ready("app").await;
    let published = world.secrets().get("app").await.unwrap();
    let copy = create_as(&world, "kubectl-create", &copied(&published, "app-backup")).await;
    // One that copies the field manager's entry too.
    let mut forged = copied(&published, "app-forged");
    forged.metadata.managed_fields = published.metadata.managed_fields.clone();
    let forged = create_as(&world, "bindery", &forged).await;

    world.bind("app", spec(&world, &json!({"labels": {"example.com/edited": "1"}}))).await;
    wait_for_label(&world, "app", "example.com/edited").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    operator.kill();
    operator.restart();
    world.bind("app", spec(&world, &json!({"labels": {"example.com/again": "1"}}))).await;
    wait_for_label(&world, "app", "example.com/again").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for before in [copy, forged] {
        let name = before.metadata.name.clone().unwrap();
        let after = world.secrets().get_opt(&name).await.unwrap();
        assert_eq!(after.map(|after| after.data), Some(before.data), "{name}");
    }
    let message = world.condition("app", "Applied").await.unwrap().1;
    assert!(message.contains("app-backup") && message.contains("left alone"), "{message}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_of_an_earlier_name_is_told_in_an_event() {
    let world = World::new("earlier").await;
    world.put("app", &payload(1)).await;
    let _operator = world.operator();
    world.bind("app", spec(&world, &json!({"name": "first"}))).await;
    world.wait_ready("app").await;
    world.bind("app", spec(&world, &json!({"name": "second"}))).await;
    eventually("the old Secret to go", Duration::from_secs(60), || async {
        world.data("first").await.is_none().then_some(())
    })
    .await;
    eventually("the Event", Duration::from_secs(60), || async {
        let events = world.events("app").await;
        events.iter().any(|event| event.starts_with("Normal/SecretDeleted") && event.contains("first")).then_some(())
    })
    .await;
    eventually("the record of it to go", Duration::from_secs(60), || async {
        let status = serde_json::to_value(world.bindings().get("app").await.unwrap().status).unwrap();
        (status["target"]["name"] == "second" && status["formerTargets"].is_null()).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_ends_takes_its_keys_from_an_adopted_secret_and_leaves_those_of_others() {
    let world = World::without_grant("adopted-end").await;
    world.put("app", &payload(1)).await;
    let mine = json!({
        "metadata": {"name": "env", "labels": {"team": "growth"}, "annotations": {"bindery.dev/adopt-by": "app"}},
        "stringData": {"EXTRA": "mine", "B": "by hand"},
    });
    let before = create_as(&world, "kubectl-create", &serde_json::from_value(mine).unwrap()).await;
    let grant = |in_seconds: i64| {
        let end = Timestamp::now() + SignedDuration::from_secs(in_seconds);
        json!({
            "namespaces": {"names": [world.namespace]}, "secrets": [{"name": "*"}], "aws": {"region": "eu-west-1"},
            "expiresAt": end.to_string(), "reason": "INC-4711", "onExpiry": "Delete",
        })
    };
    world.grant_with(&world.namespace, grant(3600)).await;
    let _operator = world.operator();
    let target = json!({"name": "env", "adopt": true, "deletionPolicy": "Retain"});
    let mut adopting = spec(&world, &target);
    adopting["grant"] = json!(world.namespace);
    world.bind("app", adopting).await;
    world.wait_ready("app").await;
    let message = world.condition("app", "Applied").await.unwrap().1;
    assert!(message.contains("it also holds EXTRA, which Bindery did not publish"), "{message}");
    world.grant_with(&world.namespace, grant(3)).await;
    world.wait("app", "Granted", "False/GrantExpired").await;
    eventually("the keys to go", Duration::from_secs(60), || async {
        let secret = world.secrets().get_opt("env").await.unwrap().expect("the adopted Secret is not deleted");
        let keys: Vec<String> = secret.data.unwrap_or_default().into_keys().collect();
        (keys == ["EXTRA"]).then_some(())
    })
    .await;
    let after = world.secrets().get("env").await.unwrap();
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.metadata.labels, before.metadata.labels, "its marks go too");
    assert_eq!(after.metadata.annotations, before.metadata.annotations);
    eventually("the Event", Duration::from_secs(60), || async {
        world.events("app").await.iter().any(|event| event.starts_with("Warning/SecretReleased")).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_forged_under_the_field_manager_of_bindery_is_put_back() {
    let world = World::new("forged").await;
    world.put("app", &payload(1)).await;
    let mut operator = world.operator();
    world.bind("app", spec(&world, &json!({}))).await;
    world.wait_ready("app").await;
    let forge = |value: &'static str| {
        let world = &world;
        async move {
            let mut object = serde_json::to_value(world.secrets().get("app").await.unwrap()).unwrap();
            object["data"]["A"] = json!(value);
            let metadata = object["metadata"].as_object_mut().unwrap();
            for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
                metadata.remove(field);
            }
            object["apiVersion"] = json!("v1");
            object["kind"] = json!("Secret");
            let params = PatchParams::apply("bindery").force();
            world.secrets().patch("app", &params, &Patch::Apply(&object)).await.unwrap();
        }
    };
    forge("Zm9yZ2Vk").await;
    world.wait_value("app", "A", &format!("{CANARY}-a-1")).await;
    assert_eq!(world.audit().last().unwrap()["reason"], "drift");
    // Also where nobody watched.
    world.wait_ready("app").await;
    operator.kill();
    forge("YWdhaW4=").await;
    operator.restart();
    world.wait_value("app", "A", &format!("{CANARY}-a-1")).await;
    world.wait_ready("app").await;

    // An edit that touches no value is read at the API server only, and remembered.
    let reads = world.audit().len();
    label(&world, "app", "x").await;
    eventually("the edit to be on record", Duration::from_secs(60), || async {
        let version = world.secrets().get("app").await.unwrap().metadata.resource_version;
        let status = serde_json::to_value(world.bindings().get("app").await.unwrap().status).unwrap();
        (status["target"]["resourceVersion"] == json!(version)).then_some(())
    })
    .await;
    assert_eq!(world.audit().len(), reads, "nothing is read at AWS");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_aws_dropped_goes_also_from_a_secret_restored_without_its_managed_fields() {
    let world = World::new("restored").await;
    world.put("app", &payload(1)).await;
    let mut operator = world.operator();
    world.bind("app", spec(&world, &json!({}))).await;
    world.wait_ready("app").await;
    operator.kill();
    let published = world.secrets().get("app").await.unwrap();
    world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    create_as(&world, "velero-server", &copied(&published, "app")).await;
    operator.restart();
    eventually("the Secret to be taken over", Duration::from_secs(60), || async {
        let fields = world.secrets().get("app").await.unwrap().metadata.managed_fields.unwrap_or_default();
        fields.iter().any(|entry| entry.manager.as_deref() == Some("bindery")).then_some(())
    })
    .await;
    world.wait_ready("app").await;
    world.put("app", &json!({"B": format!("{CANARY}-b-2")})).await;
    world.wait_value("app", "B", &format!("{CANARY}-b-2")).await;
    assert_eq!(world.data("app").await.unwrap().len(), 1, "A is gone at the source");

    // The same where the key went while nobody watched.
    world.put("app", &payload(3)).await;
    world.wait_value("app", "A", &format!("{CANARY}-a-3")).await;
    world.wait_ready("app").await;
    operator.kill();
    let published = world.secrets().get("app").await.unwrap();
    world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    create_as(&world, "velero-server", &copied(&published, "app")).await;
    world.put("app", &json!({"B": format!("{CANARY}-b-4")})).await;
    operator.restart();
    world.wait_value("app", "B", &format!("{CANARY}-b-4")).await;
    assert_eq!(world.data("app").await.unwrap().len(), 1, "A is gone at the source");
    world.end().await;
}

/// Each mark that Bindery writes, by name, as the metadata of a copy.
fn marks(published: &Secret) -> Vec<(&'static str, Value)> {
    let metadata = &published.metadata;
    let annotation = |name: &str| json!({name: metadata.annotations.as_ref().unwrap()[name]});
    let entry = metadata.managed_fields.iter().flatten().find(|entry| entry.manager.as_deref() == Some("bindery"));
    vec![
        ("label", json!({"labels": metadata.labels})),
        ("binding", json!({"labels": metadata.labels, "annotations": annotation("bindery.dev/binding")})),
        ("inputs", json!({"labels": metadata.labels, "annotations": annotation("bindery.dev/inputs")})),
        ("owner", json!({"labels": metadata.labels, "ownerReferences": metadata.owner_references})),
        ("entry", json!({"labels": metadata.labels, "managedFields": [entry]})),
        (
            "all",
            json!({"labels": metadata.labels, "annotations": metadata.annotations,
                "ownerReferences": metadata.owner_references, "managedFields": [entry]}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mark_that_is_copied_to_somebodys_secret_has_it_changed_or_deleted() {
    let world = World::new("mark-table").await;
    world.put("app", &payload(1)).await;
    let mut operator = world.operator();
    world.bind("app", spec(&world, &json!({"name": "first"}))).await;
    world.wait_ready("app").await;
    let published = world.secrets().get("first").await.unwrap();
    let mut foreign = Vec::new();
    for (mark, metadata) in marks(&published) {
        for manager in ["kubectl-create", "bindery"] {
            let name = format!("{mark}-by-{manager}");
            let mut object = json!({"metadata": metadata, "data": published.data});
            object["metadata"]["name"] = json!(name);
            object["data"]["MINE"] = json!("bWluZQ==");
            foreign.push(create_as(&world, manager, &serde_json::from_value(object).unwrap()).await);
        }
        // By a server-side apply under Bindery's own name.
        let mut object =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"MINE": "bWluZQ=="}});
        let name = format!("{mark}-applied");
        object["metadata"]["name"] = json!(name);
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
        let params = PatchParams::apply("bindery").force();
        foreign.push(world.secrets().patch(&name, &params, &Patch::Apply(&object)).await.unwrap());
    }

    // An edit, a rename and a restart are what makes Bindery look for Secrets of its own.
    world.bind("app", spec(&world, &json!({"name": "second"}))).await;
    eventually("the Secret of the earlier name to go", Duration::from_secs(60), || async {
        world.data("first").await.is_none().then_some(())
    })
    .await;
    operator.kill();
    operator.restart();
    world.put("app", &payload(2)).await;
    world.wait_value("second", "A", &format!("{CANARY}-a-2")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut wrong = Vec::new();
    for before in &foreign {
        let name = before.metadata.name.clone().unwrap();
        let after = world.secrets().get_opt(&name).await.unwrap();
        let same = after.as_ref().is_some_and(|after| {
            after.metadata.uid == before.metadata.uid
                && after.metadata.resource_version == before.metadata.resource_version
                && after.data == before.data
        });
        if !same {
            wrong.push(name);
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "changed or deleted");
    let message = world.wait("app", "Applied", "True/Published").await;
    assert!(message.contains("and 5 more") && message.contains("left alone"), "{message}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_somebody_put_under_an_earlier_name_is_left_alone_and_named() {
    let world = World::new("mark-earlier").await;
    world.put("app", &payload(1)).await;
    let mut operator = world.operator();
    world.bind("app", spec(&world, &json!({"name": "first"}))).await;
    world.wait_ready("app").await;
    operator.kill();
    let published = world.secrets().get("first").await.unwrap();
    world.secrets().delete("first", &DeleteParams::default()).await.unwrap();
    let theirs = create_as(&world, "kubectl-create", &copied(&published, "first")).await;
    world.bind("app", spec(&world, &json!({"name": "second"}))).await;
    operator.restart();
    eventually("the new Secret", Duration::from_secs(60), || world.data("second")).await;
    eventually("the status to name the other", Duration::from_secs(60), || async {
        let (_, message) = world.condition("app", "Applied").await?;
        (message.contains("\"second\"") && message.contains("\"first\"") && message.contains("left alone"))
            .then_some(())
    })
    .await;
    assert_eq!(world.secrets().get("first").await.unwrap(), theirs);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_ends_takes_its_values_from_an_adopted_secret_whose_type_demands_its_keys() {
    let world = World::without_grant("adopted-tls").await;
    world.put("app", &json!({"tls.crt": format!("{CANARY}-crt"), "tls.key": format!("{CANARY}-key")})).await;
    let mine = json!({
        "metadata": {"name": "tls", "annotations": {"bindery.dev/adopt-by": "app"}}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "old", "tls.key": "old", "ca.crt": "mine"},
    });
    let before = create_as(&world, "kubectl-create", &serde_json::from_value(mine).unwrap()).await;
    let end = Timestamp::from_second((Timestamp::now() + SignedDuration::from_secs(20)).as_second()).unwrap();
    let grant = json!({
        "namespaces": {"names": [world.namespace]}, "secrets": [{"name": "*"}], "aws": {"region": "eu-west-1"},
        "expiresAt": end.to_string(), "reason": "INC-4711", "onExpiry": "Delete",
    });
    world.grant_with(&world.namespace, grant).await;
    let _operator = world.operator();
    let target = json!({"name": "tls", "type": "kubernetes.io/tls", "adopt": true, "deletionPolicy": "Retain"});
    let mut adopting = spec(&world, &target);
    adopting["grant"] = json!(world.namespace);
    world.bind("app", adopting).await;
    world.wait_ready("app").await;
    world.wait("app", "Granted", "False/GrantExpired").await;
    eventually("the values to go", Duration::from_secs(60), || async {
        let data = world.data("tls").await.expect("the adopted Secret is not deleted");
        let held = |key: &str| data.get(key).map(String::as_str);
        let gone = held("tls.crt") == Some("{}") && held("tls.key") == Some("{}");
        (gone && held("ca.crt") == Some("mine")).then_some(())
    })
    .await;
    let after = world.secrets().get("tls").await.unwrap();
    assert_eq!((after.metadata.uid, after.metadata.labels), (before.metadata.uid, before.metadata.labels));
    eventually("the Event", Duration::from_secs(60), || async {
        world.events("app").await.iter().any(|event| event.starts_with("Warning/SecretReleased")).then_some(())
    })
    .await;
    world.end().await;
}
