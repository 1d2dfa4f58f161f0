//! Bounds on functions, types and files.

use super::{breaks, keeps, keys};
use crate::rules::{ARGUMENTS, FILES, FUNCTIONS, TYPES};

/// A body of this many lines between the braces.
fn function(head: &str, lines: usize) -> String {
    format!("{head} {{\n{}}}\n", "    // A line.\n".repeat(lines))
}

#[test]
fn a_long_function_is_reported() {
    let long = function("fn long()", 59);
    breaks(&FUNCTIONS, &[("domain/a.rs", &long)], &["domain/a.rs long"]);
    let method = format!("struct A;\nimpl A {{\n{long}}}\nimpl Drop for A {{\n{long}}}\n");
    breaks(&FUNCTIONS, &[("domain/a.rs", &method)], &["domain/a.rs <A as Drop>::long", "domain/a.rs A::long"]);
    let nested = format!("trait T {{\n{long}}}\nmod m {{\n{long}}}\n");
    breaks(&FUNCTIONS, &[("domain/a.rs", &nested)], &["domain/a.rs T::long", "domain/a.rs m::long"]);
    let twice = format!("impl From<u8> for A {{\n{long}}}\nimpl From<i8> for A {{\n{long}}}\n");
    let expected = ["domain/a.rs <A as From>::long", "domain/a.rs <A as From>::long 2"];
    breaks(&FUNCTIONS, &[("domain/a.rs", &twice)], &expected);

    keeps(&FUNCTIONS, &[("domain/a.rs", &function("/// Says.\n#[inline]\npub fn just_not_long()", 58))]);
    assert_eq!(keys(&FUNCTIONS, &[("domain/a.rs", &long)], &["domain/a.rs"]), [""; 0], "exempt");
}

#[test]
fn six_arguments_are_reported() {
    for text in [
        "fn f(a: A, b: B, c: C, d: D, e: E, f: F) {}",
        "impl A { fn f(&self, b: B, c: C, d: D, e: E, f: F) {} }",
        "trait A { fn f(&self, b: B, c: C, d: D, e: E, f: F); }",
    ] {
        let name = if text.starts_with("fn") { "f" } else { "A::f" };
        breaks(&ARGUMENTS, &[("domain/a.rs", text)], &[&format!("domain/a.rs {name}")]);
    }
    keeps(&ARGUMENTS, &[("domain/a.rs", "fn f(a: A, b: B, c: C, d: D, e: E) {}")]);
    keeps(&ARGUMENTS, &[("domain/a.rs", "impl T for A { fn f(&self, b: B, c: C, d: D, e: E, f: F) {} }")]);
}

#[test]
fn a_tuple_that_dodges_is_reported() {
    for text in [
        "fn f(a: A, (b, c): (B, C), d: D, (e, f): (E, F)) {}",
        "fn f(a: A, b: B, c: C, d: &(D, (E, F))) {}",
        "fn f(a: A, b: B, c: C, d: Option<(D, E, F)>) {}",
        "type Pair = (B, C);\nfn f(a: A, b: Pair, c: &Pair, d: D) {}",
        "fn f((a, b, c, d): (A, B, C, D)) {}",
        "fn f(all: &[(A, B, C, D)]) {}",
        "type All = Vec<(A, B, C, D)>;\nfn f(all: &All) {}",
    ] {
        breaks(&ARGUMENTS, &[("domain/a.rs", text)], &["domain/a.rs f"]);
    }
    let alias = ("domain/b.rs", "use super::c::Many;\nfn f(many: &Many) {}");
    breaks(&ARGUMENTS, &[alias, ("domain/c.rs", "pub type Many = (A, B, C, D);")], &["domain/b.rs f"]);
    for text in ["fn f((a, b): (A, B), c: C, d: &[(D, E, F)], e: E) {}", "fn f(each: impl Fn(A, B, C, D), unit: ()) {}"]
    {
        keeps(&ARGUMENTS, &[("domain/a.rs", text)]);
    }
}

#[test]
fn eleven_fields_are_reported() {
    let with = |count: usize| "f: u8, ".repeat(count);
    let (eleven, ten) = (with(11), with(10));
    for text in [format!("struct Large {{ {eleven} }}"), format!("enum Large {{ A, B {{ {eleven} }} }}")] {
        breaks(&TYPES, &[("reconcile/a.rs", &text)], &["reconcile/a.rs Large"]);
        keeps(&TYPES, &[("domain/a.rs", &text)]);
    }
    keeps(&TYPES, &[("controller/a.rs", &format!("struct A {{ {ten} }}\nenum B {{ C {{ {ten} }}, D {{ {ten} }} }}"))]);
}

#[test]
fn sixteen_methods_over_two_impls_are_reported() {
    let with = |count: usize| "fn f() {}\n".repeat(count);
    let home = format!("pub struct Large;\nimpl Large {{\n{}}}\n", with(8));
    let other = format!("use super::a::Large as L;\nimpl L {{\n{}}}\n", with(8));
    let fewer = format!("use super::a::Large as L;\nimpl L {{\n{}}}\nimpl T for L {{\n{}}}\n", with(7), with(8));
    let home = ("controller/a.rs", home.as_str());
    breaks(&TYPES, &[home, ("controller/b.rs", &other)], &["controller/a.rs Large"]);
    keeps(&TYPES, &[home, ("controller/b.rs", &fewer)]);
}

#[test]
fn a_long_file_is_reported() {
    let lines = |count| "// A line.\n".repeat(count);
    breaks(&FILES, &[("domain/a.rs", &lines(450))], &["domain/a.rs"]);
    keeps(&FILES, &[("domain/a.rs", &lines(449))]);
    assert_eq!(keys(&FILES, &[("domain/a.rs", &lines(450))], &["domain/a.rs"]), [""; 0], "exempt");
}
