//! From Secrets Manager to the Secret.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::world::CANARY;
use crate::support::{World, eventually};

/// The payload of the guide, with values that a leak would be found by.
pub fn guide() -> Value {
    json!({
        "DATABASE_URL": format!("postgresql://app:{CANARY}@db/app"),
        "REDIS_URL": format!("rediss://:{CANARY}@cache:6379"),
        "TOKEN_ENCRYPTION_KEY": format!("{CANARY}-base64-32-byte-key"),
        "TIKTOK_COOKIE": format!("[\"{CANARY}\"]"),
        "TIKTOK_SESSION_ID": format!("{CANARY}-session-id"),
        "S3_ENDPOINT": "https://s3.example",
        "S3_BUCKET": format!("{CANARY}-media"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_gets_the_keys_of_the_app_and_its_own() {
    let world = World::new("worker").await;
    world.put("app", &guide()).await;
    world.put("worker", &json!({"METRICS_PORT": "9400", "S3_BUCKET": format!("{CANARY}-worker-bucket")})).await;
    let _operator = world.operator();
    world
        .bind(
            "worker",
            json!({
                "dataFrom": [
                    {"secret": world.secret_id("app"), "exclude": ["S3_END*"]},
                    {"secret": world.secret_id("worker"), "include": ["S3_*"], "prefix": ""},
                ],
                "data": [
                    {"key": "METRICS_PORT", "valueFrom": format!("{}:METRICS_PORT::", world.secret_id("worker"))},
                    {"key": "cache", "from": {"secret": world.secret_id("app"), "key": "REDIS_URL"}},
                ],
                "target": {
                    "name": "worker-env", "labels": {"team": "growth"}, "annotations": {"example.com/note": "hello"},
                },
            }),
        )
        .await;
    world.wait_ready("worker").await;

    let data = world.data("worker-env").await.unwrap();
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "DATABASE_URL",
            "METRICS_PORT",
            "REDIS_URL",
            "S3_BUCKET",
            "TIKTOK_COOKIE",
            "TIKTOK_SESSION_ID",
            "TOKEN_ENCRYPTION_KEY",
            "cache"
        ]
    );
    assert_eq!(data["METRICS_PORT"], "9400");
    assert_eq!(data["S3_BUCKET"], format!("{CANARY}-worker-bucket"), "a later entry wins");
    assert_eq!(data["cache"], data["REDIS_URL"]);

    let secret = world.secrets().get("worker-env").await.unwrap();
    let labels = secret.metadata.labels.unwrap();
    assert_eq!((labels["team"].as_str(), labels["bindery.dev/managed"].as_str()), ("growth", "true"));
    assert_eq!(secret.metadata.annotations.unwrap()["bindery.dev/binding"], "worker");
    let status = world.bindings().get("worker").await.unwrap().status.unwrap();
    assert_eq!(status.keys, Some(8));
    assert_eq!(status.binding.unwrap().name, "worker-env");
    assert_eq!(status.sources.len(), 2);
    assert!(status.sources.iter().all(|source| source.created_time.is_some() && source.arn.starts_with("arn:aws:")));
    // Events go out beside the passes, so a moment after the status.
    let events = eventually("the Event", Duration::from_secs(60), || async {
        Some(world.events("worker").await).filter(|events| !events.is_empty())
    })
    .await;
    assert_eq!(events, ["Normal/Published: the Secret \"worker-env\" holds 8 keys"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_followed_and_asked_for_by_version_only() {
    let world = World::new("rotate").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    let first = world.bindings().get("app").await.unwrap().status.unwrap();

    // Two refreshes without a change ask for the version and read nothing.
    eventually("two looks at the version", Duration::from_secs(60), || async {
        (world.proxy.count("DescribeSecret") >= 2).then_some(())
    })
    .await;
    assert_eq!(world.proxy.count("GetSecretValue"), 1);

    let mut payload = guide();
    payload["TIKTOK_SESSION_ID"] = json!(format!("{CANARY}-second-session"));
    world.put("app", &payload).await;
    world.wait_value("app", "TIKTOK_SESSION_ID", &format!("{CANARY}-second-session")).await;
    eventually("the status to name the new version", Duration::from_secs(60), || async {
        let status = world.bindings().get("app").await.unwrap().status.unwrap();
        (status.sources[0].version_id != first.sources[0].version_id).then_some(())
    })
    .await;
    assert_eq!(world.proxy.count("GetSecretValue"), 2);
    let audit = world.audit();
    assert_eq!(
        audit.iter().map(|record| record["reason"].as_str().unwrap()).collect::<Vec<_>>(),
        ["created", "changed"]
    );
    assert_eq!(audit[1]["keys"].as_array().unwrap().len(), 7);
    assert_eq!(audit[1]["binding"], "app");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_malformed_payload_of_the_guide_is_refused_by_line_and_column_and_changes_nothing() {
    let world = World::new("malformed").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    let before = world.secrets().get("app").await.unwrap();

    // The guide's own sample lacks a comma after PROMETHEUS_PUSH_URL.
    let sample = include_str!("../fixtures/guide-app.json.invalid");
    world.put_text("app", sample).await;
    let message = world.wait("app", "Rendered", "False/InvalidPayload").await;
    assert!(message.contains("line 19") && message.contains("column"), "{message}");
    world.wait("app", "Ready", "False/InvalidPayload").await;
    assert_eq!(world.secrets().get("app").await.unwrap(), before, "the last good Secret stays, byte for byte");

    let said = format!("{message} {:?}", world.events("app").await);
    for piece in ["SUPABASE", "supabase.co", "push.example.com", "PROMETHEUS", "session-id", "verify_xxx"] {
        assert!(!said.contains(piece), "a piece of the payload stands in: {said}");
    }
    // The same broken version is not read again and again.
    let reads = world.proxy.count("GetSecretValue");
    let looks = world.proxy.count("DescribeSecret");
    eventually("two more tries", Duration::from_secs(60), || async {
        (world.proxy.count("DescribeSecret") >= looks + 2).then_some(())
    })
    .await;
    assert_eq!(world.proxy.count("GetSecretValue"), reads);

    let mut payload = guide();
    payload["S3_BUCKET"] = json!(format!("{CANARY}-after-the-repair"));
    world.put("app", &payload).await;
    world.wait_value("app", "S3_BUCKET", &format!("{CANARY}-after-the-repair")).await;
    world.wait_ready("app").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_text_in_the_sync_annotation_forces_one_read() {
    let world = World::new("sync").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    world.bind("app", json!({"refreshInterval": "0s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    assert_eq!(world.proxy.count("GetSecretValue"), 1);
    let mut payload = guide();
    payload["S3_BUCKET"] = json!(format!("{CANARY}-synced"));
    world.put("app", &payload).await;

    world.annotate("app", "bindery.dev/sync", "now").await;
    world.wait_value("app", "S3_BUCKET", &format!("{CANARY}-synced")).await;
    eventually("the text to be noted", Duration::from_secs(60), || async {
        let status = world.bindings().get("app").await.unwrap().status.unwrap();
        (status.last_handled_sync.as_deref() == Some("now")).then_some(())
    })
    .await;
    world.annotate("app", "example.com/other", "x").await;
    world.annotate("app", "bindery.dev/sync", "again").await;
    eventually("the second text to be noted", Duration::from_secs(60), || async {
        let status = world.bindings().get("app").await.unwrap().status.unwrap();
        (status.last_handled_sync.as_deref() == Some("again")).then_some(())
    })
    .await;
    assert_eq!(world.proxy.count("GetSecretValue"), 3, "one read for each text");
    assert_eq!(world.audit().last().unwrap()["reason"], "forced");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_binding_is_left_as_it_is() {
    let world = World::new("suspend").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    let spec = |suspend: bool| json!({"suspend": suspend, "refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]});
    world.bind("app", spec(false)).await;
    world.wait_ready("app").await;
    world.bind("app", spec(true)).await;
    world.wait("app", "Suspended", "True/Suspended").await;
    world.wait_ready("app").await;

    let calls = world.proxy.calls().len();
    world.secrets().delete("app", &kube::api::DeleteParams::default()).await.unwrap();
    world.annotate("app", "bindery.dev/sync", "now").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(world.data("app").await.is_none(), "nothing is written");
    assert_eq!(world.proxy.calls().len(), calls, "nothing is asked of AWS");

    world.bind("app", spec(false)).await;
    eventually("the Secret", Duration::from_secs(60), || world.data("app")).await;
    eventually("the condition Suspended to go", Duration::from_secs(60), || async {
        world.condition("app", "Suspended").await.is_none().then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_aws_hold_the_last_good_secret_and_pass() {
    use crate::support::Fault;
    let world = World::new("faults").await;
    world.put("app", &guide()).await;
    let _operator = world.operator();
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    let before = world.data("app").await;
    for (fault, fetched, ready) in [
        (Fault::Error(400, "ThrottlingException", "Rate exceeded"), "False/Throttled", "True/Published"),
        (Fault::Error(500, "InternalServiceError", "oops"), "False/AwsUnavailable", "True/Published"),
        (
            Fault::Error(400, "UnrecognizedClientException", "The security token included in the request is invalid."),
            "False/CredentialsFailed",
            "False/CredentialsFailed",
        ),
        (
            Fault::Error(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
            "False/SecretNotFound",
            "False/SecretNotFound",
        ),
    ] {
        world.proxy.fail(&[], fault);
        let message = world.wait("app", "Fetched", fetched).await;
        assert!(message.contains("req-0001") && message.contains(&world.secret_id("app")), "{message}");
        world.wait("app", "Ready", ready).await;
        assert_eq!(world.data("app").await, before);
        world.proxy.heal();
        world.wait("app", "Fetched", "True/Verified").await;
        world.wait_ready("app").await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_secret_is_published_byte_for_byte_and_one_that_holds_json_is_json() {
    let world = World::new("binary").await;
    let bytes: Vec<u8> = (0..=255).collect();
    world.put_binary("keystore", &bytes).await;
    world.put_binary("json", format!("{{\"A\": \"{CANARY}\"}}").as_bytes()).await;
    let _operator = world.operator();
    world
        .bind(
            "app",
            json!({
                "data": [
                    {"key": "keystore.p12", "valueFrom": world.secret_id("keystore")},
                    {"key": "A", "valueFrom": format!("{}:A::", world.secret_id("json"))},
                ],
            }),
        )
        .await;
    world.wait_ready("app").await;
    let data = world.secrets().get("app").await.unwrap().data.unwrap();
    assert_eq!(data["keystore.p12"].0, bytes);
    assert_eq!(data["A"].0, CANARY.as_bytes());
    assert_eq!(world.audit().iter().filter(|record| record["wholePayload"] == true).count(), 1);
    world.end().await;
}
