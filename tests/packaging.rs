//! The manifests and the chart do what they say on a real API server: the operator works under the rights they give,
//! uses each of them, and nothing that was published goes when they go.

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
use std::path::PathBuf;
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use support::operator::Setup;
use support::{Operator, World, eventually, workloads};

const HOME: &str = "bindery-system";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command in the root of the repository and answers its output.
fn run(program: &str, args: &[&str]) -> String {
    support::release::run(program, args, None)
}

/// The objects of a stream of YAML documents, by kind and name.
fn objects(yaml: &str) -> BTreeMap<String, Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let named = documents.into_iter().filter(Value::is_object).map(|object| {
        let name = format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        (name, object)
    });
    named.collect()
}

fn kustomized() -> BTreeMap<String, Value> {
    objects(&run("kubectl", &["kustomize", "deploy/"]))
}

/// What the chart's values and the components below `deploy/` turn on.
const EVERYTHING: [&str; 3] = ["rbac.jobs=true", "rbac.serviceAccountTokens=true", "rbac.restarts=true"];

/// An overlay of `deploy/` with everything that is off by default.
fn with_everything() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(root().join("target")).unwrap();
    let components = ["jobs", "service-account-tokens", "restarts"]
        .map(|component| format!("../../deploy/components/{component}"))
        .join(", ");
    let kustomization = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../deploy]\ncomponents: [{components}]\n"
    );
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
    folder
}

fn charted(sets: &[&str]) -> BTreeMap<String, Value> {
    let mut args = vec!["template", "bindery", "charts/bindery", "--namespace", HOME];
    for set in sets {
        args.extend(["--set", set]);
    }
    objects(&run("helm", &args))
}

#[test]
fn the_chart_and_the_manifests_are_the_same_but_for_labels_and_arguments() {
    fn comparable(objects: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        let strip = |mut object: Value| {
            object["metadata"].as_object_mut().unwrap().remove("labels");
            object["metadata"].as_object_mut().unwrap().remove("annotations");
            if let Some(template) = object.pointer_mut("/spec/template") {
                template["metadata"].as_object_mut().unwrap().remove("labels");
                let container = &mut template["spec"]["containers"][0];
                container.as_object_mut().unwrap().remove("args");
                // What the chart turns on by arguments, a component turns on by variables.
                let variables = container["env"].as_array_mut().unwrap();
                variables.retain(|variable| !variable["name"].as_str().unwrap().starts_with("BINDERY_ENABLE_"));
            }
            object
        };
        objects.into_iter().map(|(name, object)| (name, strip(object))).collect()
    }
    let (manifests, chart) = (comparable(kustomized()), comparable(charted(&["crds.install=false"])));
    assert!(manifests.len() >= 8, "{:?}", manifests.keys());
    for (name, object) in &manifests {
        assert_eq!(chart.get(name), Some(object), "{name}");
    }
    assert_eq!(chart.len(), manifests.len(), "{:?}", chart.keys());
    let folder = with_everything();
    let everything = run("kubectl", &["kustomize", folder.path().to_str().unwrap()]);
    let enabled = objects(&everything)["Deployment/bindery"].to_string();
    for name in ["JOBS", "SERVICE_ACCOUNT_TOKENS", "RESTARTS"] {
        assert!(enabled.contains(&format!(r#"{{"name":"BINDERY_ENABLE_{name}","value":"true"}}"#)), "{enabled}");
    }
    let sets = [&["crds.install=false"], &EVERYTHING[..]].concat();
    let (manifests, chart) = (comparable(objects(&everything)), comparable(charted(&sets)));
    assert!(manifests == chart, "{manifests:#?}\n{chart:#?}");
}

#[test]
fn the_chart_lints_keeps_the_crds_and_passes_flags_that_the_program_knows() {
    use clap::Parser as _;
    run("helm", &["lint", "charts/bindery", "--strict"]);
    let mut sets =
        vec!["watchNamespaces={a,b}", "aws.region=eu-west-1", "refreshInterval=1m", "auditLog=/var/log/audit"];
    sets.extend(EVERYTHING);
    sets.push("admissionPolicy.enabled=false");
    let chart = charted(&sets);
    let mut crds = 0;
    for (name, object) in &chart {
        if name.starts_with("CustomResourceDefinition/") {
            assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{name}");
            crds += 1;
        }
    }
    assert_eq!(crds, bindery::api::crds().len());
    for (name, object) in [("bindery", &chart["Deployment/bindery"]), ("deploy", &kustomized()["Deployment/bindery"])] {
        let args = object["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        let args = args.iter().map(|arg| arg.as_str().unwrap());
        let parsed = bindery::cli::Cli::try_parse_from(std::iter::once("bindery").chain(args));
        assert!(parsed.is_ok(), "{name}: {}", parsed.unwrap_err());
    }
    let versions: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(root().join("charts/bindery/Chart.yaml")).unwrap()).unwrap();
    assert_eq!(versions["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(versions["appVersion"], env!("CARGO_PKG_VERSION"));
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    assert!(dockerfile.contains(concat!("ARG VERSION=", env!("CARGO_PKG_VERSION"), "\n")));
}

/// The rules of the operator's roles, as `verb group/resource`.
fn granted(objects: BTreeMap<String, Value>) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for (name, object) in objects {
        if !name.starts_with("ClusterRole/") && !name.starts_with("Role/")
            || support::release::is_role_of_people(&object)
        {
            continue;
        }
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for rule in object["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    granted.extend(texts(&rule["verbs"]).into_iter().map(|verb| format!("{verb} {group}/{resource}")));
                }
            }
        }
    }
    // By this verb the admission policies know the operator; there is nothing to call.
    assert!(granted.remove("operate bindery.dev/installations"));
    granted
}

/// The calls of the operator's ServiceAccount in this home by the API server's audit log, and those that were refused.
fn called(home: &str, world: &str) -> (BTreeSet<String>, Vec<String>) {
    std::env::var("BINDERY_TEST_CLUSTER").expect("the cluster of `make test` keeps an audit log");
    let calls = support::release::calls_of(&format!("system:serviceaccount:{home}:bindery"));
    // In a namespace of another test that is just being deleted, everything is refused.
    let concerned = |namespace: &str| namespace.is_empty() || namespace == home || namespace == world;
    let refused = calls.iter().filter(|call| call.code == 403 && concerned(&call.namespace));
    let refused = refused.map(|call| call.what.clone()).collect();
    (calls.into_iter().map(|call| call.what).collect(), refused)
}

async fn published(world: &World) -> usize {
    let mut count = 0;
    for name in ["app-env", "worker-env"] {
        count += usize::from(world.data(name).await.is_some());
    }
    count
}

/// A change restarts the workloads of a binding that asks for it, of every kind.
async fn restart_all(world: &World) {
    workloads::install_argo_rollouts(&world.client).await;
    let restarted = json!({"grant": world.namespace, "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "app-env"}, "restart": {"policy": "Consumers"}});
    world.bind("app", restarted).await;
    world.wait("app", "RolledOut", "True/RolledOut").await;
    workloads::one_of_each(world, "app-env").await;
    world.put("app", &json!({"A": "canary-7f3a-value-d", "B": "canary-7f3a-value-b"})).await;
    world.annotate("app", "bindery.dev/sync", "restart").await;
    eventually("each workload to be restarted", Duration::from_secs(60), || async {
        workloads::all_marked(world, "app-env").await.then_some(())
    })
    .await;
}

/// A due rule runs a Job.
async fn run_a_job(world: &World) {
    workloads::cron_job(world, "renew").await;
    let grants: kube::Api<bindery::api::SecretGrant> = kube::Api::all(world.client.clone());
    let rotation = json!([{"action": "RunJob", "secrets": [world.secret_id("app")], "keys": ["*"]}]);
    let edit = json!({"spec": {"rotation": rotation}});
    grants.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    let rule = json!({"name": "a", "keys": ["A"], "every": "90d", "action": "RunJob", "runJob": {"cronJob": "renew"}});
    let spec = json!({"grant": world.namespace, "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "app-env"}, "rotation": [rule]});
    world.bind("app", spec).await;
    world.annotate("app", "bindery.dev/rotation", "emergency-a").await;
    let jobs: kube::Api<k8s_openapi::api::batch::v1::Job> =
        kube::Api::namespaced(world.client.clone(), &world.namespace);
    eventually("the Job", Duration::from_secs(60), || async {
        jobs.list(&kube::api::ListParams::default()).await.unwrap().items.pop()
    })
    .await;
}

/// A grant may have a secret read as a ServiceAccount of the namespace. Answers the name of such a grant.
async fn read_as_an_account(world: &World) -> String {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/reader"}}});
    let accounts: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
        kube::Api::namespaced(world.client.clone(), &world.namespace);
    accounts.patch("reader", &PatchParams::apply("test"), &Patch::Apply(&account)).await.unwrap();
    let by_account = format!("{}-account", world.namespace);
    world
        .grant_with(
            &by_account,
            json!({
                "namespaces": {"names": [world.namespace]},
                "secrets": [{"name": world.secret_id("app")}],
                "aws": {"region": "eu-west-1", "accountId": "123456789012", "serviceAccountName": "reader"},
            }),
        )
        .await;
    world.bind("by-account", json!({"grant": by_account, "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("by-account").await;
    by_account
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_works_under_the_default_and_all_shipped_rights_uses_each_and_leaves_every_secret_when_it_goes() {
    let world = World::new("packaging").await;
    world.put("app", &json!({"A": "canary-7f3a-value-a", "B": "canary-7f3a-value-b"})).await;
    run("kubectl", &["apply", "--server-side", "--force-conflicts", "-f", "crds/"]);
    run("kubectl", &["apply", "-f", "deploy/namespace.yaml"]);
    let folder = with_everything();
    let everything = folder.path().to_str().unwrap().to_owned();
    run("kubectl", &["apply", "-k", "deploy/"]);

    let setup = Setup {
        namespaces: vec![],
        features: false,
        home: HOME.to_owned(),
        name: "bindery".to_owned(),
        variables: vec![(
            "KUBECONFIG".to_owned(),
            support::release::kubeconfig("bindery", HOME, &world.folder).display().to_string(),
        )],
        ..world.setup()
    };
    let mut operator = Operator::start(setup.clone());
    for (name, target) in [("app", "app-env"), ("worker", "worker-env")] {
        let spec = json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": target}});
        world.bind(name, spec).await;
    }
    futures::future::join(world.wait_ready("app"), world.wait_ready("worker")).await;
    let before = world.data("worker-env").await;
    world.secrets().delete("worker-env", &DeleteParams::default()).await.unwrap();
    eventually("the Secret to be back", Duration::from_secs(60), || world.data("worker-env")).await;
    let edit = json!({"stringData": {"A": "edited"}});
    world.secrets().patch("worker-env", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    world.wait_value("worker-env", "A", "canary-7f3a-value-a").await;
    assert_eq!(world.data("worker-env").await, before);
    // A rename deletes the Secret of the earlier name after a look at all that could read it.
    let spec = json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "worker-env2"}});
    world.bind("worker", spec.clone()).await;
    eventually("the Secret of the earlier name to go", Duration::from_secs(60), || async {
        world.data("worker-env").await.is_none().then_some(())
    })
    .await;
    let spec = json!({"dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": "worker-env"}});
    world.bind("worker", spec).await;
    world.wait_value("worker-env", "A", "canary-7f3a-value-a").await;
    // So far by the rights of the default, each of which was used and none missed.
    if std::env::var_os("BINDERY_TEST_CLUSTER").is_some() {
        eventually("each right of the default to be used", Duration::from_secs(60), || async {
            granted(kustomized()).is_subset(&called(HOME, &world.namespace).0).then_some(())
        })
        .await;
        let (_, refused) = called(HOME, &world.namespace);
        assert_eq!(refused, Vec::<String>::new(), "calls that the default rights do not allow");
    }
    assert_eq!(operator.terminate().await, Some(0));
    run("kubectl", &["apply", "-k", &everything]);
    let setup = Setup { features: true, ..setup };
    operator = Operator::start(setup.clone());
    let by_account = read_as_an_account(&world).await;
    restart_all(&world).await;
    for name in ["app", "worker"] {
        let target = format!("{name}-env");
        let spec = json!({"grant": world.namespace, "dataFrom": [{"secret": world.secret_id("app")}], "target": {"name": target}});
        world.bind(name, spec).await;
    }
    eventually("the grant to count its bindings", Duration::from_secs(60), || async {
        let grants: kube::Api<bindery::api::SecretGrant> = kube::Api::all(world.client.clone());
        let status = grants.get(&by_account).await.unwrap().status?;
        (status.bindings == Some(1)).then_some(())
    })
    .await;
    run_a_job(&world).await;
    // A second start finds the lease and the key of the first.
    assert_eq!(operator.terminate().await, Some(0));
    operator.restart();
    world.put("app", &json!({"A": "canary-7f3a-value-c", "B": "canary-7f3a-value-b"})).await;
    world.wait_value("app-env", "A", "canary-7f3a-value-c").await;

    if std::env::var_os("BINDERY_TEST_CLUSTER").is_some() {
        let (called, refused) = called(HOME, &world.namespace);
        assert_eq!(refused, Vec::<String>::new(), "calls that the shipped rights do not allow");
        let all = granted(objects(&run("kubectl", &["kustomize", &everything])));
        let unused: Vec<String> = all.difference(&called).cloned().collect();
        assert_eq!(unused, Vec::<String>::new(), "rights that no call needed");
    }
    drop(operator);

    run("kubectl", &["delete", "-k", &everything, "--wait=true"]);
    assert_eq!(published(&world).await, 2, "deleting the operator deletes no Secret");

    let chart = ["--namespace", HOME, "--take-ownership", "--set", "aws.region=eu-west-1"];
    run("helm", &[&["install", "bindery", "charts/bindery"], &chart[..]].concat());
    let setup = Setup {
        features: false,
        variables: vec![(
            "KUBECONFIG".to_owned(),
            support::release::kubeconfig("bindery", HOME, &world.folder).display().to_string(),
        )],
        ..setup
    };
    let operator = Operator::start(setup);
    world.secrets().delete("app-env", &DeleteParams::default()).await.unwrap();
    eventually("the Secret to be back", Duration::from_secs(60), || world.data("app-env")).await;
    drop(operator);
    run("helm", &["uninstall", "bindery", "--namespace", HOME]);
    assert_eq!(published(&world).await, 2, "uninstalling the chart deletes no Secret");
    world.delete_grant(&by_account).await;
    let bindings = world.bindings().list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(bindings.items.len(), 3, "the CRDs stay, and with them the bindings");
    run("kubectl", &["delete", "-f", "deploy/namespace.yaml", "--wait=false"]);
    world.end_without_records().await;
}

/// Whether kubectl succeeds as a person.
fn can(person: &str, args: &[&str], input: Option<&str>) -> Result<String, String> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new("kubectl")
        .args(args)
        .args(["--as", person, "--as-group", "system:authenticated"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_edit_in_one_namespace_works_with_its_bindings_and_with_nothing_else() {
    let world = World::new("people").await;
    let other = World::new("people-other").await;
    run("kubectl", &["apply", "--server-side", "--force-conflicts", "-f", "crds/"]);
    let roles = ["template", "people", "charts/bindery", "--show-only", "templates/aggregated-roles.yaml"];
    let roles = run("helm", &[&roles[..], &["--set", "fullnameOverride=people"]].concat());
    support::release::run("kubectl", &["apply", "--server-side", "--filename", "-"], Some(&roles));
    for (person, role) in [("jane", "edit"), ("joe", "view")] {
        let name = format!("{person}-{role}");
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={person}"));
        run("kubectl", &["create", "rolebinding", &name, &role, &user, "--namespace", &world.namespace]);
    }
    let manifest = json!({
        "apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": "app"},
        "spec": {"dataFrom": [{"secret": "autorepost/production/app"}]},
    })
    .to_string();
    let here = ["--namespace", world.namespace.as_str()];
    let list = [&["get", "secretbindings", "--output", "name"], &here[..]].concat();
    // The roles are put together by a controller of Kubernetes.
    eventually("the roles to be aggregated", Duration::from_secs(60), || async { can("joe", &list, None).ok() }).await;

    let apply = [&["apply", "--server-side", "--filename", "-"], &here[..]].concat();
    can("jane", &apply, Some(&manifest)).unwrap();
    assert_eq!(can("joe", &list, None).unwrap().trim(), "secretbinding.bindery.dev/app");
    let annotate = [&["annotate", "secretbinding", "app", "bindery.dev/sync=now"], &here[..]].concat();
    can("jane", &annotate, None).unwrap();
    let delete = [&["delete", "secretbinding", "app"], &here[..]].concat();

    let there = ["--namespace", other.namespace.as_str()];
    let grants = ["get", "secretgrants"];
    let status = [
        &[
            "patch",
            "secretbinding",
            "app",
            "--subresource=status",
            "--type=merge",
            "--patch",
            "{\"status\":{\"nextRotationTime\":null}}",
        ],
        &here[..],
    ]
    .concat();
    for (person, args, input) in [
        ("joe", &apply, Some(manifest.as_str())),
        ("joe", &annotate, None),
        ("joe", &delete, None),
        ("jane", &[&["get", "secretbindings"], &there[..]].concat(), None),
        ("jane", &[&["apply", "--server-side", "--filename", "-"], &there[..]].concat(), Some(manifest.as_str())),
        ("jane", &grants.to_vec(), None),
        // The status is what the operator knows: who writes it could make it believe in what never was.
        ("jane", &status, None),
    ] {
        let refused = can(person, args, input).unwrap_err();
        assert!(refused.contains("Forbidden") || refused.contains("forbidden"), "{person} {args:?}: {refused}");
    }
    can("jane", &delete, None).unwrap();

    run(
        "kubectl",
        &["create", "clusterrolebinding", "people-grants", "--clusterrole=people-grant-reader", "--user=joe"],
    );
    can("joe", &grants, None).unwrap();
    run("kubectl", &["delete", "clusterrolebinding", "people-grants"]);
    support::release::run("kubectl", &["delete", "--filename", "-"], Some(&roles));
    other.end_without_records().await;
    world.end_without_records().await;
}

#[test]
fn the_chart_refuses_each_refresh_interval_that_the_program_refuses() {
    use clap::Parser as _;
    for (interval, fits) in [
        ("0s", true),
        ("10s", true),
        ("90s", true),
        ("1m", true),
        ("1d12h", true),
        ("1h0m5s", true),
        ("2s", false),
        ("9s", false),
        ("0m", false),
        ("0m5s", false),
        ("5", false),
        ("1w", false),
        ("3651d", false),
        ("999999999999d", false),
    ] {
        let set = format!("refreshInterval={interval}");
        let args = ["template", "bindery", "charts/bindery", "--set-string", &set];
        let helm = std::process::Command::new("helm").args(args).current_dir(root()).output().unwrap();
        let flag = format!("--refresh-interval={interval}");
        let program = bindery::cli::Cli::try_parse_from(["bindery", "run", &flag]).is_ok();
        assert!(program || !helm.status.success(), "the chart takes {interval}, which the program refuses");
        assert_eq!(helm.status.success(), fits, "{interval}");
    }
}
