//! Layers, circles, parents.

use super::{breaks, keeps, keys, program};
use crate::imports::table;
use crate::rules::{CIRCLES, LAYERS, PARENTS};

const WATCH: (&str, &str) = ("controller/watch.rs", "pub struct Watch;\npub fn start() {}\n");

#[test]
fn an_upward_import_is_reported() {
    let importer = ("domain/binding.rs", "use std::fmt;\nuse crate::{api, controller::{watch::{Watch as W}}};\n");
    let api = ("api/mod.rs", "pub struct Spec;");
    breaks(&LAYERS, &[importer, api, WATCH], &["domain/binding.rs -> controller/watch.rs Watch"]);
    let lower = ("controller/trigger.rs", "use crate::controller::watch::Watch;\nuse crate::api::Spec;\n");
    keeps(&LAYERS, &[lower, api, WATCH]);
}

#[test]
fn an_upward_import_by_a_path_in_the_code_is_reported() {
    let expected = ["domain/binding.rs -> controller/watch.rs start"];
    for text in [
        "fn f() { crate::controller::watch::start(); }",
        "fn f() { super::super::controller::watch::start(); }",
        "fn f() { println!(\"{:?}\", crate::controller::watch::start()); }",
        "macro_rules! start { () => { $crate::controller::watch::start() } }",
        "#[serde(default = \"crate::controller::watch::start\")] struct S;",
    ] {
        breaks(&LAYERS, &[("domain/binding.rs", text), WATCH], &expected);
    }
    keeps(&LAYERS, &[("controller/trigger.rs", "fn f() { super::watch::start(); }"), WATCH]);
}

#[test]
fn an_upward_import_by_the_name_of_an_imported_module_is_reported() {
    let text = "use crate::controller::watch as seen;\nfn f() { seen::start(); }\n";
    let expected = ["domain/binding.rs -> controller/watch.rs self", "domain/binding.rs -> controller/watch.rs start"];
    breaks(&LAYERS, &[("domain/binding.rs", text), WATCH], &expected);
    keeps(&LAYERS, &[("run.rs", text), WATCH]);
}

#[test]
fn a_higher_file_that_re_exports_a_lower_item_is_still_higher() {
    let higher = ("controller/mod.rs", "pub use crate::api::Spec;");
    let api = ("api/mod.rs", "pub struct Spec;");
    let expected = ["domain/binding.rs -> controller/mod.rs Spec"];
    breaks(&LAYERS, &[("domain/binding.rs", "use crate::controller::Spec;"), higher, api], &expected);
    keeps(&LAYERS, &[("domain/binding.rs", "use crate::api::Spec;"), higher, api]);
}

#[test]
fn a_folder_without_a_layer_is_reported() {
    breaks(&LAYERS, &[("helpers/text.rs", "fn f() {}")], &["helpers/text.rs no layer"]);
    keeps(&LAYERS, &[("domain/text.rs", "fn f() {}"), ("main.rs", "fn main() {}"), ("lib.rs", "pub mod domain;")]);
}

#[test]
fn code_from_elsewhere_is_reported() {
    for text in ["#[path = \"../other.rs\"]\nmod other;", "include!(\"other.rs\");"] {
        breaks(&LAYERS, &[("domain/text.rs", text)], &["domain/text.rs detour"]);
    }
    keeps(&LAYERS, &[("domain/text.rs", "mod other;\nconst A: &str = include_str!(\"a.txt\");")]);
}

#[test]
fn a_circle_of_two_files_is_reported() {
    let a = ("domain/a.rs", "use crate::domain::b::B;\npub struct A(B);\n");
    let b = ("domain/b.rs", "pub struct B;\nfn f(_: &crate::domain::a::A) {}\n");
    let edges = ["domain/a.rs -> domain/b.rs", "domain/b.rs -> domain/a.rs"];
    breaks(&CIRCLES, &[a, b], &edges);
    let found = (CIRCLES.check)(&program(&[a, b]), &[]);
    assert!(found[0].text.contains("`B` closes domain/a.rs -> domain/b.rs -> domain/a.rs."), "{found:?}");
    let user = ("domain/c.rs", "use crate::domain::a::A;\n");
    breaks(&CIRCLES, &[a, b, user], &edges);
    keeps(&CIRCLES, &[a, ("domain/b.rs", "pub struct B;\n"), user]);
    assert_eq!(keys(&CIRCLES, &[a, b], &["domain/b.rs"]), [""; 0], "a file that is replaced is exempt");
}

#[test]
fn a_circle_by_way_of_a_re_export_is_reported() {
    let parent = ("domain/mod.rs", "pub mod a;\npub mod b;\npub use a::A;\n");
    let a = ("domain/a.rs", "use super::b::*;\npub struct A(B);\n");
    let b = ("domain/b.rs", "use crate::domain::A;\npub struct B;\n");
    breaks(&CIRCLES, &[parent, a, b], &["domain/a.rs -> domain/b.rs", "domain/b.rs -> domain/a.rs"]);
    keeps(&CIRCLES, &[parent, a, ("domain/b.rs", "pub struct B;\n")]);
}

#[test]
fn a_child_that_imports_an_item_of_its_parent_is_reported() {
    let parent = ("domain/payload.rs", "mod json;\npub use json::Json;\npub struct Payload;\n");
    let expected = ["domain/payload/json.rs -> domain/payload.rs Payload"];
    for text in ["use super::Payload;", "use crate::domain::payload::{Payload};", "fn f(_: super::Payload) {}"] {
        breaks(&PARENTS, &[parent, ("domain/payload/json.rs", text)], &expected);
    }
    let glob = ("domain/payload/json.rs", "use super::*;");
    breaks(&PARENTS, &[parent, glob], &["domain/payload/json.rs -> domain/payload.rs *"]);

    let sibling = ("domain/payload/object.rs", "use super::Json;\n");
    let json = ("domain/payload/json.rs", "pub struct Json;\n");
    keeps(&PARENTS, &[parent, json, sibling]);
    keeps(&PARENTS, &[parent, ("domain/payload/json.rs", "#[cfg(test)]\nmod tests {\n    use super::super::*;\n}\n")]);
}

#[test]
fn the_table_counts_items_between_folders() {
    let files = [
        ("api/mod.rs", "pub struct Spec;\npub struct Status;\n"),
        ("domain/a.rs", "use crate::api::{Spec, Status};\n"),
        ("domain/b.rs", "use crate::api::Spec;\nuse crate::domain::a;\n"),
    ];
    assert_eq!(table(&program(&files)).split_whitespace().collect::<Vec<_>>(), ["api", "domain", "2"]);
}
