//! Where impls and names of types stand.

use super::{breaks, keeps};
use crate::rules::{HOMES, IMPLS};

#[test]
fn a_foreign_impl_is_reported() {
    let home =
        ("domain/binding.rs", "pub struct Binding;\nimpl Binding { fn f() {} }\nmod inner { impl super::Binding {} }");
    for text in [
        "use crate::domain::binding::Binding;\nimpl Binding { fn g() {} }",
        "use crate::domain::binding::Binding as B;\nimpl B { fn g() {} }",
        "impl super::binding::Binding { fn g() {} }",
        "type B = crate::domain::binding::Binding;\nimpl B { fn g() {} }",
    ] {
        breaks(&IMPLS, &[home, ("domain/grant.rs", text)], &["domain/grant.rs Binding"]);
    }
    let of_trait = "use crate::domain::binding::Binding;\nimpl Clone for Binding {}\nstruct Grant;\nimpl Grant {}";
    keeps(&IMPLS, &[home, ("domain/grant.rs", of_trait)]);
}

#[test]
fn an_impl_of_a_resource_stands_where_its_spec_does() {
    let home = (
        "api/secret_grant.rs",
        "#[derive(CustomResource)]\n#[kube(group = \"a\", kind = \"SecretGrant\")]\npub struct SecretGrantSpec;\n\
         impl SecretGrant {}\n",
    );
    keeps(&IMPLS, &[home]);
    let foreign = ("domain/grant.rs", "use crate::api::secret_grant::SecretGrant;\nimpl SecretGrant {}");
    breaks(&IMPLS, &[home, foreign], &["domain/grant.rs SecretGrant"]);
}

#[test]
fn a_second_home_of_a_public_name_is_reported() {
    let first = ("domain/a.rs", "pub struct Step;");
    for text in
        ["pub(crate) enum Step {}", "pub(super) trait Step {}", "pub type Step = u8;", "made! { pub enum Step {} }"]
    {
        breaks(&HOMES, &[first, ("state/b.rs", text)], &["domain/a.rs Step", "state/b.rs Step"]);
    }
    for text in ["struct Step;", "pub(self) struct Step;", "pub use crate::domain::a::Step;", "pub fn Step() {}"] {
        keeps(&HOMES, &[first, ("state/b.rs", text)]);
    }
    let associated = ("state/b.rs", "impl Iterator for A { type Step = u8; }\n#[cfg(test)]\npub struct Step;");
    keeps(&HOMES, &[first, associated]);
}
