//! What is not understood is refused by name, and never taken for an Allow.

use serde_json::{Value, json};

use crate::iam::Policy;
use crate::iam::policy::Kind;

fn read(kind: Kind, text: &str) -> Result<Policy, String> {
    let read = match kind {
        Kind::Identity => Policy::identity("p", text),
        Kind::Resource => Policy::resource("p", text),
        Kind::Trust => Policy::trust("p", text),
        Kind::Key => Policy::key("p", text),
    };
    read.map_err(|error| error.to_string())
}

/// A statement that is right, with some parts changed; `null` takes one out.
fn changed(change: &Value) -> String {
    let mut statement = json!({"Sid": "S", "Effect": "Allow", "Action": "a:B", "Resource": "*"});
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            statement.as_object_mut().unwrap().remove(name);
        } else {
            statement[name] = value.clone();
        }
    }
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

#[test]
fn a_statement_that_is_not_understood_is_an_error_that_names_the_part() {
    assert!(read(Kind::Identity, &changed(&json!({}))).is_ok());
    for (change, expected) in [
        (json!({"Effect": "allow"}), "unknown variant `allow`"),
        (json!({"Effect": null}), "missing field `Effect`"),
        (json!({"Actions": "a:B"}), "unknown field `Actions`"),
        (json!({"Action": null}), "p/S: exactly one of Action and NotAction is needed"),
        (json!({"NotAction": "a:C"}), "p/S: exactly one of Action and NotAction is needed"),
        (
            json!({"Action": "GetSecretValue"}),
            "p/S: the action \"GetSecretValue\" is neither `*` nor service:operation",
        ),
        (json!({"Action": "*:Get"}), "p/S: the action \"*:Get\" is neither"),
        (json!({"Action": "a:${aws:username}"}), "has a variable"),
        (json!({"Action": 1}), "invalid type"),
        (json!({"Resource": null}), "p/S: exactly one of Resource and NotResource is needed"),
        (json!({"Resource": "secret"}), "p/S: \"secret\" is neither `*` nor an ARN of six parts"),
        (json!({"Resource": "arn:aws:s*:::x"}), "has a wildcard for the service"),
        (json!({"Resource": "arn:aws:s:::${aws:username"}), "has a variable that is not closed"),
        (json!({"Resource": "arn:aws:s:::x-${aws:User}"}), "the condition key aws:User is not known here"),
        (json!({"Resource": "arn:aws:s:::x-${aws:TagKeys}"}), "may have several values and cannot be a variable"),
        (
            json!({"Resource": "arn:aws:s:::x-${aws:username, none}"}),
            "the default in ${aws:username, none} is not in quotes",
        ),
        (json!({"Principal": "*"}), "p/S: a policy of an identity names no principal"),
        (
            json!({"Condition": {"StringMatches": {"aws:username": "x"}}}),
            "the condition operator StringMatches is not known here",
        ),
        (
            json!({"Condition": {"stringequals": {"aws:username": "x"}}}),
            "the condition operator stringequals is not known here",
        ),
        (json!({"Condition": {"DateLessThan": {"aws:username": "x"}}}), "DateLessThan is not known here"),
        (json!({"Condition": {"IpAddress": {"aws:username": "x"}}}), "IpAddress is not known here"),
        (json!({"Condition": {"ForSomeValues:StringEquals": {"aws:username": "x"}}}), "is not known here"),
        (json!({"Condition": {"ForAnyValue:StringEqualsIfExists": {"aws:TagKeys": "x"}}}), "is not known here"),
        (json!({"Condition": {"NullIfExists": {"aws:username": "true"}}}), "is not known here"),
        (
            json!({"Condition": {"StringEquals": {"aws:SourceIp": "x"}}}),
            "the condition key aws:SourceIp is not known here",
        ),
        (json!({"Condition": {"StringEquals": {"aws:PrincipalTag/": "x"}}}), "aws:PrincipalTag/ is not known here"),
        (json!({"Condition": {"StringEquals": {"localhost:sub": "x"}}}), "localhost:sub is not known here"),
        (json!({"Condition": {"StringEquals": {"aws:TagKeys": "x"}}}), "aws:tagkeys wants ForAnyValue or ForAllValues"),
        (json!({"Condition": {"Bool": {"aws:SecureTransport": "yes"}}}), "\"yes\" is not true or false"),
        (json!({"Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "15m"}}}), "\"15m\" is not a whole number"),
        (json!({"Condition": {"ArnLike": {"aws:PrincipalArn": "role/x"}}}), "is neither `*` nor an ARN of six parts"),
        (json!({"Condition": {"Null": {"aws:username": ["true", "false"]}}}), "wants true or false"),
        (json!({"Condition": {"StringEquals": {"aws:username": {}}}}), "a value for aws:username is no text"),
        (json!({"Condition": {"StringEqualsIgnoreCase": {"aws:userid": "${aws:username}"}}}), "free of variables"),
    ] {
        let error = read(Kind::Identity, &changed(&change)).expect_err(&change.to_string());
        assert!(error.contains(expected), "{change}: {error}");
    }
}

#[test]
fn a_policy_that_is_not_understood_is_an_error() {
    for (text, expected) in [
        ("", "EOF"),
        ("[]", "invalid length"),
        (r#"{"Statement": []}"#, "missing field `Version`"),
        (
            r#"{"Version": "2008-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#,
            "is not 2012-10-17",
        ),
        (r#"{"Version": "2012-10-17", "Statement": []}"#, "there is no statement"),
        (r#"{"Version": "2012-10-17", "Statement": {}, "Comment": ""}"#, "missing field `Effect`"),
        (r#"{"Version": "2012-10-17", "Comment": "", "Statement": []}"#, "unknown field `Comment`"),
        // Of two parts with one name a reader sees both, and a parser would take one.
        (
            r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Effect": "Allow", "Action": "*", "Resource": "*"}}"#,
            "duplicate field `Effect`",
        ),
        (
            r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition":
                {"Bool": {"aws:SecureTransport": "true"}, "Bool": {"aws:ViaAWSService": "true"}}}}"#,
            "Bool stands twice",
        ),
        (
            r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition":
                {"Bool": {"aws:SecureTransport": "true", "aws:SecureTransport": "false"}}}}"#,
            "aws:SecureTransport stands twice",
        ),
    ] {
        let error = read(Kind::Identity, text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn principals_are_refused_as_aws_refuses_them() {
    for (kind, change, expected) in [
        (Kind::Resource, json!({}), "exactly one of Principal and NotPrincipal is needed"),
        (Kind::Resource, json!({"Principal": "123456789012"}), "the principal \"123456789012\" is not `*`"),
        (
            Kind::Resource,
            json!({"Principal": {"AWS": "arn:aws:iam::123456789012:role/*"}}),
            "has a wildcard or variable",
        ),
        (Kind::Resource, json!({"Principal": {"AWS": "alice"}}), "the principal \"alice\" is not an ARN"),
        (Kind::Resource, json!({"Principal": {"Service": "*"}}), "has a wildcard or variable"),
        (
            Kind::Resource,
            json!({"Principal": {"CanonicalUser": "79a5"}}),
            "principals of the kind CanonicalUser are not known here",
        ),
        (Kind::Resource, json!({"NotPrincipal": {"AWS": "123456789012"}}), "NotPrincipal goes with Deny only"),
        (Kind::Resource, json!({"Principal": "*", "NotPrincipal": "*"}), "exactly one of Principal and NotPrincipal"),
        (Kind::Trust, json!({"Principal": "*"}), "a trust policy names no resource"),
        (Kind::Trust, json!({"NotPrincipal": "*", "Resource": null, "Effect": "Deny"}), "cannot have NotPrincipal"),
        (Kind::Key, json!({"Principal": "*", "Resource": null}), "exactly one of Resource and NotResource is needed"),
    ] {
        let error = read(kind, &changed(&change)).expect_err(&change.to_string());
        assert!(error.contains(expected), "{change}: {error}");
    }
}
