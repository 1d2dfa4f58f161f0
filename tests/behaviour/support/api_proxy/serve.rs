//! How the proxy passes requests on and gives answers back.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::client::Body as UpstreamBody;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::request::{ApiRequest, Verb};
use super::traffic::UnderWay;
use super::{Alteration, ApiFault, Shared};

/// Serves for ever, each connection as a task.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| pass(shared.clone(), request));
            // A client that goes away, or is cut off, is no concern of the proxy.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn pass(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let asked = ApiRequest::of(&head);
    let under_way = shared.traffic.begin(asked.clone());
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut loses = false;
    if let Some((fault, mut held)) = shared.fault(&asked) {
        match fault {
            // Until the rule is gone.
            ApiFault::Stall => while held.changed().await.is_ok() {},
            ApiFault::Delay(pause) => tokio::time::sleep(pause).await,
            ApiFault::Cut => return Err(io::Error::other("cut")),
            ApiFault::Lose => loses = true,
            ApiFault::Status(code) => {
                under_way.answered(code);
                return Ok(refusal(code));
            }
        }
    }
    let answer = upstream(&shared, &head, body).await?;
    under_way.answered(answer.status().as_u16());
    if loses {
        return Err(io::Error::other("the answer is lost"));
    }
    let alterations = shared.alterations(&asked);
    if asked.verb == Verb::Watch {
        Ok(stream(answer, under_way, alterations))
    } else {
        whole(answer, under_way, &alterations).await
    }
}

/// Passes a request on, with the rights of the operator.
async fn upstream(shared: &Shared, head: &Parts, body: Bytes) -> Result<Response<UpstreamBody>, io::Error> {
    let mut request = Request::builder().method(&head.method).uri(&head.uri);
    // These are of the connection, which is another here, or are added by the client.
    let left_out = [HOST, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
    for (name, value) in head.headers.iter().filter(|(name, _)| !left_out.contains(name)) {
        request = request.header(name, value);
    }
    shared.upstream.send(request.body(UpstreamBody::from(body)).unwrap()).await.map_err(io::Error::other)
}

/// The answer to a watch: each piece goes on as it comes. The request is under way until the watch ends.
fn stream(answer: Response<UpstreamBody>, under_way: UnderWay, alterations: Vec<Arc<Alteration>>) -> Response<Body> {
    let (head, body) = without_length(answer);
    let mut rest = Vec::new();
    let pieces = body.into_data_stream().map(move |piece| {
        let _held = &under_way;
        if alterations.is_empty() {
            return piece;
        }
        // Events are lines.
        rest.extend_from_slice(&piece?);
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = rest.drain(..end).collect();
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(Bytes::from(
            lines.flat_map(|line| [altered(line, &alterations), b"\n".to_vec()].concat()).collect::<Vec<u8>>(),
        ))
    });
    Response::from_parts(head, Body::from_stream(pieces))
}

/// The text of an object, a list or an event, with its objects changed.
fn altered(text: &[u8], alterations: &[Arc<Alteration>]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else { return text.to_vec() };
    let change = |object: &mut Value| alterations.iter().for_each(|alteration| (alteration.change)(object));
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(change);
    } else if let Some(object) = value.get_mut("object") {
        change(object);
    } else {
        change(&mut value);
    }
    value.to_string().into_bytes()
}

/// The answer to any other request. It has ended when the answer is complete here: so none counts as under way whose end
/// the operator may have seen.
async fn whole(
    answer: Response<UpstreamBody>,
    under_way: UnderWay,
    alterations: &[Arc<Alteration>],
) -> Result<Response<Body>, io::Error> {
    let (head, body) = without_length(answer);
    let mut body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if !alterations.is_empty() {
        body = altered(&body, alterations).into();
    }
    drop(under_way);
    Ok(Response::from_parts(head, Body::from(body)))
}

fn without_length(answer: Response<UpstreamBody>) -> (hyper::http::response::Parts, UpstreamBody) {
    let (mut head, body) = answer.into_parts();
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    (head, body)
}

/// A refusal as the API server answers it.
fn refusal(code: u16) -> Response<Body> {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": "refused by the test", "reason": reason, "code": code,
    });
    let answer = Response::builder().status(code).header("content-type", "application/json");
    answer.body(Body::from(status.to_string())).unwrap()
}
