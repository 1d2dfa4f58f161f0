//! What stands between the operator and AWS: it counts the calls and, when told to, answers in AWS's place.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::iam::{Gate, Verdict};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use axum::body::{Body, Bytes};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue};
use hyper::http::request;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

const REQUEST_ID: &str = "x-amzn-requestid";

/// One call of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The operation, such as `GetSecretValue`.
    pub operation: String,
    /// The secrets it names, joined by commas.
    pub secret: String,
    /// Which attempt of one call of the SDK this is, counted from 1.
    pub attempt: u32,
    /// The answer.
    pub status: u16,
    /// The request id in the answer.
    pub request_id: String,
    /// What of a value was on its way to the operator.
    pub sent: Sent,
    /// The ARNs of the secrets whose values the answer held.
    pub values: Vec<String>,
    /// When it was answered.
    pub at: Instant,
}

/// What an answer carried of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing.
    Nothing,
    /// The value that was asked for.
    Value,
    /// A value that the operator may not use.
    Unusable,
    /// A value that may or may not have arrived.
    Uncertain,
}

/// What to do in place of passing a call on.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answer with this status, error code and message.
    Error(u16, &'static str, &'static str),
    /// Answer so as AWS does whose clock is this many seconds ahead of the operator's.
    Skewed(u16, &'static str, i64),
    /// Refuse what is not signed with this key id, as AWS does with a key that it does not know.
    OnlyKey(&'static str),
    /// Answer with this status and text, as something on the way to AWS does.
    Text(u16, &'static str),
    /// Pass the call on and put this text in the place of the answer.
    Garbage(&'static str),
    /// Pass the call on and change the answer; what it then carries.
    Edit(fn(&mut Value), Sent),
    /// Close the connection after half the answer of AWS.
    Cut,
    /// Close the connection without an answer.
    Hangup,
    /// Answer after this time, though AWS answered at once.
    Slow(Duration),
}

/// Which calls fail, and how.
struct Rule {
    /// The secret they name; none = any.
    secret: Option<String>,
    /// The operations; empty = all.
    operations: Vec<&'static str>,
    fault: Fault,
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    rules: Mutex<Vec<Rule>>,
    /// Enforces IAM, where a test asks for it.
    gate: Mutex<Option<Gate>>,
    server: Mutex<Option<JoinHandle<()>>>,
}

/// A running proxy.
#[derive(Clone)]
pub struct AwsProxy {
    /// Where it listens.
    pub endpoint: String,
    address: SocketAddr,
    upstream: String,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Target {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    shared: Arc<Shared>,
}

impl AwsProxy {
    /// Starts a proxy in front of `upstream`.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self {
            endpoint: format!("http://{address}"),
            address,
            upstream: upstream.trim_end_matches('/').to_owned(),
            shared: Arc::default(),
        };
        proxy.listen(listener);
        proxy
    }

    fn listen(&self, listener: TcpListener) {
        let target = Target {
            upstream: self.upstream.clone(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            shared: self.shared.clone(),
        };
        *self.shared.server.lock().unwrap() = Some(tokio::spawn(serve(listener, target)));
    }

    /// Stops listening and closes every connection, until [`AwsProxy::resume`].
    pub async fn stop(&self) {
        let server = self.shared.server.lock().unwrap().take();
        if let Some(server) = server {
            server.abort();
            // The error says that it was aborted.
            let _ = server.await;
        }
    }

    /// Listens again at the same address.
    pub fn resume(&self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.listen(socket.listen(1024).unwrap());
    }

    /// Lets pass only what the policies of this world allow, from now on.
    pub fn enforce(&self, gate: Gate) {
        *self.shared.gate.lock().unwrap() = Some(gate);
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// How many calls of one operation there were so far.
    pub fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|call| call.operation == operation).count()
    }

    /// The references by which values were asked for so far, each of a batch.
    pub fn asked_for(&self) -> Vec<String> {
        let reads = |call: &Call| matches!(call.operation.as_str(), "GetSecretValue" | "BatchGetSecretValue");
        let calls = self.calls().into_iter().filter(reads);
        calls.flat_map(|call| call.secret.split(',').map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// The calls about one secret so far.
    pub fn calls_for(&self, secret: &str) -> Vec<Call> {
        self.shared
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.secret.split(',').any(|id| id == secret))
            .cloned()
            .collect()
    }

    /// Lets calls of these operations (none named = all) fail from now on, and only those.
    pub fn fail(&self, operations: &[&'static str], fault: Fault) {
        self.put(None, operations, fault);
    }

    /// The same for the calls about one secret; what is said of others stays.
    pub fn fail_for(&self, secret: &str, operations: &[&'static str], fault: Fault) {
        self.put(Some(secret.to_owned()), operations, fault);
    }

    fn put(&self, secret: Option<String>, operations: &[&'static str], fault: Fault) {
        let mut rules = self.shared.rules.lock().unwrap();
        rules.retain(|rule| rule.secret != secret);
        rules.push(Rule { secret, operations: operations.to_vec(), fault });
    }

    /// Lets all calls pass again.
    pub fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// Lets the calls about one secret pass again.
    pub fn heal_for(&self, secret: &str) {
        self.shared.rules.lock().unwrap().retain(|rule| rule.secret.as_deref() != Some(secret));
    }
}

impl Target {
    /// Passes a call on. moto now and then closes a connection that a request is already under way on.
    async fn upstream(&self, parts: &request::Parts, body: Bytes) -> Response<Incoming> {
        let mut error = None;
        for _ in 0..3 {
            let mut request = Request::builder().method(&parts.method).uri(format!("{}{}", self.upstream, parts.uri));
            // The length is that of the body, which the gate may have shortened.
            for (name, value) in parts.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
                request = request.header(name, value);
            }
            match self.client.request(request.body(Full::new(body.clone())).unwrap()).await {
                Ok(answer) => return answer,
                Err(failed) => error = Some(failed),
            }
        }
        panic!("moto does not answer: {error:?}")
    }
}

/// Serves until it is aborted, and its connections with it.
async fn serve(listener: TcpListener, target: Target) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let target = target.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| pass(target.clone(), request));
            // A client that goes away, or is cut off, is no concern of the proxy.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    /// The fault that a call meets. A call about several secrets is refused by IAM where one of them has a fault of
    /// its own, so that the operator asks for each by itself and meets it.
    fn fault(&self, asked: &Asked) -> Option<Fault> {
        let rules = self.rules.lock().unwrap();
        let names = |rule: &Rule| rule.secret.as_ref().is_none_or(|named| asked.secrets.contains(named));
        let applies = |rule: &Rule, operation: &str| {
            if rule.operations.is_empty() { rule.secret.is_some() } else { rule.operations.contains(&operation) }
        };
        let by_itself = |rule: &&Rule| match asked.operation.as_str() {
            "BatchGetSecretValue" => names(rule) && applies(rule, "GetSecretValue"),
            "ListSecrets" => applies(rule, "DescribeSecret"),
            _ => false,
        };
        if rules.iter().any(|rule| by_itself(&rule)) {
            return Some(Fault::Error(
                400,
                "AccessDeniedException",
                "User: x is not authorized to perform this action",
            ));
        }
        let concerns = |rule: &&Rule| {
            names(rule) && (rule.operations.is_empty() || rule.operations.contains(&asked.operation.as_str()))
        };
        rules.iter().find(concerns).map(|rule| rule.fault.clone())
    }

    /// Notes a call and answers its request id: that of AWS, or one that no other call has.
    fn note(&self, asked: &Asked, status: StatusCode, sent: Sent, id: Option<&str>, values: Vec<String>) -> String {
        let reads = matches!(asked.operation.as_str(), "GetSecretValue" | "BatchGetSecretValue");
        let may_carry = reads && (status.is_success() || sent == Sent::Uncertain);
        let mut calls = self.calls.lock().unwrap();
        let request_id = id.map_or_else(|| format!("req-0001-{}", calls.len()), str::to_owned);
        calls.push(Call {
            operation: asked.operation.clone(),
            secret: asked.secrets.join(","),
            attempt: asked.attempt,
            status: status.as_u16(),
            request_id: request_id.clone(),
            sent: if may_carry { sent } else { Sent::Nothing },
            values,
            at: Instant::now(),
        });
        request_id
    }
}

async fn pass(target: Target, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let asked = Asked::of(&parts.headers, &body);
    let fault = target.shared.fault(&asked);
    let note = |status, sent, id: Option<&str>| target.shared.note(&asked, status, sent, id, Vec::new());
    let json = parts.headers.contains_key("x-amz-target");
    match &fault {
        Some(Fault::Error(status, code, message)) => {
            let status = StatusCode::from_u16(*status).unwrap();
            let id = note(status, Sent::Nothing, None);
            return Ok(error(status, code, message, &id, json));
        }
        Some(Fault::Skewed(status, code, ahead)) => {
            let status = StatusCode::from_u16(*status).unwrap();
            let id = note(status, Sent::Nothing, None);
            let mut answer = error(status, code, "Signature expired", &id, json);
            let date = DateTime::from_secs(DateTime::from(SystemTime::now()).secs() + ahead);
            answer.headers_mut().insert(DATE, date.fmt(Format::HttpDate).unwrap().parse().unwrap());
            return Ok(answer);
        }
        Some(Fault::OnlyKey(key)) if !signed_with(&parts.headers, key) => {
            let (status, code) = if json {
                (StatusCode::BAD_REQUEST, "UnrecognizedClientException")
            } else {
                (StatusCode::FORBIDDEN, "InvalidClientTokenId")
            };
            let id = note(status, Sent::Nothing, None);
            return Ok(error(status, code, "The security token included in the request is invalid.", &id, json));
        }
        Some(Fault::Text(status, text)) => {
            let status = StatusCode::from_u16(*status).unwrap();
            note(status, Sent::Nothing, None);
            return Ok(Response::builder().status(status).body(Body::from(*text)).unwrap());
        }
        Some(Fault::Hangup) => {
            // Nobody but AWS can tell whether it sent something.
            note(StatusCode::BAD_GATEWAY, Sent::Uncertain, None);
            return Err(io::Error::other("hung up"));
        }
        _ => {}
    }
    let gate = target.shared.gate.lock().unwrap().clone();
    let (body, ticket) = match &gate {
        None => (body, None),
        Some(gate) => match gate.judge(&parts.headers, &body).await {
            Verdict::Refuse(answer) => {
                note(answer.status, Sent::Nothing, Some(&answer.request_id));
                return Ok(answer.response());
            }
            Verdict::Pass(ticket) => (ticket.body(), Some(ticket)),
        },
    };
    let passed = target.upstream(&parts, body).await;
    let (mut head, body) = passed.into_parts();
    let mut body = body.collect().await.unwrap().to_bytes();
    if let (Some(gate), Some(ticket)) = (&gate, ticket) {
        body = gate.settle(ticket, head.status, body).await;
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let id = head.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let values = values(&body);
    let note = |sent| target.shared.note(&asked, head.status, sent, id.as_deref(), values.clone());
    match fault {
        Some(Fault::Cut) => {
            note(Sent::Uncertain);
            let half = body.slice(..body.len() / 2);
            let broken = futures::stream::iter([Ok(half), Err(io::Error::other("cut"))]);
            Ok(Response::from_parts(head, Body::from_stream(broken)))
        }
        Some(Fault::Slow(pause)) => {
            note(Sent::Uncertain);
            tokio::time::sleep(pause).await;
            Ok(Response::from_parts(head, Body::from(body)))
        }
        Some(Fault::Garbage(text)) => {
            note(Sent::Uncertain);
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
            Ok(Response::from_parts(head, Body::from(text)))
        }
        Some(Fault::Edit(edit, sent)) => {
            note(sent);
            let mut edited: Value = serde_json::from_slice(&body).unwrap();
            edit(&mut edited);
            let edited = edited.to_string();
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(edited.len()));
            Ok(Response::from_parts(head, Body::from(edited)))
        }
        _ => {
            note(Sent::Value);
            Ok(Response::from_parts(head, Body::from(body)))
        }
    }
}

/// Whether a request is signed with the key of this id. A call of STS with a token is not signed at all.
fn signed_with(headers: &HeaderMap, key: &str) -> bool {
    let signed = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    signed.is_none_or(|signed| signed.contains(&format!("Credential={key}/")))
}

/// The ARNs of the secrets whose values an answer holds.
fn values(body: &[u8]) -> Vec<String> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let batch = answer["SecretValues"].as_array().cloned();
    let versions = batch.unwrap_or_else(|| vec![answer]);
    let holds = |version: &&Value| version["SecretString"].is_string() || version["SecretBinary"].is_string();
    versions.iter().filter(holds).map(|version| version["ARN"].as_str().unwrap_or_default().to_owned()).collect()
}

/// An error as AWS answers it: in JSON, or in XML where the call came by the query protocol of STS.
fn error(status: StatusCode, code: &str, message: &str, id: &str, json: bool) -> Response<Body> {
    let (content_type, body) = if json {
        ("application/x-amz-json-1.1", serde_json::json!({"__type": code, "message": message}).to_string())
    } else {
        let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
        ("text/xml", format!("<ErrorResponse>{error}<RequestId>{id}</RequestId></ErrorResponse>"))
    };
    let answer = Response::builder().status(status).header("content-type", content_type).header(REQUEST_ID, id);
    answer.body(Body::from(body)).unwrap()
}

/// What a call asks.
struct Asked {
    operation: String,
    secrets: Vec<String>,
    attempt: u32,
}

impl Asked {
    fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // The JSON protocol names the operation in a header, the query protocol of STS in the body.
        let operation = match header("x-amz-target").and_then(|target| target.rsplit('.').next()) {
            Some(operation) => operation.to_owned(),
            None => String::from_utf8_lossy(body)
                .split('&')
                .find_map(|pair| pair.strip_prefix("Action="))
                .unwrap_or_default()
                .to_owned(),
        };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let attempt =
            header("amz-sdk-request").and_then(|text| text.split("; ").find_map(|p| p.strip_prefix("attempt=")));
        Self {
            operation,
            secrets: match body["SecretIdList"].as_array() {
                Some(ids) => ids.iter().map(|id| id.as_str().unwrap_or_default().to_owned()).collect(),
                None => vec![body["SecretId"].as_str().unwrap_or_default().to_owned()],
            },
            attempt: attempt.and_then(|attempt| attempt.parse().ok()).unwrap_or(1),
        }
    }
}
