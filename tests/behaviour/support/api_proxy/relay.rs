//! Answers on their way to the operator: the events of watches one by one, and objects that are altered.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::Uri;
use kube::client::Body as UpstreamBody;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::request::ApiRequest;
use super::traffic::UnderWay;
use super::{ApiFault, Shared};

/// The answer to a watch: each event goes on as it comes, or meets the fault of that moment. The request is under way
/// until the watch ends.
pub fn relay(
    shared: Arc<Shared>,
    asked: ApiRequest,
    changed: watch::Receiver<()>,
    body: UpstreamBody,
    under_way: UnderWay,
) -> Body {
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut relay = Relay { shared, asked, to, last: None };
        // An operator that goes away is no concern of the proxy.
        let _ = relay.run(body, changed).await;
        drop(under_way);
    });
    Body::from_stream(futures::stream::unfold(from, async |mut from| Some((from.recv().await?, from))))
}

/// Nobody listens any more, or the watch was made to end.
struct Ended;

struct Relay {
    shared: Arc<Shared>,
    asked: ApiRequest,
    to: mpsc::Sender<Result<Bytes, io::Error>>,
    /// The change before.
    last: Option<Bytes>,
}

impl Relay {
    async fn run(&mut self, body: UpstreamBody, mut changed: watch::Receiver<()>) -> Result<(), Ended> {
        let (mut pieces, mut text) = (body.into_data_stream(), Vec::new());
        let to = self.to.clone();
        loop {
            tokio::select! {
                () = to.closed() => return Err(Ended),
                Ok(()) = changed.changed() => self.end_if_struck().await?,
                piece = pieces.next() => {
                    let Some(Ok(piece)) = piece else {
                        self.pass_stalls().await?;
                        return Ok(());
                    };
                    text.extend_from_slice(&piece);
                    while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                        let line = text.drain(..=end).collect::<Vec<u8>>();
                        self.pass(Bytes::from(line)).await?;
                    }
                }
            }
        }
    }

    /// What ends a request ends a watch that is under way too.
    async fn end_if_struck(&self) -> Result<(), Ended> {
        match self.shared.fault(&self.asked) {
            Some((ApiFault::Cut | ApiFault::Lose | ApiFault::Status(_), _)) => {
                let _ = self.to.send(Err(io::Error::other("cut"))).await;
                Err(Ended)
            }
            _ => Ok(()),
        }
    }

    async fn pass_stalls(&self) -> Result<(), Ended> {
        while let Some((ApiFault::Stall, mut held)) = self.shared.fault(&self.asked) {
            tokio::select! {
                () = self.to.closed() => return Err(Ended),
                _ = held.changed() => {}
            }
        }
        Ok(())
    }

    async fn pass(&mut self, line: Bytes) -> Result<(), Ended> {
        self.pass_stalls().await?;
        self.end_if_struck().await?;
        let event: Value = serde_json::from_slice(&line).unwrap_or_default();
        let is_change = ["ADDED", "MODIFIED", "DELETED"].iter().any(|type_| event["type"] == *type_);
        let mut lines = vec![line.clone()];
        match self.shared.fault(&self.asked).map(|(fault, _)| fault) {
            Some(ApiFault::Delay(pause)) => tokio::time::sleep(pause).await,
            Some(ApiFault::DropEvents) if is_change => return Ok(()),
            Some(ApiFault::RepeatEvents) if is_change => {
                lines.extend(self.last.clone().into_iter().chain([line.clone()]));
            }
            Some(ApiFault::Alter(alter)) if is_change => {
                let mut event = event;
                alter(&mut event["object"]);
                lines = vec![Bytes::from(format!("{event}\n"))];
            }
            _ => {}
        }
        if is_change {
            self.last = Some(line);
        }
        for line in lines {
            self.to.send(Ok(line)).await.map_err(|_| Ended)?;
        }
        Ok(())
    }
}

/// An object, or a list of objects, with each object altered.
pub fn altered(body: &Bytes, alter: fn(&mut Value)) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else { return body.clone() };
    match answer.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) => items.iter_mut().for_each(alter),
        None => alter(&mut answer),
    }
    Bytes::from(answer.to_string())
}

/// The request for a list with one object on each page.
pub fn with_pages_of_one(uri: &Uri) -> Uri {
    let query = uri.query().unwrap_or_default().split('&');
    let query: Vec<&str> = query.map(|pair| if pair.starts_with("limit=") { "limit=1" } else { pair }).collect();
    format!("{}?{}", uri.path(), query.join("&")).parse().unwrap()
}
