//! One failure at one moment: it strikes, what is then said is judged, and it ends.

use std::time::Duration;

use bindery::api::SecretBinding;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::cases::{Case, Cause, Course, LATE_VERSION, Moment, object, url};
use crate::support::aws_proxy::{Call, Sent};
use crate::support::board::{Board, condition, state};
use crate::support::{Fault, World, eventually};

/// One case at one moment, with a binding and a secret of its own.
pub struct Strike<'a> {
    world: &'a World,
    board: &'a Board,
    case: &'a Case,
    moment: Moment,
    /// The name of the binding, which tells the case.
    pub binding: String,
    secret: String,
}

impl<'a> Strike<'a> {
    /// Prepares a case for a moment.
    pub fn new(world: &'a World, board: &'a Board, case: &'a Case, moment: Moment) -> Self {
        let binding = format!("{}.{moment:?}", case.name).to_lowercase().replace(' ', "-");
        let secret = world.secret_id(&binding);
        Self { world, board, case, moment, binding, secret }
    }

    async fn bind(&self, mut spec: Value) {
        if self.case.reason == "Throttled" {
            // Who is throttled slows down: it has an identity to itself, so that the others do not.
            spec["grant"] = json!(self.own_grant().await);
        }
        self.world.bind(&self.binding, spec).await;
    }

    /// A grant for this secret alone, through a role of its own.
    async fn own_grant(&self) -> String {
        let name = format!("{}-{}", self.world.namespace, self.binding);
        let role = format!("arn:aws:iam::123456789012:role/{}", self.binding);
        let spec = json!({
            "namespaces": {"names": [self.world.namespace]}, "secrets": [{"name": self.secret}],
            "aws": {"region": "eu-west-1", "roleArn": role},
        });
        self.world.grant_with(&name, spec).await;
        name
    }

    /// Removes what stands outside the namespace.
    pub async fn clean_up(&self) {
        if self.case.reason == "Throttled" {
            self.world.delete_grant(&format!("{}-{}", self.world.namespace, self.binding)).await;
        }
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
        // Where it exists already, the new version is all there is to do.
        let _ = self.world.aws.create_secret().name(&self.secret).secret_string(object(0)).send().await;
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
            (Cause::Aws(fault), Moment::Read) => {
                self.world.proxy.fail_for(&self.secret, &["GetSecretValue"], fault.clone());
            }
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
                self.world.proxy.fail_for(
                    &self.secret,
                    &["GetSecretValue"],
                    Fault::Error(400, "ResourceNotFoundException", said),
                );
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

    /// Runs the case to its end.
    pub async fn run(&self) {
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
        assert_eq!(
            (&now.binding, now.keys, &now.sources, &now.last_changed_time),
            (&was.binding, was.keys, &was.sources, &was.last_changed_time)
        );

        // It is tried again, and the same failure is no news. (The slow answer makes one try as long as the rest.)
        let slow = matches!(case.cause, Cause::Aws(Fault::Slow(_)));
        if matches!(case.course, Course::Passing | Course::Lasting) && !slow {
            let tried = self.tries().max(tried);
            eventually(&format!("{binding} to try again twice"), Duration::from_secs(60), || async {
                (self.tries() >= tried + 2).then_some(())
            })
            .await;
            let again = self.world.bindings().get(binding).await.unwrap();
            let said = |binding: &SecretBinding| -> Vec<String> {
                let conditions = binding.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
                conditions.iter().map(|c| format!("{}={}/{}: {}", c.type_, c.status, c.reason, c.message)).collect()
            };
            assert_eq!(said(&again), said(&seen), "the status of {binding} is not written again");
            assert_eq!(again.metadata.resource_version, seen.metadata.resource_version, "not even as it was");
            assert_eq!(self.published().await, before, "the Secret");
        }

        let number = self.end().await;
        self.await_value(number).await;
        let well = |b: &SecretBinding| {
            ["Granted", "Fetched", "Rendered", "Applied", "Ready"]
                .iter()
                .all(|type_| state(b, type_).starts_with("True/"))
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
            let named = self
                .calls()
                .iter()
                .any(|call| call.status >= 400 && message.contains(&format!("(request {})", call.request_id)));
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
            Course::UntilEdit => assert_eq!((reconciling.as_str(), stalled), ("", format!("True/{}", case.reason))),
            _ => assert_eq!((reconciling.as_str(), stalled.as_str()), ("True/Retrying", "")),
        }
        let steps = ["Granted", "Fetched", "Rendered", "Applied"];
        let at = steps.iter().position(|step| *step == case.condition).unwrap();
        assert!(
            steps[..at].iter().all(|step| state(binding, step).starts_with("True/")),
            "steps before {}",
            case.condition
        );
        assert!(steps[at + 1..].iter().all(|step| state(binding, step) == "Unknown/NotEvaluated"));
        let generation = binding.metadata.generation;
        let status = binding.status.as_ref().unwrap();
        assert_eq!(status.observed_generation, generation);
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == generation));
    }

    /// The Events that the transitions call for, as `type/reason`.
    pub fn events(&self) -> Vec<String> {
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
    pub fn judge_audit(&self, audit: &[Value]) {
        let of_binding = |outcome: &str| {
            audit
                .iter()
                .filter(|record| record["binding"] == self.binding.as_str() && record["outcome"] == outcome)
                .count()
        };
        let calls = self.calls();
        let sent = |sent: Sent| calls.iter().filter(|call| call.sent == sent).count();
        assert_eq!(of_binding("read"), sent(Sent::Value), "{}: reads", self.binding);
        assert_eq!(
            of_binding("unknown") > 0,
            sent(Sent::Uncertain) > 0,
            "{}: answers that did not arrive whole",
            self.binding
        );
        let denied = calls.iter().filter(|call| call.attempt == 1 && call.operation == "GetSecretValue");
        let denied = match self.case.reason {
            "AwsAccessDenied" | "DecryptionFailed" => denied.filter(|call| call.status >= 400).count(),
            _ => sent(Sent::Unusable),
        };
        assert_eq!(of_binding("denied"), denied, "{}: refused reads", self.binding);
    }
}
