//! The rights that the chart gives, for the operator of one world: the tests run under them, not as an administrator.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What the chart makes besides rights; there is no image to run in the test cluster.
const NOT_NEEDED: [&str; 3] = ["Deployment", "Service", "PodDisruptionBudget"];

/// What of it stands outside the namespace.
const CLUSTER_WIDE: &str =
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";

/// Runs a command and answers its output.
///
/// # Panics
/// Where it cannot be run or fails.
pub fn run(program: &str, args: &[&str], input: Option<&str>) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| {
        panic!("{program} cannot be run ({error}): `make test` builds it and puts it into PATH")
    });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default().as_bytes()).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {args:?} failed: {error}");
    String::from_utf8(done.stdout).unwrap()
}

/// Installs the ServiceAccount, the roles and the admission policies of a release that watches one namespace and lives
/// in it. Answers a kubeconfig of that ServiceAccount.
pub fn install(name: &str, namespace: &str, folder: &Path) -> PathBuf {
    let (full_name, watch) = (format!("fullnameOverride={name}"), format!("watchNamespaces={{{namespace}}}"));
    let sets = ["--set", "crds.install=false", "--set", &full_name, "--set", &watch];
    let chart =
        run("helm", &[&["template", name, "charts/bindery", "--namespace", namespace], &sets[..]].concat(), None);
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&chart).unwrap();
    objects.retain(|object| object["kind"].as_str().is_some_and(|kind| !NOT_NEEDED.contains(&kind)));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    run("kubectl", &["apply", "--server-side", "--namespace", namespace, "-f", "-"], Some(&list));

    kubeconfig(name, namespace, folder)
}

/// Writes a kubeconfig with a token of a ServiceAccount.
pub fn kubeconfig(account: &str, namespace: &str, folder: &Path) -> PathBuf {
    let token = run("kubectl", &["create", "token", account, "--namespace", namespace, "--duration", "1h"], None);
    let config = run("kubectl", &["config", "view", "--raw", "--minify"], None);
    let mut config: Value = serde_saphyr::from_str(&config).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    let path = folder.join("operator.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// Removes what of a release stands outside its namespace.
pub fn uninstall(name: &str) {
    let selector = format!("app.kubernetes.io/instance={name}");
    run("kubectl", &["delete", CLUSTER_WIDE, "--selector", &selector, "--wait=false"], None);
}
