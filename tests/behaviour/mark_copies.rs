//! Every mark that Bindery writes, copied to every place: nothing foreign is changed or deleted, and nothing of Bindery's
//! is lost.

use std::time::Duration;

use bindery::api::SecretBinding;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::operator::{Operator, Setup};
use crate::support::world::CANARY;
use crate::support::{World, eventually};

const LIMIT: Duration = Duration::from_secs(60);

fn payload(number: u32) -> Value {
    json!({"A": format!("{CANARY}-a-{number}"), "B": format!("{CANARY}-b-{number}")})
}

fn spec(world: &World, target: &str) -> Value {
    let source = json!({"secret": world.secret_id("app")});
    json!({"refreshInterval": "10s", "dataFrom": [source], "target": {"name": target}})
}

/// Another namespace in which the operator of the world has the same rights.
async fn other_namespace(world: &World) -> String {
    let name = bare_namespace(world).await;
    copy_rights(world, &name).await;
    name
}

/// Another namespace in which the operator of the world has no rights.
pub async fn bare_namespace(world: &World) -> String {
    let name = format!("{}-b", world.namespace);
    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(world.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    name
}

/// Gives the operator of the world the rights that it has there in another namespace too.
pub async fn copy_rights(world: &World, name: &str) {
    let bare = |metadata: &ObjectMeta| ObjectMeta { name: metadata.name.clone(), ..ObjectMeta::default() };
    let roles: Api<Role> = Api::namespaced(world.client.clone(), &world.namespace);
    for role in roles.list(&ListParams::default()).await.unwrap() {
        let copy = Role { metadata: bare(&role.metadata), ..role };
        Api::namespaced(world.client.clone(), name).create(&PostParams::default(), &copy).await.unwrap();
    }
    let bound: Api<RoleBinding> = Api::namespaced(world.client.clone(), &world.namespace);
    for binding in bound.list(&ListParams::default()).await.unwrap() {
        let copy = RoleBinding { metadata: bare(&binding.metadata), ..binding };
        Api::namespaced(world.client.clone(), name).create(&PostParams::default(), &copy).await.unwrap();
    }
}

/// An entry of the field manager, as an apply of other keys leaves it.
fn entry(fields: &Value) -> Value {
    json!({"manager": "bindery", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "time": "2026-01-01T00:00:00Z", "fieldsV1": fields})
}

/// Each mark by itself and all of them, as the metadata of a copy.
fn marks(published: &Secret) -> Vec<(String, Value)> {
    let metadata = serde_json::to_value(&published.metadata).unwrap();
    let mut marks = Vec::new();
    for field in ["labels", "annotations"] {
        for (name, value) in metadata[field].as_object().unwrap() {
            marks.push((name.replace('/', "."), json!({field: {name: value}})));
        }
    }
    let own = metadata["managedFields"].as_array().unwrap().iter().find(|entry| entry["manager"] == "bindery").unwrap();
    let owners = json!({"ownerReferences": metadata["ownerReferences"]});
    let others = [
        ("owner", owners.clone()),
        ("entry", json!({"managedFields": [own]})),
        ("entry-of-other-keys", json!({"managedFields": [entry(&json!({"f:data": {"f:MINE": {}}}))]})),
        ("entry-of-no-keys", json!({"managedFields": [entry(&json!({"f:type": {}}))]})),
        (
            "times-beyond-all-time",
            json!({"managedFields": [{"manager": "x", "operation": "Update", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "time": "9999-12-31T23:59:59Z", "fieldsV1": {"f:data": {"f:MINE": {}}}}]}),
        ),
        (
            "restored",
            json!({"labels": metadata["labels"], "annotations": metadata["annotations"],
            "ownerReferences": metadata["ownerReferences"]}),
        ),
        (
            "all",
            json!({"labels": metadata["labels"], "annotations": metadata["annotations"],
            "ownerReferences": metadata["ownerReferences"], "managedFields": [own]}),
        ),
    ];
    marks.extend(others.map(|(name, metadata)| (name.to_owned(), metadata)));
    marks
}

/// Makes somebody's Secret with a mark. Managed fields are set by a further request, as they stay only then.
async fn copy(secrets: &Api<Secret>, name: &str, mark: &Value, published: &Secret) -> Secret {
    let mut object = json!({"metadata": mark, "data": published.data});
    object["metadata"]["name"] = json!(name);
    object["data"]["MINE"] = json!("bWluZQ==");
    let entries = object["metadata"].as_object_mut().unwrap().remove("managedFields");
    let params = PostParams { field_manager: Some("kubectl-create".to_owned()), ..PostParams::default() };
    let created = secrets.create(&params, &serde_json::from_value(object).unwrap()).await.unwrap();
    let Some(entries) = entries else { return created };
    let change = json!({"metadata": {"managedFields": entries}});
    // Its times may be beyond all time, which this client cannot read either.
    match secrets.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&change)).await {
        Ok(_) | Err(kube::Error::SerdeError(_)) => {}
        Err(error) => panic!("{name}: {error}"),
    }
    let mut after = created;
    let raw: Value = read(secrets, name).await.unwrap();
    after.metadata.resource_version = raw["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    after
}

/// A Secret as the API server has it.
async fn read(secrets: &Api<Secret>, name: &str) -> Option<Value> {
    let url = format!("{}/{name}", secrets.resource_url());
    let request = http::Request::get(url).body(Vec::new()).unwrap();
    secrets.clone().into_client().request::<Value>(request).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mark_copied_to_any_place_has_anything_of_somebody_changed_or_deleted() {
    let world = World::new("mark-copies").await;
    let other = other_namespace(&world).await;
    world.put("app", &payload(1)).await;
    let mut setup = world.setup();
    setup.namespaces.push(other.clone());
    let mut operator = Operator::start(Setup { log_level: "info", ..setup });
    let grant = json!({"namespaces": {"names": [world.namespace, other]}, "secrets": [{"name": world.secret_id("app")}],
        "aws": {"region": "eu-west-1"}});
    world.grant_with(&world.namespace, grant).await;
    world.bind("app", spec(&world, "first")).await;
    world.wait_ready("app").await;
    let elsewhere: Api<SecretBinding> = Api::namespaced(world.client.clone(), &other);
    let bind_elsewhere = async |target: &str| {
        let object = json!({"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "app"}, "spec": spec(&world, target)});
        elsewhere.patch("app", &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    };
    bind_elsewhere("first").await;
    let there: Api<Secret> = Api::namespaced(world.client.clone(), &other);
    eventually("the Secret elsewhere", LIMIT, || async { there.get_opt("first").await.unwrap() }).await;

    let published = world.secrets().get("first").await.unwrap();
    let mut copies = Vec::new();
    for (mark, metadata) in marks(&published) {
        copies.push((world.secrets(), copy(&world.secrets(), &mark, &metadata, &published).await));
        // An owner of another namespace is garbage to Kubernetes itself, whatever Bindery does.
        let mut metadata = metadata;
        metadata.as_object_mut().unwrap().remove("ownerReferences");
        copies.push((there.clone(), copy(&there, &mark, &metadata, &published).await));
    }
    // The status of one binding on another, which thereby claims what is the first one's.
    world
        .bind(
            "thief",
            json!({"suspend": true, "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "stolen"}}),
        )
        .await;
    world.wait("thief", "Suspended", "True/Suspended").await;
    let status = serde_json::to_value(world.bindings().get("app").await.unwrap().status).unwrap();
    let mut claimed = status.clone();
    claimed["formerTargets"] = json!([{"name": "first"}, {"name": "restored"}, {"name": "all"}]);
    let params = PatchParams::default();
    world.bindings().patch_status("thief", &params, &Patch::Merge(&json!({"status": claimed}))).await.unwrap();
    world.bind("thief", spec(&world, "stolen")).await;
    eventually("the thief's own Secret", LIMIT, || world.data("stolen")).await;

    // An edit, a rename and a restart are what makes Bindery look for Secrets of its own.
    world.bind("app", spec(&world, "second")).await;
    bind_elsewhere("second").await;
    for secrets in [&world.secrets(), &there] {
        eventually("the Secret of the earlier name to go", LIMIT, || async {
            secrets.get_opt("first").await.unwrap().is_none().then_some(())
        })
        .await;
    }
    operator.kill();
    operator.restart();
    world.put("app", &payload(2)).await;
    world.wait_value("second", "A", &format!("{CANARY}-a-2")).await;
    world.wait_value("stolen", "A", &format!("{CANARY}-a-2")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut wrong = Vec::new();
    for (secrets, before) in &copies {
        let name = before.metadata.name.clone().unwrap();
        let after = read(secrets, &name).await.unwrap_or_default();
        let same = after["metadata"]["resourceVersion"].as_str() == before.metadata.resource_version.as_deref();
        let place = before.metadata.namespace.clone().unwrap();
        println!("{place}/{name}: {}", if same { "as it was" } else { "changed or deleted" });
        if !same {
            wrong.push(format!("{place}/{name}"));
        }
    }
    println!("marks × places: {} copies", copies.len());
    assert_eq!(wrong, Vec::<String>::new(), "changed or deleted");
    let message = world.wait("app", "Applied", "True/Published").await;
    assert!(message.contains("left alone"), "{message}");
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&other, &DeleteParams::background()).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_somebody_applies_as_bindery_under_an_earlier_name_is_not_deleted() {
    let world = World::new("mark-applied").await;
    world.put("app", &payload(1)).await;
    let mut operator = world.operator();
    world.bind("app", spec(&world, "first")).await;
    world.wait_ready("app").await;
    operator.kill();
    let published = world.secrets().get("first").await.unwrap();
    world.secrets().delete("first", &DeleteParams::default()).await.unwrap();
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "data": {"MINE": "bWluZQ=="},
        "metadata": {"name": "first", "labels": published.metadata.labels, "ownerReferences": published.metadata.owner_references}});
    let params = PatchParams::apply("bindery").force();
    let theirs = world.secrets().patch("first", &params, &Patch::Apply(&theirs)).await.unwrap();
    world.bind("app", spec(&world, "second")).await;
    operator.restart();
    eventually("the new Secret", LIMIT, || world.data("second")).await;
    eventually("the status to name the other", LIMIT, || async {
        let (_, message) = world.condition("app", "Applied").await?;
        (message.contains("\"first\"") && message.contains("left alone")).then_some(())
    })
    .await;
    assert_eq!(world.secrets().get("first").await.unwrap(), theirs);
    world.end().await;
}

/// A copy as `kubectl get -o yaml | kubectl create -f -` makes it, with a key of somebody.
async fn kubectl_copy(secrets: &Api<Secret>, name: &str, published: &Secret) -> Secret {
    let metadata = json!({"labels": published.metadata.labels, "annotations": published.metadata.annotations,
        "ownerReferences": published.metadata.owner_references});
    copy(secrets, name, &metadata, published).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_copied_to_where_a_binding_of_its_name_is_made_later_keeps_its_keys_until_somebody_consents()
{
    let world = World::new("copied-to").await;
    let other = other_namespace(&world).await;
    world.put("app", &payload(1)).await;
    let mut setup = world.setup();
    setup.namespaces.push(other.clone());
    let _operator = Operator::start(Setup { log_level: "info", ..setup });
    let grant = json!({"namespaces": {"names": [world.namespace, other]}, "secrets": [{"name": world.secret_id("app")}],
        "aws": {"region": "eu-west-1"}});
    world.grant_with(&world.namespace, grant).await;
    let mut retained = spec(&world, "app");
    retained["target"]["deletionPolicy"] = json!("Retain");
    world.bind("app", retained.clone()).await;
    world.wait_ready("app").await;
    let published = world.secrets().get("app").await.unwrap();

    // In another namespace, whose binding of the same name publishes a part of the keys.
    let there: Api<Secret> = Api::namespaced(world.client.clone(), &other);
    let bindings: Api<SecretBinding> = Api::namespaced(world.client.clone(), &other);
    let theirs = kubectl_copy(&there, "app", &published).await;
    let source = json!({"key": "B", "from": {"secret": world.secret_id("app"), "key": "B"}});
    let part = json!({"refreshInterval": "10s", "data": [source], "target": {"deletionPolicy": "Retain"}});
    let object = json!({"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "app"}, "spec": part});
    bindings.patch("app", &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    let told = async |bindings: &Api<SecretBinding>, expected: &str| {
        let what = format!("the copy to be told of: {expected}");
        eventually(&what, LIMIT, || async {
            let conditions = bindings.get("app").await.unwrap().status?.conditions;
            let applied = conditions.into_iter().find(|condition| condition.type_ == "Applied")?;
            applied.message.contains(expected).then_some(())
        })
        .await;
    };
    told(&bindings, "was made for another Secret, from which it was copied").await;
    assert_eq!(there.get("app").await.unwrap(), theirs);

    // Here, under another name, to which the binding is renamed.
    let backup = kubectl_copy(&world.secrets(), "app-backup", &published).await;
    let mut renamed = retained;
    renamed["target"]["name"] = json!("app-backup");
    world.bind("app", renamed).await;
    told(&world.bindings(), "was made for another Secret, from which it was copied").await;
    assert_eq!(world.secrets().get("app-backup").await.unwrap(), backup);
    assert_eq!(world.secrets().get("app").await.unwrap().data, published.data, "nothing of Bindery's is lost");

    // Who consents gets what the binding publishes, and keeps the rest.
    let unmark = json!({"metadata": {"annotations": {"bindery.dev/inputs": null}}});
    there.patch("app", &PatchParams::default(), &Patch::Merge(&unmark)).await.unwrap();
    told(&bindings, "it also holds A, MINE, which Bindery did not publish").await;
    let after = there.get("app").await.unwrap();
    assert_eq!((after.data, after.metadata.uid), (theirs.data, theirs.metadata.uid));
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&other, &DeleteParams::background()).await.unwrap();
    world.end().await;
}
