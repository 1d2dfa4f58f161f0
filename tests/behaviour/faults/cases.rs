//! What can fail between Secrets Manager and the Secret, and what a binding is to say of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Fault::{self, Cut, Edit, Error, Garbage, Hangup, Slow, Text};
use crate::support::aws_proxy::Sent;
use crate::support::world::CANARY;

/// When a failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is published yet, so the value is asked for at once.
    First,
    /// The Secret is published, and AWS is asked whether there is a new version.
    Check,
    /// The Secret is published, a new version is known, and its value is asked for.
    Read,
}

/// What is wrong.
#[derive(Clone)]
pub enum Cause {
    /// AWS, or something on the way to it, answers every call like this.
    Aws(Fault),
    /// The same for these calls only.
    Calls(&'static [&'static str], Fault),
    /// The secret holds this.
    Payload(String),
    /// The secret is deleted.
    Deleted,
    /// The secret is scheduled for deletion.
    PendingDeletion,
    /// No version has the stage that the binding asks for.
    NoStage,
    /// There is no version of the id that the binding asks for.
    NoVersion,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It is none: the binding gets its keys another way.
    None,
    /// It passes by itself, and what is published is as good as before.
    Passing,
    /// The binding is not ready until it is cured, and finds out by itself when it is.
    Lasting,
    /// The same, and it is known only after AWS was asked again at the refresh interval.
    UntilNewVersion,
    /// Only a change of the binding, or of its grant, makes the operator ask again.
    UntilEdit,
}

/// One way to fail.
pub struct Case {
    pub name: &'static str,
    pub cause: Cause,
    pub course: Course,
    /// The condition that turns False.
    pub condition: &'static str,
    pub reason: &'static str,
    /// What the message holds beside the name of the secret.
    pub says: &'static [&'static str],
    /// The spec, from the name of the secret.
    pub spec: fn(&str) -> Value,
    /// The payload that is well, by its number.
    pub payload: fn(u32) -> String,
    /// The key of the Secret that holds [`url`] of that number.
    pub key: &'static str,
}

/// The id of a version that comes to be only when the failure ends.
pub const LATE_VERSION: &str = "00000000-0000-4000-8000-00000000beef";

/// The value that tells which payload is published.
pub fn url(number: u32) -> String {
    format!("postgresql://app:{CANARY}-{number}@db/app")
}

/// A payload that is well.
pub fn object(number: u32) -> String {
    json!({"DATABASE_URL": url(number), "S3_BUCKET": format!("{CANARY}-bucket-{number}"), "CERT": "Y2FuYXJ5"})
        .to_string()
}

/// A spec that publishes the whole secret and looks every ten seconds for a new version.
pub fn whole(secret: &str) -> Value {
    json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret}]})
}

/// Leaves out of an answer which version it is.
pub fn without_version(answer: &mut Value) {
    answer.as_object_mut().unwrap().remove("VersionId");
}

fn without_value(answer: &mut Value) {
    answer.as_object_mut().unwrap().remove("SecretString");
}

fn another_secret(answer: &mut Value) {
    answer["Name"] = json!("another/secret");
    another_arn(answer);
}

fn another_arn(answer: &mut Value) {
    answer["ARN"] = json!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:another/secret-AbCdEf");
}

fn another_region(answer: &mut Value) {
    answer["ARN"] = json!(answer["ARN"].as_str().unwrap().replace("eu-west-1", "eu-west-2"));
}

impl Case {
    /// A failure of AWS.
    fn of(
        name: &'static str,
        cause: Cause,
        course: Course,
        reason: &'static str,
        says: &'static [&'static str],
    ) -> Self {
        let (spec, payload, key) = (whole as fn(&str) -> Value, object as fn(u32) -> String, "DATABASE_URL");
        Self { name, cause, course, condition: "Fetched", reason, says, spec, payload, key }
    }

    /// A failure of these calls alone.
    fn of_calls(self, calls: &'static [&'static str]) -> Self {
        match self.cause {
            Cause::Aws(fault) => Self { cause: Cause::Calls(calls, fault), ..self },
            _ => self,
        }
    }

    fn at_read(self) -> Self {
        self.of_calls(&["GetSecretValue"])
    }

    fn with(self, spec: fn(&str) -> Value) -> Self {
        Self { spec, ..self }
    }

    /// The moments at which this can strike.
    pub fn moments(&self) -> &'static [Moment] {
        match &self.cause {
            Cause::Aws(_) => &[Moment::First, Moment::Check, Moment::Read],
            Cause::Calls(["GetSecretValue"], _) => &[Moment::First, Moment::Read],
            // What is wrong with a secret is found at the look at its version.
            _ => &[Moment::First, Moment::Check],
        }
    }
}

fn passing(name: &'static str, fault: Fault, reason: &'static str, says: &'static [&'static str]) -> Case {
    Case::of(name, Cause::Aws(fault), Course::Passing, reason, says)
}

fn lasting(name: &'static str, fault: Fault, reason: &'static str, says: &'static [&'static str]) -> Case {
    Case::of(name, Cause::Aws(fault), Course::Lasting, reason, says)
}

fn state(name: &'static str, cause: Cause, reason: &'static str, says: &'static [&'static str]) -> Case {
    Case::of(name, cause, Course::Lasting, reason, says)
}

fn payload(name: &'static str, text: impl Into<String>, reason: &'static str, says: &'static [&'static str]) -> Case {
    let case = Case::of(name, Cause::Payload(text.into()), Course::UntilNewVersion, reason, says);
    Case { condition: "Rendered", ..case }
}

const PASSES: &[&str] = &["passes by itself"];

/// AWS is busy, or away, or something stands in the way.
fn outages() -> Vec<Case> {
    let of_kms = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";
    vec![
        passing("throttled", Error(400, "ThrottlingException", "Rate exceeded"), "Throttled", &["call less often"]),
        passing("throttled by status", Error(429, "TooManyRequestsException", "slow down"), "Throttled", PASSES),
        passing("KMS is throttled", Error(400, "ThrottlingException", of_kms), "Throttled", PASSES).at_read(),
        passing("KMS says so", Error(400, "LimitExceededException", "Rate exceeded"), "Throttled", PASSES).at_read(),
        passing("internal error", Error(500, "InternalServiceError", "An error occurred."), "AwsUnavailable", PASSES),
        passing("service unavailable", Error(503, "ServiceUnavailable", "try later"), "AwsUnavailable", PASSES),
        passing("a state in the way", Error(400, "InvalidRequestException", "not now"), "AwsUnavailable", PASSES),
        passing("an unknown code", Error(400, "SomethingNewException", "news"), "AwsUnavailable", PASSES),
        passing("a proxy answers", Text(502, "<html><h1>502 Bad Gateway</h1></html>"), "AwsUnavailable", PASSES),
        passing("no answer in time", Slow(Duration::from_secs(7)), "AwsUnavailable", PASSES),
        passing("cut in mid-answer", Cut, "AwsUnavailable", PASSES),
        passing("closed without an answer", Hangup, "AwsUnavailable", PASSES),
        passing("garbage for an answer", Garbage("<html>canary-7f3a-portal</html>"), "AwsUnavailable", PASSES),
        passing("an empty answer", Garbage("{}"), "AwsUnavailable", PASSES),
        passing("no version id", Edit(without_version, Sent::Uncertain), "AwsUnavailable", PASSES).at_read(),
    ]
}

/// AWS refuses the caller.
fn refusals() -> Vec<Case> {
    const CREDENTIALS: &[&str] = &["no valid AWS credentials", "the variables AWS_ACCESS_KEY_ID"];
    const DENIED: &[&str] = &["or the secret does not exist", "allow secretsmanager:GetSecretValue"];
    const KMS: &[&str] = &["KMS", "allow kms:Decrypt"];
    let denied = |message| Error(400, "AccessDeniedException", message);
    let refused = denied("User: arn:aws:sts::123456789012:assumed-role/x is not authorized to perform this action");
    let invalid = "The security token included in the request is invalid.";
    let skewed = "Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z";
    let disabled = "Secrets Manager can't decrypt the protected secret text using the provided KMS key.";
    let to_describe = lasting("denied to describe", refused.clone(), "", &[]).of_calls(&["DescribeSecret"]);
    vec![
        lasting("expired token", Error(400, "ExpiredTokenException", "expired"), "CredentialsFailed", CREDENTIALS),
        lasting("unknown client", Error(400, "UnrecognizedClientException", invalid), "CredentialsFailed", CREDENTIALS),
        lasting("invalid signature", Error(400, "InvalidSignatureException", skewed), "CredentialsFailed", CREDENTIALS),
        Case { course: Course::None, ..to_describe },
        lasting("denied to read", refused.clone(), "AwsAccessDenied", DENIED).at_read(),
        lasting("denied both", refused, "AwsAccessDenied", DENIED).of_calls(&["DescribeSecret", "GetSecretValue"]),
        lasting("denied by KMS", denied("Access to KMS is not allowed"), "DecryptionFailed", KMS).at_read(),
        lasting("not decrypted", Error(400, "DecryptionFailure", disabled), "DecryptionFailed", KMS).at_read(),
    ]
}

/// The secret is not what the binding takes it for.
fn states() -> Vec<Case> {
    const ANOTHER: &[&str] = &["another secret", "name or its full ARN"];
    let untaken = Error(400, "InvalidParameterException", "Invalid name");
    let untaken = lasting("a reference that AWS does not take", untaken, "InvalidReference", &["correct it"]);
    let abroad = Edit(another_region, Sent::Unusable);
    let abroad = lasting("an answer from another region", abroad, "AccessDenied", &["SecretGrant", "correct"]);
    let staged =
        |secret: &str| json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret, "versionStage": "NEXT"}]});
    vec![
        Case { course: Course::UntilEdit, ..untaken },
        Case { condition: "Granted", ..abroad },
        lasting("another secret", Edit(another_secret, Sent::Unusable), "InvalidReference", ANOTHER),
        lasting("another ARN", Edit(another_arn, Sent::Unusable), "InvalidReference", ANOTHER),
        lasting("no value", Edit(without_value, Sent::Nothing), "VersionNotFound", &["write a value"]).at_read(),
        state("deleted", Cause::Deleted, "SecretNotFound", &["AWS answered ResourceNotFoundException", "create it"]),
        state("scheduled for deletion", Cause::PendingDeletion, "SecretPendingDeletion", &["restore it"]),
        state("no such stage", Cause::NoStage, "VersionNotFound", &["version stage", "correct"]).with(staged),
        state("no such version", Cause::NoVersion, "VersionNotFound", &["no such version", "correct"]),
    ]
}

fn one_key(secret: &str) -> Value {
    let entry = json!({"key": "DATABASE_URL", "valueFrom": format!("{secret}:DATABASE_URL::")});
    json!({"refreshInterval": "10s", "data": [entry]})
}

fn decoded(secret: &str) -> Value {
    let mut spec = whole(secret);
    spec["data"] = json!([{"key": "cert", "encoding": "Base64", "valueFrom": format!("{secret}:CERT::")}]);
    spec
}

fn required(secret: &str) -> Value {
    let mut spec = whole(secret);
    spec["target"] = json!({"requiredKeys": ["DATABASE_URL", "S3_BUCKET"]});
    spec
}

fn templated(secret: &str) -> Value {
    let mut spec = whole(secret);
    spec["target"] = json!({"template": {"DSN": "{{ S3_BUCKET }}/x", "PEM": "{{ CERT | b64decode }}"}});
    spec
}

/// The payload under many keys: seventeen times 64 KiB is more than the 1 MiB that a Secret can hold.
fn many_times(secret: &str) -> Value {
    let entries = (0..17).map(|number| json!({"key": format!("k{number:02}"), "valueFrom": secret}));
    json!({"refreshInterval": "10s", "data": entries.collect::<Vec<_>>()})
}

/// The payload does not give what the binding needs.
fn payloads() -> Vec<Case> {
    let with = |key: &str, value: Value| {
        let mut payload: Value = serde_json::from_str(&object(9)).unwrap();
        payload[key] = value;
        payload.to_string()
    };
    let without = |key: &str| {
        let mut payload: Value = serde_json::from_str(&object(9)).unwrap();
        payload.as_object_mut().unwrap().remove(key);
        payload.to_string()
    };
    let malformed = format!("{{\"A\": \"{CANARY}\"\n  \"B\": \"{CANARY}\"}}");
    let twice = format!("{{\"A\": \"{CANARY}\", \"A\": \"{CANARY}\"}}");
    let no_base64 = json!(format!("{CANARY}!"));
    let large = CANARY.repeat(65_536 / CANARY.len());
    let large = payload("too large", large, "TooLarge", &["1048576", "publish fewer keys"]).with(many_times);
    vec![
        payload("malformed JSON", malformed, "InvalidPayload", &["line 2", "column", "correct it"]),
        payload("no JSON object", format!("[\"{CANARY}\"]"), "InvalidPayload", &["JSON object is needed"]),
        payload("no JSON", format!("{CANARY}-only-text"), "InvalidPayload", &["JSON object is needed"]),
        payload("a key stands twice", twice, "InvalidPayload", &["same key twice"]),
        payload("no Base64", with("CERT", no_base64.clone()), "InvalidPayload", &["CERT", "Base64"]).with(decoded),
        payload("no such key", without("DATABASE_URL"), "KeyNotFound", &["DATABASE_URL", "optional"]).with(one_key),
        payload("null", with("DATABASE_URL", Value::Null), "KeyNotFound", &["DATABASE_URL"]).with(one_key),
        payload("no key at all", "{}", "KeyNotFound", &["no key at all"]),
        payload("no valid key", with("not a key", json!(CANARY)), "InvalidKey", &["not a key", "exclude"]),
        payload("required and absent", without("S3_BUCKET"), "RequiredKeyMissing", &["S3_BUCKET` is absent"])
            .with(required),
        payload("required and empty", with("S3_BUCKET", json!("")), "RequiredKeyMissing", &["S3_BUCKET` is empty"])
            .with(required),
        payload("a template lacks a key", without("S3_BUCKET"), "TemplateFailed", &["DSN", "S3_BUCKET"])
            .with(templated),
        payload("a template fails", with("CERT", no_base64), "TemplateFailed", &["PEM", "Base64"]).with(templated),
        Case { payload: url, key: "k16", ..large },
    ]
}

/// Every case.
pub fn all() -> Vec<Case> {
    [outages(), refusals(), states(), payloads()].into_iter().flatten().collect()
}
