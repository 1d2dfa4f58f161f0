//! Whole requests, as the SDK sends them, and answers as the SDK reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::tokens::{NOW, provider, token};
use crate::iam::gate::{Lookup, Secret, Wanted};
use crate::iam::world::{User, tags};
use crate::iam::{Gate, IamWorld, Role, Verdict};

pub const ALICE: &str = "arn:aws:iam::123456789012:user/alice";
pub const READER: &str = "arn:aws:iam::123456789012:role/teams/reader";
pub const APP: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/app-AbCdEf";

/// A gate with a clock that a test sets, in front of an AWS that the test plays.
pub struct Rig {
    pub gate: Gate,
    clock: Arc<AtomicU64>,
}

/// What came of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It passed; what AWS saw and what the caller got.
    Passed { sent: Value, got: String },
    /// It was refused: status, headers and body.
    Refused { status: u16, headers: HeaderMap, body: String },
}

impl Outcome {
    pub fn passed(&self) -> bool {
        matches!(self, Self::Passed { .. })
    }

    /// AWS's code and message.
    pub fn refusal(&self) -> (String, String) {
        let Self::Refused { body, .. } = self else {
            panic!("it passed: {self:?}");
        };
        let between = |start: &str, end: &str| body.split_once(start).unwrap().1.split_once(end).unwrap().0.to_owned();
        match serde_json::from_str::<Value>(body) {
            Ok(json) => (json["__type"].as_str().unwrap().to_owned(), json["Message"].as_str().unwrap().to_owned()),
            Err(_) => (between("<Code>", "</Code>"), between("<Message>", "</Message>")),
        }
    }

    pub fn code(&self) -> String {
        self.refusal().0
    }
}

pub fn lookup(secrets: Vec<(&str, Secret)>) -> Lookup {
    let by_name: BTreeMap<String, Secret> =
        secrets.into_iter().map(|(name, secret)| (name.to_owned(), secret)).collect();
    Arc::new(move |wanted: Wanted| {
        let found = by_name.iter().find(|(name, secret)| **name == wanted.id || secret.arn == wanted.id);
        let found = found.map(|(_, secret)| secret.clone());
        Box::pin(async move { found })
    })
}

pub fn secret(arn: &str) -> Secret {
    Secret { arn: arn.to_owned(), ..Secret::default() }
}

impl Rig {
    pub fn new(world: IamWorld, lookup: Lookup) -> Self {
        let clock = Arc::new(AtomicU64::new(NOW));
        let shown = clock.clone();
        let now = move || UNIX_EPOCH + Duration::from_secs(shown.load(Ordering::Relaxed));
        Self { gate: Gate::new(world, lookup).with_clock(now), clock }
    }

    pub fn pass_time(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Sends a request of the JSON protocol; `answer` is AWS's.
    pub async fn json(
        &self,
        (key, token): (&str, Option<&str>),
        target: &str,
        body: &Value,
        answer: &Value,
    ) -> Outcome {
        let service = if target.starts_with("AmazonSQS") { "sqs" } else { "secretsmanager" };
        let mut headers = signed(key, service, token);
        headers.insert("x-amz-target", target.parse().unwrap());
        self.send(&headers, &body.to_string(), &answer.to_string()).await
    }

    /// Sends a request to STS with these fields; AWS answers with the credentials named.
    pub async fn sts(
        &self,
        credentials: Option<(&str, Option<&str>)>,
        fields: &[(&str, &str)],
        given: (&str, &str),
    ) -> Outcome {
        let headers = credentials.map_or_else(HeaderMap::new, |(key, token)| signed(key, "sts", token));
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
        let answer = format!(
            "<AssumeRoleResponse><Credentials><AccessKeyId>{}</AccessKeyId><SessionToken>{}</SessionToken></Credentials>",
            given.0, given.1
        );
        self.send(&headers, &format!("{}&Version=2011-06-15", fields.join("&")), &answer).await
    }

    async fn send(&self, headers: &HeaderMap, body: &str, answer: &str) -> Outcome {
        match self.gate.judge(headers, &Bytes::from(body.to_owned())).await {
            Verdict::Pass(ticket) => {
                let sent = serde_json::from_slice(&ticket.body()).unwrap_or_default();
                let got = self.gate.settle(ticket, StatusCode::OK, Bytes::from(answer.to_owned())).await;
                Outcome::Passed { sent, got: String::from_utf8(got.to_vec()).unwrap() }
            }
            Verdict::Refuse(answer) => {
                let (head, body) = answer.response::<Full<Bytes>>().into_parts();
                let body = Response::new(body).into_body().collect().await.unwrap().to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                Outcome::Refused { status: head.status.as_u16(), headers: head.headers, body }
            }
        }
    }

    /// Reads a value by name.
    pub async fn read(&self, credentials: (&str, Option<&str>), id: &str) -> Outcome {
        self.json(credentials, "secretsmanager.GetSecretValue", &json!({"SecretId": id}), &json!({})).await
    }
}

fn signed(key: &str, service: &str, token: Option<&str>) -> HeaderMap {
    let scope = format!("{key}/20270115/eu-west-1/{service}/aws4_request");
    let mut headers = HeaderMap::new();
    let value = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=0f0f");
    headers.insert("authorization", value.parse().unwrap());
    if let Some(token) = token {
        headers.insert("x-amz-security-token", token.parse().unwrap());
    }
    headers
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn document(statements: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn read_app() -> String {
    document(&json!([
        {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
            "Resource": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/app-??????"},
        {"Effect": "Allow", "Action": "secretsmanager:BatchGetSecretValue", "Resource": "*"},
    ]))
}

/// Alice may read `shop/app`.
fn world() -> IamWorld {
    let mut world = IamWorld::new();
    world.add_user(User::new(ALICE).policy("own", &read_app()).unwrap());
    world.add_access_key(ALICE, "AKIAALICE");
    world
}

const BY_ALICE: (&str, Option<&str>) = ("AKIAALICE", None);

fn rig(world: IamWorld) -> Rig {
    let other = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/other-AbCdEf";
    Rig::new(world, lookup(vec![("shop/app", secret(APP)), ("shop/other", secret(other))]))
}

#[tokio::test]
async fn a_read_is_judged_by_the_full_arn_and_refused_in_the_words_of_aws() {
    let rig = rig(world());
    assert!(rig.read(BY_ALICE, "shop/app").await.passed());
    assert!(rig.read(BY_ALICE, APP).await.passed());
    let refused = rig.read(BY_ALICE, "shop/other").await;
    let (code, message) = refused.refusal();
    assert_eq!(code, "AccessDeniedException");
    assert_eq!(
        message,
        "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: secretsmanager:GetSecretValue on \
         resource: arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/other-AbCdEf because no identity-based \
         policy allows the secretsmanager:GetSecretValue action"
    );
    let Outcome::Refused { status, headers, .. } = refused else { panic!() };
    assert_eq!((status, &headers["content-type"]), (400, &"application/x-amz-json-1.1".parse().unwrap()));
    assert!(headers["x-amzn-requestid"].to_str().unwrap().len() == 36, "as long as AWS's");
    // A secret that does not exist has no suffix, so a policy with one does not allow to find that out.
    let (code, message) = rig.read(BY_ALICE, "shop/none").await.refusal();
    assert_eq!(code, "AccessDeniedException");
    assert!(message.contains("on resource: arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/none because"));
    let judged: Vec<bool> = rig.gate.record().iter().map(|judged| judged.decision.is_allowed()).collect();
    assert_eq!(judged, [true, true, false, false]);
}

#[tokio::test]
async fn credentials_that_are_not_known_are_refused_as_aws_refuses_them() {
    let rig = rig(world());
    rig.gate.world(|world| {
        let end = UNIX_EPOCH + Duration::from_secs(NOW + 60);
        world.add_user_session(ALICE, "ASIAALICE", "token", end, None);
    });
    assert_eq!(rig.read(("AKIANOBODY", None), "shop/app").await.code(), "UnrecognizedClientException");
    assert_eq!(rig.read(("AKIAALICE", Some("token")), "shop/app").await.code(), "UnrecognizedClientException");
    assert_eq!(rig.read(("ASIAALICE", None), "shop/app").await.code(), "UnrecognizedClientException");
    assert_eq!(rig.read(("ASIAALICE", Some("other")), "shop/app").await.code(), "UnrecognizedClientException");
    assert!(rig.read(("ASIAALICE", Some("token")), "shop/app").await.passed());
    rig.pass_time(60);
    assert_eq!(rig.read(("ASIAALICE", Some("token")), "shop/app").await.code(), "ExpiredTokenException");
    let unsigned = rig.send(&HeaderMap::new(), "Action=GetCallerIdentity", "").await;
    assert_eq!(unsigned.code(), "MissingAuthenticationToken");
    let mut for_sts = signed("AKIAALICE", "sts", None);
    for_sts.insert("x-amz-target", "secretsmanager.GetSecretValue".parse().unwrap());
    assert_eq!(rig.send(&for_sts, "{}", "").await.code(), "InvalidSignatureException");
    let (code, _) = rig.sts(Some(("AKIANOBODY", None)), &[("Action", "GetCallerIdentity")], ("", "")).await.refusal();
    assert_eq!(code, "InvalidClientTokenId");
    assert!(rig.sts(Some(BY_ALICE), &[("Action", "GetCallerIdentity")], ("", "")).await.passed());
}

#[tokio::test]
async fn what_the_gate_does_not_know_does_not_pass() {
    let mut world = world();
    world.add_user(
        User::new(ALICE).policy("all", &document(&json!({"Effect": "Allow", "Action": "*", "Resource": "*"}))).unwrap(),
    );
    let unreadable = Secret { policy: Some("{}".to_owned()), ..secret(APP) };
    let alias = Secret { kms_key_id: Some("alias/mine".to_owned()), ..secret(APP) };
    let rig = Rig::new(world, lookup(vec![("a", secret(APP)), ("unreadable", unreadable), ("alias", alias)]));
    for target in ["secretsmanager.ReplicateSecretToRegions", "AmazonSQS.CreateQueue", "DynamoDB_20120810.GetItem"] {
        assert_eq!(rig.json(BY_ALICE, target, &json!({}), &json!({})).await.code(), "NotModelled", "{target}");
    }
    for id in ["unreadable", "alias"] {
        assert_eq!(rig.read(BY_ALICE, id).await.code(), "NotModelled", "{id}");
    }
    for action in ["GetSessionToken", "AssumeRoleWithSAML", ""] {
        assert_eq!(rig.sts(Some(BY_ALICE), &[("Action", action)], ("", "")).await.code(), "NotModelled", "{action}");
    }
    let session_policy = [("Action", "AssumeRole"), ("RoleArn", READER), ("RoleSessionName", "s"), ("Policy", "{}")];
    assert_eq!(rig.sts(Some(BY_ALICE), &session_policy, ("", "")).await.code(), "NotModelled");
}

#[tokio::test]
async fn a_batch_gives_what_may_be_read_and_an_error_for_each_of_the_rest() {
    let rig = rig(world());
    let batch = |ids: Value| json!({"SecretIdList": ids});
    let answer = json!({"SecretValues": [{"ARN": APP, "Name": "shop/app"}], "Errors": [{"SecretId": "gone"}]});
    let target = "secretsmanager.BatchGetSecretValue";
    let outcome = rig.json(BY_ALICE, target, &batch(json!(["shop/other", "shop/app"])), &answer).await;
    let Outcome::Passed { sent, got } = outcome else { panic!() };
    assert_eq!(sent, batch(json!(["shop/app"])), "AWS is not even asked for the other");
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!(got["SecretValues"], answer["SecretValues"]);
    assert_eq!(got["Errors"][0]["SecretId"], "gone");
    assert_eq!(
        (&got["Errors"][1]["SecretId"], &got["Errors"][1]["ErrorCode"]),
        (&json!("shop/other"), &json!("AccessDeniedException"))
    );
    assert!(
        got["Errors"][1]["Message"]
            .as_str()
            .unwrap()
            .contains("not authorized to perform: secretsmanager:GetSecretValue")
    );

    let Outcome::Passed { sent, got } = rig.json(BY_ALICE, target, &batch(json!(["shop/app"])), &answer).await else {
        panic!()
    };
    assert_eq!((sent, serde_json::from_str::<Value>(&got).unwrap()), (batch(json!(["shop/app"])), answer));

    // With nothing left AWS still answers 200.
    let none = rig.json(BY_ALICE, target, &batch(json!(["shop/other"])), &json!({})).await;
    let Outcome::Refused { status: 200, body, .. } = none else { panic!("{none:?}") };
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["SecretValues"], &body["Errors"][0]["SecretId"]), (&json!([]), &json!("shop/other")));

    let by_filter = json!({"Filters": [{"Key": "name", "Values": ["shop/"]}]});
    assert_eq!(
        rig.json(BY_ALICE, target, &by_filter, &json!({})).await.code(),
        "AccessDeniedException",
        "a filter lists"
    );
}

#[tokio::test]
async fn a_batch_by_filter_loses_the_values_that_may_not_be_read() {
    let rig = rig(world());
    let list = document(&json!({"Effect": "Allow", "Action": "secretsmanager:ListSecrets", "Resource": "*"}));
    rig.gate.world(|world| {
        world.add_user(User::new(ALICE).policy("own", &read_app()).unwrap().policy("list", &list).unwrap());
    });
    let other = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/other-AbCdEf";
    let answer =
        json!({"SecretValues": [{"ARN": other, "SecretString": "x"}, {"ARN": APP, "SecretString": "y"}], "Errors": []});
    let asked = json!({"Filters": [{"Key": "name", "Values": ["shop/"]}]});
    let outcome = rig.json(BY_ALICE, "secretsmanager.BatchGetSecretValue", &asked, &answer).await;
    let Outcome::Passed { got, .. } = outcome else { panic!("{outcome:?}") };
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!(got["SecretValues"], json!([{"ARN": APP, "SecretString": "y"}]));
    assert_eq!(got["Errors"][0]["SecretId"], other);
}

#[tokio::test]
async fn a_key_of_ones_own_wants_a_right_to_it_through_secrets_manager() {
    let key = "arn:aws:kms:eu-west-1:123456789012:key/1234";
    let with_key = Secret { kms_key_id: Some("1234".to_owned()), ..secret(APP) };
    let rig = Rig::new(world(), lookup(vec![("shop/app", with_key)]));
    let denied = ("AccessDeniedException".to_owned(), "Access to KMS is not allowed".to_owned());
    assert_eq!(rig.read(BY_ALICE, "shop/app").await.refusal(), denied);
    let decrypt = |service: &str| {
        document(&json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key,
            "Condition": {"StringEquals": {"kms:ViaService": service}}}))
    };
    let change = |policy: &str| {
        let alice = User::new(ALICE).policy("own", &read_app()).unwrap().policy("key", policy).unwrap();
        rig.gate.world(|world| world.add_user(alice));
    };
    change(&decrypt("s3.eu-west-1.amazonaws.com"));
    assert_eq!(rig.read(BY_ALICE, "shop/app").await.refusal(), denied);
    change(&decrypt("secretsmanager.eu-west-1.amazonaws.com"));
    assert!(rig.read(BY_ALICE, "shop/app").await.passed());
    let described =
        rig.json(BY_ALICE, "secretsmanager.DescribeSecret", &json!({"SecretId": "shop/app"}), &json!({})).await;
    assert!(described.passed(), "which needs no key");
    // A key whose policy names others only serves nobody else, whatever their own policies say.
    let others =
        document(&json!({"Effect": "Allow", "Principal": {"AWS": READER}, "Action": "kms:*", "Resource": "*"}));
    rig.gate.world(|world| world.set_key_policy(key, &others).unwrap());
    assert_eq!(rig.read(BY_ALICE, "shop/app").await.refusal(), denied);
}

#[tokio::test]
async fn a_policy_of_a_secret_counts_and_a_secret_of_another_account_wants_one() {
    let foreign = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:shop/app-AbCdEf";
    let guard = document(
        &json!({"Sid": "Guard", "Effect": "Deny", "Principal": "*", "Action": "secretsmanager:GetSecretValue",
        "Resource": "*", "Condition": {"ArnNotLike": {"aws:PrincipalArn": READER}}}),
    );
    let open = document(
        &json!({"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": "secretsmanager:*", "Resource": "*"}),
    );
    let other = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop/other-AbCdEf";
    let mut world = world();
    let foreign_too =
        document(&json!({"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": foreign}));
    world.add_user(User::new(ALICE).policy("own", &read_app()).unwrap().policy("foreign", &foreign_too).unwrap());
    let rig = Rig::new(
        world,
        lookup(vec![
            ("guarded", Secret { policy: Some(guard), ..secret(APP) }),
            ("opened", Secret { policy: Some(open.clone()), ..secret(other) }),
            ("foreign", secret(foreign)),
            ("foreign-opened", Secret { policy: Some(open), ..secret(foreign) }),
        ]),
    );
    let (_, message) = rig.read(BY_ALICE, "guarded").await.refusal();
    assert!(message.ends_with("with an explicit deny in a resource-based policy"), "{message}");
    assert!(rig.read(BY_ALICE, "opened").await.passed(), "without a word in her own policies");
    let (_, message) = rig.read(BY_ALICE, "foreign").await.refusal();
    assert!(
        message.ends_with("because no resource-based policy allows the secretsmanager:GetSecretValue action"),
        "{message}"
    );
    assert!(rig.read(BY_ALICE, "foreign-opened").await.passed());
}

/// A role that Alice may become in these ways.
fn with_role(trust: &Value) -> IamWorld {
    let mut world = world();
    let role = Role::new(READER, &document(trust)).unwrap().policy("read", &read_app()).unwrap();
    world.add_role(role.tag("Team", "a").max_session(Duration::from_secs(7200)));
    world
}

fn assume<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("Action", "AssumeRole"), ("RoleArn", READER), ("RoleSessionName", "bindery-shop")], more].concat()
}

const GIVEN: (&str, &str) = ("ASIAREADER", "session-token");
const BY_READER: (&str, Option<&str>) = ("ASIAREADER", Some("session-token"));

#[tokio::test]
async fn a_session_is_learnt_from_the_answer_and_ends_when_it_should() {
    let rig = rig(with_role(&json!({"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": "sts:AssumeRole"})));
    assert_eq!(rig.read(BY_READER, "shop/app").await.code(), "UnrecognizedClientException");
    assert!(rig.sts(Some(BY_ALICE), &assume(&[("DurationSeconds", "900")]), GIVEN).await.passed());
    assert!(rig.read(BY_READER, "shop/app").await.passed());
    let (_, message) = rig.read(BY_READER, "shop/other").await.refusal();
    assert!(
        message.starts_with("User: arn:aws:sts::123456789012:assumed-role/reader/bindery-shop is not authorized"),
        "{message}"
    );
    // The path is part of the role and not of the session.
    assert_eq!(
        rig.gate.record().last().unwrap().principal,
        "arn:aws:sts::123456789012:assumed-role/reader/bindery-shop"
    );
    rig.pass_time(899);
    assert!(rig.read(BY_READER, "shop/app").await.passed());
    rig.pass_time(1);
    assert_eq!(rig.read(BY_READER, "shop/app").await.code(), "ExpiredTokenException");
}

#[tokio::test]
async fn a_role_that_refuses_and_one_that_does_not_exist_look_the_same() {
    let nobody = json!({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:user/bob"}, "Action": "sts:AssumeRole"});
    let rig = rig(with_role(&nobody));
    let refused = rig.sts(Some(BY_ALICE), &assume(&[]), GIVEN).await;
    let message =
        "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: sts:AssumeRole on resource: ";
    assert_eq!(refused.refusal(), ("AccessDenied".to_owned(), format!("{message}{READER}")));
    let Outcome::Refused { status, headers, body } = refused else { panic!() };
    assert_eq!((status, &headers["content-type"]), (403, &"text/xml".parse().unwrap()));
    assert!(body.contains("<Type>Sender</Type>") && body.contains("<RequestId>"), "{body}");
    let none = "arn:aws:iam::123456789012:role/none";
    let fields = [("Action", "AssumeRole"), ("RoleArn", none), ("RoleSessionName", "bindery-shop")];
    assert_eq!(
        rig.sts(Some(BY_ALICE), &fields, GIVEN).await.refusal(),
        ("AccessDenied".to_owned(), format!("{message}{none}"))
    );
    assert_eq!(rig.read(BY_READER, "shop/app").await.code(), "UnrecognizedClientException", "nothing was learnt");
}

#[tokio::test]
async fn session_tags_external_id_and_source_identity_are_judged_and_stay_with_the_session() {
    let trust = json!([
        {"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {"StringEquals": {"aws:RequestTag/bindery-namespace": "shop", "sts:ExternalId": "id-1"},
                "StringLike": {"sts:RoleSessionName": "bindery-*"}}},
        {"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": "sts:SetSourceIdentity",
            "Condition": {"StringEquals": {"sts:SourceIdentity": "${aws:username}"}}},
    ]);
    let rig = rig(with_role(&trust));
    let tag = |namespace| [("Tags.member.1.Key", "bindery-namespace"), ("Tags.member.1.Value", namespace)];
    let id = ("ExternalId", "id-1");
    let [key, shop] = tag("shop");
    let [_, staging] = tag("staging");
    for (fields, expected) in [
        (vec![key, shop, id], true),
        (vec![key, shop, id, ("SourceIdentity", "alice")], true),
        (vec![key, shop, id, ("SourceIdentity", "bob")], false),
        (vec![key, staging, id], false),
        (vec![key, shop], false),
        (vec![key, shop, ("ExternalId", "id-2")], false),
        (vec![id], false),
    ] {
        assert_eq!(rig.sts(Some(BY_ALICE), &assume(&fields), GIVEN).await.passed(), expected, "{fields:?}");
    }
    let other_name = [("Action", "AssumeRole"), ("RoleArn", READER), ("RoleSessionName", "else"), key, shop, id];
    assert!(!rig.sts(Some(BY_ALICE), &other_name, GIVEN).await.passed());

    // What the session carries: its own tags beside the role's, and the name of the person.
    let by_tag = json!({"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*", "Condition":
        {"StringEquals": {"aws:PrincipalTag/bindery-namespace": "shop", "aws:PrincipalTag/team": "a", "aws:SourceIdentity": "alice"}}});
    let role = Role::new(READER, &document(&trust)).unwrap().policy("read", &document(&by_tag)).unwrap();
    rig.gate.world(|world| world.add_role(role.tag("Team", "a")));
    let (without, with) = (("ASIA1", "t1"), ("ASIA2", "t2"));
    assert!(rig.sts(Some(BY_ALICE), &assume(&[key, shop, id]), without).await.passed());
    assert!(rig.sts(Some(BY_ALICE), &assume(&[key, shop, id, ("SourceIdentity", "alice")]), with).await.passed());
    assert!(!rig.read(("ASIA1", Some("t1")), "shop/app").await.passed());
    assert!(rig.read(("ASIA2", Some("t2")), "shop/app").await.passed());
}

#[tokio::test]
async fn mfa_is_known_from_a_code_with_the_call_or_from_a_session_and_never_from_a_role() {
    let fresh = json!({"Effect": "Allow", "Principal": {"AWS": [ALICE, READER]}, "Action": "sts:AssumeRole", "Condition": {
        "Bool": {"aws:MultiFactorAuthPresent": "true"}, "NumericLessThan": {"aws:MultiFactorAuthAge": "900"}}});
    let mut world = with_role(&fresh);
    world.add_user(User::new(ALICE).mfa("arn:aws:iam::123456789012:mfa/alice", "123456"));
    let end = UNIX_EPOCH + Duration::from_secs(NOW + 36_000);
    world.add_user_session(ALICE, "ASIAMFA", "t", end, Some(UNIX_EPOCH + Duration::from_secs(NOW)));
    world.add_user_session(ALICE, "ASIANOMFA", "t", end, None);
    let rig = rig(world);
    let serial = ("SerialNumber", "arn:aws:iam::123456789012:mfa/alice");
    assert!(!rig.sts(Some(BY_ALICE), &assume(&[]), GIVEN).await.passed(), "a long-term key alone");
    let (code, message) = rig.sts(Some(BY_ALICE), &assume(&[serial, ("TokenCode", "654321")]), GIVEN).await.refusal();
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.")
    );
    assert!(rig.sts(Some(BY_ALICE), &assume(&[serial, ("TokenCode", "123456")]), GIVEN).await.passed());
    assert!(!rig.sts(Some(BY_READER), &assume(&[]), ("A", "b")).await.passed(), "the role has no word of it");
    assert!(!rig.sts(Some(("ASIANOMFA", Some("t"))), &assume(&[]), GIVEN).await.passed());
    assert!(rig.sts(Some(("ASIAMFA", Some("t"))), &assume(&[]), GIVEN).await.passed());
    rig.pass_time(899);
    assert!(rig.sts(Some(("ASIAMFA", Some("t"))), &assume(&[]), GIVEN).await.passed());
    rig.pass_time(1);
    assert!(!rig.sts(Some(("ASIAMFA", Some("t"))), &assume(&[]), GIVEN).await.passed(), "too long ago");
}

#[tokio::test]
async fn fields_that_break_aws_rules_are_refused() {
    let rig =
        rig(with_role(&json!({"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole", "sts:TagSession"]})));
    let session = |name| [("Action", "AssumeRole"), ("RoleArn", READER), ("RoleSessionName", name)];
    let long = "n".repeat(65);
    for name in ["", "x", "with space", "slash/name", &long] {
        assert_eq!(rig.sts(Some(BY_ALICE), &session(name), GIVEN).await.code(), "ValidationError", "{name}");
    }
    assert!(rig.sts(Some(BY_ALICE), &session(&long[1..]), GIVEN).await.passed());
    let key = ("Tags.member.1.Key", "k");
    for fields in [
        vec![("DurationSeconds", "899")],
        vec![("DurationSeconds", "7201")],
        vec![("DurationSeconds", "soon")],
        vec![key, ("Tags.member.1.Value", "a*")],
        vec![("Tags.member.1.Key", "aws:x"), ("Tags.member.1.Value", "a")],
        vec![("TransitiveTagKeys.member.1", "k")],
    ] {
        assert_eq!(rig.sts(Some(BY_ALICE), &assume(&fields), GIVEN).await.code(), "ValidationError", "{fields:?}");
    }
    assert!(rig.sts(Some(BY_ALICE), &assume(&[("DurationSeconds", "7200")]), GIVEN).await.passed());
    // A role that becomes a role has an hour at most.
    assert_eq!(
        rig.sts(Some(BY_READER), &assume(&[("DurationSeconds", "3601")]), GIVEN).await.code(),
        "ValidationError"
    );
    assert!(rig.sts(Some(BY_READER), &assume(&[("DurationSeconds", "3600")]), GIVEN).await.passed());
}

#[tokio::test]
async fn transitive_tags_go_on_to_the_next_role_and_the_others_do_not() {
    let anybody = json!({"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole", "sts:TagSession"]});
    let second = "arn:aws:iam::123456789012:role/second";
    let rig = rig(with_role(&anybody));
    let needs = |tag: &str| {
        let own = json!({"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*",
            "Condition": {"StringEquals": {format!("aws:PrincipalTag/{tag}"): "1"}}});
        let role = Role::new(second, &document(&anybody)).unwrap().policy("read", &document(&own)).unwrap();
        rig.gate.world(|world| world.add_role(role));
    };
    let fields = [
        ("Tags.member.1.Key", "goes"),
        ("Tags.member.1.Value", "1"),
        ("Tags.member.2.Key", "stays"),
        ("Tags.member.2.Value", "1"),
        ("TransitiveTagKeys.member.1", "goes"),
    ];
    assert!(rig.sts(Some(BY_ALICE), &assume(&fields), GIVEN).await.passed());
    let next = [("Action", "AssumeRole"), ("RoleArn", second), ("RoleSessionName", "next")];
    assert!(rig.sts(Some(BY_READER), &next, ("ASIASECOND", "t")).await.is_denied(), "there is no such role yet");
    needs("goes");
    assert!(rig.sts(Some(BY_READER), &next, ("ASIASECOND", "t")).await.passed());
    let by_second = ("ASIASECOND", Some("t"));
    assert!(rig.read(by_second, "shop/app").await.passed());
    needs("stays");
    assert!(!rig.read(by_second, "shop/app").await.passed());
    let conflict = [&next[..], &[("Tags.member.1.Key", "goes"), ("Tags.member.1.Value", "2")]].concat();
    assert!(rig.sts(Some(BY_READER), &conflict, ("x", "y")).await.is_denied(), "nobody changes what came along");
}

#[tokio::test]
async fn tags_want_a_right_of_their_own_whether_given_or_brought_along_and_a_name_stays() {
    let no_tags = json!({"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"]});
    let second = "arn:aws:iam::123456789012:role/second";
    let rig = rig(with_role(&no_tags));
    let tag = [("Tags.member.1.Key", "k"), ("Tags.member.1.Value", "v")];
    assert!(rig.sts(Some(BY_ALICE), &assume(&[]), GIVEN).await.passed());
    assert!(rig.sts(Some(BY_ALICE), &assume(&tag), GIVEN).await.is_denied());

    // The first role takes tags and lets them go on; the second takes none.
    let takes_tags = json!({"Effect": "Allow", "Principal": "*", "Action": "sts:*"});
    rig.gate.world(|world| {
        world.add_role(Role::new(READER, &document(&takes_tags)).unwrap());
        world.add_role(Role::new(second, &document(&no_tags)).unwrap());
    });
    let next = [("Action", "AssumeRole"), ("RoleArn", second), ("RoleSessionName", "next")];
    assert!(rig.sts(Some(BY_ALICE), &assume(&tag), GIVEN).await.passed());
    assert!(rig.sts(Some(BY_READER), &next, ("x", "y")).await.passed(), "a tag that stays is no matter of the next");
    let goes_on = [&tag[..], &[("TransitiveTagKeys.member.1", "k")]].concat();
    assert!(rig.sts(Some(BY_ALICE), &assume(&goes_on), GIVEN).await.passed());
    assert!(rig.sts(Some(BY_READER), &next, ("x", "y")).await.is_denied());

    // Who came as alice goes on as alice, and the next role must take the name too.
    assert!(rig.sts(Some(BY_ALICE), &assume(&[("SourceIdentity", "alice")]), GIVEN).await.passed());
    assert!(rig.sts(Some(BY_READER), &next, ("x", "y")).await.passed());
    let as_bob = [&next[..], &[("SourceIdentity", "bob")]].concat();
    assert!(rig.sts(Some(BY_READER), &as_bob, ("x", "y")).await.is_denied());
    let no_name = json!({"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"});
    rig.gate.world(|world| world.add_role(Role::new(second, &document(&no_name)).unwrap()));
    assert!(rig.sts(Some(BY_READER), &next, ("x", "y")).await.is_denied());
}

#[tokio::test]
async fn starting_a_rotation_wants_the_right_to_invoke_its_lambda() {
    let function = "arn:aws:lambda:eu-west-1:123456789012:function:rotate";
    let rotates = Secret { rotation_function: Some(function.to_owned()), ..secret(APP) };
    let rig = Rig::new(world(), lookup(vec![("shop/app", rotates)]));
    for (actions, expected) in [
        (json!("secretsmanager:RotateSecret"), false),
        (json!("lambda:InvokeFunction"), false),
        (json!(["secretsmanager:RotateSecret", "lambda:InvokeFunction"]), true),
    ] {
        let own = document(&json!({"Effect": "Allow", "Action": actions, "Resource": "*"}));
        rig.gate.world(|world| world.add_user(User::new(ALICE).policy("own", &own).unwrap()));
        let body = json!({"SecretId": "shop/app"});
        let outcome = rig.json(BY_ALICE, "secretsmanager.RotateSecret", &body, &json!({})).await;
        assert_eq!(outcome.passed(), expected, "{actions}");
    }
}

impl Outcome {
    fn is_denied(&self) -> bool {
        !self.passed() && self.code() == "AccessDenied"
    }
}

#[tokio::test]
async fn a_service_account_becomes_a_role_by_its_token_alone() {
    let subject = "system:serviceaccount:shop:worker";
    let arn = provider("123456789012").arn;
    let prefix = super::tokens::PREFIX;
    let trust = json!({"Effect": "Allow", "Principal": {"Federated": arn}, "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {format!("{prefix}:sub"): subject, format!("{prefix}:aud"): "sts.amazonaws.com"}}});
    let mut world = with_role(&trust);
    world.add_provider(provider("123456789012"));
    let rig = rig(world);
    let ask = async |token: &str, role: &str| {
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", role),
            ("RoleSessionName", "bindery-shop"),
            ("WebIdentityToken", token),
        ];
        rig.sts(None, &fields, GIVEN).await
    };
    assert!(ask(&token(subject, &json!({})), READER).await.passed());
    assert!(rig.read(BY_READER, "shop/app").await.passed());
    let denied = ("AccessDenied".to_owned(), "Not authorized to perform sts:AssumeRoleWithWebIdentity".to_owned());
    for other in [
        "system:serviceaccount:shop:default",
        "system:serviceaccount:staging:worker",
        "system:serviceaccount:shop:worker2",
    ] {
        assert_eq!(ask(&token(other, &json!({})), READER).await.refusal(), denied, "{other}");
    }
    assert_eq!(ask(&token(subject, &json!({})), "arn:aws:iam::123456789012:role/none").await.refusal(), denied);
    for (change, code, message) in [
        (json!({"aud": ["vault"]}), "InvalidIdentityToken", "Incorrect token audience"),
        (
            json!({"iss": "https://example.com"}),
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://example.com",
        ),
        (json!({"exp": NOW}), "ExpiredTokenException", "Token expired"),
    ] {
        let (found, text) = ask(&token(subject, &change), READER).await.refusal();
        assert!(found == code && text.starts_with(message), "{found}: {text}");
    }
    let foreign = "arn:aws:iam::210987654321:role/teams/reader";
    assert_eq!(
        ask(&token(subject, &json!({})), foreign).await.code(),
        "InvalidIdentityToken",
        "that account knows no such issuer"
    );
    // A user's key is no way around the token, and the token none around AssumeRole.
    assert!(!rig.sts(Some(BY_ALICE), &assume(&[]), GIVEN).await.passed());
}

#[tokio::test]
async fn a_pod_gets_its_role_from_the_agent_on_its_node() {
    let trust = json!({"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {"aws:RequestTag/kubernetes-namespace": "bindery-system"}}});
    let rig = rig(with_role(&trust));
    let start = UNIX_EPOCH + Duration::from_secs(NOW);
    let other = tags([("kubernetes-namespace", "default")]);
    let own = tags([("kubernetes-namespace", "bindery-system")]);
    assert!(rig.gate.world(|world| world.start_pod_session(READER, GIVEN, start, &other)).is_err());
    assert!(!rig.read(BY_READER, "shop/app").await.passed());
    assert!(rig.gate.world(|world| world.start_pod_session(READER, GIVEN, start, &own)).is_ok());
    assert!(rig.read(BY_READER, "shop/app").await.passed());
}

#[tokio::test]
async fn a_queue_is_judged_by_the_arn_in_its_url() {
    let mut world = world();
    let take = json!({"Effect": "Allow", "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage"],
        "Resource": "arn:aws:sqs:eu-west-1:123456789012:events"});
    world.add_user(User::new(ALICE).policy("queue", &document(&take)).unwrap());
    let rig = rig(world);
    for (target, url, expected) in [
        ("AmazonSQS.ReceiveMessage", "http://127.0.0.1:5000/123456789012/events", true),
        ("AmazonSQS.DeleteMessageBatch", "https://sqs.eu-west-1.amazonaws.com/123456789012/events", true),
        ("AmazonSQS.SendMessage", "http://127.0.0.1:5000/123456789012/events", false),
        ("AmazonSQS.ReceiveMessage", "http://127.0.0.1:5000/123456789012/events2", false),
        ("AmazonSQS.ReceiveMessage", "http://127.0.0.1:5000/210987654321/events", false),
    ] {
        let outcome = rig.json(BY_ALICE, target, &json!({"QueueUrl": url}), &json!({})).await;
        assert_eq!(outcome.passed(), expected, "{target} {url}");
    }
}
