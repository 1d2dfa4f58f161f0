//! The manifests of `examples/rotation`, which `docs/rotation.md` explains, as they stand there: applied to a real control
//! plane, with the names of namespace and secrets made this world's own.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::standin::StandIn;
use crate::support::{World, eventually};

/// Applies the examples strictly, as `kubectl apply` does, with the rule for TikTok due after `every`.
async fn apply(world: &World, every: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rotation");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("autorepost/production", &world.namespace);
        let text = text.replace("autorepost-production", &world.namespace);
        let text = text.replace("every: 7d", &format!("every: {every}")).replace("warnBefore: 1d", "warnBefore: 1s");
        for manifest in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            apply_one(world, &manifest).await;
        }
    }
}

async fn apply_one(world: &World, manifest: &Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (version, kind) = (text(&manifest["apiVersion"]), text(&manifest["kind"]));
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let client = world.client.clone();
    let api: Api<DynamicObject> = match manifest["metadata"].get("namespace") {
        Some(namespace) => Api::namespaced_with(client, namespace.as_str().unwrap(), &resource),
        None => Api::all_with(client, &resource),
    };
    let mut params = PatchParams::apply("test").force();
    params.field_validation = Some(ValidationDirective::Strict);
    let name = text(&manifest["metadata"]["name"]);
    api.patch(&name, &params, &Patch::Apply(manifest)).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
}

/// The guide's payload; the worker's has one key more.
fn payload(session: u32) -> Value {
    let mut payload = json!({"METRICS_PORT": "9400"});
    for key in [
        "DATABASE_URL",
        "REDIS_URL",
        "TOKEN_ENCRYPTION_KEY",
        "S3_ENDPOINT",
        "S3_BUCKET",
        "S3_ACCESS_KEY_ID",
        "S3_SECRET_ACCESS_KEY",
        "INSTAGRAM_APP_ID",
        "INSTAGRAM_APP_SECRET",
        "YOUTUBE_CLIENT_ID",
        "YOUTUBE_CLIENT_SECRET",
        "TWITTER_CONSUMER_KEY",
        "TWITTER_CONSUMER_SECRET",
        "PROMETHEUS_PUSH_URL",
        "SUPABASE_URL",
        "SUPABASE_SERVICE_ROLE_KEY",
        "SUPABASE_JWT_SECRET",
        "SUPABASE_ANON_KEY",
    ] {
        payload[key] = json!(format!("canary-7f3a-{key}"));
    }
    for key in ["TIKTOK_COOKIE", "TIKTOK_SESSION_ID", "TIKTOK_WEBID"] {
        payload[key] = json!(format!("canary-7f3a-{key}-{session}"));
    }
    payload
}

async fn start(name: &str) -> (World, StandIn) {
    let (world, aws) = World::with_stand_in(name).await;
    // The examples bring a grant of their own.
    world.delete_grant(&world.namespace.clone()).await;
    let mut app = payload(1);
    app.as_object_mut().unwrap().remove("METRICS_PORT");
    aws.put(&world.secret_id("app"), &app.to_string());
    aws.put(&world.secret_id("worker"), &payload(1).to_string());
    (world, aws)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_of_the_guide_are_ready_and_the_due_session_is_renewed_by_its_job() {
    let (world, aws) = start("guide").await;
    let _operator = world.operator();
    apply(&world, "20s").await;
    for binding in ["app", "worker"] {
        world.wait_ready(binding).await;
        world.wait(binding, "RotationCurrent", "True/Current").await;
    }
    let app = world.data("app-env").await.unwrap();
    assert!(app.contains_key("TOKEN_ENCRYPTION_KEY") && !app.contains_key("TIKTOK_COOKIE"), "{:?}", app.keys());
    let worker = world.data("worker-env").await.unwrap();
    assert_eq!((worker.len(), worker["METRICS_PORT"].as_str()), (22, "9400"));
    let status = world.bindings().get("app").await.unwrap().status.unwrap();
    let contacts = status.rotation.iter().filter(|rule| rule.state.is_none() && rule.contact.is_some());
    assert_eq!(contacts.count(), 3, "{:?}", status.rotation);

    // A week later, so to speak.
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    let job = eventually("the Job to run", Duration::from_secs(60), || async {
        let jobs = jobs.list(&ListParams::default()).await.unwrap().items;
        jobs.into_iter().find(|job| job.name_any().starts_with("renew-tiktok-session-"))
    })
    .await;
    assert_eq!(job.annotations().get("bindery.dev/rule").map(String::as_str), Some("tiktok-session"));
    aws.put(&world.secret_id("worker"), &payload(2).to_string());
    world.wait_value("worker-env", "TIKTOK_SESSION_ID", "canary-7f3a-TIKTOK_SESSION_ID-2").await;
    world.wait("worker", "RotationCurrent", "True/Current").await;
    world.end().await;
}

/// The quarterly rotation, in an emergency: one new value in both secrets, both programs through both phases, and the Job.
#[tokio::test(flavor = "multi_thread")]
async fn the_encryption_key_of_the_guide_goes_through_its_phases_in_app_and_worker_together() {
    let (world, _aws) = start("guide-key").await;
    let _operator = world.operator();
    apply(&world, "7d").await;
    for binding in ["app", "worker"] {
        world.wait_ready(binding).await;
        world.wait(binding, "RotationCurrent", "True/Current").await;
    }
    let old = world.data("app-env").await.unwrap()["TOKEN_ENCRYPTION_KEY"].clone();
    // The worker's is declared first, and waits for the app, which makes the value for both.
    world.annotate("worker", "bindery.dev/rotation", "emergency-token-encryption-key").await;
    eventually("the worker to wait for the app", Duration::from_secs(60), || async {
        let (_, message) = world.condition("worker", "RotationCurrent").await?;
        message.contains("makes the value for the group").then_some(())
    })
    .await;
    world.annotate("app", "bindery.dev/rotation", "emergency-token-encryption-key").await;
    let data = |key: &'static str| {
        let world = &world;
        move || async move {
            let (app, worker) = (world.data("app-env").await?, world.data("worker-env").await?);
            let value = app.get(key).filter(|value| worker.get(key) == Some(*value))?;
            Some((value.clone(), app["TOKEN_ENCRYPTION_KEY"].clone()))
        }
    };
    let limit = Duration::from_secs(60);
    let (next, key) = eventually("the next key", limit, data("TOKEN_ENCRYPTION_KEY_NEXT")).await;
    world.note_value(&next);
    assert_eq!(key, old);
    let (previous, key) = eventually("the previous key", limit, data("TOKEN_ENCRYPTION_KEY_PREVIOUS")).await;
    assert_eq!((previous, key), (old, next));
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    eventually("the Job to run", limit, || async {
        let jobs = jobs.list(&ListParams::default()).await.unwrap().items;
        jobs.into_iter().find(|job| job.name_any().starts_with("reencrypt-tokens-"))
    })
    .await;
    // Only the hold is left.
    for binding in ["app", "worker"] {
        eventually("the hold", limit, || async {
            let (state, message) = world.condition(binding, "RotationCurrent").await?;
            let status = world.bindings().get(binding).await.unwrap().status?;
            let acts = status.rotation.iter().any(|rule| rule.acted_for.is_some());
            (state == "True/Rotating" && message.contains("the old value stays until") && !acts).then_some(())
        })
        .await;
    }
    world.end().await;
}
