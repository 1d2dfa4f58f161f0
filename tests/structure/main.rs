//! Rules of the code that a reader can rely on, checked on its syntax.
//!
//! | file | what |
//! |---|---|
//! | `model`, `collect`, `syntax`, `tokens` | what the rules know of the sources |
//! | `program` | what a path leads to |
//! | `imports` | which file imports what from which file |
//! | `rules` | the rules, and the lists of what is known |
//! | `layers`, `circles`, `impls`, `pure`, `requests`, `homes`, `sizes` | one or more rules each |
//! | `known` | what breaks the rules today |
//! | `examples` | small sources that break a rule, each beside one that does not |
//!
//! What they do not see: the code that a macro makes, and what a value does whose type the file does not name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "lists and a table for those who read the output of a test")]

mod circles;
mod collect;
mod examples;
mod homes;
mod impls;
mod imports;
mod known;
mod layers;
mod model;
mod program;
mod pure;
mod requests;
mod rules;
mod sizes;
mod syntax;
mod tokens;

use std::path::Path;
use std::sync::LazyLock;

use crate::program::Program;
use crate::rules::{RULES, Rule, complaint, listed};

static BINDERY: LazyLock<Program> = LazyLock::new(|| Program::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));

fn holds(rule: &Rule) {
    let found = (rule.check)(&BINDERY, known::REPLACED_BY_ROTATION);
    let complaint = complaint(rule, &found);
    assert!(complaint.is_empty(), "\n{complaint}");
}

#[test]
fn a_file_imports_its_own_layer_or_lower_ones() {
    holds(&rules::LAYERS);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    holds(&rules::CIRCLES);
}

#[test]
fn a_module_imports_no_item_of_its_parent() {
    holds(&rules::PARENTS);
}

#[test]
fn an_inherent_impl_stands_in_the_file_of_its_type() {
    holds(&rules::IMPLS);
}

#[test]
fn the_domain_and_the_pure_steps_are_pure() {
    holds(&rules::PURE);
}

#[test]
fn every_request_to_kubernetes_stands_in_its_layer_or_the_watches() {
    holds(&rules::REQUESTS);
}

#[test]
fn every_write_to_kubernetes_stands_in_five_files() {
    holds(&rules::WRITES);
}

#[test]
fn a_step_that_observes_or_plans_has_no_permit() {
    holds(&rules::PERMITS);
}

#[test]
fn the_aws_sdk_stays_in_aws() {
    holds(&rules::SDK);
}

#[test]
fn the_name_of_a_public_type_stands_for_one_type() {
    holds(&rules::HOMES);
}

#[test]
fn a_function_has_at_most_60_lines() {
    holds(&rules::FUNCTIONS);
}

#[test]
fn a_function_has_at_most_5_arguments() {
    holds(&rules::ARGUMENTS);
}

#[test]
fn a_type_has_at_most_10_fields_and_15_methods() {
    holds(&rules::TYPES);
}

#[test]
fn a_file_has_at_most_449_lines() {
    holds(&rules::FILES);
}

#[test]
fn the_files_that_rotation_replaces_exist() {
    for file in known::REPLACED_BY_ROTATION {
        assert!(BINDERY.lines.contains_key(*file), "src/{file} is there no more. Take it from REPLACED_BY_ROTATION.");
    }
}

/// A rule that sees nothing at all holds everywhere.
#[test]
fn the_rules_see_what_they_bound() {
    assert!(BINDERY.files().len() > 20, "the sources are found");
    let expect = |what: &str, files: &[String], at: &str| {
        assert!(files.iter().any(|file| file == at), "no {what} is seen in {at}, but in {files:?}");
    };
    let requests = requests::files_with(&BINDERY, requests::requests);
    expect("request", &requests, "kubernetes/list.rs");
    expect("request", &requests, "kubernetes/report.rs");
    expect("watch", &requests, "controller/watch.rs");
    let writes = requests::files_with(&BINDERY, requests::writes);
    expect("write", &writes, "kubernetes/report.rs");
    expect("write", &writes, "kubernetes/write.rs");
    let permits = requests::files_with(&BINDERY, requests::permits_taken);
    expect("permit", &permits, "reconcile/binding/entry.rs");
    let holders = requests::files_with(&BINDERY, requests::permits_held);
    expect("permit", &holders, "reconcile/binding/write.rs");
    let calls = requests::files_with(&BINDERY, requests::sdk_calls);
    assert!(calls.iter().any(|file| file.starts_with("aws/")), "the calls of the AWS SDK are found");
}

#[test]
fn prints_the_import_graph() {
    let table = imports::table(&BINDERY);
    println!("Items that the folder of a row imports from the folder of a column:\n{table}");
    assert!(table.lines().count() > 1, "the imports are found");
}

#[test]
fn prints_the_lists() {
    let found: Vec<_> = RULES.iter().map(|rule| (*rule, (rule.check)(&BINDERY, known::REPLACED_BY_ROTATION))).collect();
    let text = listed(&found, known::REPLACED_BY_ROTATION);
    if std::env::var_os("BINDERY_STRUCTURE_LIST").is_some() {
        print!("{text}");
    }
    assert!(RULES.iter().all(|rule| text.contains(rule.says)), "each rule has its list");
}
