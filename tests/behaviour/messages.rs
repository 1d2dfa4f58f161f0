//! What a user reads, and that it leads on: each message is acted on by the words in it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::operator::read_log;
use crate::support::world::CANARY;
use crate::support::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_ends_with_the_grant_that_cures_it() {
    let world = World::without_grant("proposal").await;
    world.put("app", &json!({"DATABASE_URL": format!("postgresql://app:{CANARY}@db")})).await;
    let _operator = world.operator();
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let message = world.wait("app", "Granted", "False/AccessDenied").await;
    let proposed: Value = serde_json::from_str(&message[message.find('{').expect("a grant in the message")..]).unwrap();
    assert_eq!(proposed["metadata"]["name"], json!(world.namespace));
    world.grant_with(&world.namespace, proposed["spec"].clone()).await;
    world.wait_ready("app").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_found_says_where_and_as_whom_it_was_looked_for() {
    let world = World::new("nowhere").await;
    let _operator = world.operator();
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("typo")}]})).await;
    let message = world.wait("app", "Fetched", "False/SecretNotFound").await;
    for part in ["asked in eu-west-1", "through the SecretGrant", "as the operator's own identity"] {
        assert!(message.contains(part), "{message}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_and_the_audit_records_name_the_principal_of_the_operator() {
    let world = World::new("principal").await;
    world.put("app", &json!({"TOKEN": format!("{CANARY}-1")})).await;
    let _operator = world.operator();
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    let said = || async {
        read_log(&world.folder, "operator.log").contains("AWS knows the operator's own identity").then_some(())
    };
    eventually("the principal in the log", Duration::from_secs(30), said).await;
    world.put("app", &json!({"TOKEN": format!("{CANARY}-2")})).await;
    world.wait_value("app", "TOKEN", &format!("{CANARY}-2")).await;
    let records = world.audit();
    let principal = records.last().unwrap()["principal"].as_str().unwrap_or_default();
    assert!(principal.starts_with("arn:aws:"), "{records:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_deleted_and_held_by_a_finalizer_is_not_ready_and_says_who_holds_it() {
    let world = World::new("held").await;
    world.put("app", &json!({"TOKEN": format!("{CANARY}-1")})).await;
    let _operator = world.operator();
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    let secrets = world.secrets();
    let finalizers = |names: Value| Patch::Merge(json!({"metadata": {"finalizers": names}}));
    let other = PatchParams { field_manager: Some("backup".to_owned()), ..PatchParams::default() };
    secrets.patch("app", &other, &finalizers(json!(["example.com/backup"]))).await.unwrap();
    secrets.delete("app", &DeleteParams::default()).await.unwrap();
    let message = world.wait("app", "Applied", "False/TargetConflict").await;
    assert!(message.contains("held by the finalizer example.com/backup"), "{message}");
    assert!(world.condition("app", "Ready").await.unwrap().0.starts_with("False/"));
    // As long as it is there, it follows its secret.
    world.put("app", &json!({"TOKEN": format!("{CANARY}-2")})).await;
    world.wait_value("app", "TOKEN", &format!("{CANARY}-2")).await;
    secrets.patch("app", &other, &finalizers(Value::Null)).await.unwrap();
    world.wait_ready("app").await;
    let published: Secret = secrets.get("app").await.unwrap();
    assert!(published.metadata.deletion_timestamp.is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_get_names_for_env_from_and_json_is_read_within_json() {
    let world = World::new("envvar").await;
    let config = json!({"host": format!("{CANARY}.db")}).to_string();
    world.put("app", &json!({"db-password": format!("{CANARY}-p"), "config": config})).await;
    let _operator = world.operator();
    let app = world.secret_id("app");
    world
        .bind(
            "app",
            json!({
                "dataFrom": [{"secret": app, "exclude": ["config"], "prefix": "app.", "keyFormat": "EnvVar"}],
                "data": [{"key": "HOST", "valueFrom": format!("{app}:/config/host::")}],
            }),
        )
        .await;
    world.wait_value("app", "APP_DB_PASSWORD", &format!("{CANARY}-p")).await;
    world.wait_value("app", "HOST", &format!("{CANARY}.db")).await;
    world.wait_ready("app").await;

    let wrong = world.try_bind("wrong", json!({"dataFrom": [{"secret": app, "keyFormat": "Upper"}]})).await;
    assert!(wrong.unwrap_err().to_string().contains("keyFormat"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_no_container_can_take_as_environment_is_named_or_refused() {
    let world = World::new("binary").await;
    world.put("app", &json!({"KEYSTORE": "/u3+7QAAAAI=", "USER": format!("{CANARY}-u")})).await;
    let _operator = world.operator();
    let app = world.secret_id("app");
    let spec = |text_only: bool| {
        json!({
            "refreshInterval": "10s",
            "data": [
                {"key": "KEYSTORE", "valueFrom": format!("{app}:KEYSTORE::"), "encoding": "Base64"},
                {"key": "USER", "valueFrom": format!("{app}:USER::")},
            ],
            "target": {"textOnly": text_only},
        })
    };
    world.bind("app", spec(false)).await;
    world.wait_ready("app").await;
    let rendered = world.condition("app", "Rendered").await.unwrap();
    assert!(rendered.0.starts_with("True/") && rendered.1.contains("the value of KEYSTORE has a NUL"), "{rendered:?}");
    let named = || async {
        let events = world.events("app").await;
        events.iter().any(|event| event.starts_with("Warning/InvalidValue") && event.contains("KEYSTORE")).then_some(())
    };
    eventually("the Event", Duration::from_secs(30), named).await;
    let binary = || async {
        let status = world.bindings().get("app").await.unwrap().status.unwrap_or_default();
        (status.binary_keys == ["KEYSTORE"]).then_some(())
    };
    eventually("status.binaryKeys", Duration::from_secs(30), binary).await;

    world.bind("app", spec(true)).await;
    let message = world.wait("app", "Rendered", "False/InvalidValue").await;
    assert!(message.contains("`KEYSTORE`") && message.contains("textOnly"), "{message}");
    world.wait_value("app", "USER", &format!("{CANARY}-u")).await;

    world.put("app", &json!({"KEYSTORE": "aGVsbG8=", "USER": format!("{CANARY}-u")})).await;
    world.wait("app", "Rendered", "True/Complete").await;
    world.wait_value("app", "KEYSTORE", "hello").await;
    world.end().await;
}
