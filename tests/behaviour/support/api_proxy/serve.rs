//! How the proxy passes requests on and gives answers back.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::client::Body as UpstreamBody;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::relay::{altered, relay, with_pages_of_one};
use super::request::{ApiRequest, Verb};
use super::traffic::UnderWay;
use super::{ApiFault, Shared};

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
    let (mut head, body) = request.into_parts();
    let asked = ApiRequest::of(&head);
    let under_way = shared.traffic.begin(asked.clone());
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let (mut loses, mut alters) = (false, None);
    // What strikes after this is for the watch itself to see.
    let changed = shared.changed.subscribe();
    if let Some((fault, mut held)) = shared.fault(&asked) {
        match fault {
            // Until the rule is gone.
            ApiFault::Stall => while held.changed().await.is_ok() {},
            ApiFault::Delay(pause) => tokio::time::sleep(pause).await,
            ApiFault::Cut => return Err(io::Error::other("cut")),
            ApiFault::Lose => loses = true,
            ApiFault::Alter(alter) => alters = Some(alter),
            ApiFault::Pages(pause) if asked.verb == Verb::List => {
                head.uri = with_pages_of_one(&head.uri);
                if asked.query.contains("continue=") {
                    tokio::time::sleep(pause).await;
                }
            }
            ApiFault::Pages(_) | ApiFault::DropEvents | ApiFault::RepeatEvents => {}
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
    if asked.verb != Verb::Watch {
        return whole(answer, under_way, alters).await;
    }
    let (head, body) = without_length(answer);
    Ok(Response::from_parts(head, relay(shared, asked, changed, body, under_way)))
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

/// The answer to any other request. It has ended when the answer is complete here: so none counts as under way whose end
/// the operator may have seen.
async fn whole(
    answer: Response<UpstreamBody>,
    under_way: UnderWay,
    alters: Option<fn(&mut Value)>,
) -> Result<Response<Body>, io::Error> {
    let (head, body) = without_length(answer);
    let mut body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if let Some(alter) = alters {
        body = altered(&body, alter);
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
