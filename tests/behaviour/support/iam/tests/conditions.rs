//! The condition operators one by one, as AWS's reference describes them.

use serde_json::{Value, json};

use super::allows;
use crate::iam::context::Context;

fn holds(operator: &str, key: &str, expected: &Value, context: &Context) -> bool {
    let statement =
        json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {operator: {key: expected}}});
    allows(&statement, ("a:B", "*"), context)
}

const TAG: &str = "aws:PrincipalTag/x";
const KEYS: &str = "aws:TagKeys";

#[test]
fn texts_are_compared_as_their_operator_says() {
    let of = |value: &str| Context::new().with(TAG, value);
    for (operator, expected, given, result) in [
        ("StringEquals", "a", "a", true),
        ("StringEquals", "a", "A", false),
        ("StringEquals", "a*", "ab", false),
        ("StringEquals", "a*", "a*", true),
        ("StringNotEquals", "a", "b", true),
        ("StringNotEquals", "a", "a", false),
        ("StringEqualsIgnoreCase", "Ab", "aB", true),
        ("StringNotEqualsIgnoreCase", "Ab", "aB", false),
        ("StringLike", "a*c", "abbc", true),
        ("StringLike", "a*c", "ABC", false),
        ("StringLike", "a?c", "ac", false),
        ("StringLike", "*", "", true),
        ("StringLike", "", "", true),
        ("StringLike", "", "a", false),
        ("StringNotLike", "a*", "ab", false),
        ("StringNotLike", "a*", "ba", true),
        // The guide's case in which text matches and an ARN does not.
        (
            "StringLike",
            "arn:aws:s:*:111122223333:finance/*",
            "arn:aws:s:us-east-2:999999999999:store/abc:111122223333:finance/d",
            true,
        ),
        (
            "ArnLike",
            "arn:aws:s:*:111122223333:finance/*",
            "arn:aws:s:us-east-2:999999999999:store/abc:111122223333:finance/d",
            false,
        ),
        ("ArnLike", "arn:aws:s:*:111122223333:finance/*", "arn:aws:s:us-east-2:111122223333:finance/a/b:c", true),
        ("ArnEquals", "arn:aws:s:*:111122223333:finance/*", "arn:aws:s:us-east-2:111122223333:finance/d", true),
        ("ArnNotEquals", "arn:aws:s::1:x*", "arn:aws:s::1:xy", false),
        ("ArnNotLike", "arn:aws:s::1:x*", "arn:aws:s::1:y", true),
        ("ArnLike", "arn:aws:s::1:x", "no-arn", false),
        ("ArnNotLike", "arn:aws:s::1:x", "no-arn", true),
        ("Bool", "true", "True", true),
        ("Bool", "false", "true", false),
        ("Bool", "true", "yes", false),
    ] {
        assert_eq!(holds(operator, TAG, &json!(expected), &of(given)), result, "{given:?} {operator} {expected:?}");
    }
}

#[test]
fn an_absent_key_matches_only_where_something_must_differ_or_may_be_absent() {
    let nothing = Context::new();
    for (operator, expected, result) in [
        ("StringEquals", "a", false),
        ("StringLike", "*", false),
        ("StringNotEquals", "a", true),
        ("StringNotLike", "*", true),
        ("ArnLike", "*", false),
        ("ArnNotLike", "*", true),
        ("Bool", "false", false),
        ("NumericNotEquals", "1", true),
        ("StringEqualsIfExists", "a", true),
        ("StringLikeIfExists", "a", true),
        ("StringNotEqualsIfExists", "a", true),
        ("BoolIfExists", "true", true),
        ("ArnLikeIfExists", "*", true),
        ("Null", "true", true),
        ("Null", "false", false),
    ] {
        assert_eq!(holds(operator, TAG, &json!(expected), &nothing), result, "{operator}");
    }
}

#[test]
fn several_values_of_a_policy_are_alternatives_and_for_a_negation_all_must_differ() {
    let of = |value: &str| Context::new().with(TAG, value);
    assert!(holds("StringEquals", TAG, &json!(["a", "b"]), &of("b")));
    assert!(!holds("StringNotEquals", TAG, &json!(["a", "b"]), &of("b")));
    assert!(holds("StringNotEquals", TAG, &json!(["a", "b"]), &of("c")));
    assert!(!holds("StringEquals", TAG, &json!([]), &of("a")), "nothing is listed, so nothing is equal");
    assert!(holds("Bool", TAG, &json!(true), &of("true")), "JSON's own true is as good as the text");
    assert!(holds("NumericLessThan", TAG, &json!(900), &of("899")), "and its own number");
}

/// The tables of "Evaluation logic for multiple values with condition set operators".
#[test]
fn several_values_of_a_request_are_taken_together_by_the_set_operators() {
    let of = |keys: &[&str]| Context::new().with_all(KEYS, keys.iter().map(|key| (*key).to_owned()));
    let listed = json!(["PostDateTime", "Message", "Tags"]);
    for (operator, given, result) in [
        ("ForAllValues:StringEquals", &["PostDateTime", "UserName"][..], false),
        ("ForAllValues:StringEquals", &["PostDateTime", "Message"], true),
        ("ForAllValues:StringEquals", &[], true),
        ("ForAnyValue:StringEquals", &["PostDateTime", "UserName"], true),
        ("ForAnyValue:StringEquals", &["UserName"], false),
        ("ForAnyValue:StringEquals", &[], false),
        ("ForAllValues:StringNotEquals", &["UserName"], true),
        ("ForAllValues:StringNotEquals", &["PostDateTime", "UserName"], false),
        ("ForAllValues:StringNotEquals", &[], true),
        ("ForAnyValue:StringNotEquals", &["PostDateTime", "UserName"], true),
        ("ForAnyValue:StringNotEquals", &["PostDateTime"], false),
        ("ForAnyValue:StringNotEquals", &[], false),
        ("ForAnyValue:StringLike", &["Tags"], true),
    ] {
        assert_eq!(holds(operator, KEYS, &listed, &of(given)), result, "{operator} {given:?}");
    }
}

#[test]
fn all_keys_and_all_operators_of_a_block_must_hold() {
    let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {
        "StringEqualsIgnoreCase": {"aws:PrincipalTag/department": ["finance", "hr", "legal"],
            "aws:PrincipalTag/role": ["audit", "security"]},
        "StringEquals": {"aws:PrincipalAccount": "123456789012"}}});
    let of = |department: &str, role: &str, account: &str| {
        let context = Context::new()
            .with("aws:PrincipalTag/department", department)
            .with("aws:principaltag/ROLE", role)
            .with("AWS:PrincipalAccount", account);
        allows(&statement, ("a:B", "*"), &context)
    };
    assert!(of("HR", "Audit", "123456789012"));
    assert!(!of("it", "audit", "123456789012"));
    assert!(!of("hr", "admin", "123456789012"));
    assert!(!of("hr", "audit", "210987654321"));
}
