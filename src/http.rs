//! `/metrics`, `/healthz` and `/readyz`.

mod connections;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::aws::events::health::QueueHealth;
use crate::metrics::Metrics;
use crate::state::fence::FenceHealth;
use crate::state::health::WatchHealth;

/// What `/readyz` and `/healthz` tell: whether the process can do its work, or could at once if it held the lease, and
/// whether a new process might do better.
#[derive(Debug, Default)]
pub struct Readiness {
    kinds_served: AtomicBool,
    /// The watches on the API server.
    pub watches: Arc<WatchHealth>,
    /// The queues of events.
    pub queues: Arc<QueueHealth>,
    /// The fence around the operator.
    pub fence: Arc<FenceHealth>,
}

impl Readiness {
    fn lines(&self) -> Vec<String> {
        self.watches.all().into_iter().chain(self.queues.lines()).chain(self.fence.lines()).collect()
    }
}

impl Readiness {
    /// The API server serves the kinds of Bindery and the operator may read them.
    pub fn kinds_are_served(&self) {
        self.kinds_served.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

/// Opens the port.
///
/// # Errors
/// Where the address is taken or not this machine's.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let router = Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .with_state(Shared { metrics, readiness });
    connections::serve(listener, router, shutdown).await;
}

/// A process that cannot see changes for ten minutes looks healthy from outside, so it says that it is not.
async fn healthy(State(shared): State<Shared>) -> impl IntoResponse {
    let lines = shared.readiness.watches.lines();
    let code = if shared.readiness.watches.is_wedged() { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    (code, text("ok", &lines))
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.readiness.kinds_served.load(Ordering::Relaxed) {
        (StatusCode::OK, text("ok", &shared.readiness.lines()))
    } else {
        let reason = "the API server does not serve the CustomResourceDefinitions of bindery.dev yet";
        (StatusCode::SERVICE_UNAVAILABLE, text(reason, &[]))
    }
}

fn text(first: &str, lines: &[String]) -> String {
    std::iter::once(first).chain(lines.iter().map(String::as_str)).fold(String::new(), |text, line| text + line + "\n")
}

async fn exposition(State(shared): State<Shared>) -> impl IntoResponse {
    for (kind, age) in shared.readiness.watches.ages() {
        shared.metrics.watch_age(kind, age);
    }
    match shared.metrics.encode() {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
