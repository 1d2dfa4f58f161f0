//! What `deploy/aws` ships: the CloudFormation template is valid, says the same as the policies beside it, and can be
//! created. And the tests of the evaluator by which those policies are judged, which need nothing.
//!
//! The template is created in moto, in a process of its own. moto skips what it does not know: [`SKIPPED`]. Of those
//! nothing but the text is checked here, by cfn-lint and by comparing it with `deploy/aws/policies`.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "behaviour/support/iam/mod.rs"]
mod iam;
#[path = "behaviour/support/iam/tests/mod.rs"]
mod iam_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use iam::shipped::shipped;

/// What moto's CloudFormation does not know. If it learns one of them, check that too.
const SKIPPED: [&str; 7] = [
    "AWS::CloudTrail::Trail",
    "AWS::CloudWatch::Alarm",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SecretsManager::ResourcePolicy",
];

/// Creates the template in moto, and says what there is then. Also which rules an event matches, and where it arrives.
const CREATE: &str = r#"
import ast, json, sys
import boto3
from moto import mock_aws
from moto.events.models import EventPattern

def pattern(text):
    # The call TestEventPattern is empty in moto; this is what PutEvents uses.
    return EventPattern(text, json.loads(text))

asked = json.load(sys.stdin)
access = {"region_name": "eu-west-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
with mock_aws():
    clients = {name: boto3.client(name, **access) for name in ("cloudformation", "events", "iam", "sqs")}
    formation, events, iam, sqs = clients.values()
    sqs.create_queue(QueueName="siem")
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in asked["parameters"].items()]
    formation.create_stack(StackName="bindery", TemplateBody=asked["template"], Parameters=parameters,
                           Capabilities=["CAPABILITY_NAMED_IAM"])
    stack = formation.describe_stacks(StackName="bindery")["Stacks"][0]
    resources = formation.describe_stack_resources(StackName="bindery")["StackResources"]
    documents = {}
    for role in iam.list_roles()["Roles"]:
        documents["trust of " + role["RoleName"]] = role["AssumeRolePolicyDocument"]
        for name in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
            inline = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)
            document = inline["PolicyDocument"]
            # Of a policy within a role moto keeps Python's way of writing it.
            document = ast.literal_eval(document) if isinstance(document, str) else document
            documents[name + " of " + role["RoleName"]] = document
        for attached in iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]:
            policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
            version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
            documents[policy["PolicyName"] + " of " + role["RoleName"]] = version["PolicyVersion"]["Document"]
    rules, matches, arrived = {}, [], {}
    for rule in events.list_rules()["Rules"]:
        targets = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        rules[rule["Name"]] = {"state": rule["State"], "targets": [target["Arn"] for target in targets],
                               "pattern": rule["EventPattern"]}
    for event in asked["events"]:
        whole = {"version": "0", "id": "1", "account": "123456789012", "time": "2026-01-01T00:00:00Z",
                 "region": "eu-west-1", "resources": [], **event}
        matched = [name for name, rule in rules.items() if pattern(rule["pattern"]).matches_event(whole)]
        matches.append(sorted(matched))
        # moto cannot hand an event to a topic.
        if all(":sqs:" in target for name in matched for target in rules[name]["targets"]):
            events.put_events(Entries=[{"Source": event["source"], "DetailType": event["detail-type"],
                                        "Detail": json.dumps(event["detail"])}])
    for name in ("bindery-events", "siem"):
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        arrived[name] = sorted(json.loads(message["Body"])["detail"]["eventName"] for message in messages)
    queue = sqs.get_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName="bindery-events")["QueueUrl"],
                                     AttributeNames=["All"])["Attributes"]
print(json.dumps({
    "status": stack["StackStatus"],
    "outputs": {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]},
    "created": {r["LogicalResourceId"]: r["ResourceType"] for r in resources if "LogicalResourceId" in r},
    "documents": documents, "rules": rules, "matches": matches, "arrived": arrived, "queue": queue,
}))
"#;

const DECODE: &str = "
import json, sys
from cfnlint.decode import decode
template, errors = decode(sys.argv[1])
assert not errors, errors
print(json.dumps(template))
";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn template_path() -> PathBuf {
    root().join("deploy/aws/bindery.yaml")
}

/// A program of the test cluster's Python, with this on its standard input.
fn python(program: &str, args: &[&str], input: &str) -> String {
    let path = root().join("target/cluster/venv/bin").join(program);
    let mut child = Command::new(&path)
        .args(args)
        // cfn-lint looks for a configuration in the folder that it is run in.
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} cannot be run ({error}): `tests/cluster/cluster build` installs it"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let (output, error) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8_lossy(&done.stderr).into_owned());
    assert!(done.status.success(), "{program} failed: {output}{error}");
    output
}

/// The template as JSON, its short forms spelled out.
fn template() -> Value {
    let path = template_path();
    serde_json::from_str(&python("python", &["-c", DECODE, path.to_str().unwrap()], "")).unwrap()
}

/// The parameters of these tests: everything there is, for one secret.
fn parameters(change: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> = [
        ("Secret1", "autorepost/production/app"),
        ("KmsKeyArn", "arn:aws:kms:eu-west-1:123456789012:key/1234"),
        ("ClusterName", "production"),
        ("ReaderNamespaces", "autorepost-production"),
        ("AllowRotation", "yes"),
        ("RotationFunctionArn", "arn:aws:lambda:eu-west-1:123456789012:function:rotate-app"),
        ("BreakGlassUsers", "arn:aws:iam::123456789012:user/alice"),
        ("CreateTrail", "yes"),
        ("SiemTargetArn", "arn:aws:sqs:eu-west-1:123456789012:siem"),
        ("AlarmEmail", "oncall@example.com"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    parameters.extend(change.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    parameters
}

/// CloudFormation's functions, as far as the template uses them.
struct Stack {
    template: Value,
    parameters: BTreeMap<String, String>,
}

impl Stack {
    fn new(template: &Value, change: &[(&str, &str)]) -> Self {
        let mut all = BTreeMap::new();
        for (name, parameter) in template["Parameters"].as_object().unwrap() {
            if let Some(default) = parameter["Default"].as_str() {
                all.insert(name.clone(), default.to_owned());
            }
        }
        all.extend(parameters(change));
        Self { template: template.clone(), parameters: all }
    }

    fn condition(&self, name: &str) -> bool {
        self.resolve(&self.template["Conditions"][name]) == Some(json!(true))
    }

    /// The properties of a resource, none where it is not created.
    fn properties(&self, id: &str) -> Option<Value> {
        let resource = &self.template["Resources"][id];
        assert!(resource.is_object(), "there is no resource {id}");
        let wanted = resource["Condition"].as_str().is_none_or(|condition| self.condition(condition));
        wanted.then(|| self.resolve(&resource["Properties"]).unwrap())
    }

    /// None stands for `AWS::NoValue`.
    fn resolve(&self, value: &Value) -> Option<Value> {
        match value {
            Value::Object(object) if object.len() == 1 => {
                let (name, argument) = object.iter().next().unwrap();
                match name.as_str() {
                    "Ref" => self.reference(argument.as_str().unwrap()),
                    "Fn::GetAtt" => Some(self.attribute(&argument[0], argument[1].as_str().unwrap())),
                    "Fn::Sub" => Some(json!(self.substitute(argument.as_str().unwrap()))),
                    "Fn::If" => {
                        let branch = if self.condition(argument[0].as_str().unwrap()) { 1 } else { 2 };
                        self.resolve(&argument[branch])
                    }
                    "Fn::Equals" => Some(json!(self.resolve(&argument[0]) == self.resolve(&argument[1]))),
                    "Fn::Not" => Some(json!(self.resolve(&argument[0]) != Some(json!(true)))),
                    "Fn::Join" => {
                        let parts = self.resolve(&argument[1]).unwrap();
                        let parts: Vec<&str> =
                            parts.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
                        Some(json!(parts.join(argument[0].as_str().unwrap())))
                    }
                    "Fn::Split" => {
                        let text = self.resolve(&argument[1]).unwrap();
                        Some(text.as_str().unwrap().split(argument[0].as_str().unwrap()).collect())
                    }
                    other => {
                        assert!(!other.starts_with("Fn::"), "{other} is not known to this test");
                        Some(json!({other: self.resolve(argument)?}))
                    }
                }
            }
            Value::Object(object) => {
                let resolve = |(key, value): (&String, &Value)| Some((key.clone(), self.resolve(value)?));
                Some(Value::Object(object.iter().filter_map(resolve).collect::<Map<_, _>>()))
            }
            Value::Array(list) => Some(list.iter().filter_map(|value| self.resolve(value)).collect()),
            other => Some(other.clone()),
        }
    }

    fn reference(&self, name: &str) -> Option<Value> {
        let value = match name {
            "AWS::NoValue" => return None,
            "AWS::StackName" => "bindery".to_owned(),
            "AWS::Region" => "eu-west-1".to_owned(),
            "AWS::AccountId" => "123456789012".to_owned(),
            "AWS::Partition" => "aws".to_owned(),
            _ => match self.parameters.get(name) {
                Some(value) if self.template["Parameters"][name]["Type"] == "CommaDelimitedList" => {
                    return Some(value.split(',').collect());
                }
                Some(value) => value.clone(),
                // Of a topic the ARN, of all else that the template refers to some name.
                None if name == "AlarmTopic" => "arn:aws:sns:eu-west-1:123456789012:bindery-alarms".to_owned(),
                None => name.to_owned(),
            },
        };
        Some(json!(value))
    }

    fn attribute(&self, id: &Value, attribute: &str) -> Value {
        let id = id.as_str().unwrap();
        let own = |property: &str| {
            let name = self.resolve(&self.template["Resources"][id]["Properties"][property]);
            name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_else(|| id.to_owned())
        };
        let arn = |start: &str, property: &str| json!(format!("{start}{}", own(property)));
        match (self.template["Resources"][id]["Type"].as_str().unwrap(), attribute) {
            ("AWS::IAM::Role", "Arn") => arn("arn:aws:iam::123456789012:role/", "RoleName"),
            ("AWS::SQS::Queue", "Arn") => arn("arn:aws:sqs:eu-west-1:123456789012:", "QueueName"),
            ("AWS::SQS::Queue", "QueueName") => arn("", "QueueName"),
            ("AWS::Events::Rule", "Arn") => arn("arn:aws:events:eu-west-1:123456789012:rule/", "Name"),
            ("AWS::S3::Bucket", "Arn") => arn("arn:aws:s3:::", "BucketName"),
            other => panic!("{other:?} is not known to this test"),
        }
    }

    fn substitute(&self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap();
            let value = match name.split_once('.') {
                Some((id, attribute)) => self.attribute(&json!(id), attribute),
                None => self.reference(name).unwrap(),
            };
            out.push_str(value.as_str().unwrap());
            out.push_str(rest);
        }
        out
    }
}

/// A policy in a form in which one value and a list of it are the same.
fn normal(policy: &Value) -> Value {
    fn listed(value: &Value) -> Value {
        match value {
            Value::Array(list) => list.iter().filter(|value| !value.is_null()).cloned().collect(),
            Value::Object(object) => {
                object.iter().map(|(key, value)| (key.clone(), listed(value))).collect::<Map<_, _>>().into()
            }
            one => json!([one]),
        }
    }
    let statements = policy["Statement"].as_array().unwrap_or_else(|| panic!("no statements in {policy}"));
    let statements = statements.iter().filter(|statement| !statement.is_null());
    json!({"Version": policy["Version"], "Statement": statements.map(listed).collect::<Vec<_>>()})
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn cfn_lint_has_nothing_to_say() {
    let path = template_path();
    let said = python("cfn-lint", &["--include-checks", "I", "--", path.to_str().unwrap()], "");
    assert_eq!(said, "");
}

#[test]
fn the_template_says_what_the_policies_beside_it_say() {
    let template = template();
    let stack = Stack::new(&template, &[]);
    let issuer = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE";
    let irsa = Stack::new(&template, &[("Identity", "IRSA"), ("OidcProvider", issuer)]);
    let account = ("ACCOUNT_ID", "123456789012");
    let region = ("REGION", "eu-west-1");
    let of_secret = [account, region, ("KEY_ID", "1234"), ("SECRET_NAME", "autorepost/production/app")];
    let rotates = [of_secret.as_slice(), &[("ROTATION_FUNCTION", "rotate-app")]].concat();
    let reader = ("READER_ROLE", "bindery-reader");
    let queue = ("QUEUE_NAME", "bindery-events");
    let document =
        |stack: &Stack, id: &str, pointer: &str| stack.properties(id).unwrap().pointer(pointer).unwrap().clone();
    let by_pod_identity = [account, region, ("CLUSTER_NAME", "production")];
    let of_reader = [account, ("OPERATOR_ROLE", "bindery-operator"), ("NAMESPACE", "autorepost-production")];
    for (file, values, id, pointer) in [
        ("read.json", &of_secret[..], "ReadPolicy", "/PolicyDocument"),
        ("rotate.json", &rotates, "RotationPolicy", "/PolicyDocument"),
        (
            "secret-guard.json",
            &[account, reader, ("BREAK_GLASS_ROLE", "bindery-break-glass")],
            "Guard1",
            "/ResourcePolicy",
        ),
        ("operator-trust-pod-identity.json", &by_pod_identity, "OperatorRole", "/AssumeRolePolicyDocument"),
        ("operator-assume-readers.json", &[account, reader], "AssumeReaderPolicy", "/PolicyDocument"),
        ("reader-trust.json", &of_reader, "ReaderRole", "/AssumeRolePolicyDocument"),
        ("break-glass-trust.json", &[account, ("USER_NAME", "alice")], "BreakGlassRole", "/AssumeRolePolicyDocument"),
        ("break-glass-read.json", &of_secret, "BreakGlassRole", "/Policies/0/PolicyDocument"),
        ("users-deny.json", &[], "UsersDenyPolicy", "/PolicyDocument"),
        ("events-read.json", &[account, region, queue], "EventsPolicy", "/PolicyDocument"),
        (
            "events-queue.json",
            &[account, region, queue, ("RULE_NAME", "bindery-secret-changes")],
            "EventsQueuePolicy",
            "/PolicyDocument",
        ),
    ] {
        let (of_file, of_template) = (parsed(&shipped(file, values)), document(&stack, id, pointer));
        assert_eq!(normal(&of_template), normal(&of_file), "{id} and {file}");
    }
    // The trust policy for IRSA is a text in the template.
    let text = document(&irsa, "OperatorRole", "/AssumeRolePolicyDocument");
    let of_file = shipped("operator-trust-irsa.json", &[account, ("OIDC_PROVIDER", issuer)]);
    assert_eq!(normal(&parsed(text.as_str().unwrap())), normal(&parsed(&of_file)));
}

#[test]
fn the_guard_and_the_alarm_name_the_same_readers_for_every_choice_of_parameters() {
    let template = template();
    let (operator, reader, break_glass) = (
        "arn:aws:iam::123456789012:role/bindery-operator",
        "arn:aws:iam::123456789012:role/bindery-reader",
        "arn:aws:iam::123456789012:role/bindery-break-glass",
    );
    let (ecs, lambda) = ("arn:aws:iam::123456789012:role/ecs-app", "arn:aws:iam::123456789012:role/rotation");
    let others = format!("{ecs},{lambda}");
    for (namespaces, users, others, expected) in [
        ("a,b", "arn:aws:iam::123456789012:user/alice", others.as_str(), vec![reader, break_glass, ecs, lambda]),
        ("a,b", "", ecs, vec![reader, ecs]),
        ("a", "arn:aws:iam::123456789012:user/alice", "", vec![reader, break_glass]),
        ("", "", "", vec![operator]),
    ] {
        let choice =
            [("ReaderNamespaces", namespaces), ("BreakGlassUsers", users), ("OtherReaders", others), ("Secret4", "d")];
        let stack = Stack::new(&template, &choice);
        for guard in ["Guard1", "Guard4"] {
            let policy = &stack.properties(guard).unwrap()["ResourcePolicy"];
            assert_eq!(
                policy["Statement"][0]["Condition"]["ArnNotLike"]["aws:PrincipalArn"],
                json!(expected),
                "{choice:?}"
            );
            // What AWS would take, the evaluator takes too.
            iam::Policy::resource(guard, &policy.to_string()).unwrap();
        }
        let alarm = stack.properties("UnexpectedReaderRule").unwrap();
        let listed =
            alarm.pointer("/EventPattern/detail/$or/1/userIdentity/sessionContext/sessionIssuer/arn/0/anything-but");
        assert_eq!(listed, Some(&json!(expected)), "{choice:?}");
        let patterns = &alarm["EventPattern"]["detail"]["requestParameters"]["secretId"];
        assert_eq!(patterns, &json!([{"wildcard": "*autorepost/production/app*"}, {"wildcard": "*d*"}]));
        assert_eq!(stack.properties("Guard2"), None);
        let read = &stack.properties("ReadPolicy").unwrap();
        assert_eq!(read["PolicyDocument"]["Statement"][0]["Resource"].as_array().unwrap().len(), 2);
        assert_eq!(read["Roles"], json!([if namespaces.is_empty() { "OperatorRole" } else { "ReaderRole" }]));
    }
}

#[test]
fn without_a_key_nothing_is_said_about_keys_and_trust_policies_are_as_short_as_aws_wants_them() {
    let template = template();
    let stack = Stack::new(&template, &[("KmsKeyArn", "")]);
    for id in ["ReadPolicy", "RotationPolicy", "BreakGlassRole"] {
        assert!(!stack.properties(id).unwrap().to_string().contains("kms:"), "{id}");
    }
    let namespaces: Vec<String> = (0..20).map(|index| format!("autorepost-production-{index}")).collect();
    let stack = Stack::new(&template, &[("ReaderNamespaces", &namespaces.join(","))]);
    for id in ["OperatorRole", "ReaderRole", "BreakGlassRole"] {
        let trust = stack.properties(id).unwrap()["AssumeRolePolicyDocument"].to_string();
        assert!(trust.len() < 2048, "{id}: {}", trust.len());
    }
}

/// All texts in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(object) => object.values().flat_map(texts).collect(),
        _ => vec![],
    }
}

#[test]
fn every_secret_is_named_in_full_and_guarded_and_sessions_for_emergencies_last_an_hour() {
    let template = template();
    let stack = Stack::new(&template, &[("Secret1", "a"), ("Secret2", "b"), ("Secret3", "c"), ("Secret4", "d")]);
    let arns =
        ["a", "b", "c", "d"].map(|name| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-??????"));
    let mut named = 0;
    for id in ["ReadPolicy", "RotationPolicy", "BreakGlassRole"] {
        let properties = stack.properties(id).unwrap();
        let of_secrets: Vec<_> = texts(&properties).into_iter().filter(|text| text.contains(":secret:")).collect();
        for (index, arn) in of_secrets.iter().enumerate() {
            assert_eq!(*arn, arns[index % 4], "{id}");
        }
        named += of_secrets.len();
    }
    assert_eq!(named, 4 + 3 * 4 + 4);
    for (guard, secret) in [("Guard1", "a"), ("Guard2", "b"), ("Guard3", "c"), ("Guard4", "d")] {
        let properties = stack.properties(guard).unwrap();
        assert_eq!((&properties["SecretId"], &properties["BlockPublicPolicy"]), (&json!(secret), &json!(true)));
        assert_eq!(properties["ResourcePolicy"], stack.properties("Guard1").unwrap()["ResourcePolicy"]);
    }
    assert_eq!(stack.properties("BreakGlassRole").unwrap()["MaxSessionDuration"], 3600);
}

/// Reads, attempts and changes, with the rules that must notice them.
fn events() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let api = |name: &str, detail: Value| {
        let source = if name == "AssumeRole" { "sts" } else { "secretsmanager" };
        let mut whole = json!({"eventSource": format!("{source}.amazonaws.com"), "eventName": name, "readOnly": false,
            "awsRegion": "eu-west-1", "eventType": "AwsApiCall", "recipientAccountId": "123456789012"});
        whole.as_object_mut().unwrap().extend(detail.as_object().unwrap().clone());
        json!({"source": format!("aws.{source}"), "detail-type": "AWS API Call via CloudTrail", "detail": whole})
    };
    let service = |name: &str| {
        json!({"source": "aws.secretsmanager", "detail-type": "AWS Service Event via CloudTrail", "detail": {
            "eventSource": "secretsmanager.amazonaws.com", "eventName": name, "eventType": "AwsServiceEvent",
            "requestParameters": null, "additionalEventData":
                {"SecretId": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdEf"}}})
    };
    let by_role = |role: &str| {
        json!({"type": "AssumedRole", "arn": format!("arn:aws:sts::123456789012:assumed-role/{role}/bindery-a"),
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": format!("arn:aws:iam::123456789012:role/{role}")}}})
    };
    let read = |id: &str, by: &Value| {
        api("GetSecretValue", json!({"requestParameters": {"secretId": id}, "userIdentity": by}))
    };
    let user = json!({"type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/bob", "userName": "bob"});
    let app = "autorepost/production/app";
    let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:autorepost/production/app-AbCdEf";
    let mut denied = read(app, &by_role("staging"));
    denied["detail"]["errorCode"] = json!("AccessDenied");
    let assume = |role: &str| {
        api("AssumeRole", json!({"requestParameters": {"roleArn": format!("arn:aws:iam::123456789012:role/{role}")}}))
    };
    let id = json!({"requestParameters": {"secretId": arn}});
    vec![
        ("a new version", api("PutSecretValue", id.clone()), vec!["bindery-secret-changes"]),
        ("a label moved", api("UpdateSecretVersionStage", id.clone()), vec!["bindery-secret-changes"]),
        ("a rotation done", service("RotationSucceeded"), vec!["bindery-secret-changes"]),
        ("a rotation failed", service("RotationFailed"), vec!["bindery-secret-changes"]),
        ("a tag", api("TagResource", id.clone()), vec![]),
        ("a look without the value", api("DescribeSecret", id.clone()), vec![]),
        ("the guard replaced", api("PutResourcePolicy", id.clone()), vec!["bindery-guard-changed"]),
        ("the guard removed", api("DeleteResourcePolicy", id), vec!["bindery-guard-changed"]),
        ("a read by the reader", read(app, &by_role("bindery-reader")), vec!["bindery-reads"]),
        ("a read by another listed role", read(arn, &by_role("ecs-app")), vec!["bindery-reads"]),
        (
            "a batch",
            api("BatchGetSecretValue", json!({"userIdentity": by_role("bindery-reader")})),
            vec!["bindery-reads"],
        ),
        ("a read by a user", read(app, &user), vec!["bindery-reads", "bindery-unexpected-reader"]),
        (
            "a read by the root user",
            read(arn, &json!({"type": "Root"})),
            vec!["bindery-reads", "bindery-unexpected-reader"],
        ),
        ("a refused attempt by a role", denied, vec!["bindery-reads", "bindery-unexpected-reader"]),
        (
            "a role like the reader",
            read(arn, &by_role("bindery-reader2")),
            vec!["bindery-reads", "bindery-unexpected-reader"],
        ),
        ("a read of some other secret", read("autorepost/staging/app", &user), vec!["bindery-reads"]),
        ("the role for emergencies", assume("bindery-break-glass"), vec!["bindery-break-glass"]),
        ("a read by it", read(app, &by_role("bindery-break-glass")), vec!["bindery-break-glass", "bindery-reads"]),
        ("any other role", assume("bindery-reader"), vec![]),
    ]
}

#[test]
fn the_template_is_created_and_its_rules_notice_what_they_should() {
    let template = template();
    let change =
        [("OtherReaders", "arn:aws:iam::123456789012:role/ecs-app"), ("Secret2", "autorepost/production/worker")];
    let events = events();
    let asked = json!({
        "template": std::fs::read_to_string(template_path()).unwrap(), "parameters": parameters(&change),
        "events": events.iter().map(|(_, event, _)| event).collect::<Vec<_>>(),
    });
    let made: Value = serde_json::from_str(&python("python", &["-c", CREATE], &asked.to_string())).unwrap();
    assert_eq!(made["status"], "CREATE_COMPLETE");

    // Everything exists but what moto skips.
    let stack = Stack::new(&template, &change);
    let mut skipped = BTreeSet::new();
    for (id, resource) in template["Resources"].as_object().unwrap() {
        let kind = resource["Type"].as_str().unwrap();
        if stack.properties(id).is_none() {
            continue;
        }
        if made["created"][id].is_null() {
            assert!(SKIPPED.contains(&kind), "{id} was not created");
            skipped.insert(kind);
        } else {
            assert_eq!(made["created"][id], kind);
        }
    }
    assert_eq!(skipped, BTreeSet::from(SKIPPED), "moto skips these and no others");

    // What moto made of the functions is what this test makes of them.
    let documents = made["documents"].as_object().unwrap();
    for (name, id, pointer) in [
        ("trust of bindery-operator", "OperatorRole", "/AssumeRolePolicyDocument"),
        ("trust of bindery-reader", "ReaderRole", "/AssumeRolePolicyDocument"),
        ("trust of bindery-break-glass", "BreakGlassRole", "/AssumeRolePolicyDocument"),
        ("assume-readers of bindery-operator", "AssumeReaderPolicy", "/PolicyDocument"),
        ("bindery-events of bindery-operator", "EventsPolicy", "/PolicyDocument"),
        ("bindery-read of bindery-reader", "ReadPolicy", "/PolicyDocument"),
        ("bindery-rotate of bindery-reader", "RotationPolicy", "/PolicyDocument"),
        ("read of bindery-break-glass", "BreakGlassRole", "/Policies/0/PolicyDocument"),
    ] {
        let of_template = stack.properties(id).unwrap().pointer(pointer).unwrap().clone();
        assert_eq!(normal(&documents[name]), normal(&of_template), "{name}");
    }
    assert_eq!(documents.len(), 8, "and nobody has more: {:?}", documents.keys());

    for (rule, state) in [
        ("bindery-secret-changes", "ENABLED"),
        ("bindery-guard-changed", "ENABLED"),
        ("bindery-reads", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"),
        ("bindery-unexpected-reader", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"),
        ("bindery-break-glass", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"),
    ] {
        assert_eq!(made["rules"][rule]["state"], state, "{rule}");
    }
    let queue = "arn:aws:sqs:eu-west-1:123456789012:bindery-events";
    for (name, rule) in made["rules"].as_object().unwrap() {
        let to_operator = rule["targets"].as_array().unwrap().contains(&json!(queue));
        assert_eq!(to_operator, name == "bindery-secret-changes", "reads never go to the operator: {name}");
    }
    for ((what, _, expected), matched) in events.iter().zip(made["matches"].as_array().unwrap()) {
        assert_eq!(matched, &json!(expected), "{what}");
    }
    let changes = ["PutSecretValue", "RotationFailed", "RotationSucceeded", "UpdateSecretVersionStage"];
    assert_eq!(made["arrived"]["bindery-events"], json!(changes));
    let reads = ["BatchGetSecretValue", "GetSecretValue", "GetSecretValue", "GetSecretValue"];
    assert_eq!(made["arrived"]["siem"], json!(reads), "those that alarm nobody; moto cannot hand events to a topic");
    let redrive = parsed(made["queue"]["RedrivePolicy"].as_str().unwrap());
    assert_eq!(redrive["deadLetterTargetArn"], "arn:aws:sqs:eu-west-1:123456789012:bindery-events-dead-letters");
    assert_eq!(made["queue"]["SqsManagedSseEnabled"], "true");
    for output in [
        "OperatorRoleArn",
        "ReaderRoleArn",
        "BreakGlassRoleArn",
        "EventsQueueUrl",
        "UsersDenyPolicyArn",
        "AlarmTopicArn",
    ] {
        assert!(made["outputs"][output].is_string(), "{output}");
    }
}

/// The folder is complete, and refers to nothing that is not there.
#[test]
fn the_files_that_the_documents_name_exist() {
    for document in ["deploy/aws/README.md", "docs/aws.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let folder = root().join(document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if !path.is_empty() && !path.contains("://") {
                assert!(folder.join(path).exists(), "{document} links to {link}");
            }
        }
        assert!(Path::new(&folder).exists());
    }
}
