//! Every failure between Secrets Manager and the Secret, at each moment at which it can strike: what the binding says,
//! what becomes of the Secret, and that the binding recovers.

use std::time::Duration;

use bindery::api::SecretBinding;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::support::aws_proxy::{Call, Sent};
use crate::support::board::{Board, condition, state};
use crate::support::operator::Setup;
use crate::support::world::CANARY;
use crate::support::{Fault, Operator, World, eventually};

/// When a failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Nothing is published yet, so the value is asked for at once.
    First,
    /// The Secret is published, and AWS is asked whether there is a new version.
    Check,
    /// The Secret is published, a new version is known, and its value is asked for.
    Read,
}

/// What is wrong.
#[derive(Clone)]
enum Cause {
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
enum Course {
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

struct Case {
    name: &'static str,
    cause: Cause,
    course: Course,
    condition: &'static str,
    reason: &'static str,
    /// What the message holds beside the name of the secret.
    says: &'static [&'static str],
    /// The spec, from the name of the secret.
    spec: fn(&str) -> Value,
    /// The payload that is well, by its number.
    payload: fn(u32) -> String,
    /// The key of the Secret that holds [`url`] of that number.
    key: &'static str,
}

/// The id of a version that comes to be only when the failure ends.
const LATE_VERSION: &str = "00000000-0000-4000-8000-00000000beef";

fn url(number: u32) -> String {
    format!("postgresql://app:{CANARY}-{number}@db/app")
}

fn object(number: u32) -> String {
    json!({"DATABASE_URL": url(number), "S3_BUCKET": format!("{CANARY}-bucket-{number}"), "CERT": "Y2FuYXJ5"}).to_string()
}

fn whole(secret: &str) -> Value {
    json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret}]})
}

fn another_secret(answer: &mut Value) {
    answer["Name"] = json!("another/secret");
    answer["ARN"] = json!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:another/secret-AbCdEf");
}

fn another_arn(answer: &mut Value) {
    answer["ARN"] = json!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:another/secret-AbCdEf");
}

fn another_region(answer: &mut Value) {
    answer["ARN"] = json!(answer["ARN"].as_str().unwrap().replace("eu-west-1", "eu-west-2"));
}

fn without_version(answer: &mut Value) {
    answer.as_object_mut().unwrap().remove("VersionId");
}

fn without_value(answer: &mut Value) {
    answer.as_object_mut().unwrap().remove("SecretString");
}

/// A failure of AWS.
fn aws(name: &'static str, fault: Fault, course: Course, reason: &'static str, says: &'static [&'static str]) -> Case {
    let (spec, payload, key) = (whole, object, "DATABASE_URL");
    Case { name, cause: Cause::Aws(fault), course, condition: "Fetched", reason, says, spec, payload, key }
}

/// A failure of AWS at the read of the value alone.
fn at_read(name: &'static str, fault: Fault, course: Course, reason: &'static str, says: &'static [&'static str]) -> Case {
    Case { cause: Cause::Calls(&["GetSecretValue"], fault.clone()), ..aws(name, fault, course, reason, says) }
}

/// A payload that does not give what the binding needs.
fn payload(name: &'static str, text: impl Into<String>, reason: &'static str, says: &'static [&'static str]) -> Case {
    let none = Fault::Hangup;
    Case {
        cause: Cause::Payload(text.into()),
        condition: "Rendered",
        ..aws(name, none, Course::UntilNewVersion, reason, says)
    }
}

fn failures_of_aws() -> Vec<Case> {
    use Course::{Lasting, None, Passing, UntilEdit};
    use Fault::{Cut, Edit, Error, Garbage, Hangup, Slow, Text};
    const PASSES: &[&str] = &["passes by itself"];
    const CREDENTIALS: &[&str] = &["no valid AWS credentials", "check the operator's role"];
    const DENIED: &[&str] = &["or the secret does not exist", "allow secretsmanager:GetSecretValue"];
    const KMS: &[&str] = &["KMS", "allow kms:Decrypt"];
    let denied = |call| Error(400, "AccessDeniedException", call);
    let refused = denied("User: arn:aws:sts::123456789012:assumed-role/x is not authorized to perform this action");
    let both: &[&str] = &["DescribeSecret", "GetSecretValue"];
    vec![
        aws("throttled", Error(400, "ThrottlingException", "Rate exceeded"), Passing, "Throttled", &["ThrottlingException", "less often"]),
        aws("throttled by status", Error(429, "TooManyRequestsException", "slow down"), Passing, "Throttled", PASSES),
        at_read(
            "KMS is throttled",
            Error(400, "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."),
            Passing, "Throttled", &["ThrottlingException", "passes by itself"],
        ),
        at_read("KMS is throttled, by its words", Error(400, "LimitExceededException", "Rate exceeded"), Passing, "Throttled", PASSES),
        aws("internal error", Error(500, "InternalServiceError", "An error occurred on the server side."), Passing, "AwsUnavailable", &["InternalServiceError", "passes by itself"]),
        aws("service unavailable", Error(503, "ServiceUnavailable", "try later"), Passing, "AwsUnavailable", PASSES),
        aws("a proxy answers", Text(502, "<html><h1>502 Bad Gateway</h1></html>"), Passing, "AwsUnavailable", PASSES),
        aws("an unknown code", Error(400, "SomethingNewException", "news"), Passing, "AwsUnavailable", &["SomethingNewException"]),
        aws("no answer in time", Slow(Duration::from_secs(7)), Passing, "AwsUnavailable", PASSES),
        aws("cut in mid-answer", Cut, Passing, "AwsUnavailable", PASSES),
        aws("closed without an answer", Hangup, Passing, "AwsUnavailable", PASSES),
        aws("garbage in place of an answer", Garbage("<html>canary-7f3a-portal</html>"), Passing, "AwsUnavailable", PASSES),
        aws("an answer without content", Garbage("{}"), Passing, "AwsUnavailable", PASSES),
        aws("expired token", Error(400, "ExpiredTokenException", "The security token included in the request is expired"), Lasting, "CredentialsFailed", CREDENTIALS),
        aws("unknown client", Error(400, "UnrecognizedClientException", "The security token included in the request is invalid."), Lasting, "CredentialsFailed", CREDENTIALS),
        aws("invalid signature", Error(400, "InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z"), Lasting, "CredentialsFailed", &["InvalidSignatureException", "clock"]),
        Case { cause: Cause::Calls(&["DescribeSecret"], refused.clone()), ..aws("denied to describe", Hangup, None, "", &[]) },
        at_read("denied to read", refused.clone(), Lasting, "AwsAccessDenied", DENIED),
        Case { cause: Cause::Calls(both, refused.clone()), ..aws("denied to describe and to read", Hangup, Lasting, "AwsAccessDenied", DENIED) },
        at_read("denied by KMS", denied("Access to KMS is not allowed"), Lasting, "DecryptionFailed", KMS),
        at_read("not decrypted", Error(400, "DecryptionFailure", "Secrets Manager can't decrypt the protected secret text using the provided KMS key."), Lasting, "DecryptionFailed", &["DecryptionFailure", "kms:Decrypt"]),
        aws("a reference that AWS does not take", Error(400, "InvalidParameterException", "Invalid name"), UntilEdit, "InvalidReference", &["correct it"]),
        aws("an answer for another secret", Edit(another_secret, Sent::Unusable), Lasting, "InvalidReference", &["another secret", "name or its full ARN"]),
        aws("an answer with another ARN", Edit(another_arn, Sent::Unusable), Lasting, "InvalidReference", &["another secret"]),
        Case {
            condition: "Granted",
            ..aws("an answer from another region", Edit(another_region, Sent::Unusable), UntilEdit, "AccessDenied", &["SecretGrant"])
        },
        at_read("an answer without a version id", Edit(without_version, Sent::Uncertain), Passing, "AwsUnavailable", PASSES),
        at_read("a version without a value", Edit(without_value, Sent::Nothing), Lasting, "VersionNotFound", &["write a value"]),
        Case { cause: Cause::Deleted, ..aws("deleted", Hangup, Lasting, "SecretNotFound", &["ResourceNotFoundException", "create it"]) },
        Case { cause: Cause::PendingDeletion, ..aws("scheduled for deletion", Hangup, Lasting, "SecretPendingDeletion", &["restore it"]) },
        Case {
            cause: Cause::NoStage,
            spec: |secret| json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret, "versionStage": "NEXT"}]}),
            ..aws("no such stage", Hangup, Lasting, "VersionNotFound", &["version stage"])
        },
        Case { cause: Cause::NoVersion, ..aws("no such version", Hangup, Lasting, "VersionNotFound", &["no such version"]) },
    ]
}

fn failures_of_payloads() -> Vec<Case> {
    let good = |number| serde_json::from_str::<Value>(&object(number)).unwrap();
    let with = |key: &str, value: Value| {
        let mut payload = good(9);
        payload[key] = value;
        payload.to_string()
    };
    let without = |key: &str| {
        let mut payload = good(9);
        payload.as_object_mut().unwrap().remove(key);
        payload.to_string()
    };
    vec![
        payload("malformed JSON", format!("{{\"A\": \"{CANARY}\"\n  \"B\": \"{CANARY}\"}}"), "InvalidPayload", &["line 2", "column"]),
        payload("no JSON object", format!("[\"{CANARY}\"]"), "InvalidPayload", &["JSON object is needed"]),
        payload("no JSON", format!("{CANARY}-only-text"), "InvalidPayload", &["JSON object is needed"]),
        payload("a key stands twice", format!("{{\"A\": \"{CANARY}\", \"A\": \"{CANARY}\"}}"), "InvalidPayload", &["same key twice"]),
        Case {
            spec: |secret| json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret}], "data": [
                {"key": "cert", "encoding": "Base64", "valueFrom": format!("{secret}:CERT::")}]}),
            ..payload("no Base64", with("CERT", json!(format!("{CANARY}!"))), "InvalidPayload", &["CERT", "Base64"])
        },
        Case {
            spec: |secret| json!({"refreshInterval": "10s", "data": [{"key": "DATABASE_URL", "valueFrom": format!("{secret}:DATABASE_URL::")}]}),
            ..payload("a key is missing", without("DATABASE_URL"), "KeyNotFound", &["DATABASE_URL", "optional: true"])
        },
        Case {
            spec: |secret| json!({"refreshInterval": "10s", "data": [{"key": "DATABASE_URL", "valueFrom": format!("{secret}:DATABASE_URL::")}]}),
            ..payload("a key is null", with("DATABASE_URL", Value::Null), "KeyNotFound", &["DATABASE_URL"])
        },
        payload("no key at all", "{}", "KeyNotFound", &["no key at all"]),
        payload("a key that a Secret cannot have", with("not a key", json!(CANARY)), "InvalidKey", &["not a key"]),
        Case {
            spec: |secret| json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret}], "target": {"requiredKeys": ["DATABASE_URL", "S3_BUCKET"]}}),
            ..payload("a required key is absent", without("S3_BUCKET"), "RequiredKeyMissing", &["S3_BUCKET", "absent"])
        },
        Case {
            spec: |secret| json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret}], "target": {"requiredKeys": ["DATABASE_URL", "S3_BUCKET"]}}),
            ..payload("a required key is empty", with("S3_BUCKET", json!("")), "RequiredKeyMissing", &["S3_BUCKET", "empty"])
        },
        Case {
            spec: |secret| json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret}], "target": {"template": {"DSN": "{{ S3_BUCKET }}/x"}}}),
            ..payload("a template lacks a key", without("S3_BUCKET"), "TemplateFailed", &["DSN", "S3_BUCKET"])
        },
        Case {
            spec: |secret| json!({"refreshInterval": "10s", "dataFrom": [{"secret": secret}], "target": {"template": {"PEM": "{{ CERT | b64decode }}"}}}),
            ..payload("a template decodes no Base64", with("CERT", json!(format!("{CANARY}!"))), "TemplateFailed", &["PEM", "Base64"])
        },
        Case {
            // Seventeen times 64 KiB is more than the 1 MiB that a Secret can hold.
            spec: |secret| {
                let entries = (0..17).map(|number| json!({"key": format!("k{number:02}"), "valueFrom": secret}));
                json!({"refreshInterval": "10s", "data": entries.collect::<Vec<_>>()})
            },
            payload: url,
            key: "k16",
            ..payload("too large", CANARY.repeat(65_536 / CANARY.len()), "TooLarge", &["1048576", "publish fewer keys"])
        },
    ]
}

impl Case {
    /// The moments at which this can strike.
    fn moments(&self) -> &'static [Moment] {
        match &self.cause {
            Cause::Aws(_) => &[Moment::First, Moment::Check, Moment::Read],
            Cause::Calls(["GetSecretValue"], _) => &[Moment::First, Moment::Read],
            // With a value that cannot be asked for, a published version cannot be found out of date: reading tells.
            _ => &[Moment::First, Moment::Check],
        }
    }
}

/// One case at one moment, with a binding and a secret of its own.
struct Strike<'a> {
    world: &'a World,
    board: &'a Board,
    case: &'a Case,
    moment: Moment,
    binding: String,
    secret: String,
}

impl Strike<'_> {
    async fn bind(&self, spec: Value) {
        self.world.bind(&self.binding, spec).await;
    }

    async fn put(&self, number: u32) {
        let text = (self.case.payload)(number);
        match self.case.cause {
            Cause::NoStage => self.put_staged(&text, "NEXT").await,
            _ => self.world.put_text(&self.binding, &text).await,
        }
        self.world.note_value(&url(number));
    }

    /// A new version under a stage of its own.
    async fn put_staged(&self, text: &str, stage: &str) {
        let created = self.world.aws.create_secret().name(&self.secret).secret_string(object(0)).send().await;
        drop(created);
        let put = self.world.aws.put_secret_value().secret_id(&self.secret).secret_string(text).version_stages(stage);
        put.send().await.unwrap();
    }

    /// Makes the failure strike. Before the first publication the binding is made with it; else it is published, and
    /// there is something new to publish.
    async fn begin(&self) {
        let first = self.moment == Moment::First;
        let aws = &self.world.aws;
        let spec = (self.case.spec)(&self.secret);
        match (&self.case.cause, self.moment) {
            (Cause::Aws(fault), Moment::Read) => self.world.proxy.fail_for(&self.secret, &["GetSecretValue"], fault.clone()),
            (Cause::Aws(fault), _) => self.world.proxy.fail_for(&self.secret, &[], fault.clone()),
            (Cause::Calls(calls, fault), _) => self.world.proxy.fail_for(&self.secret, calls, fault.clone()),
            _ => {}
        }
        match &self.case.cause {
            Cause::Aws(_) | Cause::Calls(..) => self.put(2).await,
            Cause::Payload(text) => self.world.put_text(&self.binding, text).await,
            Cause::Deleted if first => {}
            Cause::Deleted => {
                aws.delete_secret().secret_id(&self.secret).force_delete_without_recovery(true).send().await.unwrap();
            }
            Cause::PendingDeletion => {
                if first {
                    self.put(1).await;
                }
                aws.delete_secret().secret_id(&self.secret).recovery_window_in_days(7).send().await.unwrap();
            }
            Cause::NoStage if first => {
                self.world.put_text(&self.binding, &object(0)).await;
                // moto answers here as if there were no such secret; these are AWS's words.
                let said = "Secrets Manager can't find the specified secret value for staging label: NEXT";
                self.world.proxy.fail_for(&self.secret, &["GetSecretValue"], Fault::Error(400, "ResourceNotFoundException", said));
            }
            Cause::NoStage => {
                let versions = aws.describe_secret().secret_id(&self.secret).send().await.unwrap();
                let versions = versions.version_ids_to_stages.unwrap();
                let (version, _) = versions.iter().find(|(_, stages)| stages.contains(&"NEXT".to_owned())).unwrap();
                let moved = aws.update_secret_version_stage().secret_id(&self.secret).version_stage("NEXT");
                moved.remove_from_version_id(version).send().await.unwrap();
            }
            Cause::NoVersion => {
                if first {
                    self.put(1).await;
                }
                let entry = json!({"key": "DATABASE_URL", "valueFrom": format!("{}:DATABASE_URL::{LATE_VERSION}", self.secret)});
                return self.bind(json!({"refreshInterval": "10s", "data": [entry]})).await;
            }
        }
        if first {
            self.bind(spec).await;
        }
    }

    /// Ends the failure; the payload of this number is then to be published.
    async fn end(&self) -> u32 {
        let aws = &self.world.aws;
        match &self.case.cause {
            Cause::Aws(_) | Cause::Calls(..) => self.world.proxy.heal_for(&self.secret),
            Cause::Payload(_) | Cause::Deleted => self.put(3).await,
            Cause::PendingDeletion => {
                aws.restore_secret().secret_id(&self.secret).send().await.unwrap();
                self.put(3).await;
            }
            Cause::NoStage => {
                self.world.proxy.heal_for(&self.secret);
                self.put(3).await;
            }
            Cause::NoVersion => {
                let put = aws.put_secret_value().secret_id(&self.secret).secret_string(object(3));
                put.client_request_token(LATE_VERSION).send().await.unwrap();
                self.world.note_value(&url(3));
            }
        }
        if self.case.course == Course::UntilEdit {
            self.world.annotate(&self.binding, "bindery.dev/sync", "look again").await;
        }
        if matches!(self.case.cause, Cause::Aws(_) | Cause::Calls(..)) { 2 } else { 3 }
    }

    fn calls(&self) -> Vec<Call> {
        self.world.proxy.calls_for(&self.secret)
    }

    /// How many calls of the SDK there were, each of which may take several attempts.
    fn tries(&self) -> usize {
        self.calls().iter().filter(|call| call.attempt == 1).count()
    }

    async fn published(&self) -> Option<Secret> {
        self.world.secrets().get_opt(&self.binding).await.unwrap()
    }

    async fn run(&self) {
        let Self { board, case, moment, binding, .. } = self;
        if *moment != Moment::First {
            self.put(1).await;
            self.bind((case.spec)(&self.secret)).await;
            board.wait(binding, "the first publication", |b| state(b, "Ready") == "True/Published").await;
        }
        let (before, tried) = (self.published().await, self.tries());
        let status = self.world.bindings().get_opt(binding).await.unwrap().and_then(|binding| binding.status);
        self.begin().await;
        if case.course == Course::None {
            return self.await_value(2).await;
        }
        let failed = format!("False/{}", case.reason);
        let seen = board.wait(binding, &failed, |b| state(b, case.condition) == failed).await;
        self.judge(&seen);
        assert_eq!(self.published().await, before, "the Secret");
        let now = seen.status.as_ref().unwrap();
        let was = status.unwrap_or_default();
        assert_eq!((&now.binding, now.keys, &now.sources, &now.last_changed_time), (&was.binding, was.keys, &was.sources, &was.last_changed_time));

        // It is tried again, and the same failure is no news. (The slow answer makes one try as long as the rest.)
        let slow = matches!(case.cause, Cause::Aws(Fault::Slow(_)));
        if matches!(case.course, Course::Passing | Course::Lasting) && !slow {
            let tried = self.tries().max(tried);
            eventually(&format!("{binding} to try again twice"), Duration::from_secs(60), || async {
                (self.tries() >= tried + 2).then_some(())
            })
            .await;
            let again = self.world.bindings().get(binding).await.unwrap();
            assert_eq!(again.metadata.resource_version, seen.metadata.resource_version, "the status is not written again");
            assert_eq!(self.published().await, before, "the Secret");
        }

        let number = self.end().await;
        self.await_value(number).await;
        let well = |b: &SecretBinding| {
            ["Granted", "Fetched", "Rendered", "Applied", "Ready"].iter().all(|type_| state(b, type_).starts_with("True/"))
        };
        let well = board.wait(binding, "all to be well", well).await;
        assert!(condition(&well, "Reconciling").is_none() && condition(&well, "Stalled").is_none());
    }

    async fn await_value(&self, number: u32) {
        eventually(&format!("the value {number} of {}", self.binding), Duration::from_secs(90), || async {
            let data = self.world.data(&self.binding).await?;
            (data.get(self.case.key) == Some(&url(number))).then_some(())
        })
        .await;
    }

    /// What a failing binding says.
    fn judge(&self, binding: &SecretBinding) {
        let Self { case, moment, .. } = self;
        let failed = condition(binding, case.condition).unwrap();
        let message = &failed.message;
        for text in case.says {
            assert!(message.contains(text), "{text:?} is missing in {message:?}");
        }
        if case.condition == "Fetched" {
            assert!(message.contains(&self.secret), "the secret is not named: {message}");
        }
        // The id that the message names is that of a call that failed: AWS's support can find it.
        if let Cause::Aws(Fault::Error(_, code, _)) | Cause::Calls(_, Fault::Error(_, code, _)) = &case.cause {
            let named = self.calls().iter().any(|call| call.status >= 400 && message.contains(&format!("(request {})", call.request_id)));
            assert!(message.contains(code) && named, "code and request id: {message}");
        }
        let ready = condition(binding, "Ready").unwrap();
        if case.course == Course::Passing && *moment != Moment::First {
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Published"));
        } else {
            assert_eq!((ready.status.as_str(), ready.reason.as_str(), &ready.message), ("False", case.reason, message));
        }
        let (reconciling, stalled) = (state(binding, "Reconciling"), state(binding, "Stalled"));
        match case.course {
            Course::UntilEdit if case.condition == "Fetched" => {
                assert_eq!((reconciling.as_str(), stalled), ("", format!("True/{}", case.reason)));
            }
            Course::UntilEdit => assert_eq!((reconciling.as_str(), stalled.as_str()), ("", "")),
            _ => assert_eq!((reconciling.as_str(), stalled.as_str()), ("True/Retrying", "")),
        }
        let steps = ["Granted", "Fetched", "Rendered", "Applied"];
        let at = steps.iter().position(|step| *step == case.condition).unwrap();
        assert!(steps[..at].iter().all(|step| state(binding, step).starts_with("True/")), "steps before {}", case.condition);
        assert!(steps[at + 1..].iter().all(|step| state(binding, step) == "Unknown/NotEvaluated"));
        let generation = binding.metadata.generation;
        let status = binding.status.as_ref().unwrap();
        assert_eq!(status.observed_generation, generation);
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == generation));
    }

    /// The Events that the transitions call for, as `type/reason`.
    fn events(&self) -> Vec<String> {
        let warning = format!("Warning/{}", self.case.reason);
        let published = || "Normal/Published".to_owned();
        match (self.case.course, self.moment) {
            (Course::None, _) => vec![published()],
            (_, Moment::First) => vec![warning, published()],
            // Ready was never False, so nothing is said of its being True.
            (Course::Passing, _) => vec![published(), warning],
            _ => vec![published(), warning, published()],
        }
    }

    /// Reads of values are on record, with what became of them.
    fn judge_audit(&self, audit: &[Value]) {
        let of_binding = |outcome: &str| {
            audit.iter().filter(|record| record["binding"] == self.binding.as_str() && record["outcome"] == outcome).count()
        };
        let calls = self.calls();
        let sent = |sent: Sent| calls.iter().filter(|call| call.sent == sent).count();
        assert_eq!(of_binding("read"), sent(Sent::Value), "{}: reads", self.binding);
        assert_eq!(of_binding("unknown") > 0, sent(Sent::Uncertain) > 0, "{}: answers that did not arrive whole", self.binding);
        let denied = calls.iter().filter(|call| call.attempt == 1 && call.operation == "GetSecretValue");
        let denied = match self.case.reason {
            "AwsAccessDenied" | "DecryptionFailed" => denied.filter(|call| call.status >= 400).count(),
            _ => sent(Sent::Unusable),
        };
        assert_eq!(of_binding("denied"), denied, "{}: refused reads", self.binding);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_at_every_moment_is_named_and_changes_nothing_and_passes() {
    let world = World::new("matrix").await;
    let _operator = world.operator();
    let board = Board::of(&world);
    let cases: Vec<Case> = failures_of_aws().into_iter().chain(failures_of_payloads()).collect();
    let strikes: Vec<Strike<'_>> = cases
        .iter()
        .flat_map(|case| case.moments().iter().map(move |moment| (case, *moment)))
        .map(|(case, moment)| {
            let binding = format!("{}.{moment:?}", case.name).to_lowercase().replace([' ', ','], "-").replace("--", "-");
            let secret = world.secret_id(&binding);
            Strike { world: &world, board: &board, case, moment, binding, secret }
        })
        .collect();
    let runs = strikes.iter().map(|strike| async {
        // A failed case must not hide the others: each is judged, and all that failed are told.
        let run = std::panic::AssertUnwindSafe(strike.run());
        futures::FutureExt::catch_unwind(run).await.is_err().then(|| strike.binding.clone())
    });
    let failed: Vec<String> = join_all(runs).await.into_iter().flatten().collect();
    println!("fault matrix: {} cases ({} failures, at up to three moments)", strikes.len(), cases.len());
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), strikes.len());

    let audit = world.audit();
    for strike in &strikes {
        let expected = strike.events();
        let limit = Duration::from_secs(20);
        let events = eventually(&format!("{expected:?} of {}", strike.binding), limit, || async {
            let events: Vec<String> = world.events(&strike.binding).await;
            (events.len() >= expected.len()).then_some(events)
        })
        .await;
        let said: Vec<&str> = events.iter().map(|event| event.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(said, expected, "Events of {}", strike.binding);
        strike.judge_audit(&audit);
    }
    world.end().await;
}

/// A world with one published binding, `app`, that looks for a new version every ten seconds.
async fn published(name: &str) -> (World, Operator) {
    let world = World::new(name).await;
    world.put_text("app", &object(1)).await;
    let operator = world.operator();
    world.bind("app", whole(&world.secret_id("app"))).await;
    world.wait_ready("app").await;
    (world, operator)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_aws_cannot_be_reached_the_secret_stays_and_after_three_intervals_it_is_called_stale() {
    let world = World::new("unreachable").await;
    let board = Board::of(&world);
    world.put_text("app", &object(1)).await;
    world.proxy.stop().await;
    let mut operator = world.operator();
    world.bind("app", whole(&world.secret_id("app"))).await;
    let message = world.wait("app", "Fetched", "False/AwsUnavailable").await;
    assert!(message.contains(&world.secret_id("app")) && message.contains("passes by itself"), "{message}");
    world.wait("app", "Ready", "False/AwsUnavailable").await;
    assert!(world.data("app").await.is_none());
    world.proxy.resume();
    world.wait_ready("app").await;

    world.proxy.stop().await;
    let secret = world.secrets().get("app").await.unwrap();
    let failing = board.wait("app", "the failure", |b| state(b, "Fetched") == "False/AwsUnavailable").await;
    assert_eq!(state(&failing, "Ready"), "True/Published");
    // An operator that starts in the outage finds all as it was told.
    operator.kill();
    operator.restart();
    let stale = board.wait("app", "Stale", |b| state(b, "Ready") != "True/Published").await;
    assert_eq!((state(&stale, "Ready"), state(&stale, "Fetched")), ("False/Stale".into(), "False/AwsUnavailable".into()));
    let (failed, turned) = (condition(&failing, "Fetched").unwrap(), condition(&stale, "Ready").unwrap());
    assert_eq!(condition(&stale, "Fetched"), Some(failed), "nothing was written since");
    let waited = turned.last_transition_time.0.duration_since(failed.last_transition_time.0).as_secs();
    println!("stale {waited} s after the failure began");
    assert!((30..40).contains(&waited), "three intervals of 10 s, not {waited} s");
    assert!(turned.message.contains("last verified"), "{}", turned.message);
    assert_eq!(world.secrets().get("app").await.unwrap(), secret, "the Secret stays");

    world.proxy.resume();
    board.wait("app", "the recovery", |b| state(b, "Ready") == "True/Published" && state(b, "Fetched") == "True/Verified").await;
    world.put_text("app", &object(2)).await;
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    let events: Vec<String> = world.events("app").await.iter().map(|event| event.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(events, ["Warning/AwsUnavailable", "Normal/Published", "Warning/AwsUnavailable", "Warning/Stale", "Normal/Published"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_lost_while_aws_fails_is_told_and_is_back_as_soon_as_aws_is() {
    let (world, _operator) = published("lost").await;
    let fault = Fault::Error(500, "InternalServiceError", "An error occurred on the server side.");
    world.proxy.fail(&[], fault);
    world.wait("app", "Fetched", "False/AwsUnavailable").await;
    world.wait("app", "Ready", "True/Published").await;
    world.secrets().delete("app", &kube::api::DeleteParams::default()).await.unwrap();
    world.wait("app", "Ready", "False/AwsUnavailable").await;
    // It is tried again and again, which is no repair that somebody undoes.
    let tries = || world.proxy.calls().iter().filter(|c| c.operation == "GetSecretValue" && c.attempt == 1).count();
    let tried = tries();
    eventually("five more tries", Duration::from_secs(60), || async {
        let (ready, message) = world.condition("app", "Ready").await.unwrap();
        assert_eq!(ready, "False/AwsUnavailable", "{message}");
        (tries() >= tried + 5).then_some(())
    })
    .await;
    world.proxy.heal();
    world.wait_ready("app").await;
    world.wait_value("app", "DATABASE_URL", &url(1)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_edited_while_aws_fails_is_put_back_as_soon_as_aws_answers() {
    use kube::api::{Patch, PatchParams};
    let (world, _operator) = published("edited-in-outage").await;
    world.proxy.fail(&[], Fault::Hangup);
    world.wait("app", "Fetched", "False/AwsUnavailable").await;
    let edit = json!({"stringData": {"DATABASE_URL": "elsewhere"}});
    world.secrets().patch("app", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    world.wait("app", "Ready", "False/AwsUnavailable").await;
    world.proxy.heal();
    world.wait_value("app", "DATABASE_URL", &url(1)).await;
    world.wait_ready("app").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_secrets_are_published_together_or_not_at_all() {
    let world = World::new("together").await;
    world.put_text("app", &object(1)).await;
    world.put_text("worker", &json!({"METRICS_PORT": "9401"}).to_string()).await;
    let _operator = world.operator();
    let sources = [json!({"secret": world.secret_id("app")}), json!({"secret": world.secret_id("worker")})];
    world.bind("both", json!({"refreshInterval": "10s", "dataFrom": sources})).await;
    world.wait_ready("both").await;
    let before = world.secrets().get("both").await.unwrap();
    let throttle = |name: &str| {
        let throttled = Fault::Error(400, "ThrottlingException", "Rate exceeded");
        world.proxy.fail_for(&world.secret_id(name), &["GetSecretValue"], throttled);
    };
    throttle("app");
    throttle("worker");
    world.put_text("app", &object(2)).await;
    world.put_text("worker", &json!({"METRICS_PORT": "9402"}).to_string()).await;
    // Each in turn is the one that cannot be read.
    for (failing, other) in [("worker", "app"), ("app", "worker")] {
        throttle(failing);
        world.proxy.heal_for(&world.secret_id(other));
        eventually(&format!("{failing} to be named"), Duration::from_secs(60), || async {
            let (state, message) = world.condition("both", "Fetched").await?;
            (state == "False/Throttled" && message.contains(&world.secret_id(failing))).then_some(())
        })
        .await;
        assert_eq!(world.secrets().get("both").await.unwrap(), before, "not a key of the other secret is published");
    }
    world.proxy.heal();
    world.wait_value("both", "DATABASE_URL", &url(2)).await;
    let data = world.data("both").await.unwrap();
    assert_eq!((data["DATABASE_URL"].as_str(), data["METRICS_PORT"].as_str()), (url(2).as_str(), "9402"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_sts_does_not_tell_is_a_failure_of_credentials() {
    let world = World::new("sts").await;
    world.put_text("app", &object(1)).await;
    let invalid = Fault::Error(403, "InvalidClientTokenId", "The security token included in the request is invalid.");
    world.proxy.fail(&["GetCallerIdentity"], invalid);
    let _operator = world.operator();
    // A name needs no account to be known; an ARN does.
    world.bind("by-name", whole(&world.secret_id("app"))).await;
    world.wait_ready("by-name").await;
    let arn = format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{}", world.secret_id("app"));
    world.bind("by-arn", whole(&arn)).await;
    let message = world.wait("by-arn", "Fetched", "False/CredentialsFailed").await;
    for text in ["InvalidClientTokenId", "(request req-0001", "check the operator's role"] {
        assert!(message.contains(text), "{text:?} is missing in {message:?}");
    }
    world.wait("by-arn", "Ready", "False/CredentialsFailed").await;
    assert!(world.data("by-arn").await.is_none());
    world.proxy.fail(&["GetCallerIdentity"], Fault::Error(503, "ServiceUnavailable", "try later"));
    eventually("the next failure to be told", Duration::from_secs(40), || async {
        world.condition("by-arn", "Fetched").await?.1.contains("ServiceUnavailable").then_some(())
    })
    .await;
    assert_eq!(world.condition("by-arn", "Fetched").await.unwrap().0, "False/CredentialsFailed", "whatever fails at STS");
    world.proxy.heal();
    world.wait_ready("by-arn").await;
    world.wait_value("by-arn", "DATABASE_URL", &url(1)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_whose_read_cannot_be_recorded_is_dropped() {
    let world = World::new("unrecorded").await;
    world.put_text("app", &object(1)).await;
    let (path, file) = (world.folder.join("audit.log"), world.folder.join("audit.file"));
    let record_in = |target: &std::path::Path| {
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, &path).unwrap();
    };
    // Every write to this device fails as one to a full disk does.
    let full = std::path::Path::new("/dev/full");
    record_in(full);
    let flags = vec![format!("--audit-log={}", path.display())];
    let operator = Operator::start(Setup { flags, ..world.setup() });
    let reopened = |target: std::path::PathBuf| {
        let operator = &operator;
        async move {
            operator.hang_up();
            eventually("the audit log to be opened anew", Duration::from_secs(10), || async {
                operator.open_files().contains(&target).then_some(())
            })
            .await;
        }
    };
    world.bind("app", whole(&world.secret_id("app"))).await;
    let message = world.wait("app", "Fetched", "False/AuditFailed").await;
    assert!(message.contains(&world.secret_id("app")) && message.contains("--audit-log"), "{message}");
    world.wait("app", "Ready", "False/AuditFailed").await;
    assert!(world.data("app").await.is_none());
    record_in(&file);
    reopened(file.clone()).await;
    world.wait_ready("app").await;

    let before = world.secrets().get("app").await.unwrap();
    record_in(full);
    reopened(full.to_owned()).await;
    world.put_text("app", &object(2)).await;
    world.wait("app", "Fetched", "False/AuditFailed").await;
    world.wait("app", "Ready", "False/AuditFailed").await;
    assert_eq!(world.secrets().get("app").await.unwrap(), before);
    record_in(&file);
    reopened(file.clone()).await;
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    world.wait_ready("app").await;
    let records = std::fs::read_to_string(&file).unwrap();
    assert_eq!(records.lines().count(), 2, "the two reads that were used: {records}");
    assert!(!records.contains(CANARY));
    world.end_after_kills().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_in_which_aws_may_have_sent_a_value_is_on_record() {
    let world = World::new("attempts").await;
    let _operator = world.operator();
    for (name, fault) in [
        ("cut", Fault::Cut),
        ("garbage", Fault::Garbage("<html>")),
        ("no-version", Fault::Edit(without_version, Sent::Uncertain)),
    ] {
        world.put_text(name, &object(1)).await;
        world.proxy.fail_for(&world.secret_id(name), &[], fault);
        world.bind(name, whole(&world.secret_id(name))).await;
        world.wait(name, "Fetched", "False/AwsUnavailable").await;
        world.proxy.heal_for(&world.secret_id(name));
        world.wait_ready(name).await;
    }
    let (calls, audit) = (world.proxy.calls(), world.audit());
    let counted = |name: &str| {
        let sent = calls.iter().filter(|call| call.secret == world.secret_id(name) && call.sent == Sent::Uncertain).count();
        let recorded = audit.iter().filter(|record| record["binding"] == name && record["outcome"] == "unknown").count();
        (name.to_owned(), sent, recorded)
    };
    let counts = ["cut", "garbage", "no-version"].map(counted);
    println!("attempts without a whole answer, and records of them: {counts:?}");
    assert!(counts.iter().all(|(_, sent, recorded)| sent == recorded && *sent > 0), "{counts:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_an_edit_cures_stalls_and_keeps_the_secret() {
    let (world, _operator) = published("stalled").await;
    let source = json!([{"secret": world.secret_id("app")}]);
    // None of these is found by the API server.
    let template = json!({"dataFrom": source, "target": {"template": {"DSN": "{{ DATABASE_URL"}}});
    let label = json!({"dataFrom": source, "target": {"labels": {"argocd.argoproj.io/secret-type": "cluster"}}});
    let version = json!({"data": [{"key": "A", "valueFrom": format!("{}:A::too-short", world.secret_id("app"))}]});
    for (spec, condition, reason, says) in [
        (template, "Ready", "InvalidSpec", "spec.target.template"),
        (label, "Ready", "InvalidSpec", "argocd.argoproj.io/secret-type"),
        (version, "Fetched", "InvalidReference", "too-short"),
    ] {
        let before = world.secrets().get("app").await.unwrap();
        let calls = world.proxy.calls().len();
        for name in ["app", "new"] {
            world.bind(name, spec.clone()).await;
            let message = world.wait(name, condition, &format!("False/{reason}")).await;
            assert!(message.contains(says), "{message}");
            assert_eq!(world.condition(name, "Ready").await.unwrap(), (format!("False/{reason}"), message.clone()));
            assert_eq!(world.condition(name, "Stalled").await.unwrap(), (format!("True/{reason}"), message));
            assert!(world.condition(name, "Reconciling").await.is_none());
        }
        assert_eq!(world.secrets().get("app").await.unwrap(), before);
        assert!(world.data("new").await.is_none());
        assert_eq!(world.proxy.calls().len(), calls, "AWS is not asked for it");
        for name in ["app", "new"] {
            world.bind(name, whole(&world.secret_id("app"))).await;
            world.wait_ready(name).await;
            assert!(world.condition(name, "Stalled").await.is_none());
        }
        world.bindings().delete("new", &kube::api::DeleteParams::default()).await.unwrap();
        eventually("the other Secret to go", Duration::from_secs(30), || async {
            world.data("new").await.is_none().then_some(())
        })
        .await;
    }
    world.end().await;
}
