//! Workloads that use a Secret, as deployment tools apply them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{conditions, wait::await_condition};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::world::{World, eventually};

/// A container that takes every key of a Secret.
pub fn whole(secret: &str) -> Value {
    json!({"envFrom": [{"secretRef": {"name": secret}}]})
}

/// A workload with two pods, or one on each node, of a container with these fields.
pub fn manifest(kind: &str, name: &str, container: &Value) -> Value {
    let mut of_pod = json!({"name": "c", "image": "example.com/c:1"});
    of_pod.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let mut spec = json!({
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [of_pod], "terminationGracePeriodSeconds": 0}},
    });
    if kind != "DaemonSet" {
        spec["replicas"] = json!(2);
    }
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    let version = if kind == "Rollout" { "argoproj.io/v1alpha1" } else { "apps/v1" };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// The workloads of a kind in a namespace.
pub fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = if kind == "Rollout" { ("argoproj.io", "v1alpha1") } else { ("apps", "v1") };
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Applies a manifest by server-side apply.
pub async fn apply(world: &World, manager: &str, manifest: &Value) {
    let (kind, name) = (manifest["kind"].as_str().unwrap(), manifest["metadata"]["name"].as_str().unwrap());
    let params = PatchParams::apply(manager).force();
    api(&world.client, &world.namespace, kind).patch(name, &params, &Patch::Apply(manifest)).await.unwrap();
}

/// Makes a CronJob that consents to be run for a rule, and never runs by itself.
pub async fn cron_job(world: &World, name: &str) {
    let manifest = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name, "annotations": {"bindery.dev/run": "allowed"}},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "example.com/c"}],
        }}}}},
    });
    let cron_jobs: Api<CronJob> = Api::namespaced(world.client.clone(), &world.namespace);
    cron_jobs.patch(name, &PatchParams::apply("test"), &Patch::Apply(&manifest)).await.unwrap();
}

/// Makes a ReplicaSet with one pod, as Argo Rollouts does for a Rollout.
pub async fn replica_set(world: &World, rollout: &str, hash: &str, container: &Value) {
    let mut object = manifest("ReplicaSet", &format!("{rollout}-{hash}"), container);
    let labels = json!({"app": rollout, "pod-template-hash": hash});
    object["spec"]["replicas"] = json!(1);
    object["spec"]["selector"]["matchLabels"] = labels.clone();
    object["spec"]["template"]["metadata"]["labels"] = labels;
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let api: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    api.patch(&name, &PatchParams::apply("argo"), &Patch::Apply(object)).await.unwrap();
}

/// The CRD of Argo Rollouts, as far as it matters here.
pub async fn install_argo_rollouts(client: &Client) {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}});
    let version =
        json!({"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": schema});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "rollouts.argoproj.io"},
        "spec": {"group": "argoproj.io", "scope": "Namespaced", "names": {"plural": "rollouts", "kind": "Rollout"}, "versions": [version]},
    });
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.patch("rollouts.argoproj.io", &PatchParams::apply("test").force(), &Patch::Apply(&crd)).await.unwrap();
    let served = await_condition(api, "rollouts.argoproj.io", conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap();
}

const KINDS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "Rollout"];

/// Makes a workload of each kind that uses the Secret, and waits until each has a pod.
pub async fn one_of_each(world: &World, secret: &str) {
    for kind in KINDS {
        let mut object = manifest(kind, &kind.to_lowercase(), &whole(secret));
        if kind != "DaemonSet" {
            object["spec"]["replicas"] = json!(1);
        }
        apply(world, "test", &object).await;
    }
    replica_set(world, "rollout", "1a", &whole(secret)).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    eventually("a pod of each workload", Duration::from_secs(60), || async {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        let has = |kind: &&str| {
            let app = Some(kind.to_lowercase());
            pods.iter().any(|pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")) == app.as_ref())
        };
        KINDS.iter().all(has).then_some(())
    })
    .await;
    // So that none is of the second of the change that follows.
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

/// The mark of the Secret on the pod template of a workload.
pub async fn mark(world: &World, kind: &str, name: &str, secret: &str) -> Option<String> {
    let object = api(&world.client, &world.namespace, kind).get(name).await.unwrap();
    let annotations = &object.data["spec"]["template"]["metadata"]["annotations"];
    annotations[format!("secrets.bindery.dev/{secret}")].as_str().map(str::to_owned)
}

/// Whether each of the workloads of [`one_of_each`] was restarted.
pub async fn all_marked(world: &World, secret: &str) -> bool {
    for kind in KINDS {
        if mark(world, kind, &kind.to_lowercase(), secret).await.is_none() {
            return false;
        }
    }
    true
}
