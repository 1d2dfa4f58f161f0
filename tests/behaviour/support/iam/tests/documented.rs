//! The worked examples of AWS's user guides.

use serde_json::{Value, json};

use super::{allows, decide, identity, resource, session, trust, user};
use crate::iam::context::Context;
use crate::iam::evaluate::{Decision, Denial, Principal, Request, evaluate};
use crate::iam::policy::Kind;

fn explicit(kind: Kind, by: &str) -> Decision {
    Decision::Denied(Denial::Explicit { by: by.to_owned(), kind })
}

fn implicit(missing: Kind) -> Decision {
    Decision::Denied(Denial::Implicit { missing })
}

#[test]
fn carlos_may_write_to_his_own_bucket_and_not_to_the_one_for_logs() {
    let carlos = user("arn:aws:iam::123456789012:user/carlossalazar");
    let own = identity(&json!([
        {"Sid": "AllowS3ListRead", "Effect": "Allow", "Action": ["s3:GetBucketLocation", "s3:ListAllMyBuckets"],
            "Resource": "arn:aws:s3:::*"},
        {"Sid": "AllowS3Self", "Effect": "Allow", "Action": "s3:*",
            "Resource": ["arn:aws:s3:::carlossalazar/*", "arn:aws:s3:::carlossalazar"]},
        {"Sid": "DenyS3Logs", "Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::*log*"},
    ]));
    let bucket = resource(&json!({"Sid": "Carlos", "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:user/carlossalazar"}, "Action": "s3:*",
        "Resource": ["arn:aws:s3:::carlossalazar/*", "arn:aws:s3:::carlossalazar"]}));
    let put = |on, policy| decide(&carlos, ("s3:PutObject", on), &Context::new(), std::slice::from_ref(&own), policy);
    assert_eq!(put("arn:aws:s3:::carlossalazar-logs/file", None), explicit(Kind::Identity, "identity/DenyS3Logs"));
    let both = Decision::Allowed { by: vec!["identity/AllowS3Self".to_owned(), "resource/Carlos".to_owned()] };
    assert_eq!(put("arn:aws:s3:::carlossalazar/file", Some(&bucket)), both);
    assert!(put("arn:aws:s3:::carlossalazar/file", None).is_allowed(), "one of the two is enough");
    let by_bucket =
        decide(&carlos, ("s3:PutObject", "arn:aws:s3:::carlossalazar/file"), &Context::new(), &[], Some(&bucket));
    assert!(by_bucket.is_allowed(), "and the other as well");
    assert_eq!(put("arn:aws:s3:::somebody/file", None), implicit(Kind::Identity));
}

#[test]
fn across_accounts_both_sides_must_allow() {
    let carlos = user("arn:aws:iam::111111111111:user/carlossalazar");
    let own = identity(&json!([
        {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:*Object*", "Resource": "arn:aws:s3:::Production/*"},
        {"Sid": "DenyS3Logs", "Effect": "Deny", "Action": "s3:*",
            "Resource": ["arn:aws:s3:::*log*", "arn:aws:s3:::*log*/*"]},
    ]));
    let bucket = resource(&json!({"Effect": "Allow", "Action": ["s3:GetObject*", "s3:PutObject*"],
        "Principal": {"AWS": "arn:aws:iam::111111111111:user/carlossalazar"}, "Resource": "arn:aws:s3:::Production/*"}));
    let put = |on, identity: &[_], policy| {
        let context = Context::new();
        let request = Request {
            principal: &carlos,
            action: "s3:PutObject",
            resource: on,
            account: "222222222222",
            context: &context,
        };
        evaluate(&request, identity, policy)
    };
    let own = [own];
    assert_eq!(put("arn:aws:s3:::Production-logs/f", &own, None), explicit(Kind::Identity, "identity/DenyS3Logs"));
    assert!(put("arn:aws:s3:::Production/f", &own, Some(&bucket)).is_allowed());
    assert_eq!(put("arn:aws:s3:::Production/f", &own, None), implicit(Kind::Resource));
    assert_eq!(put("arn:aws:s3:::Production/f", &[], Some(&bucket)), implicit(Kind::Identity));
}

#[test]
fn what_is_neither_allowed_nor_denied_is_denied_and_a_deny_beats_what_is_allowed_later() {
    let alice = user("arn:aws:iam::123456789012:user/alice");
    let get_and_list = identity(&json!([
        {"Sid": "AllowGetList", "Effect": "Allow", "Action": ["iam:Get*", "iam:List*"], "Resource": "*"},
        {"Sid": "DenyReports", "Effect": "Deny", "Action": "iam:*Report", "Resource": "*"},
    ]));
    let reports = identity(&json!({"Effect": "Allow", "Action": "iam:GenerateCredentialReport", "Resource": "*"}));
    let asked = |action, policies: &[_]| decide(&alice, (action, "*"), &Context::new(), policies, None);
    let one = [get_and_list.clone()];
    assert!(asked("iam:GetUser", &one).is_allowed());
    assert_eq!(asked("iam:CreatePolicy", &one), implicit(Kind::Identity));
    assert_eq!(asked("iam:GetOrganizationsAccessReport", &one), explicit(Kind::Identity, "identity/DenyReports"));
    let both = [get_and_list, reports];
    assert_eq!(asked("iam:GenerateCredentialReport", &both), explicit(Kind::Identity, "identity/DenyReports"));
}

/// RestartScope a policy of a resource names, and what comes of it without a policy of the identity, and with one.
#[test]
fn an_account_is_a_word_to_its_own_policies_and_a_principal_is_a_word_of_its_own() {
    let role = "arn:aws:iam::123456789012:role/path/reader";
    let asks = session(role, "bindery-a");
    let own = [identity(&json!({"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}))];
    for (named, alone, with_own) in [
        (json!("*"), true, true),
        (json!({"AWS": "*"}), true, true),
        (json!({"AWS": "123456789012"}), false, true),
        (json!({"AWS": "arn:aws:iam::123456789012:root"}), false, true),
        (json!({"AWS": role}), true, true),
        (json!({"AWS": "arn:aws:sts::123456789012:assumed-role/reader/bindery-a"}), true, true),
        (json!({"AWS": "arn:aws:sts::123456789012:assumed-role/reader/bindery-b"}), false, true),
        (json!({"AWS": "arn:aws:iam::123456789012:role/reader"}), false, true),
        (json!({"AWS": "arn:aws:iam::123456789012:role/path/Reader"}), false, true),
        (json!({"AWS": ["210987654321", role]}), true, true),
        (json!({"Service": "secretsmanager.amazonaws.com"}), false, true),
    ] {
        let policy =
            resource(&json!({"Effect": "Allow", "Principal": named, "Action": "secretsmanager:*", "Resource": "*"}));
        let asked = |own: &[_]| {
            let on =
                ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf");
            decide(&asks, on, &Context::new(), own, Some(&policy)).is_allowed()
        };
        assert_eq!((asked(&[]), asked(&own)), (alone, with_own), "{named}");
    }
}

#[test]
fn a_trust_policy_is_never_optional() {
    let alice = user("arn:aws:iam::123456789012:user/alice");
    let own = [identity(&json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}))];
    let other = json!({"AWS": "arn:aws:iam::123456789012:user/bob"});
    for (named, alone, with_own) in [
        (json!({"AWS": "arn:aws:iam::123456789012:user/alice"}), true, true),
        (json!({"AWS": "arn:aws:iam::123456789012:root"}), false, true),
        (other, false, false),
    ] {
        let policy = trust(&json!({"Effect": "Allow", "Principal": named, "Action": "sts:AssumeRole"}));
        let asked = |own: &[_]| {
            let on = ("sts:AssumeRole", "arn:aws:iam::123456789012:role/r");
            decide(&alice, on, &Context::new(), own, Some(&policy)).is_allowed()
        };
        assert_eq!((asked(&[]), asked(&own)), (alone, with_own), "{named}");
    }
}

/// The four combinations of AWS's page on `aws:MultiFactorAuthPresent`, and `Null`.
#[test]
fn mfa_is_asked_for_in_the_ways_that_the_guide_recommends_and_warns_of() {
    let long_term = Context::new();
    let without = Context::new().with("aws:MultiFactorAuthPresent", "false");
    let with = Context::new().with("aws:MultiFactorAuthPresent", "true");
    let allow = |operator: &str, value: &str| {
        json!({"Effect": "Allow", "Action": "ec2:*", "Resource": "*",
            "Condition": {operator: {"aws:MultiFactorAuthPresent": value}}})
    };
    let deny = |operator: &str, value: &str| {
        json!([{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"},
            {"Effect": "Deny", "Action": "ec2:*", "Resource": "*",
                "Condition": {operator: {"aws:MultiFactorAuthPresent": value}}}])
    };
    for (what, statements, expected) in [
        // Not recommended: long-term keys pass.
        ("Deny Bool false", deny("Bool", "false"), [true, false, true]),
        ("Deny BoolIfExists false", deny("BoolIfExists", "false"), [false, false, true]),
        ("Allow BoolIfExists true", allow("BoolIfExists", "true"), [true, false, true]),
        ("Allow Bool true", allow("Bool", "true"), [false, false, true]),
        // To be used with caution: it asks whether MFA could have been given.
        ("Allow Null false", allow("Null", "false"), [false, true, true]),
        ("Deny Null true", deny("Null", "true"), [false, true, true]),
    ] {
        let asked =
            [&long_term, &without, &with].map(|context| allows(&statements, ("ec2:StopInstances", "*"), context));
        assert_eq!(asked, expected, "{what}: long-term keys, a session without MFA, a session with it");
    }
}

#[test]
fn mfa_must_be_recent_and_long_term_keys_have_no_age() {
    let recent = |operator: &str| {
        json!({"Effect": "Allow", "Action": "ec2:*", "Resource": "*",
            "Condition": {operator: {"aws:MultiFactorAuthAge": "3600"}}})
    };
    let age = |seconds: &str| Context::new().with("aws:MultiFactorAuthAge", seconds);
    for (operator, context, expected) in [
        ("NumericLessThan", age("3599"), true),
        ("NumericLessThan", age("3600"), false),
        ("NumericLessThanEquals", age("3600"), true),
        ("NumericLessThan", age("soon"), false),
        ("NumericLessThan", Context::new(), false),
        ("NumericLessThanIfExists", Context::new(), true),
        ("NumericLessThanIfExists", age("3601"), false),
        ("NumericGreaterThan", age("3601"), true),
        ("NumericGreaterThanEquals", age("3599"), false),
        ("NumericEquals", age("3600"), true),
        ("NumericNotEquals", Context::new(), true),
    ] {
        assert_eq!(allows(&recent(operator), ("ec2:Start", "*"), &context), expected, "{operator} {context:?}");
    }
}

/// The example that AWS recommends in the place of `NotPrincipal`, on a secret.
#[test]
fn a_deny_for_all_whose_principal_arn_is_not_listed_lets_only_the_listed_pass() {
    let guard = resource(&json!({"Sid": "Guard", "Effect": "Deny", "Principal": "*",
        "Action": "secretsmanager:GetSecretValue", "Resource": "*",
        "Condition": {"ArnNotLike": {"aws:PrincipalArn": ["arn:aws:iam::123456789012:role/reader",
            "arn:aws:iam::123456789012:role/teams/*"]}}}));
    let admin = [identity(&json!({"Effect": "Allow", "Action": "*", "Resource": "*"}))];
    let asked = |principal: &Principal, action: &str| {
        let context = Context::new().with_some("aws:PrincipalArn", principal.principal_arn());
        let on = (action, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf");
        decide(principal, on, &context, &admin, Some(&guard)).is_allowed()
    };
    let read = "secretsmanager:GetSecretValue";
    for (principal, expected) in [
        (session("arn:aws:iam::123456789012:role/reader", "bindery-a"), true),
        (session("arn:aws:iam::123456789012:role/teams/deep/reader", "s"), true),
        (session("arn:aws:iam::123456789012:role/reader2", "s"), false),
        (session("arn:aws:iam::123456789012:role/path/reader", "s"), false),
        (session("arn:aws:iam::123456789012:role/READER", "s"), false),
        (user("arn:aws:iam::123456789012:user/reader"), false),
        (user("arn:aws:iam::123456789012:user/admin"), false),
    ] {
        assert_eq!(asked(&principal, read), expected, "{}", principal.arn());
        assert!(asked(&principal, "secretsmanager:DescribeSecret"), "the guard is about the value only");
        assert!(asked(&principal, "secretsmanager:PutResourcePolicy"), "so that nobody is locked out");
    }
    // A service of AWS has no such ARN, so that it differs from every listed one.
    let service = Principal::Service("example.amazonaws.com".to_owned());
    let on = (read, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf");
    assert_eq!(decide(&service, on, &Context::new(), &[], Some(&guard)), explicit(Kind::Resource, "resource/Guard"));
}

#[test]
fn not_principal_excepts_only_who_is_listed_with_account_and_role() {
    let role = "arn:aws:iam::123456789012:role/reader";
    let of_session = "arn:aws:sts::123456789012:assumed-role/reader/s";
    let own = [identity(&json!({"Effect": "Allow", "Action": "*", "Resource": "*"}))];
    let root = "arn:aws:iam::123456789012:root";
    for (listed, expected) in [
        (json!([root, role, of_session]), true),
        (json!([role, of_session]), false),
        (json!([root, of_session]), false),
        (json!([root, role]), false),
        (json!([root]), false),
    ] {
        let policy =
            resource(&json!({"Effect": "Deny", "NotPrincipal": {"AWS": listed}, "Action": "*", "Resource": "*"}));
        let on = ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf");
        assert_eq!(
            decide(&session(role, "s"), on, &Context::new(), &own, Some(&policy)).is_allowed(),
            expected,
            "{listed}"
        );
    }
}

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:";

/// From "Permissions policy examples for AWS Secrets Manager": a path, a name with its suffix, metadata only.
#[test]
fn look_alikes_of_a_secret_are_not_the_secret() {
    let read = |resource: &str| json!({"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": format!("{SECRET}{resource}")});
    let exact = read("autorepost/production/app-??????");
    for (name, expected) in [
        ("autorepost/production/app-AbCdEf", true),
        ("autorepost/production/app-a1b2c3", true),
        ("autorepost/production/app", false),
        ("autorepost/production/app-AbCdE", false),
        ("autorepost/production/app-AbCdEfG", false),
        ("autorepost/production/app2-AbCdEf", false),
        ("autorepost/production/app-worker-AbCdEf", false),
        ("autorepost/production/app/x-AbCdEf", false),
        ("autorepost/staging/app-AbCdEf", false),
        ("xautorepost/production/app-AbCdEf", false),
        ("autorepost/production/../production/app-AbCdEf", false),
        ("AUTOREPOST/production/app-AbCdEf", false),
        ("autorepost/production/app--bCdEf", true),
        // As text this is right. AWS never asks it of a secret that exists, since it judges by the ARN with its suffix.
        ("autorepost/production/app-worker", true),
    ] {
        let asked = allows(&exact, ("secretsmanager:GetSecretValue", &format!("{SECRET}{name}")), &Context::new());
        assert_eq!(asked, expected, "{name}");
    }
    let loose = read("another_secret_name-*");
    for (name, expected) in [
        ("another_secret_name-a1b2c3", true),
        ("another_secret_name-anything-a1b2c3", true),
        ("another_secret-a1b2c3", false),
    ] {
        let asked = allows(&loose, ("secretsmanager:GetSecretValue", &format!("{SECRET}{name}")), &Context::new());
        assert_eq!(asked, expected, "{name}");
    }
    let path = read("TestEnv/*");
    for (name, expected) in [("TestEnv/a-AbCdEf", true), ("TestEnv/a/b/c-AbCdEf", true), ("TestEnv2/a-AbCdEf", false)] {
        let asked = allows(&path, ("secretsmanager:GetSecretValue", &format!("{SECRET}{name}")), &Context::new());
        assert_eq!(asked, expected, "{name}");
    }
}

#[test]
fn another_account_region_partition_or_service_is_not_matched_by_a_wildcard_elsewhere() {
    let statement = json!({"Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
        "Resource": "arn:aws:secretsmanager:eu-*:123456789012:secret:*"});
    for (arn, expected) in [
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf", true),
        ("arn:aws:secretsmanager:eu-central-1:123456789012:secret:a-AbCdEf", true),
        ("arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf", false),
        ("arn:aws:secretsmanager:eu-west-1:210987654321:secret:a-AbCdEf", false),
        // A `*` for the region does not swallow the account.
        ("arn:aws:secretsmanager:eu-west-1:210987654321:secret:123456789012:secret:a", false),
        ("arn:aws-cn:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf", false),
        ("arn:aws:ssm:eu-west-1:123456789012:secret:a-AbCdEf", false),
        ("a-AbCdEf", false),
        ("", false),
    ] {
        assert_eq!(allows(&statement, ("secretsmanager:GetSecretValue", arn), &Context::new()), expected, "{arn}");
    }
}

#[test]
fn actions_are_the_same_in_upper_and_lower_case_and_wildcards_do_not_reach_other_services() {
    let statement = json!({"Effect": "Allow", "Action": ["secretsmanager:List*", "secretsmanager:DescribeSecret"], "Resource": "*"});
    for (action, expected) in [
        ("secretsmanager:ListSecrets", true),
        ("secretsmanager:ListSecretVersionIds", true),
        ("SecretsManager:describesecret", true),
        ("secretsmanager:GetSecretValue", false),
        ("secretsmanager:DescribeSecretX", false),
        ("ssm:ListSecrets", false),
    ] {
        assert_eq!(allows(&statement, (action, "*"), &Context::new()), expected, "{action}");
    }
    let not = json!({"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::private/*"});
    for (action, on, expected) in [
        ("s3:GetObject", "arn:aws:s3:::public/file", true),
        ("s3:GetObject", "arn:aws:s3:::private/file", false),
        ("iam:GetUser", "arn:aws:s3:::public/file", false),
    ] {
        assert_eq!(allows(&not, (action, on), &Context::new()), expected, "{action} {on}");
    }
}

#[test]
fn an_asterisk_in_a_bucket_takes_slashes_as_in_the_guide() {
    let statement =
        json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::DOC-EXAMPLE-BUCKET/*/test/*"});
    for (key, expected) in [
        ("1/test/object.jpg", true),
        ("1/2/test/object.jpg", true),
        ("1/2/test/3/object.jpg", true),
        ("1/2/3/test/4/object.jpg", true),
        ("1///test///object.jpg", true),
        ("1/test/.jpg", true),
        ("/test/object.jpg", true),
        ("1/test/", true),
        ("1-test/object.jpg", false),
        ("test/object.jpg", false),
        ("1/2/test.jpg", false),
    ] {
        let on = format!("arn:aws:s3:::DOC-EXAMPLE-BUCKET/{key}");
        assert_eq!(allows(&statement, ("s3:GetObject", &on), &Context::new()), expected, "{key}");
    }
}

/// The trust policy of "Pass session tags in AWS STS", action by action.
#[test]
fn session_tags_want_a_permission_of_their_own_with_the_values_that_are_named() {
    let principal = user("arn:aws:iam::123456789012:user/test-session-tags");
    let named = json!({"AWS": "arn:aws:iam::123456789012:user/test-session-tags"});
    let policy = trust(&json!([
        {"Sid": "AllowIamUserAssumeRole", "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": named,
            "Condition": {
                "StringLike": {"aws:RequestTag/Project": "*", "aws:RequestTag/CostCenter": "*",
                    "aws:RequestTag/Department": "*"},
                "StringEquals": {"sts:ExternalId": "Example987"}}},
        {"Sid": "AllowPassSessionTagsAndTransitive", "Effect": "Allow", "Action": "sts:TagSession", "Principal": named,
            "Condition": {
                "StringLike": {"aws:RequestTag/Project": "*", "aws:RequestTag/CostCenter": "*"},
                "StringEquals": {"aws:RequestTag/Department": ["Engineering", "Marketing"]},
                "ForAllValues:StringEquals": {"sts:TransitiveTagKeys": ["Project", "Department"]}}},
    ]));
    let given = |department: &str, external_id: Option<&str>, transitive: &[&str]| {
        let context = Context::new()
            .with("aws:RequestTag/Project", "Automation")
            .with("aws:RequestTag/CostCenter", "12345")
            .with("aws:RequestTag/Department", department)
            .with_some("sts:ExternalId", external_id)
            .with_all("sts:TransitiveTagKeys", transitive.iter().map(|key| (*key).to_owned()));
        ["sts:AssumeRole", "sts:TagSession"]
            .map(|action| {
                decide(&principal, (action, "arn:aws:iam::123456789012:role/r"), &context, &[], Some(&policy))
            })
            .map(|decision| decision.is_allowed())
    };
    let id = Some("Example987");
    assert_eq!(given("Engineering", id, &["Project", "Department"]), [true, true]);
    assert_eq!(given("Marketing", id, &[]), [true, true]);
    assert_eq!(given("Sales", id, &[]), [true, false]);
    assert_eq!(given("Engineering", id, &["CostCenter"]), [true, false]);
    assert_eq!(given("Engineering", None, &[]), [false, true]);
    assert_eq!(given("Engineering", Some("example987"), &[]), [false, true]);
}

/// "Monitor and control actions taken with assumed roles": a user may give only their own name.
#[test]
fn a_source_identity_can_be_tied_to_the_name_of_the_user() {
    let own = [identity(&json!([
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::123456789012:role/Developer_Role"},
        {"Effect": "Allow", "Action": "sts:SetSourceIdentity", "Resource": "arn:aws:iam::123456789012:role/Developer_Role",
            "Condition": {"StringLike": {"sts:SourceIdentity": "${aws:username}"}}},
    ]))];
    let anybody = trust(&json!({"Effect": "Allow", "Principal": {"AWS": "123456789012"},
        "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"]}));
    let given = |name: &str| {
        let context = Context::new().with("aws:username", "DevUser").with("sts:SourceIdentity", name);
        let on = ("sts:SetSourceIdentity", "arn:aws:iam::123456789012:role/Developer_Role");
        decide(&user("arn:aws:iam::123456789012:user/DevUser"), on, &context, &own, Some(&anybody)).is_allowed()
    };
    assert!(given("DevUser"));
    assert!(!given("Admin"));
    assert!(!given("devuser"));
}

/// "Example: Limit access to identities with tags that match secrets' tags".
#[test]
fn a_role_reads_the_secrets_that_carry_its_own_tag() {
    let policy = resource(&json!({"Effect": "Allow", "Principal": {"AWS": "123456789012"},
        "Condition": {"StringEquals": {"aws:ResourceTag/AccessProject": "${ aws:PrincipalTag/AccessProject }"}},
        "Action": "secretsmanager:GetSecretValue", "Resource": "*"}));
    let own = [identity(&json!({"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/AccessProject": "${aws:PrincipalTag/AccessProject}"}}}))];
    let principal = session("arn:aws:iam::123456789012:role/r", "s");
    let asked = |of_secret: Option<&str>, of_role: Option<&str>| {
        let context = Context::new()
            .with_some("aws:ResourceTag/AccessProject", of_secret)
            .with_some("aws:PrincipalTag/accessproject", of_role);
        let on = ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf");
        decide(&principal, on, &context, &own, Some(&policy)).is_allowed()
    };
    assert!(asked(Some("x"), Some("x")));
    assert!(!asked(Some("x"), Some("y")));
    assert!(!asked(None, Some("x")));
    assert!(!asked(Some("x"), None));
    assert!(!asked(None, None), "two tags that are both absent are not the same");
}

/// "Policy variables with no value".
#[test]
fn a_variable_without_a_value_equals_nothing_and_names_no_resource() {
    let deny_others = json!([
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"},
        {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "*",
            "Condition": {"StringNotEquals": {"aws:ResourceTag/Team": "${aws:PrincipalTag/Team}"}}},
    ]);
    let team = |name: &str| Context::new().with("aws:ResourceTag/Team", name);
    assert!(!allows(&deny_others, ("s3:GetObject", "*"), &team("yellow")));
    let member = team("yellow").with("aws:PrincipalTag/Team", "yellow");
    assert!(allows(&deny_others, ("s3:GetObject", "*"), &member));

    let bucket = |variable: &str| json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::DOC-EXAMPLE-BUCKET-{variable}")});
    let yellow = Context::new().with("aws:PrincipalTag/team", "yellow");
    for (variable, context, bucket_name, expected) in [
        ("${aws:PrincipalTag/team, 'company-wide'}", &yellow, "yellow", true),
        ("${aws:PrincipalTag/team, 'company-wide'}", &yellow, "company-wide", false),
        ("${aws:PrincipalTag/team, 'company-wide'}", &Context::new(), "company-wide", true),
        ("${aws:PrincipalTag/team}", &yellow, "yellow", true),
        ("${aws:PrincipalTag/team}", &Context::new(), "", false),
        ("${aws:PrincipalTag/team}", &Context::new(), "${aws:PrincipalTag/team}", false),
        ("${*}", &Context::new(), "*", true),
        ("${*}", &Context::new(), "x", false),
        ("${?}${$}", &Context::new(), "?$", true),
    ] {
        let on = format!("arn:aws:s3:::DOC-EXAMPLE-BUCKET-{bucket_name}");
        assert_eq!(allows(&bucket(variable), ("s3:GetObject", &on), context), expected, "{variable} {bucket_name}");
    }
    // In any part of an ARN, of which a variable's own colon is no end.
    let own_account = json!({"Effect": "Allow", "Action": "iam:GetRole",
        "Resource": "arn:aws:iam::${aws:PrincipalAccount}:role/*"});
    let of_account = |id: &str| {
        allows(
            &own_account,
            ("iam:GetRole", "arn:aws:iam::123456789012:role/r"),
            &Context::new().with("aws:PrincipalAccount", id),
        )
    };
    assert!(of_account("123456789012"));
    assert!(!of_account("210987654321"));
    // Of two values none is the value.
    let two = Context::new().with_all("aws:PrincipalTag/team", ["yellow".to_owned(), "blue".to_owned()]);
    assert!(!allows(
        &bucket("${aws:PrincipalTag/team}"),
        ("s3:GetObject", "arn:aws:s3:::DOC-EXAMPLE-BUCKET-yellow"),
        &two
    ));
    // What a tag holds is no wildcard.
    let star = Context::new().with("aws:PrincipalTag/team", "*");
    assert!(!allows(&bucket("${aws:PrincipalTag/team}"), ("s3:GetObject", "arn:aws:s3:::DOC-EXAMPLE-BUCKET-x"), &star));
}

/// A key can be confined to the calls of one service.
#[test]
fn a_key_serves_only_through_the_service_that_is_named() {
    let statement: Value = json!({"Effect": "Allow", "Action": "kms:Decrypt",
        "Resource": "arn:aws:kms:eu-west-1:123456789012:key/k",
        "Condition": {"StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"}}});
    let on = ("kms:Decrypt", "arn:aws:kms:eu-west-1:123456789012:key/k");
    let via = |service: &str| Context::new().with("kms:ViaService", service);
    assert!(allows(&statement, on, &via("secretsmanager.eu-west-1.amazonaws.com")));
    assert!(!allows(&statement, on, &via("secretsmanager.us-east-1.amazonaws.com")));
    assert!(!allows(&statement, on, &via("s3.eu-west-1.amazonaws.com")));
    assert!(!allows(&statement, on, &Context::new()), "a call to KMS itself goes through no service");
}
