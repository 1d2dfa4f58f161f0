//! The cluster under an upgrade: CRDs of another release, CRDs that are gone, an API server that is away and comes back,
//! objects of a newer release, and two releases side by side. The tests change the kinds for the whole cluster, so they
//! run one after the other, and the API server that is stopped is one of its own.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::needless_pass_by_value, reason = "it is given json! literals")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures for those who read the output of a test")]

#[path = "upgrade/api_server.rs"]
mod api_server;
#[path = "standin/mod.rs"]
mod standin;
#[path = "behaviour/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the behaviour tests, which use all of it")]
mod support;

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::{conditions, wait::await_condition};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use support::operator::Setup;
use support::world::CANARY;
use support::{Operator, World, eventually};

/// The kinds are the cluster's, so one test at a time changes them.
static KINDS: Mutex<()> = Mutex::const_new(());

const LIMIT: Duration = Duration::from_secs(150);
const VERSION: &str = "bindery.dev/v1alpha1";

/// The fields that CRDs of an earlier release lack.
const ADDED: [(&str, &str); 4] = [
    ("secretbindings.bindery.dev", "/properties/status/properties/target"),
    ("secretbindings.bindery.dev", "/properties/status/properties/formerTargets"),
    ("secretbindings.bindery.dev", "/properties/spec/properties/target/properties/allowKeys"),
    ("secretgrants.bindery.dev", "/properties/spec/properties/targetMetadata"),
];

/// Applies the CRDs as `change` makes them.
async fn apply_kinds(world: &World, change: impl Fn(&str, &mut Value)) {
    let api: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for crd in bindery::api::crds() {
        let name = crd.metadata.name.clone().unwrap();
        let mut object = serde_json::to_value(&crd).unwrap();
        change(&name, object.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").unwrap());
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
        let served = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(Duration::from_secs(30), served).await.unwrap().unwrap();
    }
}

/// The CRDs of an earlier release: without what was added since.
fn older(name: &str, schema: &mut Value) {
    for (kind, pointer) in ADDED.iter().filter(|(kind, _)| *kind == name) {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let removed = schema.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        assert!(removed.is_some(), "{kind} has no {pointer}");
    }
}

/// The CRDs of a later release, which takes all that this one takes, and more.
fn newer(_: &str, schema: &mut Value) {
    schema.as_object_mut().unwrap().remove("x-kubernetes-validations");
    for part in ["spec", "status"] {
        schema["properties"][part] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
}

fn present(_: &str, _: &mut Value) {}

/// A binding or a grant as it is stored.
fn stored(world: &World, kind: &str) -> Api<DynamicObject> {
    let plural = format!("{}s", kind.to_lowercase());
    let resource = ApiResource {
        group: "bindery.dev".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: VERSION.to_owned(),
        kind: kind.to_owned(),
        plural,
    };
    match kind {
        "SecretGrant" => Api::all_with(world.client.clone(), &resource),
        _ => Api::namespaced_with(world.client.clone(), &world.namespace, &resource),
    }
}

async fn merge(api: &Api<DynamicObject>, name: &str, change: &Value) {
    api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

/// Waits as `eventually` does, and meanwhile begins an operator that ended anew, as a kubelet does.
async fn served<T, F>(operator: &RefCell<Operator>, what: &str, look: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    eventually(what, LIMIT, || {
        if !operator.borrow_mut().is_running() {
            operator.borrow_mut().restart();
        }
        look()
    })
    .await
}

async fn has_condition(world: &World, name: &str, type_: &str, expected: &str) -> Option<String> {
    // The kind may be away.
    let binding = world.bindings().get_opt(name).await.ok()??;
    let found = binding.status?.conditions.into_iter().find(|condition| condition.type_ == type_)?;
    (format!("{}/{}", found.status, found.reason) == expected).then_some(found.message)
}

fn payload(number: u32) -> Value {
    json!({"A": format!("{CANARY}-a-{number}")})
}

fn spec(world: &World, more: Value) -> Value {
    let mut spec = json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn grant(world: &World, more: &Value) -> Value {
    let mut grant = json!({"namespaces": {"names": [world.namespace]}, "aws": {"region": "eu-west-1"},
        "secrets": [{"name": format!("{}/*", world.namespace)}]});
    grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    grant
}

/// The writes of the status of bindings so far.
fn status_writes(world: &World) -> usize {
    let user = format!("system:serviceaccount:{0}:bindery-{0}", world.namespace);
    let calls = support::release::calls_of(&user);
    calls.iter().filter(|call| call.what == "patch bindery.dev/secretbindings/status").count()
}

/// Bindings that nothing happens to are written about no more than now and then.
async fn no_spin(world: &World, when: &str) {
    let before = status_writes(world);
    tokio::time::sleep(Duration::from_secs(25)).await;
    let written = status_writes(world) - before;
    println!("{when}: {written} writes of statuses in 25 s");
    assert!(written <= 12, "{when}: {written} writes of statuses in 25 s");
}

fn start(world: &World) -> RefCell<Operator> {
    RefCell::new(Operator::start(Setup { log_level: "info", ..world.setup() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn crds_of_an_earlier_release_lose_nothing_and_serve_nothing_revoked() {
    let _kinds = KINDS.lock().await;
    let world = World::without_grant("older-crds").await;
    world.put("app", &payload(1)).await;
    world.grant_with(&world.namespace, grant(&world, &json!({"targetMetadata": ["example.com/team"]}))).await;
    let operator = start(&world);
    let target =
        json!({"target": {"labels": {"example.com/team": "x"}, "allowKeys": ["PATH"], "deletionPolicy": "Retain"}});
    world.bind("labelled", spec(&world, target)).await;
    world.bind("plain", spec(&world, json!({}))).await;
    for name in ["labelled", "plain"] {
        world.wait_ready(name).await;
    }

    apply_kinds(&world, older).await;
    // Edits under the older kinds are what removes the later fields for good.
    world.put("app", &payload(2)).await;
    served(&operator, "the new value under the older kinds", || async {
        world.data("plain").await.filter(|data| data["A"].ends_with("a-2")).map(|_| ())
    })
    .await;
    no_spin(&world, "under older CRDs").await;
    assert!(world.data("labelled").await.is_some(), "what was published stays");
    merge(&stored(&world, "SecretGrant"), &world.namespace, &json!({"metadata": {"annotations": {"x": "y"}}})).await;
    served(&operator, "the lost permission to be told", || {
        has_condition(&world, "labelled", "Granted", "False/AccessDenied")
    })
    .await;
    world.delete_grant(&world.namespace).await;
    served(&operator, "the revoked grant to be told", || {
        has_condition(&world, "plain", "Granted", "False/AccessDenied")
    })
    .await;
    world.put("app", &payload(3)).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(world.data("plain").await.unwrap()["A"].ends_with("a-2"), "a revoked grant is not served");

    apply_kinds(&world, present).await;
    no_spin(&world, "under the present CRDs, revoked").await;
    assert!(world.data("plain").await.unwrap()["A"].ends_with("a-2"), "nor after the kinds are back");
    world.grant_with(&world.namespace, grant(&world, &json!({"targetMetadata": ["example.com/team"]}))).await;
    for name in ["labelled", "plain"] {
        served(&operator, "all to be served again", || async {
            let data = world.data(name).await?;
            let ready = has_condition(&world, name, "Ready", "True/Published").await.is_some();
            let status = serde_json::to_value(world.bindings().get(name).await.ok()?.status).unwrap();
            (ready && data["A"].ends_with("a-3") && status["target"]["name"] == name).then_some(())
        })
        .await;
    }
    operator.borrow_mut().kill();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crds_deleted_by_mistake_keep_what_retain_says_and_all_is_served_once_they_are_back() {
    let _kinds = KINDS.lock().await;
    let world = World::new("no-crds").await;
    world.put("app", &payload(1)).await;
    let operator = start(&world);
    let retained = spec(&world, json!({"target": {"deletionPolicy": "Retain"}}));
    world.bind("retained", retained.clone()).await;
    world.bind("owned", spec(&world, json!({}))).await;
    for name in ["retained", "owned"] {
        world.wait_ready(name).await;
    }
    let before = world.secrets().get("retained").await.unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for name in ["secretbindings.bindery.dev", "secretgrants.bindery.dev"] {
        crds.delete(name, &DeleteParams::default()).await.unwrap();
    }
    served(&operator, "Kubernetes to delete what the binding owns", || async {
        world.data("owned").await.is_none().then_some(())
    })
    .await;
    served(&operator, "the probes to name the missing kinds", || async {
        let address = operator.borrow().address.clone();
        let ready = probe(&address, "/readyz").await?;
        (ready.contains("503") && ready.contains("CustomResourceDefinitions of bindery.dev are missing")).then_some(())
    })
    .await;
    assert_eq!(world.secrets().get("retained").await.unwrap(), before, "Retain outlives the kind");

    apply_kinds(&world, present).await;
    world.bind("retained", retained).await;
    world.bind("owned", spec(&world, json!({}))).await;
    served(&operator, "a binding without its grant to say so", || {
        has_condition(&world, "retained", "Granted", "False/AccessDenied")
    })
    .await;
    let held = world.secrets().get("retained").await.unwrap();
    assert_eq!(
        (held.data, held.metadata.uid),
        (before.data, before.metadata.uid),
        "it is neither emptied nor made anew"
    );
    world.put("app", &payload(2)).await;
    world.grant(&world.namespace.clone(), &["*"]).await;
    for name in ["retained", "owned"] {
        served(&operator, "all to be served again", || async {
            let data = world.data(name).await?;
            let ready = has_condition(&world, name, "Ready", "True/Published").await.is_some();
            (ready && data["A"].ends_with("a-2")).then_some(())
        })
        .await;
    }
    operator.borrow_mut().kill();
    world.end().await;
}

/// The answer of a probe.
async fn probe(address: &str, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: bindery\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_newer_release_are_left_alone_and_told_and_go_on_afterwards() {
    let _kinds = KINDS.lock().await;
    let world = World::new("newer").await;
    world.put("app", &payload(1)).await;
    let operator = start(&world);
    for name in ["policy", "status", "plain"] {
        world.bind(name, spec(&world, json!({}))).await;
        world.wait_ready(name).await;
    }
    apply_kinds(&world, newer).await;
    let (bindings, grants) = (stored(&world, "SecretBinding"), stored(&world, "SecretGrant"));
    eventually("the newer kinds to be served", LIMIT, || async {
        let change = json!({"spec": {"target": {"deletionPolicy": "Archive"}, "vault": {"path": "x"}}});
        merge(&bindings, "policy", &change).await;
        (bindings.get("policy").await.unwrap().data["spec"]["vault"]["path"] == "x").then_some(())
    })
    .await;
    let status = json!({"status": {"target": {"seal": {"nonce": "n"}}, "shards": [1, 2],
        "conditions": [{"type": "Sealed", "status": "Perhaps", "reason": 7}]}});
    bindings.patch_status("status", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let theirs = format!("{}-newer", world.namespace);
    let spec_of_grant = grant(&world, &json!({"onExpiry": "Archive"}));
    let object =
        json!({"apiVersion": VERSION, "kind": "SecretGrant", "metadata": {"name": theirs}, "spec": spec_of_grant});
    grants.patch(&theirs, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    world.delete_grant(&world.namespace).await;
    world.put("app", &payload(2)).await;
    served(&operator, "the grant that cannot be read to say so", || async {
        let status = grants.get(&theirs).await.ok()?.data["status"].to_string();
        status.contains("onExpiry").then_some(())
    })
    .await;
    served(&operator, "the binding that cannot be read to say so", || async {
        let status = bindings.get("policy").await.ok()?.data["status"].to_string();
        (status.contains("Archive") && status.contains("spec.target cannot be read by this version of Bindery"))
            .then_some(())
    })
    .await;
    served(&operator, "a grant that cannot be read to allow nothing", || async {
        let status = bindings.get("plain").await.ok()?.data["status"].to_string();
        status.contains("AccessDenied").then_some(())
    })
    .await;
    no_spin(&world, "with objects of a newer release").await;
    for name in ["policy", "status", "plain"] {
        assert!(world.data(name).await.unwrap()["A"].ends_with("a-1"), "{name} holds what was published");
    }
    let kept = bindings.get("status").await.unwrap().data["status"].clone();
    assert_eq!((&kept["target"]["seal"]["nonce"], &kept["shards"]), (&json!("n"), &json!([1, 2])), "{kept}");

    // Forward again: whoever wrote them can read them, and this release what it can read.
    merge(&bindings, "policy", &json!({"spec": {"target": null, "vault": null}})).await;
    bindings.patch_status("status", &PatchParams::default(), &Patch::Merge(&json!({"status": null}))).await.unwrap();
    apply_kinds(&world, present).await;
    world.grant(&world.namespace.clone(), &["*"]).await;
    world.delete_grant(&theirs).await;
    for name in ["policy", "status", "plain"] {
        served(&operator, "all to be served", || async {
            let ready = has_condition(&world, name, "Ready", "True/Published").await.is_some();
            (ready && world.data(name).await?["A"].ends_with("a-2")).then_some(())
        })
        .await;
    }
    operator.borrow_mut().kill();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_side_by_side_hand_over_and_neither_destroys_what_the_other_recorded() {
    let _kinds = KINDS.lock().await;
    let world = World::new("rolling").await;
    world.put("app", &payload(1)).await;
    apply_kinds(&world, newer).await;
    let flags = vec!["--leader-elect=true".to_owned()];
    let setup = |pod: &str| Setup { pod: pod.to_owned(), log_level: "info", flags: flags.clone(), ..world.setup() };
    let mut first = Operator::start(setup("bindery-a"));
    for name in ["app", "other"] {
        world.bind(name, spec(&world, json!({}))).await;
        world.wait_ready(name).await;
    }
    // What a later release recorded beside what this one knows.
    let bindings = stored(&world, "SecretBinding");
    let record = json!({"status": {"seal": {"nonce": "n"}, "shards": [1, 2]}});
    bindings.patch_status("app", &PatchParams::default(), &Patch::Merge(&record)).await.unwrap();
    let second = Operator::start(setup("bindery-b"));
    no_spin(&world, "two releases side by side").await;
    first.terminate().await;
    world.put("app", &payload(2)).await;
    for name in ["app", "other"] {
        world.wait_value(name, "A", &format!("{CANARY}-a-2")).await;
    }
    let third = Operator::start(setup("bindery-c"));
    no_spin(&world, "after the hand-over").await;
    let kept = bindings.get("app").await.unwrap().data["status"].clone();
    assert_eq!((&kept["seal"]["nonce"], &kept["shards"]), (&json!("n"), &json!([1, 2])), "{kept}");
    drop((second, third));
    apply_kinds(&world, present).await;
    world.end().await;
}

/// Runs a test of this program in a cluster of its own.
fn in_its_own_cluster(test: &str) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(root.join("tests/cluster/cluster"));
    command.current_dir(&root).args(["run", "--own", "--crds", "crds/", "--"]).arg(program);
    command.args(["--ignored", "--exact", test, "--nocapture"]);
    assert!(command.status().unwrap().success(), "{test} failed in its own cluster");
}

#[test]
fn an_api_server_that_is_away_for_a_minute_and_forgets_loses_nothing() {
    in_its_own_cluster("the_api_server_is_away_and_forgets");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "stops the API server: run by an_api_server_that_is_away_for_a_minute_and_forgets_loses_nothing"]
async fn the_api_server_is_away_and_forgets() {
    let world = World::new("away").await;
    world.put("app", &payload(1)).await;
    let operator = start(&world);
    world.bind("app", spec(&world, json!({}))).await;
    world.bind("revoked", spec(&world, json!({}))).await;
    for name in ["app", "revoked"] {
        world.wait_ready(name).await;
    }
    for (round, away) in [(2, 15), (3, 70)] {
        let stopped = api_server::stop();
        world.put("app", &payload(round)).await;
        // All that was before is compacted, so watches cannot go on from where they were.
        api_server::compact(&stopped).await;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(away) {
            if !operator.borrow_mut().is_running() {
                operator.borrow_mut().restart();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        api_server::start(stopped);
        eventually("the API server to answer", LIMIT, || async {
            world.client.apiserver_version().await.ok().map(|_| ())
        })
        .await;
        let late = format!("late-{round}");
        eventually("a binding to be made", LIMIT, || async {
            world.try_bind(&late, spec(&world, json!({}))).await.ok()
        })
        .await;
        for name in ["app", "revoked", &late] {
            served(&operator, &format!("{name} after {away} s"), || async {
                let data = world.secrets().get_opt(name).await.ok()??.data?;
                let value = String::from_utf8_lossy(&data.get("A")?.0).into_owned();
                value.ends_with(&format!("a-{round}")).then_some(())
            })
            .await;
        }
    }
    world.delete_grant(&world.namespace).await;
    served(&operator, "the revoked grant", || has_condition(&world, "revoked", "Granted", "False/AccessDenied")).await;
    no_spin(&world, "after the API server was away").await;
    operator.borrow_mut().kill();
    world.end().await;
}
