//! A status that the API server does not take: a policy refuses it, or etcd only reads.

use std::time::Duration;

use bindery::api::SecretBinding;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::api_proxy::{ApiFault, ApiProxy, ApiRequest};
use crate::support::aws_proxy::Sent;
use crate::support::{World, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// Lets the API server refuse every status of a binding in the namespace of the world.
async fn refuse_status(world: &World) {
    let name = format!("{}-status", world.namespace);
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["bindery.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": ["secretbindings/status"],
            }]},
            "validations": [{"expression": "false", "message": "no status today"}],
        },
    }))
    .unwrap();
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
            },
        },
    }))
    .unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &policy).await.unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
    world.bind("probe", json!({"suspend": true, "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let api: Api<SecretBinding> = world.bindings();
    eventually("the policy to refuse", LIMIT, || async {
        let status = json!({"status": {"keys": 1}});
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        api.patch_status("probe", &params, &Patch::Merge(&status)).await.err().map(|_| ())
    })
    .await;
}

async fn take_status_again(world: &World) {
    let name = format!("{}-status", world.namespace);
    let (bindings, policies): (Api<ValidatingAdmissionPolicyBinding>, Api<ValidatingAdmissionPolicy>) =
        (Api::all(world.client.clone()), Api::all(world.client.clone()));
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_cannot_be_written_costs_no_further_read_and_is_written_once_it_can_be() {
    let world = World::new("unwritten").await;
    world.put("app", &json!({"A": "one"})).await;
    refuse_status(&world).await;
    let mut operator = world.operator();
    world.bind("app", json!({"refreshInterval": "1h", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_value("app", "A", "one").await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    let reads = world.proxy.calls().iter().filter(|call| call.sent == Sent::Value).count();
    let log = crate::support::operator::read_log(&world.folder, "operator.log");
    let tries =
        log.lines().filter(|line| line.contains("the status could not be written") && line.contains("app")).count();
    println!("25 s without a status: {reads} reads, {tries} tries");
    assert_eq!(reads, 1, "what was read is not read again to tell of it");
    assert!((2..=12).contains(&tries), "the pauses grow: {tries} tries");
    assert_eq!(world.condition("app", "Ready").await, None);

    take_status_again(&world).await;
    world.wait_ready("app").await;
    // Events go out after the status, beside the reconciles.
    eventually("the Event", LIMIT, || async { (!world.events("app").await.is_empty()).then_some(()) }).await;
    assert_eq!(world.events("app").await.len(), 1, "the Event goes out with the status, once");
    assert_eq!(world.proxy.calls().iter().filter(|call| call.sent == Sent::Value).count(), 1);
    assert_eq!(operator.terminate().await, Some(0));
    world.end().await;
}

fn is_status(request: &ApiRequest) -> bool {
    request.writes() && request.resource == "secretbindings/status"
}

/// Waits until a status is on its way and held.
async fn held(proxy: &ApiProxy) {
    eventually("a status to be held", LIMIT, || async { (proxy.under_way(is_status) > 0).then_some(()) }).await;
}

/// The answers to statuses that the API server refused as made for an older object.
fn conflicts(proxy: &ApiProxy) -> usize {
    proxy.exchanges(is_status).iter().filter(|exchange| exchange.status == Some(409)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_does_not_write_its_status_over_that_of_the_new_one() {
    let world = World::new("deposed").await;
    world.put("app", &json!({"A": "one"})).await;
    let proxy = world.api_proxy().await;
    let operator = world.operator_through(&proxy, &[]);
    world.bind("app", json!({"refreshInterval": "1h", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;

    // The old leader has found out something and is held just before it tells of it.
    proxy.fail(ApiFault::Stall, is_status);
    world.put("app", &json!({"A": "two"})).await;
    world.annotate("app", "bindery.dev/sync", "1").await;
    held(&proxy).await;
    // The new one tells of what came after that.
    let newer = json!({"status": {"lastHandledSync": "newer", "keys": 7}});
    world.bindings().patch_status("app", &PatchParams::default(), &Patch::Merge(&newer)).await.unwrap();
    proxy.heal();
    eventually("the status to be refused", LIMIT, || async { (conflicts(&proxy) > 0).then_some(()) }).await;
    drop(operator);

    // Who leads goes on from what it finds.
    let _operator = world.operator();
    world.annotate("app", "bindery.dev/sync", "2").await;
    eventually("the new leader to tell of it", LIMIT, || async {
        let status = world.bindings().get("app").await.unwrap().status.unwrap();
        (status.last_handled_sync.as_deref() == Some("2") && status.keys == Some(1)).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_while_a_status_is_on_its_way_costs_no_further_read_and_no_spin() {
    let world = World::new("edited").await;
    world.put("app", &json!({"A": "one"})).await;
    let proxy = world.api_proxy().await;
    let operator = world.operator_through(&proxy, &[]);
    proxy.fail(ApiFault::Stall, is_status);
    world.bind("app", json!({"refreshInterval": "1h", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_value("app", "A", "one").await;
    held(&proxy).await;
    // A label asks for nothing and gives the binding another resource version all the same.
    let label = json!({"metadata": {"labels": {"team": "growth"}}});
    world.bindings().patch("app", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    proxy.heal();
    world.wait_ready("app").await;
    assert!((1..=3).contains(&conflicts(&proxy)), "{}", conflicts(&proxy));
    let values = || world.proxy.calls().iter().filter(|call| call.sent == Sent::Value).count();
    assert_eq!(values(), 1, "what was read is not read again to tell of it");
    eventually("the Event", LIMIT, || async { (!world.events("app").await.is_empty()).then_some(()) }).await;
    assert_eq!(world.events("app").await.len(), 1, "the Event goes out with the status, once");
    let status = world.bindings().get("app").await.unwrap().status.unwrap();
    assert_eq!(status.sources.len(), 1, "{status:?}");
    drop(operator);
    world.end().await;
}
