//! The target's life on a real API server: who else writes to it, what keeps it from being written, and that a binding
//! says so and recovers.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::account::{Account, apply};
use crate::support::operator::{Setup, read_log};
use crate::support::world::CANARY;
use crate::support::{Operator, World, eventually};

fn payload(number: u32) -> Value {
    json!({"DATABASE_URL": format!("postgresql://app:{CANARY}-{number}@db/app"), "S3_BUCKET": format!("{CANARY}-bucket")})
}

fn url(number: u32) -> String {
    payload(number)["DATABASE_URL"].as_str().unwrap().to_owned()
}

/// A spec that publishes the secret `app` and looks every ten seconds for a new version.
fn spec(world: &World, target: &Value) -> Value {
    json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}], "target": target})
}

/// A world with the secret `app`.
async fn with_app(name: &str) -> World {
    let world = World::new(name).await;
    world.put("app", &payload(1)).await;
    world
}

/// Waits until `Applied` is False for this reason; judges the rest of what is then said, and answers the message.
async fn refused(world: &World, binding: &str, target: &str, reason: &str) -> String {
    let message = world.wait(binding, "Applied", &format!("False/{reason}")).await;
    let ready = world.condition(binding, "Ready").await.unwrap();
    assert_eq!(ready, (format!("False/{reason}"), message.clone()));
    assert_eq!(world.condition(binding, "Reconciling").await.unwrap().0, "True/Retrying");
    assert!(message.contains(target), "the Secret is not named: {message}");
    let warning = format!("Warning/{reason}: {message}");
    eventually("the Event", Duration::from_secs(60), || async {
        let events = world.events(binding).await;
        (events.iter().filter(|event| **event == warning).count() == 1).then_some(())
    })
    .await;
    message
}

async fn create(world: &World, name: &str, fields: Value) -> Secret {
    let mut object = fields;
    object["metadata"]["name"] = json!(name);
    let object: Secret = serde_json::from_value(object).unwrap();
    world.secrets().create(&PostParams::default(), &object).await.unwrap()
}

async fn patch(world: &World, name: &str, change: Value) {
    world.secrets().patch(name, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
}

async fn get(world: &World, name: &str) -> Secret {
    world.secrets().get(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_secret_is_taken_over_with_consent_only_and_its_other_keys_stay() {
    let world = with_app("adopt").await;
    let mine =
        json!({"stringData": {"S3_BUCKET": "by hand", "EXTRA": "mine"}, "metadata": {"labels": {"team": "growth"}}});
    let before = create(&world, "env", mine).await;
    let _operator = world.operator();
    let adopting = json!({"name": "env", "adopt": true, "deletionPolicy": "Retain"});
    world.bind("worker", spec(&world, &adopting)).await;
    refused(&world, "worker", "env", "TargetConflict").await;
    // The consent of another binding is none for this one.
    patch(&world, "env", json!({"metadata": {"annotations": {"bindery.dev/adopt-by": "other"}}})).await;
    world.annotate("worker", "bindery.dev/sync", "look").await;
    world.wait("worker", "Applied", "False/TargetConflict").await;
    assert_eq!(get(&world, "env").await.data, before.data);
    assert_eq!(world.proxy.count("GetSecretValue"), 0, "what cannot be published is not read");

    patch(&world, "env", json!({"metadata": {"annotations": {"bindery.dev/adopt-by": "worker"}}})).await;
    world.wait_ready("worker").await;
    let data = world.data("env").await.unwrap();
    let expected = [("DATABASE_URL", url(1)), ("EXTRA", "mine".to_owned()), ("S3_BUCKET", format!("{CANARY}-bucket"))];
    assert_eq!(data, expected.map(|(key, value)| (key.to_owned(), value)).into());
    let adopted = get(&world, "env").await;
    assert_eq!(adopted.metadata.uid, before.metadata.uid, "it is the same object");
    assert_eq!(adopted.metadata.labels.unwrap()["team"], "growth");
    assert!(adopted.metadata.owner_references.is_none());
    assert_eq!(world.bindings().get("worker").await.unwrap().status.unwrap().keys, Some(2), "of its own");

    world.put("app", &payload(2)).await;
    world.wait_value("env", "DATABASE_URL", &url(2)).await;
    assert_eq!(world.data("env").await.unwrap()["EXTRA"], "mine");
    world.bindings().delete("worker", &DeleteParams::default()).await.unwrap();
    world.bind("witness", spec(&world, &json!({}))).await;
    world.wait_ready("witness").await;
    assert_eq!(world.data("env").await.unwrap()["DATABASE_URL"], url(2), "it stays, with all its keys");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_adoption_says_which_side_has_not_consented() {
    let world = with_app("consent").await;
    create(&world, "unmarked", json!({"stringData": {"A": "b"}})).await;
    let consents = json!({"annotations": {"bindery.dev/adopt-by": "shy"}});
    create(&world, "marked", json!({"stringData": {"A": "b"}, "metadata": consents})).await;
    let _operator = world.operator();
    world.bind("eager", spec(&world, &json!({"name": "unmarked", "adopt": true, "deletionPolicy": "Retain"}))).await;
    world.bind("shy", spec(&world, &json!({"name": "marked"}))).await;
    let message = refused(&world, "eager", "unmarked", "TargetConflict").await;
    assert!(message.contains("bindery.dev/adopt-by"), "the annotation that is missing is not named: {message}");
    let message = refused(&world, "shy", "marked", "TargetConflict").await;
    assert!(message.contains("spec.target.adopt"), "{message}");
    world.bind("shy", spec(&world, &json!({"name": "marked", "adopt": true, "deletionPolicy": "Retain"}))).await;
    world.wait_ready("shy").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_to_adopt_stays_byte_for_byte_while_a_required_key_is_missing_or_its_type_differs() {
    let world = with_app("adopt-held").await;
    let consents = |binding: &str| json!({"annotations": {"bindery.dev/adopt-by": binding}});
    let lacking =
        create(&world, "lacking", json!({"stringData": {"TOKEN": "by hand"}, "metadata": consents("lacking")})).await;
    let typed = json!({"type": "example.com/other", "stringData": {"A": "b"}, "metadata": consents("typed")});
    let typed = create(&world, "typed", typed).await;
    let _operator = world.operator();
    let required = json!({"requiredKeys": ["TOKEN"], "adopt": true, "deletionPolicy": "Retain"});
    world.bind("lacking", spec(&world, &required)).await;
    let message = world.wait("lacking", "Rendered", "False/RequiredKeyMissing").await;
    assert!(message.contains("TOKEN"), "{message}");
    world.bind("typed", spec(&world, &json!({"adopt": true, "deletionPolicy": "Retain"}))).await;
    let message = refused(&world, "typed", "typed", "TargetImmutable").await;
    assert!(message.contains("type"), "{message}");
    assert_eq!((get(&world, "lacking").await, get(&world, "typed").await), (lacking, typed));

    let mut complete = payload(2);
    complete["TOKEN"] = json!(format!("{CANARY}-token"));
    world.put("app", &complete).await;
    world.wait_value("lacking", "TOKEN", &format!("{CANARY}-token")).await;
    let right = json!({"type": "example.com/other", "adopt": true, "deletionPolicy": "Retain"});
    world.bind("typed", spec(&world, &right)).await;
    world.wait_ready("typed").await;
    assert_eq!(get(&world, "typed").await.type_.as_deref(), Some("example.com/other"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_bindings_with_one_target_the_first_keeps_it_and_the_other_names_it() {
    let world = with_app("two").await;
    world.put("other", &json!({"OTHER": format!("{CANARY}-other")})).await;
    let _operator = world.operator();
    world.bind("first", spec(&world, &json!({"name": "env"}))).await;
    world.wait_ready("first").await;
    let before = get(&world, "env").await;
    let other = json!({"dataFrom": [{"secret": world.secret_id("other")}], "target": {"name": "env"}});
    world.bind("second", other).await;
    let message = refused(&world, "second", "env", "TargetConflict").await;
    assert!(message.contains("first"), "the owner is not named: {message}");
    assert_eq!(get(&world, "env").await, before);
    // With the first gone, and its Secret collected, the name is free.
    world.bindings().delete("first", &DeleteParams::default()).await.unwrap();
    world.wait_ready("second").await;
    world.wait_value("env", "OTHER", &format!("{CANARY}-other")).await;
    assert_eq!(world.data("env").await.unwrap().len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_type_is_refused_and_changes_nothing_until_it_is_taken_back_or_the_secret_deleted() {
    let world = with_app("type").await;
    let _operator = world.operator();
    world.bind("app", spec(&world, &json!({}))).await;
    world.wait_ready("app").await;
    let before = get(&world, "app").await;
    let typed = json!({"type": "example.com/env", "labels": {"team": "growth"}});
    world.bind("app", spec(&world, &typed)).await;
    let message = refused(&world, "app", "app", "TargetImmutable").await;
    assert!(message.contains("type") && message.contains("delete it"), "{message}");
    assert_eq!(get(&world, "app").await, before, "not even the label is changed");

    world.bind("app", spec(&world, &json!({}))).await;
    world.wait_ready("app").await;
    let after = get(&world, "app").await;
    assert_eq!(
        (&after.type_, &after.data, &after.metadata.labels),
        (&before.type_, &before.data, &before.metadata.labels)
    );
    world.bind("app", spec(&world, &typed)).await;
    world.wait("app", "Applied", "False/TargetImmutable").await;
    world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    world.wait_ready("app").await;
    let anew = get(&world, "app").await;
    assert_eq!((anew.type_.as_deref(), anew.data), (Some("example.com/env"), before.data));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_somebody_made_immutable_is_told_at_the_next_change_and_follows_once_deleted() {
    let world = with_app("immutable").await;
    let _operator = world.operator();
    world.bind("app", spec(&world, &json!({}))).await;
    world.wait_ready("app").await;
    patch(&world, "app", json!({"immutable": true})).await;
    let before = get(&world, "app").await;
    world.put("app", &payload(2)).await;
    let message = refused(&world, "app", "app", "TargetImmutable").await;
    assert!(message.contains("data") && message.contains("delete it"), "{message}");
    assert_eq!(get(&world, "app").await, before);
    world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    world.wait_ready("app").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_the_keys_of_its_type_is_refused_by_their_names() {
    let world = World::new("keys-of-type").await;
    let certificate = format!("{CANARY}-certificate");
    world.put("tls", &json!({"tls.crt": certificate})).await;
    world.put("docker", &json!({".dockerconfigjson": format!("{CANARY} is no JSON")})).await;
    let _operator = world.operator();
    let typed = |secret: &str, target: Value| json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id(secret)}], "target": target});
    world.bind("tls", typed("tls", json!({"type": "kubernetes.io/tls"}))).await;
    let message = refused(&world, "tls", "tls", "TargetInvalid").await;
    assert!(message.contains("data[tls.key]") && !message.contains("data[tls.crt]"), "{message}");
    world.bind("docker", typed("docker", json!({"type": "kubernetes.io/dockerconfigjson"}))).await;
    let message = refused(&world, "docker", "docker", "TargetInvalid").await;
    assert!(message.contains("data[.dockerconfigjson]"), "{message}");
    assert!(world.data("tls").await.is_none() && world.data("docker").await.is_none());

    world.put("tls", &json!({"tls.crt": certificate, "tls.key": format!("{CANARY}-key")})).await;
    world.put("docker", &json!({".dockerconfigjson": "{\"auths\": {}}"})).await;
    world.wait_ready("tls").await;
    world.wait_ready("docker").await;
    assert_eq!(get(&world, "tls").await.type_.as_deref(), Some("kubernetes.io/tls"));

    // Later the key goes at the source: the published pair stays.
    let before = get(&world, "tls").await;
    world.put("tls", &json!({"tls.crt": format!("{CANARY}-next-certificate")})).await;
    world.wait("tls", "Applied", "False/TargetInvalid").await;
    world.wait("tls", "Ready", "False/TargetInvalid").await;
    assert_eq!(get(&world, "tls").await, before);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_secret_is_not_taken_for_a_refused_one_because_of_its_name() {
    let world = World::new("names").await;
    world.put("tls", &json!({"tls.crt": format!("{CANARY}-certificate")})).await;
    let _operator = world.operator();
    let target = json!({"type": "kubernetes.io/tls", "name": "admission-tls"});
    world.bind("named", json!({"dataFrom": [{"secret": world.secret_id("tls")}], "target": target})).await;
    let message = refused(&world, "named", "admission-tls", "TargetInvalid").await;
    assert!(message.contains("data[tls.key]"), "{message}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_quota_is_told_and_the_secret_follows_once_there_is_room() {
    let world = with_app("quota").await;
    let _operator = world.operator();
    // The quota counts the Secret with the operator's own key as well.
    let key = format!("bindery-{}-fingerprint-key", world.namespace);
    eventually("the operator's key", Duration::from_secs(60), || async { world.data(&key).await }).await;
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let quota = |secrets: &str| json!({"spec": {"hard": {"count/secrets": secrets}}});
    apply(&quotas, "secrets", "v1", quota("1")).await;
    eventually("the quota to count", Duration::from_secs(60), || async {
        let used = quotas.get("secrets").await.unwrap().status?.used?;
        (used.get("count/secrets")?.0 == "1").then_some(())
    })
    .await;
    world.bind("app", spec(&world, &json!({}))).await;
    let message = refused(&world, "app", "app", "QuotaExceeded").await;
    assert!(message.contains("ResourceQuota") && message.contains("raise the quota"), "{message}");
    assert!(world.data("app").await.is_none());
    apply(&quotas, "secrets", "v1", quota("2")).await;
    world.wait_ready("app").await;
    // A full quota does not hold up a change of what is there.
    world.put("app", &payload(2)).await;
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    world.end().await;
}

/// A policy that refuses Secrets of Bindery in the namespace of a world, until it is removed.
struct Policy<'a> {
    world: &'a World,
    name: String,
    secret: &'static str,
}

impl<'a> Policy<'a> {
    /// Refuses the Secret of this name, or every one (`""`), with this reason and a message that this expression gives.
    async fn new(world: &'a World, secret: &'static str, reason: &str, message: &str) -> Self {
        let policy = Self { world, name: format!("{}-{secret}x", world.namespace), secret };
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE", "UPDATE"]});
        let own = "has(object.metadata.labels) && 'bindery.dev/managed' in object.metadata.labels";
        let refused = format!("{own} && object.metadata.name.startsWith('{secret}')");
        let validation = json!({"expression": format!("!({refused})"), "messageExpression": message, "reason": reason});
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
        let rules = json!({"resourceRules": [rule]});
        let fields = json!({"spec": {"failurePolicy": "Fail", "matchConstraints": rules, "validations": [validation]}});
        apply(&policies, &policy.name, ADMISSION, fields).await;
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
        let here = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}});
        let fields =
            json!({"spec": {"policyName": policy.name, "validationActions": ["Deny"], "matchResources": here}});
        apply(&bindings, &policy.name, ADMISSION, fields).await;
        policy.await_effect(true).await;
        policy
    }

    /// The API server learns of policies a moment after they are written.
    async fn await_effect(&self, refuses: bool) {
        let name = format!("{}-probe", self.secret).trim_start_matches('-').to_owned();
        let labels = json!({"name": name, "labels": {"bindery.dev/managed": "false"}});
        let probe: Secret =
            serde_json::from_value(json!({"metadata": labels, "stringData": {"DATABASE_URL": "x"}})).unwrap();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        eventually("the policy to take effect", Duration::from_secs(60), || async {
            (self.world.secrets().create(&dry, &probe).await.is_err() == refuses).then_some(())
        })
        .await;
    }

    async fn end(self) {
        let client = &self.world.client;
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        bindings.delete(&self.name, &DeleteParams::default()).await.unwrap();
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        policies.delete(&self.name, &DeleteParams::default()).await.unwrap();
        self.await_effect(false).await;
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io/v1";

#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_of_an_admission_policy_is_told_without_its_words() {
    let world = with_app("policy-denies").await;
    let _operator = world.operator();
    world.bind("late", spec(&world, &json!({}))).await;
    world.wait_ready("late").await;
    let before = get(&world, "late").await;
    // The words of a policy can quote what they refuse.
    let policy =
        Policy::new(&world, "", "Invalid", "'house rule 7 refuses ' + string(object.data['DATABASE_URL'])").await;
    world.bind("first", spec(&world, &json!({}))).await;
    let message = refused(&world, "first", "first", "AdmissionDenied").await;
    assert!(message.contains("admission policy") && !message.contains("house rule"), "{message}");
    assert!(world.data("first").await.is_none());
    world.put("app", &payload(2)).await;
    refused(&world, "late", "late", "AdmissionDenied").await;
    assert_eq!(get(&world, "late").await, before);
    policy.end().await;
    for binding in ["first", "late"] {
        world.wait_value(binding, "DATABASE_URL", &url(2)).await;
        world.wait_ready(binding).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_told_from_rbac_and_limits_whatever_words_and_codes_it_chooses() {
    let world = with_app("policy-words").await;
    let _operator = world.operator();
    let mut told = Vec::new();
    for (binding, reason, words) in [
        ("word-cannot", "Forbidden", "'Secrets cannot be made here'"),
        ("word-quota", "Forbidden", "'exceeded quota of good manners'"),
        ("word-immutable", "Invalid", "'this namespace is immutable'"),
        ("code-413", "RequestEntityTooLarge", "'too many keys'"),
    ] {
        let policy = Policy::new(&world, binding, reason, words).await;
        world.bind(binding, spec(&world, &json!({}))).await;
        let state = eventually("a refusal", Duration::from_secs(60), || async {
            let (state, _) = world.condition(binding, "Applied").await?;
            state.starts_with("False/").then_some(state)
        })
        .await;
        told.push((binding, state));
        policy.end().await;
        world.wait_ready(binding).await;
    }
    assert!(told.iter().all(|(_, state)| state == "False/AdmissionDenied"), "{told:#?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_does_not_answer_is_a_failure_to_write() {
    let world = with_app("webhook").await;
    let _operator = world.operator();
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(world.client.clone());
    // Nothing listens at the port.
    let unreachable = json!({"webhooks": [{
        "name": "away.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
        "timeoutSeconds": 1, "clientConfig": {"url": "https://127.0.0.1:9/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "objectSelector": {"matchLabels": {"bindery.dev/managed": "true"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE", "UPDATE"]}],
    }]});
    apply(&webhooks, &world.namespace, ADMISSION, unreachable).await;
    let labels = json!({"name": "probe", "labels": {"bindery.dev/managed": "true"}});
    let probe: Secret = serde_json::from_value(json!({"metadata": labels})).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the webhook to be asked", Duration::from_secs(60), || async {
        world.secrets().create(&dry, &probe).await.is_err().then_some(())
    })
    .await;
    world.bind("app", spec(&world, &json!({}))).await;
    let message = refused(&world, "app", "app", "ApplyFailed").await;
    assert!(message.contains("500") && message.contains("tried again"), "{message}");
    webhooks.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    world.wait_ready("app").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_or_taken_away_are_named_and_their_return_is_found() {
    let world = with_app("rights").await;
    let account = Account::new(&world, &["get", "list", "watch", "create"]).await;
    // What is left is enough for the operator's own key.
    let _operator = Operator::start(account.setup());
    world.bind("app", spec(&world, &json!({}))).await;
    let message = refused(&world, "app", "app", "TargetForbidden").await;
    assert!(message.contains("get, create and patch on secrets"), "{message}");
    assert!(world.data("app").await.is_none());
    account.allow(&["get", "list", "watch", "patch"]).await;
    world.annotate("app", "bindery.dev/sync", "without create").await;
    eventually("the try without create", Duration::from_secs(60), || async {
        let status = world.bindings().get("app").await.unwrap().status?;
        (status.last_handled_sync.as_deref() == Some("without create")).then_some(())
    })
    .await;
    assert_eq!(world.condition("app", "Applied").await.unwrap().0, "False/TargetForbidden");
    account.allow(&["get", "list", "watch", "create", "patch"]).await;
    world.wait_ready("app").await;

    let before = get(&world, "app").await;
    account.allow(&["get", "list", "watch"]).await;
    world.put("app", &payload(2)).await;
    world.wait("app", "Applied", "False/TargetForbidden").await;
    world.wait("app", "Ready", "False/TargetForbidden").await;
    assert_eq!(get(&world, "app").await, before);
    account.allow(&["get", "list", "watch", "create", "patch"]).await;
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    world.wait_ready("app").await;
    // What the watch has shown need not be looked at again to be changed.
    account.allow(&["list", "watch", "create", "patch"]).await;
    world.put("app", &payload(3)).await;
    world.wait_value("app", "DATABASE_URL", &url(3)).await;
    world.wait_ready("app").await;
    account.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_being_deleted_gets_no_secret_and_goes() {
    let (world, home) = (with_app("terminating").await, World::without_grant("home").await);
    // The operator lives elsewhere, as an administrator: lease and rights of its own would go with the namespace.
    let mut operator = Operator::start(Setup { home: home.namespace.clone(), variables: vec![], ..world.setup() });
    create(&world, "app", json!({"stringData": {"A": "b"}})).await;
    world.bind("app", spec(&world, &json!({}))).await;
    refused(&world, "app", "app", "TargetConflict").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    // The namespace controller waits some seconds before it empties the namespace. A Secret that is deleted meanwhile
    // cannot be made anew.
    world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    world.annotate("app", "bindery.dev/sync", "now").await;
    let message = world.wait("app", "Applied", "False/NamespaceTerminating").await;
    assert!(message.contains("being deleted"), "{message}");
    eventually("the namespace to be gone", Duration::from_secs(60), || async {
        namespaces.get_opt(&world.namespace).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(operator.is_running());
    let log = read_log(&world.folder, "operator.log");
    let warnings = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).count();
    assert!(warnings < 20, "{warnings} warnings of one binding in a namespace that goes");
    drop(operator);
    home.end().await;
    world.end().await;
}

/// Applies keys of a Secret as another field manager.
async fn apply_as(world: &World, manager: &str, name: &str, data: Value, force: bool) -> Result<Secret, kube::Error> {
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
    let params = PatchParams { force, ..PatchParams::apply(manager) };
    world.secrets().patch(name, &params, &Patch::Apply(&object)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manager_that_wants_the_same_is_no_drift_and_one_that_wants_otherwise_is_put_right() {
    let world = with_app("managers").await;
    let _operator = world.operator();
    world.bind("app", spec(&world, &json!({}))).await;
    world.wait_ready("app").await;
    let before = get(&world, "app").await;
    let bucket = &before.data.as_ref().unwrap()["S3_BUCKET"];
    let shared = apply_as(&world, "argocd", "app", json!({"S3_BUCKET": bucket}), false).await.unwrap();
    let refreshed = |looks: usize| {
        let world = &world;
        async move { (world.proxy.count("DescribeSecret") > looks).then_some(()) }
    };
    let looks = world.proxy.count("DescribeSecret");
    eventually("a refresh", Duration::from_secs(60), || refreshed(looks)).await;
    assert_eq!(
        get(&world, "app").await.metadata.resource_version,
        shared.metadata.resource_version,
        "nothing is written"
    );
    assert_eq!(world.proxy.count("GetSecretValue"), 1, "and nothing is read");

    // Without force Kubernetes refuses another value; with it, the value is put back.
    let elsewhere = json!({"S3_BUCKET": "ZWxzZXdoZXJl"});
    let conflict = apply_as(&world, "argocd", "app", elsewhere.clone(), false).await;
    assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));
    apply_as(&world, "argocd", "app", elsewhere, true).await.unwrap();
    world.wait_value("app", "S3_BUCKET", &format!("{CANARY}-bucket")).await;
    world.wait_ready("app").await;
    assert_eq!(world.audit().last().unwrap()["reason"], "drift");
    // The next version is published over what the other still owned.
    world.put("app", &payload(2)).await;
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_annotations_and_keys_of_others_stay_through_changes_and_repairs() {
    let world = with_app("others").await;
    let _operator = world.operator();
    world
        .bind("app", spec(&world, &json!({"labels": {"team": "growth"}, "annotations": {"example.com/note": "ours"}})))
        .await;
    world.wait_ready("app").await;
    let theirs = json!({
        "metadata": {"labels": {"their-label": "x"}, "annotations": {"example.com/theirs": "y"}, "finalizers": ["example.com/hold"]},
        "stringData": {"EXTRA": "mine"},
    });
    patch(&world, "app", theirs).await;
    let shown = |secret: &Secret| {
        let text =
            |map: &Option<BTreeMap<String, String>>, key: &str| map.as_ref().and_then(|map| map.get(key).cloned());
        let metadata = &secret.metadata;
        (
            text(&metadata.labels, "their-label"),
            text(&metadata.annotations, "example.com/theirs"),
            metadata.finalizers.clone(),
            secret.data.as_ref().and_then(|data| data.get("EXTRA").cloned()),
        )
    };
    let theirs = shown(&get(&world, "app").await);
    assert!(theirs.0.is_some() && theirs.1.is_some() && theirs.3.is_some());
    // A new version, a repair, and a label of Bindery's own that is not wanted any more.
    world.put("app", &payload(2)).await;
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    assert_eq!(shown(&get(&world, "app").await), theirs);
    patch(
        &world,
        "app",
        json!({"stringData": {"DATABASE_URL": "elsewhere"}, "metadata": {"labels": {"team": "sales"}}}),
    )
    .await;
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    assert_eq!(shown(&get(&world, "app").await), theirs);
    world.bind("app", spec(&world, &json!({}))).await;
    eventually("the label to go", Duration::from_secs(60), || async {
        let labels = get(&world, "app").await.metadata.labels.unwrap();
        (!labels.contains_key("team")).then_some(())
    })
    .await;
    let after = get(&world, "app").await;
    assert!(!after.metadata.annotations.as_ref().unwrap().contains_key("example.com/note"));
    assert_eq!(shown(&after), theirs);
    // The hold of another is for the other to release.
    patch(&world, "app", json!({"metadata": {"finalizers": null}})).await;
    world.end().await;
}
