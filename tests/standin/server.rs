//! HTTP: awsJson 1.1 for Secrets Manager, and the query protocol for STS.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::operations::{Done, Started};
use super::refusal::Refusal;
use super::state::{Asked, Outcome};
use super::{Shared, sts};

const TARGET: &str = "x-amz-target";
const REQUEST_ID: &str = "x-amzn-RequestId";

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // Answers are small and somebody waits for each.
        stream.set_nodelay(true).unwrap();
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            // A client that goes away is no concern of the server.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = match operation(&parts.headers) {
        Some(operation) => json_call(&shared, at, &operation, &body),
        None => query_call(&shared, at, &body),
    };
    let latency = shared.state.lock().unwrap().options.latency;
    if !latency.is_zero() {
        tokio::time::sleep_until((at + latency).into()).await;
    }
    Ok(answer)
}

/// The operation of the JSON protocol, which names it in a header.
fn operation(headers: &HeaderMap) -> Option<String> {
    let target = headers.get(TARGET)?.to_str().ok()?;
    Some(target.strip_prefix("secretsmanager.").unwrap_or_default().to_owned())
}

fn json_call(shared: &Arc<Shared>, at: Instant, operation: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let parsed: Option<Value> = serde_json::from_slice(body).ok().filter(Value::is_object);
    let asked = Asked { at, operation, body: parsed.as_ref() };
    let Outcome { request_id, result } = shared.state.lock().unwrap().call(&asked, SystemTime::now());
    let (status, body) = match result {
        Ok(Done { body, rotation, .. }) => {
            if let Some(started) = rotation {
                tokio::spawn(rotate(shared.clone(), started));
            }
            (200, body)
        }
        Err(refusal) => (refusal.status, error(&refusal)),
    };
    respond(status, "application/x-amz-json-1.1", &request_id, body.to_string())
}

/// What Secrets Manager itself refuses has its message under another name than what is refused before.
fn error(refusal: &Refusal) -> Value {
    let before = ["ValidationException", "ThrottlingException", "SerializationException", "UnknownOperationException"];
    let message = if before.contains(&refusal.code.as_ref()) { "message" } else { "Message" };
    json!({"__type": refusal.code, message: refusal.message})
}

fn query_call(shared: &Shared, at: Instant, body: &[u8]) -> Response<Full<Bytes>> {
    let form = String::from_utf8_lossy(body);
    let operation = sts::operation(&form).unwrap_or_default();
    let mut state = shared.state.lock().unwrap();
    let request_id = state.request_id();
    let (status, body) = sts::answer(&form, state.store.account(), &request_id, SystemTime::now());
    state.note(at, &operation, vec![], status, None, 0, &request_id);
    respond(status, "text/xml", &request_id, body)
}

fn respond(status: u16, content_type: &str, request_id: &str, body: String) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, content_type).header(REQUEST_ID, request_id);
    answer.body(Full::new(Bytes::from(body))).unwrap()
}

/// The rotation function at work: half the delay until the value is written, and half until it is current.
async fn rotate(shared: Arc<Shared>, started: Started) {
    let (half, make) = {
        let state = shared.state.lock().unwrap();
        (state.options.rotation_delay / 2, state.options.rotated)
    };
    tokio::time::sleep(half).await;
    shared.state.lock().unwrap().rotation_step(&started, |secret, now| secret.fill_rotation(&started.token, make, now));
    tokio::time::sleep(half).await;
    shared.state.lock().unwrap().rotation_step(&started, |secret, now| secret.finish_rotation(&started.token, now));
}
