//! What is published is kept as it is, and what is not Bindery's is left alone.

use std::time::{Duration, Instant};

use bindery::api::{SecretBinding, SecretBindingSpec};
use bindery::domain::binding::Binding;
use bindery::domain::fingerprint::FingerprintKey;
use bindery::domain::render::key::TargetKey;
use bindery::domain::target::Desired;
use bindery::domain::value::Value;
use bindery::kubernetes::api_server::ApiServer;
use bindery::kubernetes::write::apply_secret;
use bindery::kubernetes::write_error::WriteError;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::publishing::guide;
use crate::support::{World, eventually};

async fn published(name: &str) -> (World, crate::support::Operator) {
    let world = World::new(name).await;
    world.put("app", &guide()).await;
    let operator = world.operator();
    let spec = json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "worker-env"}});
    world.bind("worker", spec).await;
    world.wait_ready("worker").await;
    (world, operator)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_is_back_within_two_seconds() {
    let (world, _operator) = published("deleted").await;
    let before = world.data("worker-env").await.unwrap();
    world.secrets().delete("worker-env", &DeleteParams::default()).await.unwrap();
    let started = Instant::now();
    let after = eventually("the Secret", Duration::from_secs(2), || world.data("worker-env")).await;
    println!("back after {:?}", started.elapsed());
    assert_eq!(after, before);
    assert_eq!(world.audit().last().unwrap()["reason"], "missing");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_key_is_put_back_and_a_foreign_one_stays() {
    let (world, _operator) = published("edited").await;
    let before = world.data("worker-env").await.unwrap();
    let edit = json!({"stringData": {"S3_BUCKET": "elsewhere", "EXTRA": "mine"}});
    world.secrets().patch("worker-env", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    world.wait_value("worker-env", "S3_BUCKET", &before["S3_BUCKET"]).await;
    let mut expected = before.clone();
    expected.insert("EXTRA".to_owned(), "mine".to_owned());
    assert_eq!(world.data("worker-env").await.unwrap(), expected);

    // A removed key, a removed label and an edited annotation of Bindery's come back as well.
    for edit in [
        json!({"data": {"S3_BUCKET": null}}),
        json!({"metadata": {"labels": {"bindery.dev/managed": null}}}),
        json!({"metadata": {"annotations": {"bindery.dev/inputs": "v1:x:y"}}}),
    ] {
        let before = world.secrets().get("worker-env").await.unwrap();
        world.secrets().patch("worker-env", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
        eventually(&format!("the repair of {edit}"), Duration::from_secs(20), || async {
            let now = world.secrets().get("worker-env").await.unwrap();
            let same = now.data == before.data
                && now.metadata.labels == before.metadata.labels
                && now.metadata.annotations == before.metadata.annotations;
            same.then_some(())
        })
        .await;
    }
    assert_eq!(world.data("worker-env").await.unwrap(), expected);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_that_somebody_removes_come_back_also_without_an_owner_reference() {
    let world = World::new("marks").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    let policy =
        |policy: &str| json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"deletionPolicy": policy}});
    world.bind("owned", policy("Delete")).await;
    world.bind("retained", policy("Retain")).await;
    for name in ["owned", "retained"] {
        world.wait_ready(name).await;
        let before = world.secrets().get(name).await.unwrap();
        for other in [json!(null), json!("somebody-else")] {
            // Without an owner reference, a Secret that names another binding is that one's.
            if name == "retained" && !other.is_null() {
                continue;
            }
            let edit = json!({"metadata": {"annotations": {"bindery.dev/binding": other}}});
            world.secrets().patch(name, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
            eventually(&format!("the repair of {edit} on {name}"), Duration::from_secs(20), || async {
                let now = world.secrets().get(name).await.unwrap();
                (now.metadata.annotations == before.metadata.annotations).then_some(())
            })
            .await;
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fifth_repair_within_ten_minutes_is_not_made() {
    let (world, _operator) = published("contested").await;
    let before = world.data("worker-env").await.unwrap();
    for attempt in 0..4 {
        let edit = json!({"stringData": {"S3_BUCKET": format!("edit-{attempt}")}});
        world.secrets().patch("worker-env", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
        world.wait_value("worker-env", "S3_BUCKET", &before["S3_BUCKET"]).await;
    }
    let reasons: Vec<_> = world.audit().iter().map(|record| record["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reasons[0], "created");
    assert!(reasons[1..].iter().all(|reason| reason == "drift"), "{reasons:?}");

    // Somebody wants it otherwise.
    let edit = json!({"stringData": {"S3_BUCKET": "again"}});
    world.secrets().patch("worker-env", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    let message = world.wait("worker", "Applied", "False/TargetConflict").await;
    assert!(message.contains("4 times"), "{message}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_wanted_any_more_goes_and_others_stay() {
    let (world, _operator) = published("unwanted").await;
    let extra = json!({"stringData": {"EXTRA": "mine"}});
    world.secrets().patch("worker-env", &PatchParams::default(), &Patch::Merge(&extra)).await.unwrap();
    let spec = json!({"dataFrom": [{"secret": world.secret_id("app"), "include": ["REDIS_URL"]}], "target": {"name": "worker-env"}});
    world.bind("worker", spec).await;
    eventually("the keys to go", Duration::from_secs(60), || async {
        let keys: Vec<String> = world.data("worker-env").await.unwrap().into_keys().collect();
        (keys == ["EXTRA", "REDIS_URL"]).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_not_touched() {
    let world = World::new("foreign").await;
    world.put("app", &guide()).await;
    let foreign: Secret =
        serde_json::from_value(json!({"metadata": {"name": "worker-env"}, "stringData": {"A": "b"}})).unwrap();
    let before = world.secrets().create(&PostParams::default(), &foreign).await.unwrap();
    let _operator = world.operator();
    let spec = json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "worker-env"}});
    world.bind("worker", spec).await;
    let message = world.wait("worker", "Applied", "False/TargetConflict").await;
    assert!(message.contains("worker-env"), "{message}");
    assert_eq!(world.secrets().get("worker-env").await.unwrap(), before);
    assert_eq!(world.proxy.count("GetSecretValue"), 0, "what cannot be published is not read");

    world.secrets().delete("worker-env", &DeleteParams::default()).await.unwrap();
    world.wait_ready("worker").await;
    world.end().await;
}

fn desired(world: &World, value: &str) -> (Binding, Desired) {
    let spec: SecretBindingSpec =
        serde_json::from_value(json!({"dataFrom": [{"secret": "a"}], "target": {"deletionPolicy": "Retain"}})).unwrap();
    let mut manifest = SecretBinding::new("raced", spec);
    manifest.metadata.namespace = Some(world.namespace.clone());
    manifest.metadata.uid = Some("uid".to_owned());
    let binding = Binding::parse(&manifest).unwrap();
    let key = FingerprintKey::new(zeroize::Zeroizing::new([1; 32]));
    let data = [(TargetKey::try_from("A").unwrap(), Value::from(value))].into_iter().collect();
    let desired = Desired::new(&binding, data, std::collections::BTreeMap::new(), "inputs", &key);
    (binding, desired)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_appears_between_the_look_and_the_write_is_not_touched() {
    let world = World::without_grant("raced").await;
    let foreign: Secret =
        serde_json::from_value(json!({"metadata": {"name": "raced"}, "stringData": {"A": "b"}})).unwrap();
    let before = world.secrets().create(&PostParams::default(), &foreign).await.unwrap();
    // The look found nothing; the Secret appeared; the write rests on the look.
    let (binding, wanted) = desired(&world, "c");
    let server = ApiServer::new(world.client.clone(), 1);
    let permit = server.permit(None);
    let client = permit.writes().await;
    assert_eq!(apply_secret(client, &wanted, None).await.err(), Some(WriteError::Raced));
    assert_eq!(world.secrets().get("raced").await.unwrap(), before);

    // Where nothing stands there, the same write creates it.
    world.secrets().delete("raced", &DeleteParams::default()).await.unwrap();
    let written = apply_secret(client, &wanted, None).await.unwrap();
    let key = FingerprintKey::new(zeroize::Zeroizing::new([1; 32]));
    let written = bindery::domain::target::ObservedSecret::new(&written, &key);
    let bindery::domain::target::TargetState::Owned(observed) =
        bindery::domain::target::judge(&binding, Some(&written), false)
    else {
        panic!("the Secret is owned")
    };
    // A write on top of what was observed is made once: the second rests on a version that is gone.
    let (_, newer) = desired(&world, "d");
    apply_secret(client, &newer, Some(&observed)).await.unwrap();
    assert_eq!(apply_secret(client, &wanted, Some(&observed)).await.err(), Some(WriteError::Raced));
    assert_eq!(world.data("raced").await.unwrap()["A"], "d");
    // Deleted and made anew by somebody else between the look and the write: the uid tells.
    world.secrets().delete("raced", &DeleteParams::default()).await.unwrap();
    assert_eq!(apply_secret(client, &wanted, Some(&observed)).await.err(), Some(WriteError::Raced));
    assert!(world.data("raced").await.is_none(), "a Secret that was deleted since the look is not made again by it");
    world.end().await;
}
