//! The rights that the chart gives, for the operator of one world: the tests run under them, not as an administrator.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What the chart makes besides rights; there is no image to run in the test cluster.
const NOT_NEEDED: [&str; 3] = ["Deployment", "Service", "PodDisruptionBudget"];

/// What of it stands outside the namespace.
const CLUSTER_WIDE: &str =
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";

/// Whether an object is a role that is added to those of people. The operator has none of these.
pub fn is_role_of_people(object: &Value) -> bool {
    let labels = object["metadata"]["labels"].as_object();
    labels.is_some_and(|labels| labels.keys().any(|label| label.contains("k8s.io/aggregate-to-")))
}

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
/// in it; with `features`, the rights for what is off by default as well. Answers a kubeconfig of that ServiceAccount.
pub fn install(name: &str, namespace: &str, folder: &Path, features: bool) -> PathBuf {
    let (full_name, watch) = (format!("fullnameOverride={name}"), format!("watchNamespaces={{{namespace}}}"));
    let mut sets = vec!["--set", "crds.install=false", "--set", &full_name, "--set", &watch];
    if features {
        sets.extend(["--set", "rbac.jobs=true,rbac.serviceAccountTokens=true,rbac.restarts=true"]);
    }
    let template = ["template", name, "charts/bindery", "--namespace", namespace];
    let chart = run("helm", &[&template[..], &sets[..]].concat(), None);
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&chart).unwrap();
    let needed = |object: &Value| object["kind"].as_str().is_some_and(|kind| !NOT_NEEDED.contains(&kind));
    objects.retain(|object| needed(object) && !is_role_of_people(object));
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

/// How often a release is asked to go: the store of the API server may be busy.
const UNINSTALLS: usize = 5;

/// Removes what of a release stands outside its namespace.
pub fn uninstall(name: &str) {
    let selector = format!("app.kubernetes.io/instance={name}");
    let delete = ["delete", CLUSTER_WIDE, "--selector", &selector, "--wait=false"];
    for _ in 1..UNINSTALLS {
        let deleted = Command::new("kubectl").args(delete).output();
        if deleted.is_ok_and(|done| done.status.success()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    run("kubectl", &delete, None);
}

/// A call to the API server.
pub struct AuditedCall {
    /// Its verb and kind, such as `create batch/jobs`.
    pub what: String,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// The code of the answer.
    pub code: u64,
}

/// The calls of one user by the API server's audit log, without the dry runs by which the operator tests its fence.
pub fn calls_of(user: &str) -> Vec<AuditedCall> {
    let Ok(folder) = std::env::var("BINDERY_TEST_CLUSTER") else { return Vec::new() };
    let log = File::open(Path::new(&folder).join("audit.log")).unwrap();
    let lines = BufReader::new(log).lines().map_while(Result::ok).filter(|line| line.contains(user));
    // The last line may be half written.
    let events = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let call = |event: Value| {
        let object = &event["objectRef"];
        let tests = event["requestURI"].as_str().is_some_and(|uri| uri.contains("dryRun=All"));
        if event["user"]["username"] != user || !object.is_object() || tests {
            return None;
        }
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let subresource = text("subresource");
        let slash = if subresource.is_empty() { "" } else { "/" };
        let verb = event["verb"].as_str().unwrap_or_default();
        let what = format!("{verb} {}/{}{slash}{subresource}", text("apiGroup"), text("resource"));
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        Some(AuditedCall { what, namespace: text("namespace"), code })
    };
    events.filter_map(call).collect()
}
