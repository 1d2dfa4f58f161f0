//! The rights that `deploy/` gives the operator, and the admission policies around them, on a real API server: whoever
//! holds its token can do what the operator does and no more, and the operator can do without none of it.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "standin/mod.rs"]
mod standin;
#[path = "behaviour/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the behaviour tests, which use all of it")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use bindery::api::SecretGrant;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use support::account::apply;
use support::operator::{Setup, read_log};
use support::world::CANARY;
use support::{Operator, World, eventually, workloads};

/// The namespace for which the manifests are rendered; each test puts its own in its place.
const RENDERED: &str = "rendered-for-a-test";

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const ADMISSION: &str = "admissionregistration.k8s.io/v1";

/// What no API serves: who may `operate` one is an operator.
const INSTALLATIONS: &str = "installations";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap()
}

/// Runs a command in the root of the repository and answers its output.
fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(args).current_dir(root()).output().unwrap_or_else(|error| {
        panic!("{program} cannot be run ({error}): `make test` builds it and puts it into PATH")
    });
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
}

/// The objects of a stream of YAML documents, but for the roles of people: the operator has none of them.
fn objects(yaml: &str) -> Vec<Value> {
    let all = serde_saphyr::from_multiple::<Value>(yaml).unwrap();
    all.into_iter().filter(|object| object.is_object() && !support::release::is_role_of_people(object)).collect()
}

/// Renders an overlay of `deploy/`, which these lines say more of.
fn kustomized(more: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    // Kustomize takes no absolute paths.
    let up = "../".repeat(folder.components().count() - 1);
    let deploy = format!("{up}{}/deploy", root().strip_prefix("/").unwrap().display());
    std::fs::create_dir_all(&folder).unwrap();
    let kustomization =
        format!("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [DEPLOY]\n{more}\n");
    std::fs::write(folder.join("kustomization.yaml"), kustomization.replace("DEPLOY", &deploy)).unwrap();
    run("kubectl", &["kustomize", folder.to_str().unwrap()]).unwrap()
}

/// `deploy/` with all its components, in an overlay for another namespace.
fn overlay() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let components = ["networkpolicy", "jobs", "service-account-tokens", "restarts"]
            .map(|component| format!("DEPLOY/components/{component}"));
        kustomized(&format!("namespace: {RENDERED}\ncomponents: [{}]", components.join(", ")))
    })
}

fn of_kind(objects: &[Value], kind: &str) -> Vec<Value> {
    objects.iter().filter(|object| object["kind"] == kind).cloned().collect()
}

/// A kubeconfig's client for a ServiceAccount, and an attempt that only the fence refuses.
async fn unmarked_secret(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    attempt(client, namespace, &Attempt::Create(json!({"name": "probe"}), json!({}))).await
}

/// Waits until the fence refuses what an account must not do.
async fn until_fenced(client: &Client, namespace: &str) {
    eventually("the fence to stand", Duration::from_secs(60), || async {
        let refused = unmarked_secret(client, namespace).await;
        matches!(refused, Err(kube::Error::Api(status)) if status.message.contains("denied request: Bindery"))
            .then_some(())
    })
    .await;
}

/// Applies or deletes rendered manifests.
fn kubectl(verb: &[&str], manifests: &str) {
    support::release::run("kubectl", &[verb, &["-f", "-"]].concat(), Some(manifests));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_holds_in_an_overlay_with_another_namespace_prefix_and_suffix() {
    let world = World::without_grant("overlay").await;
    let elsewhere = world.namespace.as_str();
    let manifests = kustomized(&format!("namespace: {elsewhere}\nnamePrefix: acme-\nnameSuffix: -x"));
    kubectl(&["apply", "--server-side"], &manifests);
    let operator = client(kubeconfig(&world, "acme-bindery-x").await).await;
    until_fenced(&operator, elsewhere).await;
    let marked = Attempt::Create(with(marks("worker"), &json!({"name": "probe"})), json!({}));
    attempt(&operator, elsewhere, &marked).await.expect("what is marked for a binding passes");
    unmarked_secret(&world.client, elsewhere).await.expect("who has every verb is not fenced in");
    kubectl(&["delete", "--wait=false"], &manifests);
    world.end_without_records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_holds_by_helm_with_another_name_account_and_namespace() {
    let world = World::without_grant("release").await;
    let elsewhere = world.namespace.as_str();
    for (number, values) in [
        vec![format!("fullnameOverride={elsewhere}-store")],
        vec![format!("fullnameOverride={elsewhere}-own"), "serviceAccount.name=mine".to_owned()],
        vec![format!("fullnameOverride={elsewhere}-watch"), format!("watchNamespaces={{{elsewhere}}}")],
    ]
    .into_iter()
    .enumerate()
    {
        let mut args =
            vec!["install", "store", "charts/bindery", "--namespace", elsewhere, "--set", "crds.install=false"];
        args.extend(values.iter().flat_map(|value| ["--set", value.as_str()]));
        run("helm", &args).unwrap();
        let account = match number {
            0 => format!("{elsewhere}-store"),
            1 => "mine".to_owned(),
            _ => format!("{elsewhere}-watch"),
        };
        let operator = client(kubeconfig(&world, &account).await).await;
        until_fenced(&operator, elsewhere).await;
        // Its own key alone has no mark.
        let name = values[0].split_once('=').unwrap().1;
        let key = Attempt::Create(json!({"name": format!("{name}-fingerprint-key")}), json!({}));
        attempt(&operator, elsewhere, &key).await.expect("the key of the installation may be made");
        run("helm", &["uninstall", "store", "--namespace", elsewhere]).unwrap();
    }
    world.end_without_records().await;
}

#[test]
fn the_chart_leaves_the_fence_out_only_where_it_is_told_to() {
    let chart = |sets: &[&str]| {
        let mut args = vec!["template", "store", "charts/bindery", "--namespace", "elsewhere"];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        run("helm", &args)
    };
    let without = objects(&chart(&["admissionPolicy.enabled=false"]).unwrap());
    assert!(of_kind(&without, "ValidatingAdmissionPolicy").is_empty());
    let args = |objects: &[Value]| {
        of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
    };
    assert!(args(&without).contains("--fence=none"), "what is away on purpose is no alarm");
    let with = objects(&chart(&[]).unwrap());
    assert!(!args(&with).contains("--fence"), "{}", args(&with));
    assert_eq!(of_kind(&with, "ValidatingAdmissionPolicy").len(), 4);
    // What a cluster cannot enforce is not left out in silence.
    let old = run("helm", &["template", "store", "charts/bindery", "--kube-version", "1.29.0"]).unwrap_err();
    assert!(old.contains("admissionPolicy.enabled"), "{old}");
    run(
        "helm",
        &["template", "store", "charts/bindery", "--kube-version", "1.29.0", "--set", "admissionPolicy.enabled=false"],
    )
    .unwrap();
}

#[test]
fn the_network_policy_opens_what_the_operator_needs_and_nothing_else_in_component_and_chart() {
    let component = of_kind(&objects(overlay()), "NetworkPolicy");
    assert_eq!(component.len(), 1);
    assert_eq!(component[0]["metadata"]["namespace"], RENDERED);
    let base = objects(&run("kubectl", &["kustomize", "deploy/"]).unwrap());
    assert!(of_kind(&base, "NetworkPolicy").is_empty(), "it is for those who choose it");
    let args = ["template", "bindery", "charts/bindery", "--set", "networkPolicy.enabled=true"];
    let chart = of_kind(&objects(&run("helm", &args).unwrap()), "NetworkPolicy");
    assert_eq!(chart.len(), 1);
    let spec = &component[0]["spec"];
    assert_eq!(&chart[0]["spec"], spec);
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]), "what is not named is closed");
    let ports = |rules: &Value| -> Vec<String> {
        let ports = rules.as_array().unwrap().iter().flat_map(|rule| rule["ports"].as_array().unwrap());
        ports.map(|port| format!("{}/{}", port["protocol"].as_str().unwrap(), port["port"])).collect()
    };
    assert_eq!(ports(&spec["ingress"]), ["TCP/\"metrics\""]);
    assert_eq!(ports(&spec["egress"]), ["UDP/53", "TCP/53", "TCP/443", "TCP/6443", "TCP/80"]);
    let pods = of_kind(&base, "Deployment")[0]["spec"]["template"].clone();
    for (label, value) in spec["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&pods["metadata"]["labels"][label], value, "it selects the operator's pods");
    }
}

/// The text of all Rust files below a folder.
fn rust(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => rust(&path),
        Some(extension) if extension == "rs" => std::fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn each_test_that_the_threat_model_names_exists() {
    let page = std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let is_test = |word: &&str| {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.chars().all(letters) && word.matches('_').count() > 1
    };
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 60, "{named:?}");
    let sources = rust(&root().join("tests")) + &rust(&root().join("src"));
    let missing: Vec<&&str> = named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// One right: a verb on a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: String,
    group: String,
    resource: String,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.verb, self.group, self.resource)
    }
}

/// The rules of a role, taken apart so that each gives one right.
fn single_rules(role: &Value) -> Vec<(Right, Value)> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut single = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    let right = Right { verb: verb.clone(), group: group.clone(), resource: resource.clone() };
                    let mut rule = rule.clone();
                    rule["apiGroups"] = json!([group]);
                    rule["resources"] = json!([resource]);
                    rule["verbs"] = json!([verb]);
                    single.push((right, rule));
                }
            }
        }
    }
    single
}

/// All rights to call that `deploy/` gives with all its components. By the verb `operate` the fence knows the operator.
fn shipped_rights() -> BTreeSet<Right> {
    let all = objects(overlay());
    all.iter().flat_map(single_rules).map(|(right, _)| right).filter(|right| right.resource != INSTALLATIONS).collect()
}

/// The operator's ServiceAccount in a namespace of a test, with what `deploy/` says of it.
struct Installation<'a> {
    home: &'a World,
    kubeconfig: Kubeconfig,
}

impl<'a> Installation<'a> {
    /// As it is shipped.
    async fn fenced(home: &'a World) -> Self {
        let installation = Self::make(home, None, true).await;
        until_fenced(&installation.client("bindery").await, &home.namespace).await;
        installation
    }

    /// Without one right, and without the fence, which has no part in that.
    async fn without(home: &'a World, right: Option<&Right>) -> Self {
        Self::make(home, right, false).await
    }

    async fn make(home: &'a World, without: Option<&Right>, fenced: bool) -> Self {
        let (client, name) = (&home.client, &home.namespace);
        // What belongs to no namespace is named after the test's.
        let unique = |object: &Value| match object["metadata"]["name"].as_str().unwrap() {
            "bindery" => name.clone(),
            other => other.replace("bindery-", &format!("{name}-")),
        };
        for object in objects(&overlay().replace(RENDERED, name)) {
            let own = object["metadata"]["name"].as_str().unwrap();
            let mut fields = object.clone();
            if fields.get("rules").is_some() {
                let kept = single_rules(&object).into_iter().filter(|(right, _)| Some(right) != without);
                // The fences of other tests are none of this one's business.
                let own = |(right, mut rule): (Right, Value)| {
                    if right.resource == INSTALLATIONS {
                        rule["resourceNames"] = json!([name]);
                    }
                    rule
                };
                fields["rules"] = kept.map(own).collect();
            }
            match object["kind"].as_str().unwrap() {
                "ServiceAccount" => {
                    apply(&Api::<ServiceAccount>::namespaced(client.clone(), name), own, "v1", fields).await;
                }
                "Role" => apply(&Api::<Role>::namespaced(client.clone(), name), own, RBAC, fields).await,
                "RoleBinding" => apply(&Api::<RoleBinding>::namespaced(client.clone(), name), own, RBAC, fields).await,
                "ClusterRole" => apply(&Api::<ClusterRole>::all(client.clone()), &unique(&object), RBAC, fields).await,
                "ClusterRoleBinding" => {
                    fields["roleRef"]["name"] = json!(name);
                    apply(&Api::<ClusterRoleBinding>::all(client.clone()), &unique(&object), RBAC, fields).await;
                }
                "ValidatingAdmissionPolicy" if fenced => {
                    let condition = &mut fields["spec"]["matchConditions"][0]["expression"];
                    *condition =
                        json!(condition.as_str().unwrap().replace(".name('bindery')", &format!(".name('{name}')")));
                    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
                    apply(&policies, &unique(&object), ADMISSION, fields).await;
                }
                "ValidatingAdmissionPolicyBinding" if fenced => {
                    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
                    fields["spec"]["policyName"] = json!(unique(&object));
                    apply(&bindings, &unique(&object), ADMISSION, fields).await;
                }
                _ => {}
            }
        }
        let kubeconfig = kubeconfig(home, "bindery").await;
        Self { home, kubeconfig }
    }

    /// A client with a token of a ServiceAccount in the namespace of the operator.
    async fn client(&self, account: &str) -> Client {
        client(kubeconfig(self.home, account).await).await
    }

    /// How an operator is started that serves the namespace of `world` under this account.
    fn setup(&self, world: &World) -> Setup {
        let path = world.folder.join("kubeconfig");
        std::fs::write(&path, serde_json::to_string(&self.kubeconfig).unwrap()).unwrap();
        Setup {
            home: self.home.namespace.clone(),
            // The shipped rules name the lease and the key by the default name.
            name: "bindery".to_owned(),
            variables: vec![("KUBECONFIG".to_owned(), path.display().to_string())],
            ..world.setup()
        }
    }

    /// Removes what is in no namespace.
    async fn end(self) {
        let (client, name, gone) = (&self.home.client, &self.home.namespace, DeleteParams::default());
        Api::<ClusterRoleBinding>::all(client.clone()).delete(name, &gone).await.unwrap();
        Api::<ClusterRole>::all(client.clone()).delete(name, &gone).await.unwrap();
        for policy in ["secrets", "tokens", "workloads", "jobs"] {
            let policy = format!("{name}-{policy}");
            // Not each installation has them.
            let _ = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone()).delete(&policy, &gone).await;
            let _ = Api::<ValidatingAdmissionPolicy>::all(client.clone()).delete(&policy, &gone).await;
        }
    }
}

async fn kubeconfig(home: &World, account: &str) -> Kubeconfig {
    let accounts: Api<ServiceAccount> = Api::namespaced(home.client.clone(), &home.namespace);
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let issued = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    let admin = Kubeconfig::read().unwrap();
    let context = admin.contexts.iter().find(|context| Some(&context.name) == admin.current_context.as_ref());
    let cluster = context.unwrap().context.clone().unwrap().cluster;
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": account, "clusters": admin.clusters,
        "users": [{"name": account, "user": {"token": issued.status.unwrap().token}}],
        "contexts": [{"name": account, "context": {"cluster": cluster, "user": account, "namespace": home.namespace}}],
    }))
    .unwrap()
}

async fn client(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Something that the holder of a token tries, without lasting effect.
enum Attempt {
    /// Makes a Secret of this metadata and these further fields.
    Create(Value, Value),
    /// Applies this metadata to a Secret, as the operator does.
    Apply(&'static str, Value),
    /// Changes a Secret by a merge patch.
    Change(&'static str, Value),
    Delete(&'static str),
    /// Asks for a token of the ServiceAccount `default`.
    Token(Value),
    /// Changes the workload `web` of this kind by a merge patch, as a restart does.
    Workload(&'static str, Value),
    /// Makes a Job with these owners, of a pod with these fields.
    Job(Value, Value),
}

async fn attempt(client: &Client, namespace: &str, attempt: &Attempt) -> Result<(), kube::Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let create = PostParams { dry_run: true, ..PostParams::default() };
    match attempt {
        Attempt::Create(metadata, fields) => {
            let mut object = fields.clone();
            object["metadata"] = metadata.clone();
            secrets.create(&create, &serde_json::from_value(object).unwrap()).await.map(|_| ())
        }
        Attempt::Apply(name, metadata) => {
            let mut metadata = metadata.clone();
            metadata["name"] = json!(name);
            let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"A": "Yg=="}});
            let params = PatchParams { dry_run: true, ..PatchParams::apply("bindery").force() };
            secrets.patch(name, &params, &Patch::Apply(&object)).await.map(|_| ())
        }
        Attempt::Change(name, change) => {
            let params = PatchParams { dry_run: true, ..PatchParams::default() };
            secrets.patch(name, &params, &Patch::Merge(change)).await.map(|_| ())
        }
        Attempt::Delete(name) => {
            let params = DeleteParams { dry_run: true, ..DeleteParams::default() };
            secrets.delete(name, &params).await.map(|_| ())
        }
        Attempt::Workload(kind, change) => {
            let params = PatchParams { dry_run: true, ..PatchParams::default() };
            workloads::api(client, namespace, kind).patch("web", &params, &Patch::Merge(change)).await.map(|_| ())
        }
        Attempt::Job(metadata, fields) => {
            let containers = json!([{"name": "c", "image": "example.com/c:1"}]);
            let pod = with(json!({"restartPolicy": "Never", "containers": containers}), fields);
            let metadata = with(metadata.clone(), &json!({"name": "new"}));
            let job = json!({"metadata": metadata, "spec": {"template": {"spec": pod}}});
            let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
            jobs.create(&create, &serde_json::from_value(job).unwrap()).await.map(|_| ())
        }
        Attempt::Token(spec) => {
            let request = serde_json::from_value(json!({"spec": spec})).unwrap();
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
            accounts.create_token_request("default", &create, &request).await.map(|_| ())
        }
    }
}

/// The marks of a Secret that is published for a binding.
fn marks(binding: &str) -> Value {
    json!({"labels": {"bindery.dev/managed": "true"}, "annotations": {"bindery.dev/binding": binding}})
}

fn with(mut metadata: Value, more: &Value) -> Value {
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    metadata
}

fn owned_by(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({"ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}]})
}

/// Secrets of all sorts in the namespace of a world, none of which the operator made. Answers who may own them.
async fn furnish(world: &World) -> BTreeMap<&'static str, Value> {
    for name in ["worker", "other"] {
        world.bind(name, json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    }
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    apply(&maps, "owner", "v1", json!({"data": {}})).await;
    let uid = |uid: Option<String>| uid.unwrap();
    let mut owners = BTreeMap::new();
    for name in ["worker", "other"] {
        let binding = world.bindings().get(name).await.unwrap();
        owners.insert(name, owned_by("bindery.dev/v1alpha1", "SecretBinding", name, &uid(binding.metadata.uid)));
    }
    owners.insert("map", owned_by("v1", "ConfigMap", "owner", &uid(maps.get("owner").await.unwrap().metadata.uid)));
    // Look-alikes of a binding, of kinds that no API serves.
    owners.insert("group", owned_by("bindery.dev.example.com/v1", "SecretBinding", "worker", "uid-1"));
    owners.insert("kind", owned_by("bindery.dev/v1alpha1", "SecretBindings", "worker", "uid-2"));
    let mut beside = owners["map"].clone();
    beside["ownerReferences"][0]["controller"] = json!(false);
    owners.insert("beside", beside);

    let consents = json!({"annotations": {"bindery.dev/adopt-by": "worker"}});
    let mut noted = marks("worker");
    noted["annotations"]["kubectl.kubernetes.io/theirs"] = json!("old");
    for (name, metadata) in [
        ("foreign", json!({})),
        ("labelled", json!({"labels": {"bindery.dev/managed": "true"}})),
        ("consents", consents),
        ("mine", with(noted, &owners["worker"])),
        ("misnamed", with(marks("somebody-else"), &owners["worker"])),
        ("bare", owners["worker"].clone()),
        ("retained", marks("worker")),
        ("beside", with(marks("worker"), &owners["beside"])),
        ("others", with(marks("other"), &owners["other"])),
        ("others-retained", marks("other")),
        ("of-a-map", with(marks("worker"), &owners["map"])),
        ("of-a-group", with(marks("worker"), &owners["group"])),
        ("of-a-kind", with(marks("worker"), &owners["kind"])),
    ] {
        let object = json!({"metadata": with(metadata, &json!({"name": name})), "stringData": {"A": "a"}});
        world.secrets().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let metadata = with(with(marks("worker"), &owners["worker"]), &json!({"name": "published"}));
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"A": "Yg=="}});
    world.secrets().patch("published", &PatchParams::apply("bindery"), &Patch::Apply(&object)).await.unwrap();
    // Somebody removed all marks of what was applied, under the operator's name or another.
    for (name, manager, left) in [
        ("stripped", "bindery", json!(null)),
        ("stripped-others", "bindery", json!({"bindery.dev/binding": "other"})),
        ("applied", "kubectl", json!(null)),
    ] {
        let metadata = with(marks("worker"), &json!({"name": name}));
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"A": "Yg=="}});
        world.secrets().patch(name, &PatchParams::apply(manager), &Patch::Apply(&object)).await.unwrap();
        change(world, name, &json!({"metadata": {"labels": null, "annotations": null}})).await;
        change(world, name, &json!({"metadata": {"annotations": left}})).await;
    }
    // The name of the field manager alone proves nothing: a POST takes it too.
    let posted = PostParams { field_manager: Some("bindery".to_owned()), ..PostParams::default() };
    let object = serde_json::from_value(json!({"metadata": {"name": "posted"}, "stringData": {"A": "a"}})).unwrap();
    world.secrets().create(&posted, &object).await.unwrap();
    owners
}

const WITHOUT_MARKS: &str = "carry its label and name their binding";
const BY_TYPE: &str = "of a type that holds credentials";
const BY_TOOL: &str = "that Helm or Terraform takes for its own state";
const BY_KUBERNETES: &str = "no labels and annotations of Kubernetes itself";
const BY_CONTROLLER: &str = "no other controller";
const NOT_ITS_OWN: &str = "the binding's already or consent";
const BEYOND_TEMPLATES: &str = "nothing of a workload but annotations of its pod template";
const NOT_ITS_MARK: &str = "no annotations of a pod template but its own";
const JOB_OF_NOBODY: &str = "only Jobs of a SecretBinding or SecretRotation";
const BEYOND_THE_POD: &str = "uses the network, the processes or the files of its node";
const TOO_FREE: &str = "privileged or less confined";
const NOT_TO_DELETE: &str = "deletes only Secrets that it applied for a binding";

/// What the thief of a token tries to run as a Job, and the words by which it is refused.
fn refused_jobs(owners: &BTreeMap<&str, Value>) -> Vec<(Attempt, &'static str)> {
    let mut beside = owners["worker"].clone();
    beside["ownerReferences"][0]["controller"] = json!(false);
    let mut with_another = owners["worker"].clone();
    let map = owners["beside"]["ownerReferences"][0].clone();
    with_another["ownerReferences"].as_array_mut().unwrap().push(map);
    let unowned =
        [json!({}), owners["map"].clone(), owners["group"].clone(), owners["kind"].clone(), beside, with_another];
    let unowned = unowned.into_iter().map(|owner| (Attempt::Job(owner, json!({})), JOB_OF_NOBODY));
    let of_worker = |pod: Value, words| (Attempt::Job(owners["worker"].clone(), pod), words);
    let container = |fields: Value| json!([with(json!({"name": "c", "image": "example.com/c:1"}), &fields)]);
    let host_path = json!([{"name": "v", "hostPath": {"path": "/"}}]);
    let beyond = [
        json!({"hostNetwork": true}),
        json!({"hostPID": true}),
        json!({"hostIPC": true}),
        json!({"nodeName": "a-node"}),
        json!({"volumes": host_path}),
        json!({"containers": container(json!({"ports": [{"containerPort": 80, "hostPort": 80}]}))}),
    ];
    let confined = |security: Value| container(json!({"securityContext": security}));
    let too_free = [
        json!({"containers": confined(json!({"privileged": true}))}),
        json!({"initContainers": [{"name": "i", "image": "example.com/i:1", "securityContext": {"privileged": true}}]}),
        json!({"containers": confined(json!({"capabilities": {"add": ["SYS_ADMIN"]}}))}),
        json!({"containers": confined(json!({"seccompProfile": {"type": "Unconfined"}}))}),
        json!({"containers": confined(json!({"appArmorProfile": {"type": "Unconfined"}}))}),
        json!({"containers": confined(json!({"seLinuxOptions": {"type": "spc_t"}}))}),
        json!({"containers": confined(json!({"seLinuxOptions": {"user": "system_u"}}))}),
        json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
        json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
        json!({"securityContext": {"seLinuxOptions": {"role": "x"}}}),
        json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
    ];
    let beyond = beyond.into_iter().map(|pod| of_worker(pod, BEYOND_THE_POD));
    unowned.chain(beyond).chain(too_free.into_iter().map(|pod| of_worker(pod, TOO_FREE))).collect()
}

/// What the thief of a token tries with somebody's workloads, and the words by which it is refused.
fn refused_of_workloads() -> Vec<(Attempt, &'static str)> {
    use Attempt::Workload;
    let of_pods = |metadata: Value, spec: Value| json!({"spec": {"template": {"metadata": metadata, "spec": spec}}});
    let container = |fields: Value| {
        of_pods(json!({}), json!({"containers": [with(json!({"name": "c", "image": "example.com/c:1"}), &fields)]}))
    };
    let beyond: Vec<(&'static str, Value)> = vec![
        ("Deployment", container(json!({"image": "example.com/evil:1"}))),
        ("Deployment", container(json!({"command": ["sh"]}))),
        ("Deployment", of_pods(json!({}), json!({"serviceAccountName": "admin"}))),
        ("Deployment", of_pods(json!({}), json!({"hostPID": true}))),
        ("Deployment", of_pods(json!({"labels": {"more": "x"}}), json!({}))),
        ("Deployment", of_pods(json!({"annotations": {"secrets.bindery.dev/env": "x"}}), json!({"hostNetwork": true}))),
        ("Deployment", json!({"spec": {"replicas": 5}})),
        ("Deployment", json!({"spec": {"paused": true}})),
        ("Deployment", json!({"spec": {"minReadySeconds": 5}})),
        ("Deployment", json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}})),
        ("Deployment", json!({"metadata": {"labels": {"more": "x"}}})),
        ("Deployment", json!({"metadata": {"annotations": {"more": "x"}}})),
        ("Deployment", json!({"metadata": {"finalizers": ["example.com/x"]}})),
        ("StatefulSet", container(json!({"image": "example.com/evil:1"}))),
        ("StatefulSet", json!({"spec": {"replicas": 5}})),
        ("StatefulSet", json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}})),
        ("DaemonSet", container(json!({"image": "example.com/evil:1"}))),
        ("DaemonSet", json!({"spec": {"minReadySeconds": 5}})),
        ("Rollout", container(json!({"image": "example.com/evil:1"}))),
        ("Rollout", json!({"spec": {"analysis": {"x": 1}}})),
        ("Rollout", json!({"spec": {"template": {"spec": null}}})),
    ];
    let foreign = |kind| {
        (Workload(kind, of_pods(json!({"annotations": {"example.com/inject": "true"}}), json!({}))), NOT_ITS_MARK)
    };
    let removed = Workload("Deployment", of_pods(json!({"annotations": {"example.com/theirs": null}}), json!({})));
    let mut refused: Vec<(Attempt, &'static str)> =
        beyond.into_iter().map(|(kind, change)| (Workload(kind, change), BEYOND_TEMPLATES)).collect();
    refused.extend([foreign("Deployment"), foreign("StatefulSet"), foreign("DaemonSet"), foreign("Rollout")]);
    refused.push((removed, NOT_ITS_MARK));
    refused
}

/// What the thief of a token tries in a namespace of somebody else, and the words by which it is refused.
fn refused_attempts(owners: &BTreeMap<&str, Value>) -> Vec<(Attempt, &'static str)> {
    use Attempt::{Apply, Change, Create, Delete, Token};
    let new = |metadata: Value| with(metadata, &json!({"name": "new"}));
    let for_account = json!({"bindery.dev/binding": "worker", "kubernetes.io/service-account.name": "default"});
    let mut account = new(marks("worker"));
    account["annotations"] = for_account;
    let typed = |type_: &str| json!({"type": type_});
    let tool = |name: &str, value: &str| json!({"labels": {"bindery.dev/managed": "true", name: value}});
    let mut refused = refused_of_workloads();
    refused.extend(refused_jobs(owners));
    let token = |audiences: Value, seconds: Value| json!({"audiences": audiences, "expirationSeconds": seconds});
    refused.extend([
        (Create(new(json!({})), json!({})), WITHOUT_MARKS),
        (Create(new(json!({"labels": marks("worker")["labels"]})), json!({})), WITHOUT_MARKS),
        (Create(new(json!({"annotations": marks("worker")["annotations"]})), json!({})), WITHOUT_MARKS),
        (
            Create(new(with(marks("worker"), &json!({"labels": {"bindery.dev/managed": "false"}}))), json!({})),
            WITHOUT_MARKS,
        ),
        (Create(new(marks("")), json!({})), WITHOUT_MARKS),
        (Create(json!({"name": "bindery-fingerprint-key"}), json!({"stringData": {"key": "k"}})), WITHOUT_MARKS),
        (Create(account, typed("kubernetes.io/service-account-token")), BY_TYPE),
        (Create(new(marks("worker")), typed("bootstrap.kubernetes.io/token")), BY_TYPE),
        (Create(new(marks("worker")), typed("helm.sh/release.v1")), BY_TYPE),
        (Create(with(marks("worker"), &json!({"name": "sh.helm.release.v1.web.v3"})), json!({})), BY_TOOL),
        (Create(with(marks("worker"), &json!({"name": "tfstate-default-web"})), json!({})), BY_TOOL),
        (Create(new(with(marks("worker"), &tool("owner", "helm"))), json!({})), BY_TOOL),
        (Create(new(with(marks("worker"), &tool("tfstate", "true"))), json!({})), BY_TOOL),
        (Create(new(with(marks("worker"), &tool("x.k8s.io/y", "z"))), json!({})), BY_KUBERNETES),
        (Change("mine", json!({"metadata": {"labels": {"node.kubernetes.io/x": "y"}}})), BY_KUBERNETES),
        (Change("mine", json!({"metadata": {"annotations": {"kubernetes.io/x": "y"}}})), BY_KUBERNETES),
        (Change("mine", json!({"metadata": {"annotations": {"kubectl.kubernetes.io/theirs": "new"}}})), BY_KUBERNETES),
        (Create(new(with(marks("worker"), &owners["map"])), json!({})), BY_CONTROLLER),
        (Create(new(with(marks("worker"), &owners["group"])), json!({})), BY_CONTROLLER),
        (Create(new(with(marks("worker"), &owners["kind"])), json!({})), BY_CONTROLLER),
        (Create(new(with(marks("worker"), &owners["other"])), json!({})), BY_CONTROLLER),
        // Somebody's Secret, as it is, or with marks that make it look like one's own.
        (Change("foreign", json!({"stringData": {"A": "b"}})), WITHOUT_MARKS),
        (Change("foreign", json!({"metadata": marks("worker")})), NOT_ITS_OWN),
        (Apply("foreign", marks("worker")), NOT_ITS_OWN),
        (Apply("foreign", with(marks("worker"), &owners["worker"])), NOT_ITS_OWN),
        (
            Apply(
                "foreign",
                with(
                    marks("worker"),
                    &json!({"annotations": {"bindery.dev/binding": "worker", "bindery.dev/adopt-by": "worker"}}),
                ),
            ),
            NOT_ITS_OWN,
        ),
        (Apply("labelled", marks("worker")), NOT_ITS_OWN),
        (Apply("posted", marks("worker")), NOT_ITS_OWN),
        (Apply("applied", marks("worker")), NOT_ITS_OWN),
        (Apply("stripped-others", marks("worker")), NOT_ITS_OWN),
        (Apply("consents", marks("other")), NOT_ITS_OWN),
        (Change("others", json!({"metadata": with(marks("worker"), &owners["worker"])})), NOT_ITS_OWN),
        (Apply("others-retained", marks("worker")), NOT_ITS_OWN),
        (Change("of-a-map", json!({"metadata": {"ownerReferences": null}})), NOT_ITS_OWN),
        (Change("of-a-group", json!({"metadata": owners["worker"]})), NOT_ITS_OWN),
        (Change("of-a-kind", json!({"metadata": owners["worker"]})), NOT_ITS_OWN),
        // One's own Secret, into somebody's.
        (Change("mine", json!({"metadata": {"labels": null}})), WITHOUT_MARKS),
        (Change("mine", json!({"metadata": {"annotations": null}})), WITHOUT_MARKS),
        (Change("mine", json!({"metadata": unmarked()})), WITHOUT_MARKS),
        (Change("published", json!({"metadata": unmarked(), "stringData": {"A": "forged"}})), WITHOUT_MARKS),
        (Change("published", json!({"metadata": unmarked(), "stringData": {"NEW": "forged"}})), WITHOUT_MARKS),
        (Change("mine", json!({"metadata": owners["map"]})), BY_CONTROLLER),
        (Change("mine", json!({"metadata": with(marks("other"), &owners["other"])})), NOT_ITS_OWN),
        (Delete("foreign"), NOT_TO_DELETE),
        (Delete("labelled"), NOT_TO_DELETE),
        (Delete("consents"), NOT_TO_DELETE),
        (Delete("posted"), NOT_TO_DELETE),
        (Delete("applied"), NOT_TO_DELETE),
        // Marks that anybody can copy.
        (Delete("mine"), NOT_TO_DELETE),
        (Delete("misnamed"), NOT_TO_DELETE),
        (Delete("bare"), NOT_TO_DELETE),
        (Delete("retained"), NOT_TO_DELETE),
        (Delete("beside"), NOT_TO_DELETE),
        (Delete("of-a-map"), NOT_TO_DELETE),
        (Delete("of-a-group"), NOT_TO_DELETE),
        (Delete("of-a-kind"), NOT_TO_DELETE),
        (Token(token(json!([]), json!(600))), "for AWS STS alone"),
        (Token(token(json!(["https://kubernetes.default.svc.cluster.local"]), json!(600))), "for AWS STS alone"),
        (Token(token(json!(["sts.amazonaws.com", "vault"]), json!(600))), "for AWS STS alone"),
        (Token(token(json!(["sts.amazonaws.com"]), json!(3600))), "of ten minutes"),
        (Token(token(json!(["sts.amazonaws.com"]), json!(null))), "of ten minutes"),
    ]);
    refused
}

/// The metadata of a Secret that Bindery gives back.
fn unmarked() -> Value {
    json!({"labels": null, "annotations": null, "ownerReferences": null})
}

/// What the operator does.
fn passed_attempts(owners: &BTreeMap<&str, Value>) -> Vec<Attempt> {
    use Attempt::{Apply, Change, Create, Delete, Job, Token, Workload};
    let of_rotation = owned_by("bindery.dev/v1alpha1", "SecretRotation", "session", "uid-3");
    let careful = json!({
        "serviceAccountName": "renew",
        "initContainers": [{"name": "i", "image": "example.com/i:1"}],
        "containers": [{"name": "c", "image": "example.com/c:1", "ports": [{"containerPort": 80}], "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            "seccompProfile": {"type": "RuntimeDefault"}, "seLinuxOptions": {"type": "container_t"},
        }}],
        "securityContext": {"runAsNonRoot": true, "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]},
        "volumes": [{"name": "s", "secret": {"secretName": "env"}}, {"name": "e", "emptyDir": {}}],
    });
    let mine = with(marks("worker"), &owners["worker"]);
    let marked = |kind| {
        Workload(kind, json!({"spec": {"template": {"metadata": {"annotations": {"secrets.bindery.dev/env": "x"}}}}}))
    };
    vec![
        Job(owners["worker"].clone(), json!({})),
        Job(owners["worker"].clone(), careful),
        Job(of_rotation, json!({})),
        marked("Deployment"),
        marked("StatefulSet"),
        marked("DaemonSet"),
        marked("Rollout"),
        Apply("new", mine.clone()),
        Apply("new", marks("worker")),
        Create(with(mine.clone(), &json!({"name": "tls"})), json!({"type": "example.com/other"})),
        Apply("mine", mine.clone()),
        Change(
            "mine",
            json!({"metadata": {"labels": {"app.kubernetes.io/name": "x", "team": "y", "example.com/z": "z"}}}),
        ),
        // What Kubernetes or kubectl set stays, and may go.
        Change("mine", json!({"stringData": {"A": "b"}})),
        Change("mine", json!({"metadata": {"annotations": {"kubectl.kubernetes.io/theirs": null}}})),
        Change("mine", json!({"metadata": {"ownerReferences": null}})),
        Apply("misnamed", mine.clone()),
        Apply("bare", mine.clone()),
        Apply("retained", marks("worker")),
        Apply("retained", mine.clone()),
        Apply("stripped", marks("worker")),
        Apply("stripped", mine.clone()),
        // An owner that is no controller is none of the fence's business.
        Apply("new", with(mine, &owners["beside"])),
        Apply("beside", marks("worker")),
        Apply("consents", marks("worker")),
        // What others use too is given back.
        Change("published", json!({"metadata": unmarked()})),
        Change("published", json!({"metadata": unmarked(), "data": null})),
        Delete("published"),
        Delete("stripped"),
        Token(json!({"audiences": ["sts.amazonaws.com"], "expirationSeconds": 600})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_the_operators_token_can_do_what_the_operator_does_and_nobody_else_is_fenced_in() {
    let (home, world) = (World::without_grant("fence-home").await, World::without_grant("fence-table").await);
    let installation = Installation::fenced(&home).await;
    let operator = installation.client("bindery").await;
    let owners = furnish(&world).await;
    workloads::install_argo_rollouts(&world.client).await;
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "Rollout"] {
        let mut object = workloads::manifest(kind, "web", &json!({}));
        object["spec"]["template"]["metadata"]["annotations"] = json!({"example.com/theirs": "x"});
        workloads::apply(&world, "test", &object).await;
    }

    // Somebody with the same rights, but for the verb by which the policies know the operator.
    let accounts: Api<ServiceAccount> = Api::namespaced(home.client.clone(), &home.namespace);
    apply(&accounts, "neighbour", "v1", json!({})).await;
    let neighbours = format!("{}-neighbour", home.namespace);
    let rights = objects(overlay())
        .iter()
        .filter(|object| object["kind"] == "ClusterRole")
        .flat_map(single_rules)
        .collect::<Vec<_>>();
    let rules: Vec<Value> =
        rights.into_iter().filter(|(right, _)| right.resource != INSTALLATIONS).map(|(_, rule)| rule).collect();
    apply(&Api::<ClusterRole>::all(home.client.clone()), &neighbours, RBAC, json!({"rules": rules})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": neighbours});
    let subjects = json!([{"kind": "ServiceAccount", "name": "neighbour", "namespace": home.namespace}]);
    let roles: Api<ClusterRoleBinding> = Api::all(home.client.clone());
    apply(&roles, &neighbours, RBAC, json!({"roleRef": role, "subjects": subjects})).await;
    let neighbour = installation.client("neighbour").await;

    // The policies take hold one after the other.
    eventually("all policies to stand", Duration::from_secs(60), || async {
        for (what, _) in &refused_attempts(&owners) {
            attempt(&operator, &world.namespace, what).await.err()?;
        }
        Some(())
    })
    .await;
    let mut wrong = Vec::new();
    for (number, (what, words)) in refused_attempts(&owners).iter().enumerate() {
        match attempt(&operator, &world.namespace, what).await {
            Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains(words) => {}
            other => wrong.push(format!("refused[{number}] by the operator: {other:?}, wanted {words:?}")),
        }
        // Neither RBAC nor the API server refuses it: it is the fence that does.
        if let Err(error) = attempt(&neighbour, &world.namespace, what).await {
            wrong.push(format!("refused[{number}] by somebody else: {error}"));
        }
    }
    for (number, what) in passed_attempts(&owners).iter().enumerate() {
        if let Err(error) = attempt(&operator, &world.namespace, what).await {
            wrong.push(format!("passed[{number}] by the operator: {error}"));
        }
    }
    // The operator's own key: made once, in its own namespace, and then neither changed, marked nor deleted.
    let key = json!({"metadata": {"name": "bindery-fingerprint-key"}, "stringData": {"key": "k"}});
    let own: Api<Secret> = Api::namespaced(operator.clone(), &home.namespace);
    own.create(&PostParams::default(), &serde_json::from_value(key).unwrap()).await.unwrap();
    for (number, what) in [
        Attempt::Change("bindery-fingerprint-key", json!({"stringData": {"key": "x"}})),
        Attempt::Change("bindery-fingerprint-key", json!({"metadata": marks("worker")})),
        Attempt::Apply("bindery-fingerprint-key", marks("worker")),
        Attempt::Delete("bindery-fingerprint-key"),
        Attempt::Create(json!({"name": "another-fingerprint-key"}), json!({})),
    ]
    .iter()
    .enumerate()
    {
        if !matches!(attempt(&operator, &home.namespace, what).await, Err(kube::Error::Api(status)) if status.code == 403)
        {
            wrong.push(format!("key[{number}] is not refused"));
        }
    }
    wrong.extend(jobs_elsewhere(&home.client, &operator, &owners).await);
    assert_eq!(wrong, Vec::<String>::new());

    // The API server finds no mistake of type in the expressions.
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(home.client.clone());
    for policy in ["secrets", "tokens", "workloads", "jobs"] {
        let name = format!("{}-{policy}", home.namespace);
        let checked = eventually("the check of types", Duration::from_secs(60), || async {
            policies.get(&name).await.unwrap().status.filter(|status| status.observed_generation.is_some())
        })
        .await;
        let warnings = checked.type_checking.and_then(|checking| checking.expression_warnings).unwrap_or_default();
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    roles.delete(&neighbours, &DeleteParams::default()).await.unwrap();
    Api::<ClusterRole>::all(home.client.clone()).delete(&neighbours, &DeleteParams::default()).await.unwrap();
    installation.end().await;
    world.end_without_records().await;
    home.end_without_records().await;
}

/// The entry of Bindery's field manager, as anybody can write it into the managed fields of what he may change.
fn forged_entry() -> Value {
    let fields = json!({"f:data": {"f:A": {}}});
    json!({"metadata": {"managedFields": [{"manager": "bindery", "operation": "Apply", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forges_the_entry_of_bindery_gains_nothing_beyond_what_he_may_do_himself() {
    let (home, world) = (World::without_grant("forge-home").await, World::without_grant("forge").await);
    let installation = Installation::fenced(&home).await;
    let operator = installation.client("bindery").await;
    // Somebody who may change Secrets in one namespace, and delete none.
    let accounts: Api<ServiceAccount> = Api::namespaced(home.client.clone(), &home.namespace);
    apply(&accounts, "editor", "v1", json!({})).await;
    let verbs = json!(["get", "create", "update", "patch"]);
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}]);
    let namespaced = |namespace: &str| -> Api<Role> { Api::namespaced(home.client.clone(), namespace) };
    apply(&namespaced(&world.namespace), "editor", RBAC, json!({"rules": rules})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "editor"});
    let subjects = json!([{"kind": "ServiceAccount", "name": "editor", "namespace": home.namespace}]);
    let roles: Api<RoleBinding> = Api::namespaced(home.client.clone(), &world.namespace);
    apply(&roles, "editor", RBAC, json!({"roleRef": role, "subjects": subjects})).await;
    let editor = installation.client("editor").await;
    let make = async |of: &World, name: &str| {
        let object = json!({"metadata": {"name": name}, "stringData": {"A": "a"}});
        of.secrets().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    };
    for name in ["forged", "left", "collected"] {
        make(&world, name).await;
    }
    let elsewhere = make(&home, "elsewhere").await;
    let refused =
        |result: Result<(), kube::Error>| matches!(result, Err(kube::Error::Api(status)) if status.code == 403);
    let forge = |name: &'static str| Attempt::Change(name, forged_entry());

    // Where he may not write he cannot forge it, nor can the thief of the operator's token, anywhere.
    assert!(refused(attempt(&editor, &home.namespace, &forge("elsewhere")).await));
    assert!(refused(attempt(&operator, &home.namespace, &forge("elsewhere")).await));
    assert!(refused(attempt(&operator, &world.namespace, &forge("left")).await));
    // What he forges it on, a thief of the token may change and delete then, and nothing else.
    let secrets: Api<Secret> = Api::namespaced(editor.clone(), &world.namespace);
    secrets.patch("forged", &PatchParams::default(), &Patch::Merge(&forged_entry())).await.unwrap();
    attempt(&operator, &world.namespace, &Attempt::Delete("forged")).await.unwrap();
    for name in ["left", "collected"] {
        assert!(refused(attempt(&operator, &world.namespace, &Attempt::Delete(name)).await), "{name}");
        assert!(refused(attempt(&operator, &world.namespace, &Attempt::Apply(name, marks("worker"))).await), "{name}");
    }
    assert!(refused(attempt(&operator, &home.namespace, &Attempt::Delete("elsewhere")).await));
    // That is no more than he may do himself: he may not delete, but Kubernetes does it for who may change.
    assert!(refused(attempt(&editor, &world.namespace, &Attempt::Delete("collected")).await));
    let of_nobody = json!({"metadata": owned_by("v1", "ConfigMap", "nobody", "00000000-0000-0000-0000-000000000000")});
    secrets.patch("collected", &PatchParams::default(), &Patch::Merge(&of_nobody)).await.unwrap();
    eventually("Kubernetes to delete it", Duration::from_secs(60), || async {
        world.secrets().get_opt("collected").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(home.secrets().get("elsewhere").await.unwrap(), elsewhere);
    installation.end().await;
    world.end_without_records().await;
    home.end_without_records().await;
}

/// Tries to run a Job in a namespace that does not consent, and in one of Kubernetes itself that does.
async fn jobs_elsewhere(admin: &Client, operator: &Client, owners: &BTreeMap<&str, Value>) -> Vec<String> {
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let consent = |word: Value| Patch::Merge(json!({"metadata": {"annotations": {"bindery.dev/run": word}}}));
    let set = |name: &'static str, word: Value| {
        let (namespaces, consent) = (namespaces.clone(), consent(word));
        async move { namespaces.patch(name, &PatchParams::default(), &consent).await.unwrap() }
    };
    let job = Attempt::Job(owners["worker"].clone(), json!({}));
    let mut wrong = Vec::new();
    for (namespace, word) in [
        ("default", json!(null)),
        ("default", json!("true")),
        ("kube-system", json!("allowed")),
        ("kube-public", json!("allowed")),
    ] {
        set(namespace, word.clone()).await;
        // What the policy knows of the namespace may lag a little, and must not be the old word by chance.
        sleep(Duration::from_secs(1)).await;
        let refused = attempt(operator, namespace, &job).await;
        set(namespace, json!(null)).await;
        let words = "only in namespaces that are annotated";
        if !matches!(&refused, Err(kube::Error::Api(status)) if status.message.contains(words)) {
            wrong.push(format!("a Job in {namespace} annotated with {word}: {refused:?}"));
        }
    }
    wrong
}

fn payload(number: u32) -> Value {
    json!({"A": format!("{CANARY}-{number}-value-a"), "B": format!("{CANARY}-{number}-value-b")})
}

/// A ServiceAccount with a role in AWS.
fn reader() -> ServiceAccount {
    let role = json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/reader"});
    serde_json::from_value(json!({"metadata": {"name": "reader", "annotations": role}})).unwrap()
}

async fn change(world: &World, secret: &str, change: &Value) {
    world.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

/// What of a Secret a repair puts right.
fn shown(secret: Secret) -> impl PartialEq {
    let metadata = secret.metadata;
    (secret.data, metadata.labels, metadata.annotations, metadata.owner_references)
}

/// Changes a Secret, or deletes it, and waits until it is as it was.
async fn repaired(world: &World, secret: &str, damage: Option<Value>) {
    let before = shown(world.secrets().get(secret).await.unwrap());
    match &damage {
        Some(damage) => change(world, secret, damage).await,
        None => drop(world.secrets().delete(secret, &DeleteParams::default()).await.unwrap()),
    }
    let what = format!("the repair of {secret} after {damage:?}");
    eventually(&what, Duration::from_secs(60), || async {
        let now = world.secrets().get_opt(secret).await.unwrap()?;
        (shown(now) == before).then_some(())
    })
    .await;
}

/// The calls of one user by the API server's audit log that were refused; `None` where there is no such log.
fn refused_calls(user: &str) -> Option<BTreeSet<String>> {
    std::env::var_os("BINDERY_TEST_CLUSTER")?;
    let refused = support::release::calls_of(user).into_iter().filter(|call| call.code == 403);
    Some(refused.map(|call| call.what).collect())
}

/// Every way in which a Secret of the bindings `owned` and `retained` can be damaged, at most four times for one of them.
async fn repairs(world: &World) {
    let annotations = |value: Value| json!({"metadata": {"annotations": {"bindery.dev/binding": value}}});
    let unlabelled = json!({"metadata": {"labels": {"bindery.dev/managed": null}}});
    let unmarked = json!({"metadata": {"labels": null, "annotations": null}});
    for name in ["owned", "retained"] {
        repaired(world, name, None).await;
        repaired(world, name, Some(json!({"stringData": {"A": "edited"}}))).await;
        repaired(world, name, Some(unlabelled.clone())).await;
        repaired(world, name, Some(annotations(json!(null)))).await;
    }
    repaired(world, "owned2", Some(annotations(json!("somebody-else")))).await;
    repaired(world, "owned2", Some(json!({"metadata": {"ownerReferences": null}}))).await;
    repaired(world, "owned2", Some(unmarked.clone())).await;
    let nameless = json!({"metadata": {"labels": null, "annotations": null, "ownerReferences": null}});
    repaired(world, "owned2", Some(nameless)).await;
    repaired(world, "retained2", Some(unmarked)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_does_all_its_work_inside_the_fence() {
    let (home, world) = (World::without_grant("inside-home").await, World::new("inside").await);
    world.put("app", &payload(1)).await;
    let installation = Installation::fenced(&home).await;
    let mut operator = Operator::start(installation.setup(&world));
    let source = json!([{"secret": world.secret_id("app")}]);
    let own = &world.namespace;
    let spec = |target: Value| json!({"grant": own, "refreshInterval": "10s", "dataFrom": source, "target": target});

    // Publish and rotate.
    for (name, policy) in [("owned", "Delete"), ("owned2", "Delete"), ("retained", "Retain"), ("retained2", "Retain")] {
        world.bind(name, spec(json!({"deletionPolicy": policy}))).await;
    }
    for name in ["owned", "owned2", "retained", "retained2"] {
        world.wait_ready(name).await;
    }
    world.put("app", &payload(2)).await;
    for name in ["owned", "owned2", "retained", "retained2"] {
        world.wait_value(name, "A", payload(2)["A"].as_str().unwrap()).await;
    }

    repairs(&world).await;

    // From Delete to Retain and back.
    for (policy, owners) in [("Retain", 0), ("Delete", 1)] {
        world.bind("owned", spec(json!({"deletionPolicy": policy}))).await;
        eventually("the owner reference to follow", Duration::from_secs(60), || async {
            let secret = world.secrets().get("owned").await.unwrap();
            (secret.metadata.owner_references.unwrap_or_default().len() == owners).then_some(())
        })
        .await;
    }

    // Rename: the old Secret is deleted.
    world.bind("owned", spec(json!({"name": "renamed"}))).await;
    eventually("the Secret of the earlier name to go", Duration::from_secs(60), || async {
        world.data("owned").await.is_none().then_some(())
    })
    .await;
    assert!(world.data("renamed").await.is_some());

    // Adopt, with consent only.
    let theirs = json!({"metadata": {"name": "theirs"}, "stringData": {"A": "by hand", "EXTRA": "mine"}});
    world.secrets().create(&PostParams::default(), &serde_json::from_value(theirs).unwrap()).await.unwrap();
    world.bind("adopter", spec(json!({"name": "theirs", "adopt": true, "deletionPolicy": "Retain"}))).await;
    world.wait("adopter", "Applied", "False/TargetConflict").await;
    change(&world, "theirs", &json!({"metadata": {"annotations": {"bindery.dev/adopt-by": "adopter"}}})).await;
    world.wait_ready("adopter").await;
    assert_eq!(world.data("theirs").await.unwrap()["EXTRA"], "mine");

    // Read as a ServiceAccount, and through a grant whose end deletes, marks or not.
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    accounts.create(&PostParams::default(), &reader()).await.unwrap();
    let [by_account, ending] = ["account", "ending"].map(|name| format!("{}-{name}", world.namespace));
    let granted = |aws: Value, more: Value| {
        let secrets = json!([{"name": world.secret_id("*")}]);
        with(json!({"namespaces": {"names": [own]}, "secrets": secrets, "aws": aws}), &more)
    };
    let aws = json!({"region": "eu-west-1", "accountId": "123456789012", "serviceAccountName": "reader"});
    world.grant_with(&by_account, granted(aws, json!({}))).await;
    let mut through = spec(json!({}));
    through["grant"] = json!(by_account);
    world.bind("by-account", through.clone()).await;
    world.wait_ready("by-account").await;
    let end = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(8);
    let end = json!({"expiresAt": end.to_string(), "reason": "INC-4711", "onExpiry": "Delete"});
    world.grant_with(&ending, granted(json!({"region": "eu-west-1"}), end)).await;
    through["grant"] = json!(ending);
    world.bind("ends", through.clone()).await;
    through["target"] = json!({"deletionPolicy": "Retain"});
    world.bind("ends-retained", through).await;
    for name in ["ends", "ends-retained"] {
        world.wait_ready(name).await;
    }
    for name in ["ends", "ends-retained"] {
        eventually("the Secret to go with its grant", Duration::from_secs(60), || async {
            world.data(name).await.is_none().then_some(())
        })
        .await;
    }

    // A second start finds key and lease, and what is published needs no write.
    let before = world.secrets().get("renamed").await.unwrap();
    assert_eq!(operator.terminate().await, Some(0));
    operator.restart();
    world.put("app", &payload(3)).await;
    for name in ["renamed", "owned2", "retained", "retained2", "theirs", "by-account"] {
        world.wait_value(name, "B", payload(3)["B"].as_str().unwrap()).await;
    }
    assert_eq!(world.secrets().get("renamed").await.unwrap().metadata.uid, before.metadata.uid);
    let user = format!("system:serviceaccount:{}:bindery", home.namespace);
    if let Some(refused) = refused_calls(&user) {
        assert_eq!(refused, BTreeSet::new(), "calls that were refused");
    }
    let log = read_log(&world.folder, "operator.log");
    assert!(!log.contains("AdmissionDenied"), "the fence refused a write");
    drop(operator);
    for grant in [&by_account, &ending] {
        world.delete_grant(grant).await;
    }
    installation.end().await;
    world.end_without_records().await;
    home.end_without_records().await;
}

/// What the operator owes its users, by a name for each.
const PUBLISH: &str = "publish";
const HEAR_OF_BINDINGS: &str = "hear of a new binding";
const HEAR_OF_GRANTS: &str = "hear of a new grant";
const HEAR_OF_LABELS: &str = "hear of a new label of the namespace";
const REPAIR: &str = "put back a deleted Secret";
const RUN: &str = "run a Job when a rule is due";
const CLEAN_UP: &str = "delete the Secret of an earlier name";
const RESTART: &str = "restart a workload of each kind";
const IMPERSONATE: &str = "read as a ServiceAccount";
const TELL: &str = "publish an Event";
const COUNT: &str = "count the bindings of a grant";
const RENEW: &str = "renew the lease";

/// Which duty is not done where a right is missing.
const NEEDED: [(&str, &str, &str, &str); 42] = [
    ("list", "bindery.dev", "secretgrants", PUBLISH),
    ("watch", "bindery.dev", "secretgrants", HEAR_OF_GRANTS),
    ("patch", "bindery.dev", "secretgrants/status", COUNT),
    ("list", "", "namespaces", HEAR_OF_LABELS),
    ("watch", "", "namespaces", HEAR_OF_LABELS),
    ("list", "bindery.dev", "secretbindings", PUBLISH),
    ("watch", "bindery.dev", "secretbindings", HEAR_OF_BINDINGS),
    ("patch", "bindery.dev", "secretbindings/status", PUBLISH),
    ("get", "", "secrets", PUBLISH),
    ("list", "", "secrets", REPAIR),
    ("watch", "", "secrets", REPAIR),
    ("create", "", "secrets", PUBLISH),
    ("patch", "", "secrets", PUBLISH),
    ("delete", "", "secrets", CLEAN_UP),
    ("list", "", "pods", CLEAN_UP),
    ("list", "apps", "daemonsets", CLEAN_UP),
    ("list", "apps", "deployments", CLEAN_UP),
    ("list", "apps", "statefulsets", CLEAN_UP),
    ("patch", "apps", "daemonsets", RESTART),
    ("patch", "apps", "deployments", RESTART),
    ("patch", "apps", "statefulsets", RESTART),
    ("list", "argoproj.io", "rollouts", RESTART),
    ("patch", "argoproj.io", "rollouts", RESTART),
    ("list", "batch", "cronjobs", CLEAN_UP),
    ("list", "batch", "jobs", CLEAN_UP),
    ("list", "", "podtemplates", CLEAN_UP),
    ("list", "", "replicationcontrollers", CLEAN_UP),
    ("list", "", "serviceaccounts", CLEAN_UP),
    ("list", "", "persistentvolumes", CLEAN_UP),
    ("list", "apps", "replicasets", CLEAN_UP),
    ("list", "networking.k8s.io", "ingresses", CLEAN_UP),
    ("list", "gateway.networking.k8s.io", "gateways", CLEAN_UP),
    ("list", "gateway.networking.k8s.io", "referencegrants", CLEAN_UP),
    ("get", "batch", "cronjobs", RUN),
    ("get", "batch", "jobs", RUN),
    ("create", "batch", "jobs", RUN),
    ("get", "", "serviceaccounts", IMPERSONATE),
    ("create", "", "serviceaccounts/token", IMPERSONATE),
    ("create", "events.k8s.io", "events", TELL),
    ("get", "coordination.k8s.io", "leases", PUBLISH),
    ("update", "coordination.k8s.io", "leases", RENEW),
    ("create", "coordination.k8s.io", "leases", PUBLISH),
];

/// How long an operator has that cannot do one of its duties. Grants are counted every ten seconds; no clock of a
/// binding strikes in this time.
const PATIENCE: Duration = Duration::from_secs(25);

/// Looks until something is so.
async fn until<F: Future<Output = bool>>(mut look: impl FnMut() -> F) {
    while !look().await {
        sleep(Duration::from_millis(200)).await;
    }
}

/// Makes a CronJob, and a binding with a rule that has it run now.
async fn run_a_job_of(world: &World, grant: &str, source: &Value) {
    let cron_job = json!({
        "metadata": {"name": "renew", "annotations": {"bindery.dev/run": "allowed"}},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "example.com/c"}],
        }}}}},
    });
    let cron_jobs: Api<CronJob> = Api::namespaced(world.client.clone(), &world.namespace);
    cron_jobs.create(&PostParams::default(), &serde_json::from_value(cron_job).unwrap()).await.unwrap();
    let key = payload(1).as_object().unwrap().keys().next().unwrap().clone();
    let rule =
        json!({"name": "key", "keys": [key], "every": "90d", "action": "RunJob", "runJob": {"cronJob": "renew"}});
    world.bind("jobs", json!({"grant": grant, "dataFrom": source, "rotation": [rule]})).await;
    world.annotate("jobs", "bindery.dev/rotation", "emergency-key").await;
}

/// Gives an operator every duty once, and answers which of them it has not done when the time is over.
async fn undone(
    world: &World,
    setup: Setup,
    by_label: &str,
    restarts: bool,
    end: impl Future<Output = ()> + Send,
) -> BTreeSet<&'static str> {
    world.put("app", &payload(1)).await;
    let source = json!([{"secret": world.secret_id("app")}]);
    let spec = |grant: &str, target: &str| json!({"grant": grant, "dataFrom": source, "target": {"name": target}});
    let own = world.namespace.as_str();
    let [by_account, late, by_jobs] = ["account", "late", "jobs"].map(|name| format!("{own}-{name}"));
    let secrets = json!([{"name": "{namespace}/*"}]);
    let granted = |namespaces: Value, aws: Value| json!({"namespaces": namespaces, "secrets": secrets, "aws": aws});
    let region = json!({"region": "eu-west-1"});
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), own);
    accounts.create(&PostParams::default(), &reader()).await.unwrap();
    let aws = json!({"region": "eu-west-1", "accountId": "123456789012", "serviceAccountName": "reader"});
    world.grant_with(&by_account, granted(json!({"names": [own]}), aws)).await;
    let granted_jobs = json!([{"action": "RunJob", "secrets": ["{namespace}/*"], "keys": ["*"]}]);
    let spec_of_jobs = with(granted(json!({"names": [own]}), region.clone()), &json!({"rotation": granted_jobs}));
    world.grant_with(&by_jobs, spec_of_jobs).await;
    run_a_job_of(world, &by_jobs, &source).await;
    for (name, grant) in [
        ("early", own),
        ("lost", own),
        ("moved", own),
        ("labelled", by_label),
        ("account", &by_account),
        ("granted", &late),
    ] {
        world.bind(name, spec(grant, name)).await;
    }
    world.put("restarted", &payload(1)).await;
    let restarted = json!([{"secret": world.secret_id("restarted")}]);
    let restarted = json!({"grant": own, "dataFrom": restarted, "restart": {"policy": "Consumers"}});
    if restarts {
        world.bind("restarted", restarted).await;
    }
    let operator = Operator::start(setup);

    let ready = |name: &'static str| async move {
        world.condition(name, "Ready").await.is_some_and(|(state, _)| state == "True/Published")
    };
    let there = |name: &'static str| async move { world.data(name).await.is_some() };
    let publish = until(|| ready("early"));
    // First of all, since the passes that grants and labels start would find the loss too.
    let (lost, told) = tokio::sync::watch::channel(false);
    let repair = async move {
        until(|| ready("lost")).await;
        sleep(Duration::from_secs(2)).await;
        world.secrets().delete("lost", &DeleteParams::default()).await.unwrap();
        let _ = timeout(Duration::from_secs(8), until(|| there("lost"))).await;
        let repaired = there("lost").await;
        lost.send_replace(true);
        if !repaired {
            std::future::pending::<()>().await;
        }
    };
    let stirred = async {
        told.clone().wait_for(|lost| *lost).await.unwrap();
        world.bind("new", spec(own, "new")).await;
        world.grant_with(&late, granted(json!({"names": [own]}), region.clone())).await;
        let label = json!({"metadata": {"labels": {"team": by_label}}});
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        namespaces.patch(own, &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    };
    let stirred = stirred.boxed().shared();
    let hear_of = |name: &'static str| {
        let stirred = stirred.clone();
        async move {
            stirred.await;
            until(|| ready(name)).await;
        }
    };
    let clean_up = async {
        until(|| there("moved")).await;
        world.bind("moved", spec(own, "moved2")).await;
        until(|| async { there("moved2").await && !there("moved").await }).await;
    };
    let restart = async {
        if !restarts {
            return;
        }
        until(|| ready("restarted")).await;
        workloads::one_of_each(world, "restarted").await;
        world.put("restarted", &payload(2)).await;
        world.annotate("restarted", "bindery.dev/sync", "2").await;
        until(|| workloads::all_marked(world, "restarted")).await;
    };
    let impersonate = until(|| ready("account"));
    let ran = until(|| async {
        let jobs: Api<Job> = Api::namespaced(world.client.clone(), own);
        !jobs.list(&ListParams::default()).await.unwrap().items.is_empty()
    });
    let tell = until(|| async { !world.events("early").await.is_empty() });
    let count = async {
        let grants: Api<SecretGrant> = Api::all(world.client.clone());
        until(|| async { grants.get(own).await.unwrap().status.is_some_and(|status| status.bindings > Some(0)) }).await;
    };
    let renew = async {
        let leases: Api<Lease> = Api::namespaced(world.client.clone(), own);
        let renewed = || async { leases.get_opt("bindery").await.unwrap().and_then(|lease| lease.spec?.renew_time) };
        until(|| async { renewed().await.is_some() }).await;
        let first = renewed().await;
        until(|| async { renewed().await != first }).await;
    };
    let duties: [(&str, BoxFuture<'_, ()>); 12] = [
        (PUBLISH, Box::pin(publish)),
        (HEAR_OF_BINDINGS, Box::pin(hear_of("new"))),
        (HEAR_OF_GRANTS, Box::pin(hear_of("granted"))),
        (HEAR_OF_LABELS, Box::pin(hear_of("labelled"))),
        (REPAIR, Box::pin(repair)),
        (CLEAN_UP, Box::pin(clean_up)),
        (RESTART, Box::pin(restart)),
        (IMPERSONATE, Box::pin(impersonate)),
        (RUN, Box::pin(ran)),
        (TELL, Box::pin(tell)),
        (COUNT, Box::pin(count)),
        (RENEW, Box::pin(renew)),
    ];
    let end = end.boxed().shared();
    let outcomes = duties.into_iter().map(|(name, duty)| {
        let end = end.clone();
        async move {
            tokio::select! {
                () = duty => None,
                () = end => Some(name),
            }
        }
    });
    let undone = join_all(outcomes).await.into_iter().flatten().collect();
    drop(operator);
    for grant in [&by_account, &late, &by_jobs] {
        // The last is there only if the operator got so far.
        let _ = Api::<SecretGrant>::all(world.client.clone()).delete(grant, &DeleteParams::default()).await;
    }
    undone
}

/// Whether the API server says that an account has a right.
async fn may(client: &Client, namespace: &str, right: &Right) -> bool {
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
    let name = if resource == "leases" { "bindery" } else { "" };
    let kind = json!({"group": right.group, "resource": resource, "subresource": subresource});
    let asked = with(kind, &json!({"verb": right.verb, "namespace": namespace, "name": name}));
    let review = serde_json::from_value(json!({"spec": {"resourceAttributes": asked}})).unwrap();
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

/// The grants of all namespaces with the label `team` of the same text as its name. It is made before any operator
/// starts, since a change of such a grant starts a pass over every binding there is.
async fn grant_by_label(world: &World) -> String {
    let name = format!("{}-label", world.namespace);
    let namespaces = json!({"selector": {"matchLabels": {"team": name}}});
    let secrets = json!([{"name": "{namespace}/*"}]);
    let spec = json!({"namespaces": namespaces, "secrets": secrets, "aws": {"region": "eu-west-1"}});
    world.grant_with(&name, spec).await;
    name
}

/// Runs an operator without a right and answers what is wrong with the result.
async fn run_without(right: Option<&Right>, duty: Option<&str>, by_label: &str) -> Vec<String> {
    let world = World::new("right").await;
    let installation = Installation::without(&world, right).await;
    let mut wrong = Vec::new();
    let client = client(installation.kubeconfig.clone()).await;
    for shipped in shipped_rights() {
        if may(&client, &world.namespace, &shipped).await != (Some(&shipped) != right) {
            wrong.push(format!("without {right:?} the API server misjudges {shipped}"));
        }
    }
    let user = format!("system:serviceaccount:{}:bindery", world.namespace);
    let missing: BTreeSet<String> = right.iter().map(ToString::to_string).collect();
    let end = async {
        for _ in 0..3 {
            sleep(PATIENCE).await;
            // With all rights nothing is refused: then it may take longer. So it may where the operator is too slow to
            // have come to what it may not do.
            if right.is_some() && refused_calls(&user).is_none_or(|refused| refused == missing) {
                return;
            }
        }
    };
    // Workloads are a burden to the control plane, so they are made only where the right is about them.
    let restarts = right.is_none_or(|right| ["apps", "argoproj.io"].contains(&right.group.as_str()));
    let undone = undone(&world, installation.setup(&world), by_label, restarts, end).await;
    let refused = refused_calls(&user);
    if refused.as_ref().is_some_and(|refused| *refused != missing) {
        wrong.push(format!("without {missing:?} these calls were refused: {refused:?}"));
    }
    // Where publishing goes on, the operator was not simply slow.
    let expected = match duty {
        None => undone.is_empty(),
        Some(PUBLISH) => undone.contains(PUBLISH),
        Some(duty) => undone.contains(duty) && !undone.contains(PUBLISH),
    };
    if !expected {
        wrong.push(format!("without {missing:?} it was expected not to {duty:?}, and it did not {undone:?}"));
    }
    installation.end().await;
    world.end_without_records().await;
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_of_its_rights_the_operator_fails_at_something() {
    let right = |(verb, group, resource, duty): (&str, &str, &str, &'static str)| {
        (Right { verb: verb.to_owned(), group: group.to_owned(), resource: resource.to_owned() }, duty)
    };
    let needed: BTreeMap<Right, &str> = NEEDED.map(right).into();
    let named: BTreeSet<Right> = needed.keys().cloned().collect();
    assert_eq!(named, shipped_rights(), "each right has a duty that needs it");
    let world = World::without_grant("rights").await;
    workloads::install_argo_rollouts(&world.client).await;
    let by_label = grant_by_label(&world).await;
    assert_eq!(run_without(None, None, &by_label).await, Vec::<String>::new(), "with all rights all is done");
    let runs = needed.iter().map(|(right, duty)| run_without(Some(right), Some(duty), &by_label));
    // More of them at a time would be too slow to come to what they may not do.
    let wrong: Vec<Vec<String>> = futures::stream::iter(runs).buffer_unordered(10).collect().await;
    assert_eq!(wrong.concat(), Vec::<String>::new());
    world.delete_grant(&by_label).await;
    world.end_without_records().await;
}
