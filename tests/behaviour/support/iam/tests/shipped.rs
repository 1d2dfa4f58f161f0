//! The policies that Bindery ships do what their README says: they suffice, and they give nothing to anybody else.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::gate::{Outcome, Rig, lookup, secret};
use super::tokens::{NOW, PREFIX, provider, token};
use super::{decide, document};
use crate::iam::context::Context;
use crate::iam::evaluate::Principal;
use crate::iam::gate::{Judged, Secret};
use crate::iam::shipped::{folder, shipped};
use crate::iam::world::{User, tags};
use crate::iam::{IamWorld, Policy, Role};

const APP: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdEf";
const OPERATOR: &str = "arn:aws:iam::123456789012:role/bindery-operator";
const READER: &str = "arn:aws:iam::123456789012:role/bindery-reader";
const BREAK_GLASS: &str = "arn:aws:iam::123456789012:role/bindery-break-glass";
const STAGING: &str = "arn:aws:iam::123456789012:role/staging";
const ALICE: &str = "arn:aws:iam::123456789012:user/alice";
const BOB: &str = "arn:aws:iam::123456789012:user/bob";

/// The policies that name the secret, the region and the key.
fn of_secret(name: &str) -> String {
    let values = [
        ("ACCOUNT_ID", "123456789012"),
        ("REGION", "eu-west-1"),
        ("KEY_ID", "1234"),
        ("SECRET_NAME", "autorepost/production/app"),
    ];
    shipped(name, &values)
}

fn rotate() -> String {
    let values = [
        ("ACCOUNT_ID", "123456789012"),
        ("REGION", "eu-west-1"),
        ("KEY_ID", "1234"),
        ("SECRET_NAME", NAME),
        ("ROTATION_FUNCTION", "rotate-app"),
    ];
    shipped("rotate.json", &values)
}

fn operator_trust_irsa() -> String {
    shipped("operator-trust-irsa.json", &[("ACCOUNT_ID", "123456789012"), ("OIDC_PROVIDER", PREFIX)])
}

fn reader_trust() -> String {
    let values =
        [("ACCOUNT_ID", "123456789012"), ("OPERATOR_ROLE", "bindery-operator"), ("NAMESPACE", "autorepost-production")];
    shipped("reader-trust.json", &values)
}

fn guard() -> String {
    let values = [
        ("ACCOUNT_ID", "123456789012"),
        ("READER_ROLE", "bindery-reader"),
        ("BREAK_GLASS_ROLE", "bindery-break-glass"),
    ];
    shipped("secret-guard.json", &values)
}

/// An account as the README sets it up, with some others in it who have far too many rights.
fn rig() -> Rig {
    let admin = document(&json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
    let mut world = IamWorld::new();
    world.add_provider(provider("123456789012"));
    let readers = [("ACCOUNT_ID", "123456789012"), ("READER_ROLE", "bindery-reader")];
    let events = [("ACCOUNT_ID", "123456789012"), ("REGION", "eu-west-1"), ("QUEUE_NAME", "bindery-events")];
    let operator = Role::new(OPERATOR, &operator_trust_irsa()).unwrap();
    let operator = operator.policy("assume", &shipped("operator-assume-readers.json", &readers)).unwrap();
    world.add_role(operator.policy("events", &shipped("events-read.json", &events)).unwrap());
    world.add_role(Role::new(READER, &reader_trust()).unwrap().policy("read", &of_secret("read.json")).unwrap());
    let people = [("ACCOUNT_ID", "123456789012"), ("USER_NAME", "alice")];
    let break_glass = Role::new(BREAK_GLASS, &shipped("break-glass-trust.json", &people)).unwrap();
    world.add_role(break_glass.policy("read", &of_secret("break-glass-read.json")).unwrap());
    let anybody =
        document(&json!({"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"}));
    world.add_role(Role::new(STAGING, &anybody).unwrap().policy("admin", &admin).unwrap());
    for (arn, name) in [(ALICE, "alice"), (BOB, "bob")] {
        let serial = format!("arn:aws:iam::123456789012:mfa/{name}");
        world.add_user(User::new(arn).policy("admin", &admin).unwrap().mfa(&serial, "123456"));
        world.add_access_key(arn, &format!("AKIA{}", name.to_uppercase()));
    }
    let app = Secret {
        kms_key_id: Some("1234".to_owned()),
        policy: Some(guard()),
        rotation_function: Some("arn:aws:lambda:eu-west-1:123456789012:function:rotate-app".to_owned()),
        ..secret(APP)
    };
    Rig::new(world, lookup(vec![("autorepost/production/app", app)]))
}

const AS_OPERATOR: (&str, &str) = ("ASIAOPERATOR", "of-operator");
const BY_OPERATOR: (&str, Option<&str>) = ("ASIAOPERATOR", Some("of-operator"));
const AS_READER: (&str, &str) = ("ASIAREADER", "of-reader");
const BY_READER: (&str, Option<&str>) = ("ASIAREADER", Some("of-reader"));
const NAME: &str = "autorepost/production/app";

/// Becomes the operator, by the token of a ServiceAccount.
async fn become_operator(rig: &Rig, subject: &str) -> Outcome {
    let token = token(subject, &json!({}));
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", OPERATOR),
        ("RoleSessionName", "pod"),
        ("WebIdentityToken", &token),
    ];
    rig.sts(None, &fields, AS_OPERATOR).await
}

/// Becomes the reader for a namespace, as Bindery does.
async fn become_reader(rig: &Rig, by: (&str, Option<&str>), namespace: &str) -> Outcome {
    let session = format!("bindery-{namespace}");
    let fields = [
        ("Action", "AssumeRole"),
        ("RoleArn", READER),
        ("RoleSessionName", &session),
        ("Tags.member.1.Key", "bindery-namespace"),
        ("Tags.member.1.Value", namespace),
        ("Tags.member.2.Key", "bindery-grant"),
        ("Tags.member.2.Value", "any"),
    ];
    rig.sts(Some(by), &fields, AS_READER).await
}

const POD: &str = "system:serviceaccount:bindery-system:bindery";

#[test]
fn every_shipped_policy_is_read_by_the_evaluator_and_named_in_the_readme() {
    let readme = std::fs::read_to_string(folder().join("../README.md")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Filled with something that is right everywhere.
        let mut text = std::fs::read_to_string(&path).unwrap();
        for placeholder in crate::iam::shipped::PLACEHOLDERS {
            let value = match placeholder {
                "ACCOUNT_ID" => "123456789012",
                "OIDC_PROVIDER" => PREFIX,
                _ => "x",
            };
            assert!(readme.contains(&format!("`{placeholder}`")), "README.md does not explain {placeholder}");
            text = text.replace(placeholder, value);
        }
        let read = if name.contains("-trust") {
            Policy::trust(name, &text)
        } else if name == "secret-guard.json" || name == "events-queue.json" {
            Policy::resource(name, &text)
        } else {
            Policy::identity(name, &text)
        };
        let policy = read.unwrap();
        for statement in &policy.statements {
            let (_, sid) = statement.name.rsplit_once('/').unwrap();
            assert!(sid.parse::<usize>().is_err(), "{name} has a statement without a Sid");
        }
        assert!(readme.contains(name), "README.md does not name {name}");
        count += 1;
    }
    assert_eq!(count, 13);
}

#[tokio::test]
async fn the_operator_can_do_all_it_does_with_exactly_the_shipped_policies_and_each_statement_is_used() {
    let rig = rig();
    assert!(become_operator(&rig, POD).await.passed());
    assert!(become_reader(&rig, BY_OPERATOR, "autorepost-production").await.passed());
    let id = json!({"SecretId": NAME});
    let answer = json!({"SecretValues": [], "Errors": []});
    for (operation, body) in [
        ("GetSecretValue", id.clone()),
        ("GetSecretValue", json!({"SecretId": APP, "VersionStage": "AWSPREVIOUS"})),
        ("GetSecretValue", json!({"SecretId": APP, "VersionId": "4d383ea9-084a-49c9-8722-cbfb0f25c456"})),
        ("DescribeSecret", id.clone()),
        ("ListSecretVersionIds", id),
        ("ListSecrets", json!({"Filters": [{"Key": "name", "Values": ["autorepost/"]}]})),
        ("BatchGetSecretValue", json!({"SecretIdList": [NAME]})),
    ] {
        let outcome = rig.json(BY_READER, &format!("secretsmanager.{operation}"), &body, &answer).await;
        assert!(outcome.passed(), "{operation} {body}: {outcome:?}");
    }
    let queue = json!({"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/bindery-events"});
    for operation in ["ReceiveMessage", "DeleteMessage", "DeleteMessageBatch"] {
        assert!(
            rig.json(BY_OPERATOR, &format!("AmazonSQS.{operation}"), &queue, &json!({})).await.passed(),
            "{operation}"
        );
    }
    let used: Vec<String> = rig.gate.record().into_iter().flat_map(by).collect();
    for statement in [
        "trust of bindery-operator/TheOperatorsServiceAccount",
        "trust of bindery-reader/TheOperatorForTheseNamespaces",
        "assume/BecomeTheRolesOfTheGrants",
        "events/TakeEventsFromTheQueue",
        "read/ReadTheNamedSecrets",
        "read/AskForSeveralAtOnce",
        "read/DecryptThroughSecretsManagerOnly",
    ] {
        assert!(used.iter().any(|used| used == statement), "{statement} is not needed; used: {used:?}");
    }
}

fn by(judged: Judged) -> Vec<String> {
    match judged.decision {
        crate::iam::evaluate::Decision::Allowed { by } => by,
        crate::iam::evaluate::Decision::Denied(denial) => panic!("{} is denied: {denial}", judged.action),
    }
}

#[tokio::test]
async fn the_reader_reads_nothing_else_and_writes_nothing() {
    let rig = rig();
    become_operator(&rig, POD).await;
    become_reader(&rig, BY_OPERATOR, "autorepost-production").await;
    for other in [
        "autorepost/production/app2",
        "autorepost/production/app-admin",
        "autorepost/staging/app",
        "xautorepost/production/app",
        "autorepost/production/../production/app",
        "AUTOREPOST/PRODUCTION/APP",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app2-AbCdEf",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-admin-AbCdEf",
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:autorepost/production/app-AbCdEf",
        "arn:aws:secretsmanager:eu-west-1:210987654321:secret:autorepost/production/app-AbCdEf",
    ] {
        for operation in ["GetSecretValue", "DescribeSecret", "ListSecretVersionIds"] {
            let target = format!("secretsmanager.{operation}");
            let outcome = rig.json(BY_READER, &target, &json!({"SecretId": other}), &json!({})).await;
            assert_eq!(outcome.code(), "AccessDeniedException", "{operation} {other}");
        }
    }
    for operation in [
        "PutSecretValue",
        "UpdateSecret",
        "UpdateSecretVersionStage",
        "RotateSecret",
        "DeleteSecret",
        "PutResourcePolicy",
        "TagResource",
    ] {
        let target = format!("secretsmanager.{operation}");
        let outcome = rig.json(BY_READER, &target, &json!({"SecretId": NAME}), &json!({})).await;
        assert_eq!(outcome.code(), "AccessDeniedException", "{operation}");
    }
}

#[tokio::test]
async fn only_the_operators_pod_becomes_the_operator_and_only_for_its_namespaces_the_reader() {
    let rig = rig();
    for other in [
        "system:serviceaccount:bindery-system:default",
        "system:serviceaccount:autorepost-staging:bindery",
        "system:serviceaccount:bindery-system:bindery2",
    ] {
        assert_eq!(become_operator(&rig, other).await.code(), "AccessDenied", "{other}");
    }
    assert!(become_operator(&rig, POD).await.passed());
    for (namespace, expected) in [
        ("autorepost-production", true),
        ("autorepost-staging", false),
        ("autorepost-production2", false),
        ("Autorepost-production", false),
    ] {
        assert_eq!(become_reader(&rig, BY_OPERATOR, namespace).await.passed(), expected, "{namespace}");
    }
    // Without the tag there is nothing to tell the namespace by; without the prefix it is not Bindery that asks.
    let plain = [("Action", "AssumeRole"), ("RoleArn", READER), ("RoleSessionName", "bindery-autorepost-production")];
    assert_eq!(rig.sts(Some(BY_OPERATOR), &plain, AS_READER).await.code(), "AccessDenied");
    // Nobody else becomes the reader, whatever rights they have.
    for other in [("AKIAALICE", None), ("AKIABOB", None)] {
        assert_eq!(become_reader(&rig, other, "autorepost-production").await.code(), "AccessDenied");
    }
}

#[tokio::test]
async fn the_guard_stops_users_admins_and_other_roles_and_locks_no_admin_out_of_the_secret() {
    let rig = rig();
    let staging = [("Action", "AssumeRole"), ("RoleArn", STAGING), ("RoleSessionName", "staging")];
    assert!(rig.sts(Some(("AKIABOB", None)), &staging, ("ASIASTAGING", "t")).await.passed());
    become_operator(&rig, POD).await;
    for who in [("AKIAALICE", None), ("AKIABOB", None), ("ASIASTAGING", Some("t"))] {
        let (code, message) = rig.read(who, NAME).await.refusal();
        assert_eq!(code, "AccessDeniedException", "{who:?}");
        assert!(message.ends_with("with an explicit deny in a resource-based policy"), "{message}");
        let batch = json!({"SecretIdList": [NAME]});
        let outcome = rig.json(who, "secretsmanager.BatchGetSecretValue", &batch, &json!({})).await;
        assert!(matches!(outcome, Outcome::Refused { status: 200, .. }), "the batch is covered: {outcome:?}");
        for operation in ["DescribeSecret", "PutResourcePolicy", "DeleteResourcePolicy"] {
            let target = format!("secretsmanager.{operation}");
            assert!(rig.json(who, &target, &json!({"SecretId": NAME}), &json!({})).await.passed(), "{operation}");
        }
    }
    // The operator itself is not on the list: it reads as the reader, or not at all.
    assert_eq!(rig.read(BY_OPERATOR, NAME).await.code(), "AccessDeniedException");
}

/// Becomes the role for emergencies.
async fn break_glass(rig: &Rig, key: &str, more: &[(&str, &str)]) -> Outcome {
    let fields =
        [&[("Action", "AssumeRole"), ("RoleArn", BREAK_GLASS), ("RoleSessionName", "incident-4711")], more].concat();
    rig.sts(Some((key, None)), &fields, ("ASIABREAKGLASS", "t")).await
}

#[tokio::test]
async fn the_role_for_emergencies_wants_a_named_person_with_fresh_mfa_and_their_own_name_and_ends_after_an_hour() {
    let rig = rig();
    let mfa = |name: &str| {
        [("SerialNumber", format!("arn:aws:iam::123456789012:mfa/{name}")), ("TokenCode", "123456".to_owned())]
    };
    let [serial, code] = mfa("alice");
    let with = [(serial.0, serial.1.as_str()), (code.0, code.1.as_str())];
    let own = ("SourceIdentity", "alice");
    for (what, fields) in [
        ("without MFA", vec![own]),
        ("without a name", with.to_vec()),
        ("with another's name", vec![with[0], with[1], ("SourceIdentity", "bob")]),
        ("with a wrong code", vec![with[0], ("TokenCode", "000000"), own]),
    ] {
        assert_eq!(break_glass(&rig, "AKIAALICE", &fields).await.code(), "AccessDenied", "{what}");
    }
    let [serial, code] = mfa("bob");
    let of_bob = [(serial.0, serial.1.as_str()), (code.0, code.1.as_str()), ("SourceIdentity", "bob")];
    assert_eq!(
        break_glass(&rig, "AKIABOB", &of_bob).await.code(),
        "AccessDenied",
        "who is not named, with MFA and all rights"
    );
    let too_long = [with[0], with[1], own, ("DurationSeconds", "3601")];
    assert_eq!(break_glass(&rig, "AKIAALICE", &too_long).await.code(), "ValidationError");

    assert!(break_glass(&rig, "AKIAALICE", &[with[0], with[1], own]).await.passed());
    let by = ("ASIABREAKGLASS", Some("t"));
    assert!(rig.read(by, NAME).await.passed());
    assert_eq!(rig.read(by, "autorepost/production/worker").await.code(), "AccessDeniedException");
    let put = rig.json(by, "secretsmanager.PutSecretValue", &json!({"SecretId": NAME}), &json!({})).await;
    assert_eq!(put.code(), "AccessDeniedException");
    rig.pass_time(3600);
    assert_eq!(rig.read(by, NAME).await.code(), "ExpiredTokenException", "it ends by itself");
}

#[tokio::test]
async fn mfa_of_a_quarter_of_an_hour_ago_opens_nothing() {
    let rig = rig();
    let end = UNIX_EPOCH + Duration::from_secs(NOW + 36_000);
    let mfa = UNIX_EPOCH + Duration::from_secs(NOW);
    rig.gate.world(|world| world.add_user_session(ALICE, "ASIAALICE", "s", end, Some(mfa)));
    let fields = [
        ("Action", "AssumeRole"),
        ("RoleArn", BREAK_GLASS),
        ("RoleSessionName", "incident"),
        ("SourceIdentity", "alice"),
    ];
    let by = Some(("ASIAALICE", Some("s")));
    assert!(rig.sts(by, &fields, ("ASIA1", "t")).await.passed());
    rig.pass_time(900);
    assert_eq!(rig.sts(by, &fields, ("ASIA1", "t")).await.code(), "AccessDenied");
}

/// Why MFA stands in the trust policy: in the guard it would stop those whom it is meant to let pass.
#[tokio::test]
async fn a_deny_without_mfa_on_the_secret_would_lock_out_the_operator_and_the_role_for_emergencies() {
    let wrong = document(
        &json!({"Effect": "Deny", "Principal": "*", "Action": "secretsmanager:GetSecretValue", "Resource": "*",
        "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}}),
    );
    let right = rig();
    let app = Secret { policy: Some(wrong), ..secret(APP) };
    let rig = Rig::new(right.gate.world(|world| world.clone()), lookup(vec![(NAME, app)]));
    become_operator(&rig, POD).await;
    assert!(become_reader(&rig, BY_OPERATOR, "autorepost-production").await.passed());
    assert_eq!(rig.read(BY_READER, NAME).await.code(), "AccessDeniedException");
    let serial = ("SerialNumber", "arn:aws:iam::123456789012:mfa/alice");
    let fields = [serial, ("TokenCode", "123456"), ("SourceIdentity", "alice")];
    assert!(break_glass(&rig, "AKIAALICE", &fields).await.passed());
    assert_eq!(rig.read(("ASIABREAKGLASS", Some("t")), NAME).await.code(), "AccessDeniedException");
}

#[tokio::test]
async fn users_are_denied_all_values_and_reach_one_by_the_role_for_emergencies() {
    let rig = rig();
    let admin = document(&json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
    let deny = shipped("users-deny.json", &[]);
    let alice = User::new(ALICE).policy("admin", &admin).unwrap().policy("deny", &deny).unwrap();
    rig.gate.world(|world| world.add_user(alice.mfa("arn:aws:iam::123456789012:mfa/alice", "123456")));
    let (_, message) = rig.read(("AKIAALICE", None), "anything/else").await.refusal();
    assert!(message.ends_with("with an explicit deny in an identity-based policy"), "{message}");
    let serial = ("SerialNumber", "arn:aws:iam::123456789012:mfa/alice");
    let fields = [serial, ("TokenCode", "123456"), ("SourceIdentity", "alice")];
    assert!(break_glass(&rig, "AKIAALICE", &fields).await.passed());
    assert!(rig.read(("ASIABREAKGLASS", Some("t")), NAME).await.passed(), "a role has policies of its own");
}

#[tokio::test]
async fn writing_wants_the_policy_for_it_which_moves_no_label_of_others_and_changes_no_lambda() {
    let rig = rig();
    become_operator(&rig, POD).await;
    become_reader(&rig, BY_OPERATOR, "autorepost-production").await;
    let reader = Role::new(READER, &reader_trust()).unwrap().policy("read", &of_secret("read.json")).unwrap();
    rig.gate.world(|world| world.add_role(reader.policy("rotate", &rotate()).unwrap()));
    let lambda = "arn:aws:lambda:eu-west-1:123456789012:function:other";
    for (operation, more, expected) in [
        ("PutSecretValue", json!({"VersionStages": ["BinderyPending"]}), true),
        ("UpdateSecretVersionStage", json!({"VersionStage": "AWSCURRENT"}), true),
        ("UpdateSecretVersionStage", json!({"VersionStage": "BinderyPending"}), true),
        ("UpdateSecretVersionStage", json!({"VersionStage": "bindery-hold-0a1b2c3d"}), true),
        ("UpdateSecretVersionStage", json!({"VersionStage": "AWSPENDING"}), false),
        ("UpdateSecretVersionStage", json!({"VersionStage": "AWSPREVIOUS"}), false),
        ("UpdateSecretVersionStage", json!({"VersionStage": "theirs"}), false),
        ("RotateSecret", json!({}), true),
        ("RotateSecret", json!({"RotationLambdaARN": lambda}), false),
        ("UpdateSecret", json!({"KmsKeyId": "other"}), false),
        ("DeleteSecret", json!({}), false),
        ("PutResourcePolicy", json!({}), false),
    ] {
        let mut body: Value = json!({"SecretId": NAME});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let outcome = rig.json(BY_READER, &format!("secretsmanager.{operation}"), &body, &json!({})).await;
        assert_eq!(outcome.passed(), expected, "{operation} {more}");
    }
}

#[tokio::test]
async fn by_pod_identity_only_the_operators_pod_of_this_cluster_gets_the_role() {
    let rig = rig();
    let values = [("ACCOUNT_ID", "123456789012"), ("REGION", "eu-west-1"), ("CLUSTER_NAME", "production")];
    let role = Role::new(OPERATOR, &shipped("operator-trust-pod-identity.json", &values)).unwrap();
    rig.gate.world(|world| world.add_role(role));
    let cluster = "arn:aws:eks:eu-west-1:123456789012:cluster/production";
    for (cluster, namespace, account, expected) in [
        (cluster, "bindery-system", "bindery", true),
        (cluster, "bindery-system", "default", false),
        (cluster, "autorepost-staging", "bindery", false),
        ("arn:aws:eks:eu-west-1:123456789012:cluster/staging", "bindery-system", "bindery", false),
    ] {
        let given = tags([
            ("eks-cluster-arn", cluster),
            ("kubernetes-namespace", namespace),
            ("kubernetes-service-account", account),
        ]);
        let start = UNIX_EPOCH + Duration::from_secs(NOW);
        let started = rig.gate.world(|world| world.start_pod_session(OPERATOR, AS_OPERATOR, start, &given));
        assert_eq!(started.is_ok(), expected, "{cluster} {namespace} {account}: {started:?}");
    }
    // With tags that its trust policy cannot see, nobody gets in.
    assert!(rig.gate.world(|world| world.start_pod_session(OPERATOR, AS_OPERATOR, UNIX_EPOCH, &tags([]))).is_err());
}

/// The tags of Pod Identity go on to the role of a grant, whose trust policy must bear them.
#[tokio::test]
async fn a_pod_with_pod_identity_becomes_the_reader_too() {
    let rig = rig();
    let values = [("ACCOUNT_ID", "123456789012"), ("REGION", "eu-west-1"), ("CLUSTER_NAME", "production")];
    let readers = [("ACCOUNT_ID", "123456789012"), ("READER_ROLE", "bindery-reader")];
    let role = Role::new(OPERATOR, &shipped("operator-trust-pod-identity.json", &values)).unwrap();
    let role = role.policy("assume", &shipped("operator-assume-readers.json", &readers)).unwrap();
    let given = tags([
        ("eks-cluster-arn", "arn:aws:eks:eu-west-1:123456789012:cluster/production"),
        ("kubernetes-namespace", "bindery-system"),
        ("kubernetes-service-account", "bindery"),
    ]);
    rig.gate.world(|world| {
        world.add_role(role);
        world.start_pod_session(OPERATOR, AS_OPERATOR, UNIX_EPOCH + Duration::from_secs(NOW), &given).unwrap();
    });
    assert!(become_reader(&rig, BY_OPERATOR, "autorepost-production").await.passed());
    assert!(!become_reader(&rig, BY_OPERATOR, "autorepost-staging").await.passed());
    assert!(become_reader(&rig, BY_OPERATOR, "autorepost-production").await.passed());
    assert!(rig.read(BY_READER, NAME).await.passed());
}

#[tokio::test]
async fn one_service_account_of_a_namespace_can_be_the_reader_itself() {
    let rig = rig();
    let values = [
        ("ACCOUNT_ID", "123456789012"),
        ("OIDC_PROVIDER", PREFIX),
        ("NAMESPACE", "autorepost-production"),
        ("SERVICE_ACCOUNT", "worker"),
    ];
    let role = Role::new(READER, &shipped("reader-trust-service-account.json", &values)).unwrap();
    rig.gate.world(|world| world.add_role(role.policy("read", &of_secret("read.json")).unwrap()));
    for (subject, expected) in [
        ("system:serviceaccount:autorepost-production:worker", true),
        ("system:serviceaccount:autorepost-production:default", false),
        ("system:serviceaccount:autorepost-staging:worker", false),
        (POD, false),
    ] {
        let token = token(subject, &json!({}));
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", READER),
            ("RoleSessionName", "bindery-autorepost-production"),
            ("WebIdentityToken", &token),
        ];
        assert_eq!(rig.sts(None, &fields, AS_READER).await.passed(), expected, "{subject}");
    }
    assert!(rig.read(BY_READER, NAME).await.passed());
}

#[test]
fn only_the_rule_puts_events_into_the_queue() {
    let values = [
        ("ACCOUNT_ID", "123456789012"),
        ("REGION", "eu-west-1"),
        ("QUEUE_NAME", "bindery-events"),
        ("RULE_NAME", "bindery-secret-changes"),
    ];
    let policy = Policy::resource("queue", &shipped("events-queue.json", &values)).unwrap();
    let rule =
        |name: &str| Context::new().with("aws:SourceArn", format!("arn:aws:events:eu-west-1:123456789012:rule/{name}"));
    let queue = "arn:aws:sqs:eu-west-1:123456789012:bindery-events";
    let events = Principal::Service("events.amazonaws.com".to_owned());
    let sns = Principal::Service("sns.amazonaws.com".to_owned());
    for (principal, action, context, expected) in [
        (&events, "sqs:SendMessage", rule("bindery-secret-changes"), true),
        (&events, "sqs:SendMessage", rule("other"), false),
        (&events, "sqs:SendMessage", Context::new(), false),
        (&events, "sqs:ReceiveMessage", rule("bindery-secret-changes"), false),
        (&sns, "sqs:SendMessage", rule("bindery-secret-changes"), false),
    ] {
        assert_eq!(decide(principal, (action, queue), &context, &[], Some(&policy)).is_allowed(), expected, "{action}");
    }
}
