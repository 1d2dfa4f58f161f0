//! The life of one overlap: its phases, what holds it up and what ends it, and that neither value is ever lost.

use std::collections::BTreeMap;
use std::time::Duration;

use bindery::api::SecretGrant;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::standin::StandIn;
use crate::support::{World, eventually};

const KEY: &str = "TOKEN_ENCRYPTION_KEY";
const NEXT: &str = "TOKEN_ENCRYPTION_KEY_NEXT";
const PREVIOUS: &str = "TOKEN_ENCRYPTION_KEY_PREVIOUS";
const SOON: Duration = Duration::from_secs(90);

fn value(name: &str) -> String {
    format!("canary-7f3a-{name}")
}

fn put(world: &World, stand_in: &StandIn, key: &str, other: &str) {
    let payload = json!({KEY: value(key), "DATABASE_URL": value(other)});
    world.note_value(&value(key));
    world.note_value(&value(other));
    stand_in.put(&world.secret_id("app"), &payload.to_string());
}

/// A binding whose key overlaps.
fn spec(world: &World, overlap: &Value) -> Value {
    json!({
        "refreshInterval": "10s",
        "dataFrom": [{"secret": world.secret_id("app")}],
        "rotation": [{"name": "token", "keys": [KEY], "overlap": overlap}],
        "restart": {"policy": "Consumers"},
    })
}

fn staged(hold: &str) -> Value {
    json!({"strategy": "Staged", "hold": hold})
}

/// A world with a published key, and its operator. The grant allows a rotation, so that old versions can be kept.
async fn published(name: &str, overlap: &Value) -> (World, StandIn, crate::support::Operator) {
    let (world, stand_in) = World::with_stand_in(name).await;
    let rotation = json!([{"action": "Generate", "secrets": [world.secret_id("app")], "keys": [KEY]}]);
    let grants: Api<SecretGrant> = Api::all(world.client.clone());
    let edit = Patch::Merge(json!({"spec": {"rotation": rotation}}));
    grants.patch(&world.namespace, &PatchParams::default(), &edit).await.unwrap();
    put(&world, &stand_in, "old", "db-0");
    let operator = world.operator();
    world.bind("app", spec(&world, overlap)).await;
    world.wait_value("app", KEY, &value("old")).await;
    (world, stand_in, operator)
}

async fn holds(world: &World, expected: &[(&str, &str)]) {
    let expected: BTreeMap<&str, String> = expected.iter().map(|(key, name)| (*key, value(name))).collect();
    eventually(&format!("the Secret to hold {expected:?}"), SOON, || async {
        let data = world.data("app").await?;
        let found: BTreeMap<&str, String> =
            [KEY, NEXT, PREVIOUS].into_iter().filter_map(|key| Some((key, data.get(key)?.clone()))).collect();
        (found == expected).then_some(())
    })
    .await;
}

async fn phase(world: &World, expected: Option<&str>) {
    eventually(&format!("the phase {expected:?}"), SOON, || async {
        let status = world.bindings().get("app").await.unwrap().status?;
        let rule = status.rotation.iter().find(|rule| rule.name == "token")?;
        (rule.phase.as_deref() == expected).then_some(())
    })
    .await;
}

/// Waits until the condition says this.
async fn says(world: &World, reason: &str, words: &str) -> String {
    eventually(&format!("RotationCurrent to say {reason}: {words}"), SOON, || async {
        let (state, message) = world.condition("app", "RotationCurrent").await?;
        (state.ends_with(&format!("/{reason}")) && message.contains(words)).then_some(message)
    })
    .await
}

/// The labels of Bindery's own on the versions of the secret.
async fn labels(world: &World) -> Vec<String> {
    let found = world.aws.describe_secret().secret_id(world.secret_id("app")).send().await.unwrap();
    let labels = found.version_ids_to_stages.unwrap_or_default().into_values().flatten();
    labels.filter(|label| label.starts_with("bindery-hold-")).collect()
}

async fn owners(world: &World) -> usize {
    let secrets: Api<Secret> = world.secrets();
    secrets.get_metadata("app").await.unwrap().owner_references().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_change_goes_through_its_phases_and_waits_to_be_told_that_the_old_value_may_go() {
    let (world, stand_in, mut operator) = published("phases", &staged("1s")).await;
    put(&world, &stand_in, "new", "db-0");
    // Nobody uses the key, so nobody has to be restarted.
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    says(&world, "Rotating", "retire-<rule>").await;
    phase(&world, Some("Promoted")).await;
    assert_eq!(labels(&world).await.len(), 1, "the old version is kept");
    assert_eq!(owners(&world).await, 1);
    // Other keys follow at once, and AWSPREVIOUS moves on with them.
    put(&world, &stand_in, "new", "db-1");
    world.wait_value("app", "DATABASE_URL", &value("db-1")).await;
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;

    // Not even with the Secret, and the operator, is the old value lost.
    operator.kill();
    world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    operator.restart();
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    phase(&world, Some("Promoted")).await;

    // A second change waits until the first is over.
    put(&world, &stand_in, "newest", "db-2");
    world.wait_value("app", "DATABASE_URL", &value("db-2")).await;
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    world.annotate("app", "bindery.dev/rotation", "retire-token").await;
    holds(&world, &[(KEY, "newest"), (PREVIOUS, "new")]).await;
    world.annotate("app", "bindery.dev/rotation", "retire-token again").await;
    holds(&world, &[(KEY, "newest")]).await;
    phase(&world, None).await;
    eventually("the label to be taken off", SOON, || async { labels(&world).await.is_empty().then_some(()) }).await;
    world.wait_ready("app").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_change_goes_back_and_the_value_is_not_followed_until_the_source_changes() {
    let (world, stand_in, _operator) = published("aborted", &staged("1s")).await;
    put(&world, &stand_in, "new", "db-0");
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    world.annotate("app", "bindery.dev/rotation", "abort-token").await;
    holds(&world, &[(KEY, "old"), (PREVIOUS, "new")]).await;
    says(&world, "Rotating", "goes back to the old value").await;
    world.annotate("app", "bindery.dev/rotation", "retire-token").await;
    holds(&world, &[(KEY, "old")]).await;
    // The source still holds the new value; the other key is followed.
    put(&world, &stand_in, "new", "db-1");
    world.wait_value("app", "DATABASE_URL", &value("db-1")).await;
    holds(&world, &[(KEY, "old")]).await;
    assert_eq!(labels(&world).await.len(), 1, "the source does not hold the value any more, so it stays kept");
    put(&world, &stand_in, "better", "db-1");
    holds(&world, &[(KEY, "better"), (PREVIOUS, "old")]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_again_after_it_was_taken_back_is_encrypted_anew_again() {
    let mut overlap = staged("1s");
    overlap["reencrypt"] = json!({"cronJob": "reencrypt"});
    let (world, stand_in, _operator) = published("again", &overlap).await;
    let cron_job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "reencrypt", "annotations": {"bindery.dev/run": "allowed"}},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "app"}}]}],
        }}}}},
    });
    let cron_jobs: Api<CronJob> = Api::namespaced(world.client.clone(), &world.namespace);
    cron_jobs.patch("reencrypt", &PatchParams::apply("test"), &Patch::Apply(&cron_job)).await.unwrap();
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    let count = || async { jobs.list(&ListParams::default()).await.unwrap().items.len() };
    for (change, expected) in [("new", 1), ("old", 2), ("new", 3)] {
        put(&world, &stand_in, change, "db-0");
        holds(&world, &[(KEY, change)]).await;
        assert_eq!(count().await, expected, "each change is encrypted anew by a Job of its own");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_that_somebody_takes_away_is_put_back_and_the_old_value_stays() {
    let (world, stand_in, _operator) = published("taken-away", &staged("1s")).await;
    put(&world, &stand_in, "new", "db-0");
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    phase(&world, Some("Promoted")).await;
    let edit = json!({"metadata": {"annotations": {"bindery.dev/rotation-state": null}}});
    world.secrets().patch("app", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    eventually("the record to be back", SOON, || async {
        let secret = world.secrets().get_metadata("app").await.unwrap();
        secret.annotations().get("bindery.dev/rotation-state").filter(|record| record.contains("Promoted")).map(|_| ())
    })
    .await;
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_effect_is_told_once() {
    let (world, _stand_in, _operator) = published("no-effect", &staged("1s")).await;
    phase(&world, None).await;
    world.annotate("app", "bindery.dev/rotation", "abort-token").await;
    eventually("the Event", SOON, || async {
        world.events("app").await.into_iter().find(|event| event.contains("abort-token has no effect"))
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_immediate_the_old_value_stays_for_the_hold_also_without_its_rule() {
    let (world, stand_in, _operator) =
        published("immediate-hold", &json!({"strategy": "Immediate", "hold": "8s"})).await;
    put(&world, &stand_in, "new", "db-0");
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    let without_rule = json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]});
    world.bind("app", without_rule).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    holds(&world, &[(KEY, "new")]).await;
    let secret = world.secrets().get_metadata("app").await.unwrap();
    assert!(!secret.annotations().contains_key("bindery.dev/rotation-state"), "nothing is left to record");
    world.end().await;
}

async fn make_pod(world: &World, name: &str, container: &Value) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }))
    .unwrap();
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    pods.create(&PostParams::default(), &pod).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_nothing_replaces_holds_the_gate_and_is_named() {
    let (world, stand_in, _operator) = published("gate", &staged("1s")).await;
    let whole = json!({"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "app"}}]});
    make_pod(&world, "lone", &whole).await;
    put(&world, &stand_in, "new", "db-0");
    says(&world, "OverlapBlocked", "the pod lone was created before").await;
    holds(&world, &[(KEY, "old"), (NEXT, "new")]).await;
    assert_eq!(world.condition("app", "Ready").await.unwrap().0, "True/Published", "the Secret is as it should be");

    let by_name = json!({"name": "c", "image": "i", "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "app", "key": KEY}}}]});
    make_pod(&world, "narrow", &by_name).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    pods.delete("lone", &DeleteParams::default()).await.unwrap();
    says(&world, "OverlapBlocked", "must also take TOKEN_ENCRYPTION_KEY_NEXT").await;
    holds(&world, &[(KEY, "old"), (NEXT, "new")]).await;
    pods.delete("narrow", &DeleteParams::default()).await.unwrap();
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_member_holds_the_group_and_its_deletion_releases_it() {
    let overlap = json!({"strategy": "Staged", "hold": "1s", "group": "keys"});
    let (world, stand_in, _operator) = published("member", &overlap).await;
    let mut of_worker = spec(&world, &overlap);
    world.bind("worker", of_worker.clone()).await;
    world.wait_value("worker", KEY, &value("old")).await;
    of_worker["suspend"] = json!(true);
    world.bind("worker", of_worker).await;
    world.wait("worker", "Suspended", "True/Suspended").await;
    put(&world, &stand_in, "new", "db-0");
    says(&world, "OverlapBlocked", "\"worker\", which is stuck: it is suspended").await;
    holds(&world, &[(KEY, "old"), (NEXT, "new")]).await;
    world.bindings().delete("worker", &DeleteParams::default()).await.unwrap();
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_old_version_cannot_be_kept_the_secret_outlives_its_binding() {
    let (world, stand_in) = World::with_stand_in("only-copy").await;
    put(&world, &stand_in, "old", "db-0");
    let _operator = world.operator();
    world.bind("app", spec(&world, &staged("1s"))).await;
    world.wait_value("app", KEY, &value("old")).await;
    assert_eq!(owners(&world).await, 1);
    put(&world, &stand_in, "new", "db-0");
    holds(&world, &[(KEY, "new"), (PREVIOUS, "old")]).await;
    assert_eq!((labels(&world).await.len(), owners(&world).await), (0, 0));
    eventually("the Event", SOON, || async {
        world.events("app").await.into_iter().find(|event| event.contains("OnlyCopy"))
    })
    .await;
    world.annotate("app", "bindery.dev/rotation", "retire-token").await;
    holds(&world, &[(KEY, "new")]).await;
    eventually("the owner to be back", SOON, || async { (owners(&world).await == 1).then_some(()) }).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_and_a_key_that_is_missing_are_refused_and_nothing_changes() {
    let (world, stand_in, _operator) = published("taken", &staged("1s")).await;
    let payload = json!({KEY: value("old"), NEXT: value("mine")});
    world.note_value(&value("mine"));
    stand_in.put(&world.secret_id("app"), &payload.to_string());
    let message = world.wait("app", "Rendered", "False/InvalidKey").await;
    assert!(message.contains(NEXT) && message.contains("nextKey"), "{message}");
    stand_in.put(&world.secret_id("app"), &json!({"DATABASE_URL": value("db-1")}).to_string());
    world.note_value(&value("db-1"));
    let message = world.wait("app", "Rendered", "False/KeyNotFound").await;
    assert!(message.contains(KEY), "{message}");
    holds(&world, &[(KEY, "old")]).await;
    world.end().await;
}
