//! What tools that deploy from Git make of a binding: Argo CD, Flux, and `kubectl wait` and `diff` in pipelines.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bindery::api::{ANNOTATION_SYNC, SecretBinding};
use kube::Api;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use serde_json::{Value, json};

use crate::support::world::CANARY;
use crate::support::{Fault, World};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The health and message that `deploy/argocd/health.lua` gives each object.
fn argo_cd(objects: &[&Value]) -> Vec<(String, String)> {
    let mut child = Command::new(root().join("target/cluster/venv/bin/python"))
        .arg(root().join("tests/behaviour/support/argocd_health.py"))
        .arg(root().join("deploy/argocd/health.lua"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Python that `tests/cluster/cluster build` installs");
    child.stdin.take().unwrap().write_all(json!(objects).to_string().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "the Lua script failed");
    let answers: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    answers.iter().map(|answer| (text(&answer["status"]), text(&answer["message"]))).collect()
}

/// The status that [kstatus] computes, by which Flux judges custom resources.
///
/// [kstatus]: https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
fn kstatus(object: &Value) -> &'static str {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating";
    }
    let observed = &object["status"]["observedGeneration"];
    if !observed.is_null() && *observed != object["metadata"]["generation"] {
        return "InProgress";
    }
    let is = |type_: &str, status: &str| {
        let conditions = object["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| condition["type"] == type_ && condition["status"] == status)
    };
    match () {
        () if is("Reconciling", "True") => "InProgress",
        () if is("Stalled", "True") => "Failed",
        () if is("Ready", "False") || is("Ready", "Unknown") => "InProgress",
        // Also where there is no status at all.
        () => "Current",
    }
}

/// A binding as the API server answers it, whatever this program knows of its fields.
async fn raw(world: &World, name: &str) -> Value {
    let resource = ApiResource::erase::<SecretBinding>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    serde_json::to_value(api.get(name).await.unwrap()).unwrap()
}

fn kubectl(args: &[&str]) -> (Option<i32>, String) {
    let done = Command::new("kubectl").args(args).output().expect("kubectl, which `tests/cluster/cluster build` makes");
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.code(), text)
}

fn payload() -> Value {
    json!({"DATABASE_URL": format!("postgresql://app:{CANARY}@db/app"), "S3_BUCKET": format!("{CANARY}-bucket")})
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_and_flux_judge_a_binding_as_it_is() {
    let world = World::new("gitops").await;
    world.put("app", &payload()).await;
    let secret = world.secret_id("app");
    let spec = json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret}]});
    let mut seen: Vec<(Value, &str, &str, &str)> = Vec::new();

    world.bind("app", spec.clone()).await;
    seen.push((raw(&world, "app").await, "Progressing", "not looked at this binding", "Current"));

    let mut operator = world.operator();
    world.wait_ready("app").await;
    seen.push((raw(&world, "app").await, "Healthy", "holds 2 keys", "Current"));

    world.proxy.fail(&[], Fault::Error(400, "ThrottlingException", "Rate exceeded"));
    world.wait("app", "Fetched", "False/Throttled").await;
    seen.push((raw(&world, "app").await, "Healthy", "holds the last verified versions", "InProgress"));
    world.proxy.heal();
    world.wait("app", "Fetched", "True/Verified").await;

    let missing = json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("missing")}]});
    world.bind("missing", missing).await;
    world.wait("missing", "Ready", "False/SecretNotFound").await;
    seen.push((raw(&world, "missing").await, "Degraded", "SecretNotFound: secret", "InProgress"));

    world.bind("denied", json!({"dataFrom": [{"secret": "somebody/else"}]})).await;
    world.wait("denied", "Ready", "False/AccessDenied").await;
    seen.push((raw(&world, "denied").await, "Degraded", "AccessDenied: no SecretGrant", "InProgress"));

    let wrong = json!({"dataFrom": [{"secret": secret}], "target": {"template": {"DSN": "{{ DATABASE_URL"}}});
    world.bind("wrong", wrong).await;
    world.wait("wrong", "Stalled", "True/InvalidSpec").await;
    seen.push((raw(&world, "wrong").await, "Degraded", "InvalidSpec: spec.target.template", "Failed"));

    let mut suspended = spec.clone();
    suspended["suspend"] = json!(true);
    world.bind("app", suspended).await;
    world.wait("app", "Suspended", "True/Suspended").await;
    seen.push((raw(&world, "app").await, "Suspended", "spec.suspend is true", "Current"));

    // An edit that the operator has not seen yet.
    operator.kill();
    world.bind("app", spec).await;
    seen.push((raw(&world, "app").await, "Progressing", "not looked at this change", "InProgress"));

    let judged = argo_cd(&seen.iter().map(|(object, ..)| object).collect::<Vec<_>>());
    for ((object, health, says, computed), (judged, message)) in seen.iter().zip(judged) {
        assert_eq!((judged.as_str(), kstatus(object)), (*health, *computed), "{:#}", object["status"]);
        assert!(message.contains(says), "{message}");
        assert!(!message.contains(CANARY));
    }
    println!("{} states judged", seen.len());
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_can_wait_for_a_binding_with_kubectl() {
    let world = World::new("wait").await;
    let _operator = world.operator();
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let wait = |how: &str| {
        let args = ["wait", how, "secretbinding/app", "--namespace", &world.namespace, "--timeout=40s"];
        let (code, text) = kubectl(&args);
        assert_eq!(code, Some(0), "{text}");
    };
    wait("--for=condition=Ready=false");
    wait("--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=SecretNotFound");
    world.put("app", &payload()).await;
    wait("--for=condition=Ready");
    wait("--for=jsonpath={.status.binding.name}=app");
    world.bind("app", json!({"refreshInterval": "20s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let generation = raw(&world, "app").await["metadata"]["generation"].as_i64().unwrap();
    wait(&format!("--for=jsonpath={{.status.observedGeneration}}={generation}"));
    world.end().await;
}

/// A binding that uses each field of the spec.
fn everything(world: &World) -> Value {
    let secret = world.secret_id("app");
    let metadata = json!({"name": "app", "namespace": world.namespace});
    let spec = json!({
        "grant": world.namespace,
        "suspend": false,
        "refreshInterval": "1h30m",
        "dataFrom": [
            {"secret": secret, "versionStage": "AWSCURRENT", "include": ["S3_*", "D*"], "exclude": ["X*"], "prefix": "APP_"},
            {"secret": secret},
        ],
        "data": [
            {"key": "second", "valueFrom": format!("{secret}:DATABASE_URL:AWSCURRENT:")},
            {"key": "first", "from": {"secret": secret, "key": "S3_BUCKET"}, "encoding": "None", "optional": true},
        ],
        "target": {
            "name": "worker-env",
            "type": "Opaque",
            "labels": {"team": "growth", "app.kubernetes.io/part-of": "shop"},
            "annotations": {"example.com/note": "hello"},
            "template": {"DSN": "{{ DATABASE_URL }}?sslmode=require"},
            "templateOnly": false,
            "requiredKeys": ["S3_BUCKET", "DATABASE_URL"],
            "adopt": false,
            "deletionPolicy": "Delete",
        },
    });
    json!({"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "metadata": metadata, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_what_the_api_server_holds_so_nothing_is_out_of_sync() {
    let world = World::new("sync").await;
    world.put("app", &payload()).await;
    let _operator = world.operator();
    let full = everything(&world);
    let least = json!({"dataFrom": [{"secret": world.secret_id("app")}]});
    let mut edited = full["spec"].clone();
    edited["target"].as_object_mut().unwrap().remove("template");
    edited["data"].as_array_mut().unwrap().reverse();
    edited["dataFrom"].as_array_mut().unwrap().pop();
    let file = world.folder.join("binding.yaml");
    for spec in [least.clone(), full["spec"].clone(), edited, least] {
        let mut manifest = full.clone();
        manifest["spec"] = spec.clone();
        world.bind("app", spec.clone()).await;
        world.wait_ready("app").await;
        assert_eq!(raw(&world, "app").await["spec"], spec, "by server-side apply");
        diff(&file, &manifest, "--server-side=true");
    }

    // As `kubectl apply` and Argo CD do by default, on the client's side.
    world.bindings().delete("app", &kube::api::DeleteParams::default()).await.unwrap();
    std::fs::write(&file, full.to_string()).unwrap();
    let (code, text) = kubectl(&["apply", "--filename", &file.display().to_string()]);
    assert_eq!(code, Some(0), "{text}");
    world.wait_ready("app").await;
    world.annotate("app", ANNOTATION_SYNC, "now").await;
    assert_eq!(raw(&world, "app").await["spec"], full["spec"], "by client-side apply");
    diff(&file, &full, "--server-side=false");
    world.end().await;
}

/// Asserts that `kubectl diff` finds the cluster as the manifest says, and would find it if it were otherwise.
fn diff(file: &PathBuf, manifest: &Value, side: &str) {
    let mut other = manifest.clone();
    other["spec"]["refreshInterval"] = json!("7m");
    for (manifest, differs) in [(manifest, 0), (&other, 1)] {
        std::fs::write(file, manifest.to_string()).unwrap();
        let path = file.display().to_string();
        let compare = || kubectl(&["diff", side, "--field-manager=test", "--filename", &path]);
        let (mut code, mut text) = compare();
        for _ in 0..20 {
            if code == Some(differs) {
                break;
            }
            // kubectl reads the object twice, and a status may be written in between.
            std::thread::sleep(std::time::Duration::from_millis(300));
            (code, text) = compare();
        }
        assert_eq!(code, Some(differs), "{text}");
    }
}
