//! What stands between the operator and AWS: it counts the calls and, when told to, answers in AWS's place.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// One call of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The operation, such as `GetSecretValue`.
    pub operation: String,
    /// The secret it names.
    pub secret: String,
    /// The answer.
    pub status: u16,
}

/// What to do in place of passing a call on.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answer with this status, error code and message.
    Error(u16, &'static str, &'static str),
    /// Close the connection after half the answer of AWS.
    Cut,
    /// Answer after this time.
    Slow(Duration),
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    /// The operations that fail (empty = all), and how.
    fault: Mutex<Option<(Vec<&'static str>, Fault)>>,
}

/// A running proxy.
#[derive(Clone)]
pub struct AwsProxy {
    /// Where it listens.
    pub endpoint: String,
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
        let shared = Arc::new(Shared::default());
        let target = Target {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            shared: shared.clone(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(target);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, shared }
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// How many calls of one operation there were so far.
    pub fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|call| call.operation == operation).count()
    }

    /// Lets calls of these operations (none named = all) fail from now on.
    pub fn fail(&self, operations: &[&'static str], fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some((operations.to_vec(), fault));
    }

    /// Lets calls pass again.
    pub fn heal(&self) {
        *self.shared.fault.lock().unwrap() = None;
    }
}

async fn pass(State(target): State<Target>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let operation = operation(&parts.headers, &body);
    let secret = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|body| body.get("SecretId").and_then(|id| id.as_str()).map(str::to_owned))
        .unwrap_or_default();
    let fault = target.shared.fault.lock().unwrap().clone();
    let fault = fault.filter(|(operations, _)| operations.is_empty() || operations.contains(&operation.as_str()));
    let note = |status: StatusCode| {
        let call = Call { operation: operation.clone(), secret: secret.clone(), status: status.as_u16() };
        target.shared.calls.lock().unwrap().push(call);
    };
    match fault {
        Some((_, Fault::Error(status, code, message))) => {
            let status = StatusCode::from_u16(status).unwrap();
            note(status);
            let body = serde_json::json!({"__type": code, "message": message}).to_string();
            return (status, [("content-type", "application/x-amz-json-1.1"), ("x-amzn-requestid", "req-0001")], body)
                .into_response();
        }
        Some((_, Fault::Slow(pause))) => tokio::time::sleep(pause).await,
        Some((_, Fault::Cut)) | None => {}
    }
    let mut upstream = hyper::Request::builder().method(parts.method).uri(format!("{}{}", target.upstream, parts.uri));
    for (name, value) in &parts.headers {
        upstream = upstream.header(name, value);
    }
    let answer = target.client.request(upstream.body(Full::new(body)).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    note(head.status);
    if matches!(fault, Some((_, Fault::Cut))) {
        let half = body.slice(..body.len() / 2);
        let broken = futures::stream::iter([Ok(half), Err(std::io::Error::other("cut"))]);
        return Response::from_parts(head, Body::from_stream(broken));
    }
    Response::from_parts(head, Body::from(body))
}

/// The JSON protocol names the operation in a header, the query protocol of STS in the body.
fn operation(headers: &HeaderMap, body: &[u8]) -> String {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    if let Some(operation) = target.and_then(|target| target.rsplit('.').next()) {
        return operation.to_owned();
    }
    let body = String::from_utf8_lossy(body);
    body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default().to_owned()
}
