//! What the proxy asks for each request: may this pass?
//!
//! ```text
//! match gate.judge(&headers, &body).await {
//!     Verdict::Refuse(answer) => answer.response(),
//!     Verdict::Pass(ticket) => { send ticket.body() on; let body = gate.settle(ticket, status, body); … }
//! }
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::body::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Request as HttpRequest, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::context::Context;
use super::evaluate::{Decision, Request, evaluate};
use super::policy::{Policy, PolicyError};
use super::sts::{self, Fields};
use super::wire::{Answer, Protocol, sentence};
use super::world::{IamWorld, Identity, NewSession, Rejected};

/// What the gate must know of a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret {
    /// The full ARN, with the six characters at its end.
    pub arn: String,
    /// The key, in any of the forms in which AWS takes it; none for `aws/secretsmanager`.
    pub kms_key_id: Option<String>,
    /// The policy attached to it.
    pub policy: Option<String>,
    /// The ARN of the Lambda that rotates it.
    pub rotation_function: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// Which secret is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The region that the request is for.
    pub region: String,
    /// The name or ARN, as it was asked for.
    pub id: String,
}

/// Finds a secret.
pub type Lookup = Arc<dyn Fn(Wanted) -> BoxFuture<'static, Option<Secret>> + Send + Sync>;

/// One decision, for tests to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Who asked, by the ARN of the user or the session.
    pub principal: String,
    /// For what.
    pub action: String,
    /// Of which resource.
    pub resource: String,
    /// What was decided, and by which statements.
    pub decision: Decision,
}

impl Judged {
    /// A decision about a request.
    pub fn new(request: &Request<'_>, decision: Decision) -> Self {
        Self {
            principal: request.principal.arn().to_owned(),
            action: request.action.to_owned(),
            resource: request.resource.to_owned(),
            decision,
        }
    }
}

/// What is to be done with a request.
pub enum Verdict {
    /// Send this on, and give the answer to [`Gate::settle`].
    Pass(Ticket),
    /// Answer this in AWS's place.
    Refuse(Answer),
}

/// A request that may pass.
pub struct Ticket {
    body: Bytes,
    then: Then,
}

impl Ticket {
    /// What to send on. It is shorter than what came where a batch names secrets that may not be read: set the length
    /// anew.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }
}

/// What is to be done with the answer.
enum Then {
    Nothing,
    /// The session's credentials are in it.
    Learn(NewSession),
    /// These go into its `Errors`.
    Report(Vec<Value>),
    /// Values whose ARNs stand here go, and these go into its `Errors`.
    Filter(Arc<Batch>),
}

/// What is needed to judge the secrets of an answer, once they are known.
struct Batch {
    caller: Identity,
    region: String,
}

/// The world and what was decided in it.
#[derive(Clone)]
pub struct Gate {
    lookup: Lookup,
    world: Arc<Mutex<IamWorld>>,
    record: Arc<Mutex<Vec<Judged>>>,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// What an operation of Secrets Manager is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// The secret in `SecretId`.
    Secret,
    /// The secret to be, in `Name`.
    NewSecret,
    /// None: its resource is `*`.
    All,
    /// Several secrets.
    Batch,
}

/// What an operation needs of the secret's key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyUse {
    No,
    Decrypt,
    Encrypt,
}

fn operation(name: &str) -> Option<(About, KeyUse)> {
    Some(match name {
        "GetSecretValue" => (About::Secret, KeyUse::Decrypt),
        "PutSecretValue" | "UpdateSecret" => (About::Secret, KeyUse::Encrypt),
        "DescribeSecret"
        | "ListSecretVersionIds"
        | "UpdateSecretVersionStage"
        | "RotateSecret"
        | "CancelRotateSecret"
        | "DeleteSecret"
        | "RestoreSecret"
        | "TagResource"
        | "UntagResource"
        | "GetResourcePolicy"
        | "PutResourcePolicy"
        | "DeleteResourcePolicy" => (About::Secret, KeyUse::No),
        "CreateSecret" => (About::NewSecret, KeyUse::Encrypt),
        "ListSecrets" | "GetRandomPassword" => (About::All, KeyUse::No),
        "BatchGetSecretValue" => (About::Batch, KeyUse::No),
        _ => return None,
    })
}

/// Who signed a request, for which region and service.
struct Scope {
    access_key: String,
    region: String,
    service: String,
}

impl Scope {
    /// Reads `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, …`. The signature is not checked: the
    /// mock would take any, and what is tested is what an identity may do, not how it proves itself.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let header = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let credential = header.split(',').find_map(|part| part.trim().strip_prefix("Credential="))?;
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key, _date, region, service, "aws4_request"] = parts.as_slice() else {
            return None;
        };
        Some(Self {
            access_key: (*access_key).to_owned(),
            region: (*region).to_owned(),
            service: (*service).to_owned(),
        })
    }
}

impl Gate {
    /// A gate for a world. `lookup` finds secrets: [`lookup_in_moto`] asks moto.
    pub fn new(world: IamWorld, lookup: Lookup) -> Self {
        Self { lookup, world: Arc::new(Mutex::new(world)), record: Arc::default(), clock: Arc::new(SystemTime::now) }
    }

    /// Gives it another clock, so that sessions end when a test wants it.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Looks at the world, or changes it: a policy counts from the next request on.
    pub fn world<T>(&self, look: impl FnOnce(&mut IamWorld) -> T) -> T {
        look(&mut self.world.lock().unwrap())
    }

    /// Each decision so far.
    pub fn record(&self) -> Vec<Judged> {
        self.record.lock().unwrap().clone()
    }

    /// Judges a request.
    pub async fn judge(&self, headers: &HeaderMap, body: &Bytes) -> Verdict {
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let judged = match target.and_then(|target| target.split_once('.')) {
            Some(("secretsmanager", name)) => self.secrets_manager(headers, name, body).await,
            Some(("AmazonSQS", name)) => self.sqs(headers, name, body),
            Some(_) => Err(not_modelled(Protocol::Json, target.unwrap_or_default())),
            None => self.sts(headers, body),
        };
        match judged {
            Ok(ticket) => Verdict::Pass(ticket),
            Err(answer) => Verdict::Refuse(answer),
        }
    }

    /// Takes AWS's answer to a request that passed: learns a session, and completes the answer to a batch. Gives the
    /// body for the operator; set its length anew.
    pub async fn settle(&self, ticket: Ticket, status: StatusCode, body: Bytes) -> Bytes {
        if !status.is_success() {
            return body;
        }
        match ticket.then {
            Then::Nothing => body,
            Then::Learn(session) => {
                let text = String::from_utf8_lossy(&body);
                let field = |name: &str| {
                    let start = text.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
                    start.and_then(|rest| rest.split_once("</")).map(|(value, _)| value)
                };
                let (Some(access_key), Some(token)) = (field("AccessKeyId"), field("SessionToken")) else {
                    panic!("the answer to AssumeRole holds no credentials");
                };
                self.world(|world| world.add_session(access_key, token, (self.clock)(), session));
                body
            }
            Then::Report(errors) => merge(&body, errors, |_| true),
            Then::Filter(batch) => self.filter(&batch, &body).await,
        }
    }

    fn authenticate(
        &self,
        headers: &HeaderMap,
        protocol: Protocol,
        service: &str,
    ) -> Result<(Identity, Scope), Answer> {
        let refuse = |code, message| {
            let status = if protocol == Protocol::Query { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
            Answer::error(protocol, status, code, message)
        };
        let Some(scope) = Scope::of(headers) else {
            let code = match protocol {
                Protocol::Json => "MissingAuthenticationTokenException",
                Protocol::Query => "MissingAuthenticationToken",
            };
            return Err(refuse(code, "Missing Authentication Token"));
        };
        if scope.service != service {
            let message = format!("Credential should be scoped to correct service: '{service}'.");
            return Err(refuse("InvalidSignatureException", &message));
        }
        let token = headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
        let found = self.world(|world| world.authenticate(&scope.access_key, token, (self.clock)()).cloned());
        match (found, protocol) {
            (Ok(identity), _) => Ok((identity, scope)),
            (Err(Rejected::Expired), Protocol::Json) => {
                Err(refuse("ExpiredTokenException", "The security token included in the request is expired"))
            }
            (Err(Rejected::Expired), Protocol::Query) => {
                Err(refuse("ExpiredToken", "The security token included in the request is expired"))
            }
            (Err(Rejected::Unknown), Protocol::Json) => {
                Err(refuse("UnrecognizedClientException", "The security token included in the request is invalid."))
            }
            (Err(Rejected::Unknown), Protocol::Query) => {
                Err(refuse("InvalidClientTokenId", "The security token included in the request is invalid."))
            }
        }
    }

    fn context(&self, caller: &Identity, region: &str, account: &str) -> Context {
        caller
            .context((self.clock)())
            .with("aws:RequestedRegion", region)
            .with("aws:ResourceAccount", account)
            // The proxy stands where TLS would be.
            .with("aws:SecureTransport", "true")
            .with("aws:ViaAWSService", "false")
    }

    /// Decides and writes it down.
    fn decide(&self, request: &Request<'_>, resource: Option<&Policy>) -> Decision {
        let decision = self.world(|world| evaluate(request, world.policies(request.principal), resource));
        self.record.lock().unwrap().push(Judged::new(request, decision.clone()));
        decision
    }

    async fn secrets_manager(&self, headers: &HeaderMap, name: &str, body: &Bytes) -> Result<Ticket, Answer> {
        let Some((about, key_use)) = operation(name) else {
            return Err(not_modelled(Protocol::Json, name));
        };
        let (caller, scope) = self.authenticate(headers, Protocol::Json, "secretsmanager")?;
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let action = format!("secretsmanager:{name}");
        let ticket = |then| Ok(Ticket { body: body.clone(), then });
        match about {
            About::All => {
                self.allow_all(&caller, &scope, &action)?;
                ticket(Then::Nothing)
            }
            About::Secret | About::NewSecret => {
                let id = &asked[if about == About::Secret { "SecretId" } else { "Name" }];
                let id = id.as_str().unwrap_or_default();
                self.allow_secret(&caller, &scope, &action, id, &asked, key_use).await?;
                ticket(Then::Nothing)
            }
            About::Batch => {
                self.allow_all(&caller, &scope, &action)?;
                let Some(ids) = asked["SecretIdList"].as_array() else {
                    self.allow_all(&caller, &scope, "secretsmanager:ListSecrets")?;
                    return ticket(Then::Filter(Arc::new(Batch { caller, region: scope.region })));
                };
                let mut errors = Vec::new();
                let mut allowed = Vec::new();
                for id in ids.iter().filter_map(Value::as_str) {
                    match self.allow_value(&caller, &scope.region, id).await {
                        Ok(()) => allowed.push(id),
                        Err(answer) => errors.push(error_entry(id, &answer)),
                    }
                }
                if allowed.is_empty() && !errors.is_empty() {
                    return Err(Answer::success(json!({"SecretValues": [], "Errors": errors}).to_string()));
                }
                let mut fewer = asked.clone();
                fewer["SecretIdList"] = json!(allowed);
                let body = if errors.is_empty() { body.clone() } else { Bytes::from(fewer.to_string()) };
                Ok(Ticket { body, then: Then::Report(errors) })
            }
        }
    }

    /// An action whose resource is `*`.
    fn allow_all(&self, caller: &Identity, scope: &Scope, action: &str) -> Result<(), Answer> {
        let account = caller.principal.account().unwrap_or_default();
        let context = self.context(caller, &scope.region, account);
        let request = Request { principal: &caller.principal, action, resource: "*", account, context: &context };
        let decision = self.decide(&request, None);
        if decision.is_allowed() { Ok(()) } else { Err(access_denied(&request, None, &decision)) }
    }

    /// One value of a batch.
    async fn allow_value(&self, caller: &Identity, region: &str, id: &str) -> Result<(), Answer> {
        let scope = Scope { access_key: String::new(), region: region.to_owned(), service: String::new() };
        self.allow_secret(caller, &scope, "secretsmanager:GetSecretValue", id, &Value::Null, KeyUse::Decrypt).await
    }

    async fn allow_secret(
        &self,
        caller: &Identity,
        scope: &Scope,
        action: &str,
        id: &str,
        asked: &Value,
        key_use: KeyUse,
    ) -> Result<(), Answer> {
        let region = &scope.region;
        let own_account = caller.principal.account().unwrap_or_default().to_owned();
        let found = (self.lookup)(Wanted { region: region.clone(), id: id.to_owned() }).await;
        // Of a secret that does not exist AWS knows no more than the name, without a suffix.
        let secret = found.unwrap_or_else(|| Secret {
            arn: if id.starts_with("arn:") {
                id.to_owned()
            } else {
                format!("arn:aws:secretsmanager:{region}:{own_account}:secret:{id}")
            },
            ..Secret::default()
        });
        let account = super::world::account_of(&secret.arn);
        let policy =
            secret.policy.as_deref().map(|json| Policy::resource(&format!("policy of {id}"), json)).transpose();
        let policy = policy.map_err(|error| unreadable(&error))?;
        let text = |name: &str| asked[name].as_str();
        let mut context = self
            .context(caller, region, &account)
            .with("secretsmanager:SecretId", &secret.arn)
            .with_some("secretsmanager:VersionId", text("VersionId"))
            .with_some("secretsmanager:VersionStage", text("VersionStage"))
            .with_some("secretsmanager:Name", text("Name"))
            .with_some("secretsmanager:RotationLambdaARN", text("RotationLambdaARN"))
            .with_some(
                "secretsmanager:RotateImmediately",
                asked["RotateImmediately"].as_bool().map(|now| now.to_string()),
            );
        for (key, value) in &secret.tags {
            context = context.with(&format!("aws:ResourceTag/{key}"), value);
            context = context.with(&format!("secretsmanager:ResourceTag/{key}"), value);
        }
        let principal = &caller.principal;
        let request = Request { principal, action, resource: &secret.arn, account: &account, context: &context };
        let decision = self.decide(&request, policy.as_ref());
        if !decision.is_allowed() {
            return Err(access_denied(&request, Some(&secret.arn), &decision));
        }
        let uses: &[&str] = match key_use {
            KeyUse::No => &[],
            KeyUse::Decrypt => &["kms:Decrypt"],
            KeyUse::Encrypt => &["kms:GenerateDataKey", "kms:Decrypt"],
        };
        if let ("secretsmanager:RotateSecret", Some(function)) = (action, secret.rotation_function.as_deref()) {
            let account = super::world::account_of(function);
            let context = self.context(caller, region, &account);
            let action = "lambda:InvokeFunction";
            let request = Request { principal, action, resource: function, account: &account, context: &context };
            let decision = self.decide(&request, None);
            if !decision.is_allowed() {
                return Err(access_denied(&request, Some(function), &decision));
            }
        }
        self.allow_key(caller, region, &secret, uses)
    }

    /// Secrets Manager uses a secret's key in the caller's name.
    fn allow_key(&self, caller: &Identity, region: &str, secret: &Secret, uses: &[&str]) -> Result<(), Answer> {
        let account = super::world::account_of(&secret.arn);
        let key = match secret.kms_key_id.as_deref() {
            // The key of the service itself is open to the whole account, and to nobody else.
            None | Some("" | "alias/aws/secretsmanager") => return Ok(()),
            Some(alias) if alias.contains("alias/") => {
                return Err(not_modelled(Protocol::Json, &format!("the key {alias}: name it by id or ARN")));
            }
            Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
            Some(id) => format!("arn:aws:kms:{region}:{account}:key/{id}"),
        };
        let account = super::world::account_of(&key);
        let policy = self.world(|world| world.key_policy(&key));
        let context = self
            .context(caller, region, &account)
            .with("kms:ViaService", format!("secretsmanager.{region}.amazonaws.com"))
            .with("kms:CallerAccount", caller.principal.account().unwrap_or_default())
            .with("kms:EncryptionContext:SecretARN", &secret.arn);
        for action in uses {
            let principal = &caller.principal;
            let request = Request { principal, action, resource: &key, account: &account, context: &context };
            if !self.decide(&request, Some(&policy)).is_allowed() {
                let message = "Access to KMS is not allowed";
                return Err(Answer::error(Protocol::Json, StatusCode::BAD_REQUEST, "AccessDeniedException", message));
            }
        }
        Ok(())
    }

    /// Takes out of the answer to a batch by filters what may not be read.
    async fn filter(&self, batch: &Batch, body: &Bytes) -> Bytes {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut errors = Vec::new();
        let mut refused = Vec::new();
        for arn in answer["SecretValues"].as_array().into_iter().flatten().filter_map(|value| value["ARN"].as_str()) {
            if let Err(answer) = self.allow_value(&batch.caller, &batch.region, arn).await {
                errors.push(error_entry(arn, &answer));
                refused.push(arn.to_owned());
            }
        }
        merge(body, errors, |value| !refused.iter().any(|arn| value["ARN"] == arn.as_str()))
    }

    fn sqs(&self, headers: &HeaderMap, name: &str, body: &Bytes) -> Result<Ticket, Answer> {
        // Permissions have the names of the single forms.
        let action = match name.strip_suffix("Batch").unwrap_or(name) {
            name @ ("ReceiveMessage"
            | "DeleteMessage"
            | "ChangeMessageVisibility"
            | "GetQueueUrl"
            | "GetQueueAttributes"
            | "SendMessage") => format!("sqs:{name}"),
            _ => return Err(not_modelled(Protocol::Json, &format!("AmazonSQS.{name}"))),
        };
        let (caller, scope) = self.authenticate(headers, Protocol::Json, "sqs")?;
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let own = caller.principal.account().unwrap_or_default();
        let text = |name: &str| asked[name].as_str();
        // `…/123456789012/queue`
        let (account, queue) = match text("QueueUrl") {
            Some(url) => {
                let mut ends = url.rsplit('/');
                let queue = ends.next().unwrap_or_default();
                (ends.next().unwrap_or_default(), queue)
            }
            None => (text("QueueOwnerAWSAccountId").unwrap_or(own), text("QueueName").unwrap_or_default()),
        };
        let arn = format!("arn:aws:sqs:{}:{account}:{queue}", scope.region);
        let context = self.context(&caller, &scope.region, account);
        let request =
            Request { principal: &caller.principal, action: &action, resource: &arn, account, context: &context };
        let decision = self.decide(&request, None);
        if decision.is_allowed() {
            Ok(Ticket { body: body.clone(), then: Then::Nothing })
        } else {
            Err(access_denied(&request, Some(&arn), &decision))
        }
    }

    fn sts(&self, headers: &HeaderMap, body: &Bytes) -> Result<Ticket, Answer> {
        let fields = Fields::read(body);
        let now = (self.clock)();
        let outcome = match fields.get("Action").unwrap_or_default() {
            // AWS answers it to everybody, even where a policy denies it.
            "GetCallerIdentity" => {
                self.authenticate(headers, Protocol::Query, "sts")?;
                return Ok(Ticket { body: body.clone(), then: Then::Nothing });
            }
            "AssumeRole" => {
                let (caller, scope) = self.authenticate(headers, Protocol::Query, "sts")?;
                self.world(|world| sts::assume_role(world, &caller, &fields, &scope.region, now))
            }
            "AssumeRoleWithWebIdentity" => self.world(|world| sts::assume_role_with_web_identity(world, &fields, now)),
            other => return Err(not_modelled(Protocol::Query, other)),
        };
        self.record.lock().unwrap().extend(outcome.judged);
        outcome.result.map(|session| Ticket { body: body.clone(), then: Then::Learn(session) })
    }
}

fn access_denied(request: &Request<'_>, resource: Option<&str>, decision: &Decision) -> Answer {
    let message = sentence(request.principal, request.action, resource, decision);
    Answer::error(Protocol::Json, StatusCode::BAD_REQUEST, "AccessDeniedException", &message)
}

/// Loud, and no error that AWS could give: a test that meets it must not go on.
fn not_modelled(protocol: Protocol, what: &str) -> Answer {
    let message = format!("the gate of the tests does not model {what}");
    Answer::error(protocol, StatusCode::NOT_IMPLEMENTED, "NotModelled", &message)
}

fn unreadable(error: &PolicyError) -> Answer {
    let message = format!("the gate of the tests cannot read a policy: {error}");
    Answer::error(Protocol::Json, StatusCode::NOT_IMPLEMENTED, "NotModelled", &message)
}

fn error_entry(id: &str, answer: &Answer) -> Value {
    json!({"SecretId": id, "ErrorCode": answer.code, "Message": answer.message})
}

/// Adds errors to the answer to a batch, and leaves out the values that may not be seen.
fn merge(body: &Bytes, errors: Vec<Value>, keep: impl Fn(&Value) -> bool) -> Bytes {
    if errors.is_empty() {
        return body.clone();
    }
    let mut answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(values) = answer["SecretValues"].as_array_mut() {
        values.retain(keep);
    }
    let mut all = answer["Errors"].as_array().cloned().unwrap_or_default();
    all.extend(errors);
    answer["Errors"] = all.into();
    Bytes::from(answer.to_string())
}

/// Finds secrets by asking moto, as an administrator would.
pub fn lookup_in_moto(endpoint: &str) -> Lookup {
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    Arc::new(move |wanted: Wanted| {
        let (endpoint, client) = (endpoint.clone(), client.clone());
        Box::pin(async move {
            let ask = async |operation: &str| -> Option<Value> {
                // moto takes the region from here, and checks no signature.
                let scope = format!("testing/20260101/{}/secretsmanager/aws4_request", wanted.region);
                let request = HttpRequest::post(&endpoint)
                    .header("content-type", "application/x-amz-json-1.1")
                    .header("x-amz-target", format!("secretsmanager.{operation}"))
                    .header(
                        AUTHORIZATION,
                        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
                    )
                    .body(Full::from(json!({"SecretId": wanted.id}).to_string()))
                    .unwrap();
                let answer = client.request(request).await.unwrap();
                let found = answer.status().is_success();
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                found.then(|| serde_json::from_slice(&body).unwrap())
            };
            let described = ask("DescribeSecret").await?;
            let policy =
                ask("GetResourcePolicy").await.and_then(|answer| answer["ResourcePolicy"].as_str().map(str::to_owned));
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let tags = described["Tags"].as_array().into_iter().flatten();
            Some(Secret {
                arn: text(&described["ARN"])?,
                kms_key_id: text(&described["KmsKeyId"]),
                rotation_function: text(&described["RotationLambdaARN"]),
                policy,
                tags: tags.filter_map(|tag| Some((text(&tag["Key"])?, text(&tag["Value"])?))).collect(),
            })
        })
    })
}
