//! The domain and the pure steps know no client, clock, chance, lock or network.

use crate::imports::{Use, uses};
use crate::program::{Program, Target};
use crate::requests::is_api;
use crate::rules::{Replaced, Violation, once_each};

/// The pure steps of `reconcile/`, by the name of a file or folder.
const STEPS: [&str; 4] = ["plan", "step", "status", "requeue"];

/// Files of the domain that know nothing of Kubernetes either.
const KNOW_NO_KUBERNETES: [&str; 2] = ["domain/payload", "domain/render"];

const CRATES: [&str; 5] = ["tokio", "fastrand", "getrandom", "rand", "parking_lot"];
const STD: [&str; 5] = ["net", "fs", "env", "process", "thread"];
const TYPES: [&str; 5] = ["SystemTime", "Mutex", "RwLock", "OnceCell", "Condvar"];

fn is_pure(file: &str) -> bool {
    let mut below = file.trim_end_matches(".rs").split('/');
    match below.next() {
        Some("domain") => true,
        Some("reconcile") => below.any(|name| STEPS.contains(&name)),
        _ => false,
    }
}

pub fn check(program: &Program, _: Replaced<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut report = |file: &str, line: usize, what: &str| {
        let text =
            format!("{what} is not pure. Take its result as a parameter, or move the code to the step that acts.");
        violations.push(Violation::new(format!("{file} {what}"), (file, line), text));
    };
    for one in uses(program).filter(|one| is_pure(one.file)) {
        if let Some(what) = impurity(&one) {
            report(one.file, one.line, &what);
        }
    }
    for module in program.modules.values().filter(|module| is_pure(&module.file)) {
        for call in module.calls.iter().filter(|call| call.method == "elapsed") {
            report(&module.file, call.line, ".elapsed()");
        }
        for line in &module.waits {
            report(&module.file, *line, "async");
        }
    }
    once_each(violations)
}

/// What a path names that a pure file must not.
fn impurity(one: &Use<'_>) -> Option<String> {
    let is_self = one.path.first().is_some_and(|head| head == "Self");
    if one.path.len() > 1 && !is_self && one.path.last().is_some_and(|last| last == "now") {
        return Some(one.path[one.path.len() - 2..].join("::"));
    }
    if let Some(client) = one.path.iter().find(|segment| is_client(segment)) {
        return Some(client.clone());
    }
    one.found.iter().find_map(|found| match &found.target {
        Target::Item { name, .. } => is_client(name).then(|| name.clone()),
        Target::Module(_) => None,
        Target::External(path) => {
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            let kubernetes = KNOW_NO_KUBERNETES.iter().any(|folder| one.file.starts_with(folder));
            impure_path(&path).or_else(|| (kubernetes && is_kubernetes(&path)).then(|| path[0].to_owned()))
        }
    })
}

fn impure_path(path: &[&str]) -> Option<String> {
    let (head, rest) = path.split_first()?;
    if CRATES.contains(head) || head.starts_with("aws_") && !rest.is_empty() {
        return Some((*head).to_owned());
    }
    if let ("std" | "core", Some(module)) = (*head, rest.first())
        && STD.contains(module)
    {
        return Some(format!("std::{module}"));
    }
    if is_api(path) {
        return Some("Api".to_owned());
    }
    path.iter().find(|segment| TYPES.contains(segment) || is_client(segment)).map(|segment| (*segment).to_owned())
}

fn is_client(name: &str) -> bool {
    name.ends_with("Client") || name.ends_with("Clients")
}

fn is_kubernetes(path: &[&str]) -> bool {
    path.len() > 1 && matches!(path[0], "kube" | "kube_client" | "kube_core" | "kube_runtime" | "k8s_openapi")
}
