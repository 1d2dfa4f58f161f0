//! What a path leads to, and what counts as a test.

use super::{breaks, keeps, program};
use crate::program::Target;
use crate::rules::{FILES, FUNCTIONS, LAYERS};

/// The file and the item, or the path into another crate.
fn resolved(files: super::Files<'_>, from: &str, path: &str) -> Vec<String> {
    let program = program(files);
    let split = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let text = |target: Target| match target {
        Target::Item { module, name } => format!("{} {name}", program.file_of(&module)),
        Target::Module(module) => program.file_of(&module).to_owned(),
        Target::External(path) => path.join("::"),
    };
    program.resolve(&split(from), &split(path)).into_iter().map(|found| text(found.target)).collect()
}

#[test]
fn a_path_leads_to_the_file_that_defines_the_item() {
    let files = [
        ("lib.rs", "pub mod api;\npub mod domain;"),
        ("api/mod.rs", "mod condition;\npub use self::condition::*;\npub use kube::Api as Requests;"),
        ("api/condition.rs", "pub enum Reason { Ready }"),
        ("domain/mod.rs", "pub mod plan;\nuse crate::api::Reason as R;"),
        ("domain/plan.rs", "pub fn plan() {}"),
    ];
    for (from, path, expected) in [
        ("domain::plan", "crate::api::Reason", "api/condition.rs Reason"),
        ("domain::plan", "crate::api::Reason::Ready", "api/condition.rs Reason"),
        ("domain::plan", "super::R::Ready", "api/condition.rs Reason"),
        ("domain::plan", "super::super::api::Reason", "api/condition.rs Reason"),
        ("domain::plan", "self::plan", "domain/plan.rs plan"),
        ("domain", "plan::plan", "domain/plan.rs plan"),
        ("domain", "plan", "domain/plan.rs"),
        ("domain", "crate::api::Requests::all", "kube::Api::all"),
        ("domain", "crate::api::MadeByMacro", "api/mod.rs MadeByMacro"),
        ("domain", "tokio::spawn", "tokio::spawn"),
        ("domain", "::kube::Api", "kube::Api"),
        ("domain", "bindery::api::Reason", "api/condition.rs Reason"),
    ] {
        assert_eq!(resolved(&files, from, path), [expected], "{path} in {from}");
    }
}

#[test]
fn imports_that_name_themselves_come_to_an_end() {
    let files =
        [("domain/a.rs", "use tracing::{self, info};\nuse super::b::B;"), ("domain/b.rs", "pub use super::a::B;")];
    assert_eq!(resolved(&files, "domain::a", "tracing::warn"), ["tracing::warn"]);
    assert_eq!(resolved(&files, "domain::a", "B").len(), 1);
}

#[test]
fn what_is_compiled_for_tests_only_is_left_out() {
    let upward = "use crate::controller::watch::Watch;\n";
    let watch = ("controller/watch.rs", "pub struct Watch;");
    let inline = format!("#[cfg(test)]\nmod tests {{\n{upward}}}\n#[test]\nfn t() {{ {upward} }}");
    keeps(&LAYERS, &[("domain/a.rs", &inline), watch]);
    for declaration in ["#[cfg(test)]\nmod simulation;", "#[cfg(all(test, unix))]\nmod simulation;"] {
        let files = [("domain/a.rs", declaration), ("domain/a/simulation.rs", upward), watch];
        keeps(&LAYERS, &files);
        keeps(&LAYERS, &[files[0], ("domain/a/simulation/deep.rs", upward), watch]);
    }
    for declaration in ["mod tests;", "#[cfg(not(test))]\nmod tests;", "#[cfg(any(test, unix))]\nmod tests;"] {
        let files = [("domain/a.rs", declaration), ("domain/a/tests.rs", upward), watch];
        breaks(&LAYERS, &files, &["domain/a/tests.rs -> controller/watch.rs Watch"]);
    }
}

#[test]
fn a_test_may_be_long_but_not_its_file() {
    let lines = "    let _ = 1;\n".repeat(450);
    let text = format!("#[test]\nfn long() {{\n{lines}}}\n");
    let files = [("domain/a.rs", "#[cfg(test)]\nmod tests;"), ("domain/a/tests.rs", text.as_str())];
    keeps(&FUNCTIONS, &files);
    breaks(&FILES, &files, &["domain/a/tests.rs"]);
}
