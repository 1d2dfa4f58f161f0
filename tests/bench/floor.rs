//! The floor: how long the writes alone take that publishing needs, by a bare client that decides nothing.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bindery::api::{
    ANNOTATION_BINDING, ANNOTATION_INPUTS, FIELD_MANAGER, LABEL_MANAGED, STATUS_FIELD_MANAGER, SecretBinding,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};

use super::Bench;
use super::cluster::{Cluster, LABEL, work};
use super::process::server_cpu;
use super::world::{NAMESPACES, payload};

/// The figure that others are compared with.
pub const PLAIN: &str = "plain: POST of the Secret, merge patch of the status";

/// The figure of writes such as the operator's own.
pub const SAME_KIND: &str = "same kind: server-side apply of both";

/// Measures both.
pub async fn run(bench: &mut Bench) {
    for (kind, name) in [(Kind::Plain, PLAIN), (Kind::Applied, SAME_KIND)] {
        let (time, server) = measure(&bench.cluster, kind, bench.bindings).await;
        bench.report.time("floor", name, time);
        if let Some(server) = server {
            bench.report.figure("floor", &format!("{name}, CPU time of the API server"), server, "s");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Applied,
}

/// How long it takes, and how much CPU time of the API server.
async fn measure(cluster: &Cluster, kind: Kind, count: usize) -> (Duration, Option<f64>) {
    let world = format!("{}-floor-{}", cluster.run, if kind == Kind::Plain { "plain" } else { "same" });
    let namespaces: Arc<Vec<String>> = Arc::new((0..NAMESPACES).map(|number| format!("{world}-{number}")).collect());
    cluster.make_namespaces(&world, &namespaces).await;
    let uids = bindings(cluster, &world, &namespaces, count).await;
    let client = cluster.client.clone();
    let spread = namespaces.clone();
    let label = world.clone();
    let before = server_cpu();
    let time = work("written", count, move |number| {
        let namespace = spread[number * NAMESPACES / count].clone();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let bindings: Api<SecretBinding> = Api::namespaced(client.clone(), &namespace);
        let name = format!("b{number}");
        let mut secret = secret(&label, &namespace, &name, number);
        let mut status = json!({
            "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "status": status(&namespace, &name, number),
        });
        let uid = uids[number].clone();
        async move {
            match kind {
                Kind::Plain => {
                    let secret: Secret = serde_json::from_value(secret).unwrap();
                    secrets.create(&PostParams::default(), &secret).await.unwrap();
                    let status = status["status"].take();
                    let patch = Patch::Merge(json!({"status": status}));
                    bindings.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
                }
                Kind::Applied => {
                    secret["metadata"]["resourceVersion"] = json!("1");
                    secret["metadata"]["ownerReferences"] = json!([{
                        "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "name": name, "uid": uid,
                        "controller": true, "blockOwnerDeletion": false,
                    }]);
                    let params = PatchParams::apply(FIELD_MANAGER).force();
                    let written: PartialObjectMeta<Secret> =
                        secrets.patch_metadata(&name, &params, &Patch::Apply(&secret)).await.unwrap();
                    assert!(written.metadata.uid.is_some());
                    let params = PatchParams::apply(STATUS_FIELD_MANAGER).force();
                    bindings.patch_status(&name, &params, &Patch::Apply(&status)).await.unwrap();
                }
            }
        }
    })
    .await;
    let server = server_cpu().zip(before).map(|(now, before)| now - before);
    cluster.remove_world(&world).await;
    (time, server)
}

/// Makes bindings that no operator sees, and answers their uids.
async fn bindings(cluster: &Cluster, world: &str, namespaces: &Arc<Vec<String>>, count: usize) -> Arc<Vec<String>> {
    let uids = Arc::new(std::sync::Mutex::new(vec![String::new(); count]));
    let (client, spread, made, label) = (cluster.client.clone(), namespaces.clone(), uids.clone(), world.to_owned());
    work("bindings made", count, move |number| {
        let api: Api<SecretBinding> = Api::namespaced(client.clone(), &spread[number * NAMESPACES / count]);
        let binding = json!({
            "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding",
            "metadata": {"name": format!("b{number}"), "labels": {LABEL: label}},
            "spec": {"dataFrom": [{"secret": format!("{label}/s{number}")}], "target": {"labels": {LABEL: label}}},
        });
        let made = made.clone();
        async move {
            let binding = serde_json::from_value(binding).unwrap();
            let created = api.create(&PostParams::default(), &binding).await.unwrap();
            made.lock().unwrap()[number] = created.metadata.uid.unwrap();
        }
    })
    .await;
    Arc::new(std::mem::take(&mut *uids.lock().unwrap()))
}

/// A Secret as the operator writes it.
fn secret(world: &str, namespace: &str, name: &str, number: usize) -> Value {
    let data = payload(number, 0);
    let data = data.as_object().unwrap().iter();
    let data: serde_json::Map<String, Value> = data
        .map(|(key, value)| (key.clone(), Value::from(STANDARD.encode(value.as_str().unwrap_or_default()))))
        .collect();
    let mark = format!("v1:{0}.{1}:{0}.{1}", "0".repeat(8), "0".repeat(32));
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": {LABEL_MANAGED: "true", LABEL: world},
            "annotations": {ANNOTATION_BINDING: name, ANNOTATION_INPUTS: mark},
        },
    })
}

/// A status as the operator writes it.
fn status(namespace: &str, name: &str, number: usize) -> Value {
    const TIME: &str = "2026-01-01T00:00:00Z";
    let condition = |type_: &str, reason: &str, message: &str| {
        json!({
            "type": type_, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": TIME,
        })
    };
    json!({
        "observedGeneration": 1,
        "binding": {"name": name},
        "grant": namespace,
        "keys": 3,
        "sources": [{
            "secret": format!("{namespace}/s{number}"),
            "arn": format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{namespace}/s{number}-AbCdEf"),
            "versionId": "00000000-0000-0000-0000-000000000000",
            "createdTime": TIME,
        }],
        "lastChangedTime": TIME,
        "conditions": [
            condition("Granted", "Granted", "every source is allowed by the grant"),
            condition("Fetched", "Fetched", "every source was read or found unchanged"),
            condition("Rendered", "Rendered", "3 keys"),
            condition("Applied", "Applied", "the Secret holds what was rendered"),
            condition("Ready", "Published", "the Secret holds the current values"),
        ],
    })
}
