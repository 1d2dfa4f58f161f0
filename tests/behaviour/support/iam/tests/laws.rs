//! What holds whatever the policies say.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{decide, identity, resource, session, user};
use crate::iam::context::Context;
use crate::iam::evaluate::Principal;
use crate::iam::pattern::{ArnPattern, Pattern};

/// Texts over few characters, so that patterns often match.
fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!["a", "b", "/", "-"]), 0..8).prop_map(|parts| parts.concat())
}

fn glob() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!["a", "b", "/", "-", "*", "?"]), 0..8)
        .prop_map(|parts| parts.concat())
}

fn statement() -> impl Strategy<Value = Value> {
    let effect = prop::sample::select(vec!["Allow", "Allow", "Deny"]);
    let action = prop::sample::select(vec!["*", "s:*", "s:Get*", "s:Put"]);
    let condition = prop::sample::select(vec![
        json!({}),
        json!({"StringEquals": {"aws:PrincipalTag/t": "a"}}),
        json!({"StringNotEquals": {"aws:PrincipalTag/t": "a"}}),
        json!({"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}),
    ]);
    (effect, action, glob(), condition).prop_map(|(effect, action, glob, condition)| {
        json!({"Effect": effect, "Action": action, "Resource": format!("arn:aws:s:::{glob}"), "Condition": condition})
    })
}

fn context() -> impl Strategy<Value = Context> {
    let tag = prop::option::of(prop::sample::select(vec!["a", "b"]));
    let mfa = prop::option::of(prop::sample::select(vec!["true", "false"]));
    (tag, mfa).prop_map(|(tag, mfa)| {
        Context::new().with_some("aws:PrincipalTag/t", tag).with_some("aws:MultiFactorAuthPresent", mfa)
    })
}

fn principal() -> impl Strategy<Value = Principal> {
    prop::sample::select(vec![
        user("arn:aws:iam::123456789012:user/alice"),
        session("arn:aws:iam::123456789012:role/r", "s"),
        session("arn:aws:iam::210987654321:role/r", "s"),
    ])
}

/// The plainest way to match, by trying every split.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|from| matches(rest, &text[from..])),
        Some((b'?', rest)) => !text.is_empty() && matches(rest, &text[1..]),
        Some((first, rest)) => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn a_pattern_matches_what_trying_all_splits_matches(glob in glob(), text in text()) {
        let pattern = Pattern::wildcard(&glob).unwrap();
        prop_assert_eq!(pattern.matches(&Context::new(), &text), matches(glob.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn a_pattern_without_wildcards_matches_itself_and_nothing_else(own in text(), other in text()) {
        let pattern = Pattern::wildcard(&own).unwrap();
        prop_assert!(pattern.matches(&Context::new(), &own));
        prop_assert_eq!(pattern.matches(&Context::new(), &other), own == other);
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error_and_never_a_panic(text in "\\PC{0,40}") {
        if let Ok(pattern) = Pattern::wildcard(&text) {
            pattern.matches(&Context::new(), &text);
        }
        if let Ok(pattern) = ArnPattern::parse(&text) {
            pattern.matches(&Context::new(), &text);
        }
    }

    #[test]
    fn a_deny_that_applies_wins_wherever_it_stands(
        statements in prop::collection::vec(statement(), 1..5), at in 0..6_usize, context in context(), who in principal(),
        name in text(), in_resource in any::<bool>(),
    ) {
        let on = format!("arn:aws:s:::{name}");
        let deny = json!({"Effect": "Deny", "Action": "s:Get", "Resource": on});
        let mut own = statements.clone();
        let mut of_resource: Vec<Value> = statements;
        if in_resource {
            of_resource.insert(at.min(of_resource.len()), deny);
        } else {
            own.insert(at.min(own.len()), deny);
        }
        for statement in &mut of_resource {
            statement["Principal"] = json!("*");
        }
        let decision = decide(&who, ("s:Get", &on), &context, &[identity(&json!(own))], Some(&resource(&json!(of_resource))));
        prop_assert!(!decision.is_allowed());
    }

    #[test]
    fn the_order_of_statements_and_policies_does_not_matter(
        statements in prop::collection::vec(statement(), 1..6), context in context(), who in principal(), name in text(),
    ) {
        let on = format!("arn:aws:s:::{name}");
        let asked = |policies: &[_]| decide(&who, ("s:Get", &on), &context, policies, None).is_allowed();
        let reversed: Vec<_> = statements.iter().rev().cloned().collect();
        let apart: Vec<_> = statements.iter().map(identity).collect();
        let together = asked(&[identity(&json!(statements))]);
        prop_assert_eq!(together, asked(&[identity(&json!(reversed))]));
        prop_assert_eq!(together, asked(&apart));
    }

    #[test]
    fn a_further_deny_never_allows_and_a_further_allow_never_denies(
        statements in prop::collection::vec(statement(), 1..5), more in statement(), context in context(),
        who in principal(), name in text(),
    ) {
        let on = format!("arn:aws:s:::{name}");
        let asked = |statements: &[Value]| {
            decide(&who, ("s:Get", &on), &context, &[identity(&json!(statements))], None).is_allowed()
        };
        let before = asked(&statements);
        let after = asked(&[statements.as_slice(), std::slice::from_ref(&more)].concat());
        if more["Effect"] == "Deny" { prop_assert!(before || !after) } else { prop_assert!(after || !before) }
    }

    #[test]
    fn without_an_allow_nothing_is_allowed(
        statements in prop::collection::vec(statement(), 0..5), context in context(), who in principal(), name in text(),
    ) {
        let denies: Vec<_> = statements.into_iter().filter(|statement| statement["Effect"] == "Deny").collect();
        let policies: Vec<_> = denies.iter().map(identity).collect();
        let decision = decide(&who, ("s:Get", &format!("arn:aws:s:::{name}")), &context, &policies, None);
        prop_assert!(!decision.is_allowed());
    }
}
