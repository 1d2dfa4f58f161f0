//! Where requests to the API server, writes among them, and calls of the AWS SDK may stand.

use crate::imports::{imports, uses};
use crate::model::{Call, Module};
use crate::program::{Program, Target};
use crate::rules::{Replaced, Violation, once_each};

/// The files of `kubernetes/` that write.
const WRITERS: [&str; 8] =
    ["write.rs", "report.rs", "job.rs", "lease.rs", "restart.rs", "installation.rs", "service_account.rs", "fence.rs"];

/// The files that take a permit: where a reconcile begins, and where the status of a grant is written.
const TAKERS: [&str; 2] = ["reconcile/binding/entry.rs", "controller/grant_status.rs"];

/// The files that a permit is handed to: the steps that change something, and those that call them.
const HOLDERS: [&str; 12] = [
    "reconcile/binding/apply.rs",
    "reconcile/binding/cleanup.rs",
    "reconcile/binding/report.rs",
    "reconcile/binding/steps.rs",
    "reconcile/binding/take_over.rs",
    "reconcile/binding/withdraw.rs",
    "reconcile/binding/write.rs",
    "reconcile/rollout/apply.rs",
    "reconcile/rollout/mod.rs",
    "reconcile/rotation/acting.rs",
    "reconcile/rotation/action.rs",
    "reconcile/rotation/overlap.rs",
];

/// Functions and types that watch. `watcher::Event` and the like are data.
const WATCHES: [&str; 5] = ["watcher", "metadata_watcher", "watch_object", "watch_metadata", "Controller"];

const REQUEST_METHODS: [&str; 6] =
    ["request", "request_text", "request_status", "request_stream", "request_events", "send"];
const DISCOVERY_METHODS: [&str; 3] = ["apiserver_version", "list_api_groups", "list_api_groups_aggregated"];

const PARAMETERS: [&str; 4] = ["PostParams", "PatchParams", "DeleteParams", "EvictParams"];

/// What a file does, with the line.
type Act = (String, usize);

pub fn check_requests(program: &Program, _: Replaced<'_>) -> Vec<Violation> {
    let allowed = |file: &str| file.starts_with("kubernetes/") || file == "controller/watch.rs";
    let cure = "Ask for it by a function of kubernetes/.";
    report(program, requests, |file| !allowed(file), cure)
}

pub fn check_writes(program: &Program, replaced: Replaced<'_>) -> Vec<Violation> {
    let cure = "Move it to a file of kubernetes/ that writes, such as write.rs or report.rs.";
    report(program, writes, |file| !writes_by_right(file) && !replaced.contains(&file), cure)
}

pub fn check_permits(program: &Program, _: Replaced<'_>) -> Vec<Violation> {
    let cure = "Observe with a `ReadClient`, or hand what is to be written to a step that writes.";
    let taken = |file: &str| !TAKERS.contains(&file) && file != "kubernetes/api_server.rs";
    let mut found = report(program, permits_taken, taken, cure);
    let held = |file: &str| !TAKERS.contains(&file) && !HOLDERS.contains(&file) && !writes_by_right(file);
    found.extend(report(program, permits_held, held, cure));
    let watch = "Only the watches use a client without a permit.";
    found.extend(report(program, watch_clients, |file| file != "controller/watch.rs", watch));
    once_each(found)
}

pub fn check_sdk(program: &Program, _: Replaced<'_>) -> Vec<Violation> {
    report(program, sdk_calls, |file| !file.starts_with("aws/"), "Ask for it by the trait `SecretsApi`.")
}

/// The files that do something of the kind, whether they may or not.
pub fn files_with(program: &Program, acts: fn(&Program) -> Vec<(String, Act)>) -> Vec<String> {
    let mut files: Vec<_> = acts(program).into_iter().map(|(file, _)| file).collect();
    files.sort();
    files.dedup();
    files
}

fn report(
    program: &Program,
    acts: fn(&Program) -> Vec<(String, Act)>,
    forbidden: impl Fn(&str) -> bool,
    cure: &str,
) -> Vec<Violation> {
    let acts = acts(program).into_iter().filter(|(file, _)| forbidden(file));
    let violations = acts.map(|(file, (what, line))| {
        Violation::new(format!("{file} {what}"), (&file, line), format!("`{what}` does not belong here. {cure}"))
    });
    once_each(violations.collect())
}

fn writes_by_right(file: &str) -> bool {
    let mut parts = file.split('/');
    parts.next() == Some("kubernetes") && parts.next_back().is_some_and(|name| WRITERS.contains(&name))
}

/// Whether a path of another crate leads to kube's `Api`. `kube::Error::Api` does not.
pub fn is_api(path: &[&str]) -> bool {
    match path {
        ["Api", ..] => true,
        [head, "Api", ..] | [head, "api", "Api", ..] | [head, "api" | "prelude", "*"] | [head, "*"] => is_kube(head),
        _ => false,
    }
}

fn is_kube(head: &str) -> bool {
    matches!(head, "kube" | "kube_client" | "kube_core" | "kube_runtime")
}

/// The paths into other crates, by file and line.
fn external(program: &Program, mut each: impl FnMut(&str, &[&str]) -> Option<String>) -> Vec<(String, Act)> {
    let mut acts = Vec::new();
    for one in uses(program) {
        for found in &one.found {
            let Target::External(path) = &found.target else { continue };
            let mut path: Vec<_> = path.iter().map(String::as_str).collect();
            if one.path.last().is_some_and(|last| last == "*") && path.last() != Some(&"*") {
                path.push("*");
            }
            if let Some(what) = each(one.file, &path) {
                acts.push((one.file.to_owned(), (what, one.line)));
            }
        }
    }
    acts
}

pub fn requests(program: &Program) -> Vec<(String, Act)> {
    let mut acts = external(program, |_, path| {
        let last = path.last()?;
        if is_api(path) {
            return Some("Api".to_owned());
        }
        let watches = is_kube(path[0]) && (WATCHES.contains(last) || path.get(1) == Some(&"discovery"));
        let requests = is_kube(path[0]) && path.contains(&"Client") && REQUEST_METHODS.contains(last);
        (watches || requests).then(|| (*last).to_owned())
    });
    let with_client = files_with_client(program);
    for module in program.modules.values() {
        let requests = |call: &&Call| {
            let by_client = call.generic || with_client.contains(&module.file);
            // A channel sends too.
            let is_request = call.method != "send" && REQUEST_METHODS.contains(&call.method.as_str());
            is_request && call.arguments > 0 && by_client || DISCOVERY_METHODS.contains(&call.method.as_str())
        };
        acts.extend(calls(module, requests));
    }
    acts
}

/// The files that name kube's `Client`.
fn files_with_client(program: &Program) -> Vec<String> {
    let named = external(program, |_, path| (is_kube(path[0]) && path.contains(&"Client")).then(String::new));
    named.into_iter().map(|(file, _)| file).collect()
}

pub fn writes(program: &Program) -> Vec<(String, Act)> {
    let mut acts = external(program, |file, path| {
        let last = path.last()?;
        if is_kube(path[0]) && path.iter().any(|segment| PARAMETERS.contains(segment)) {
            return path.iter().find(|segment| PARAMETERS.contains(segment)).map(|segment| (*segment).to_owned());
        }
        let by_function = is_api(path) && (is_write_name(last) || ["restart", "cordon", "uncordon"].contains(last));
        // A request that is put together by hand; `builder` hides its verb.
        let verbs = ["patch", "put", "post", "delete", "builder", "PATCH", "PUT", "POST", "DELETE"];
        let by_hand = file.starts_with("kubernetes/") && path[0] == "http" && verbs.contains(last);
        (by_function || by_hand).then(|| (*last).to_owned())
    });
    acts.extend(program.modules.values().flat_map(|module| calls(module, |call| is_write(call))));
    acts
}

/// Told from calls of the same name on texts, options and files by the number of arguments.
fn is_write(call: &Call) -> bool {
    match call.method.as_str() {
        "create" | "delete" | "delete_collection" | "evict" => call.arguments == 2,
        "patch" | "replace" => call.arguments == 3,
        name => is_write_name(name) && call.arguments >= 3,
    }
}

fn is_write_name(name: &str) -> bool {
    let verbs = ["create", "patch", "replace"];
    matches!(name, "delete" | "delete_collection" | "evict")
        || verbs.iter().any(|verb| name.strip_prefix(verb).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')))
}

fn calls(module: &Module, counts: impl Fn(&&Call) -> bool) -> Vec<(String, Act)> {
    let calls = module.calls.iter().filter(counts);
    calls.map(|call| (module.file.clone(), (format!(".{}()", call.method), call.line))).collect()
}

/// Where a permit is asked for.
pub fn permits_taken(program: &Program) -> Vec<(String, Act)> {
    let taken = |call: &&Call| call.method == "permit" && call.arguments == 1;
    let mut acts: Vec<_> = program.modules.values().flat_map(|module| calls(module, taken)).collect();
    acts.extend(functions_of_api_server(program, "permit"));
    acts
}

/// Where a client is asked for that needs no permit.
fn watch_clients(program: &Program) -> Vec<(String, Act)> {
    let asked = |call: &&Call| call.method == "watch_client";
    let mut acts: Vec<_> = program.modules.values().flat_map(|module| calls(module, asked)).collect();
    acts.extend(functions_of_api_server(program, "watch_client"));
    acts
}

/// Where a permit, or the client that writes, is named.
pub fn permits_held(program: &Program) -> Vec<(String, Act)> {
    let named = imports(program).into_iter().filter(|import| {
        let item = import.item.as_str();
        import.to == "kubernetes/api_server.rs" && ["Permit", "WriteClient", "*"].contains(&item)
    });
    named.map(|import| (import.from, (import.item, import.line))).collect()
}

/// Calls of a method of `ApiServer` by its path.
fn functions_of_api_server(program: &Program, method: &str) -> Vec<(String, Act)> {
    let named = uses(program).filter(|one| one.path.ends_with(&["ApiServer".to_owned(), method.to_owned()]));
    named.map(|one| (one.file.to_owned(), (format!("ApiServer::{method}"), one.line))).collect()
}

pub fn sdk_calls(program: &Program) -> Vec<(String, Act)> {
    external(program, |_, path| path[0].starts_with("aws_sdk_").then(|| path[0].to_owned()))
}
