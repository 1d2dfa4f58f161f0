//! `/metrics`, `/healthz` and `/readyz`.

mod connections;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::aws::events::health::QueueHealth;
use crate::metrics::Metrics;
use crate::state::fence::FenceHealth;
use crate::state::health::{UNHEALTHY_AFTER, WatchHealth};

/// What `/readyz` and `/healthz` tell: whether the process can do its work, or could at once if it held the lease, and
/// whether a new process might do better.
#[derive(Debug, Default)]
pub struct Readiness {
    kinds: Mutex<Kinds>,
    /// The watches on the API server.
    pub watches: Arc<WatchHealth>,
    /// The queues of events.
    pub queues: Arc<QueueHealth>,
    /// The fence around the operator.
    pub fence: Arc<FenceHealth>,
}

/// Whether the API server serves the kinds of Bindery.
#[derive(Debug, Default)]
enum Kinds {
    #[default]
    Unknown,
    Awaited {
        problem: String,
        since: Instant,
    },
    Served,
}

impl Readiness {
    fn kinds(&self) -> MutexGuard<'_, Kinds> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keeps the process from its work; `None` where nothing does.
    fn problem(&self) -> Option<String> {
        match &*self.kinds() {
            Kinds::Served => None,
            Kinds::Unknown => Some("the API server was not asked yet".to_owned()),
            Kinds::Awaited { problem, .. } => Some(problem.clone()),
        }
    }

    /// Whether a new process may do better.
    fn is_wedged(&self) -> bool {
        let waits = match &*self.kinds() {
            Kinds::Awaited { since, .. } => since.elapsed() > UNHEALTHY_AFTER,
            Kinds::Unknown | Kinds::Served => false,
        };
        waits || self.watches.is_wedged()
    }

    fn lines(&self) -> Vec<String> {
        self.watches.all().into_iter().chain(self.queues.lines()).chain(self.fence.lines()).collect()
    }
}

impl Readiness {
    /// The kinds cannot be listed yet, for this reason.
    pub fn waits_for(&self, problem: String) {
        let mut kinds = self.kinds();
        let since = if let Kinds::Awaited { since, .. } = &*kinds { *since } else { Instant::now() };
        *kinds = Kinds::Awaited { problem, since };
    }

    /// The API server serves the kinds of Bindery and the operator may read them.
    pub fn kinds_are_served(&self) {
        *self.kinds() = Kinds::Served;
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
    let lines: Vec<String> = shared.readiness.problem().into_iter().chain(lines).collect();
    let code = if shared.readiness.is_wedged() { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    (code, text("ok", &lines))
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.readiness.problem() {
        None => (StatusCode::OK, text("ok", &shared.readiness.lines())),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, text(&problem, &[])),
    }
}

fn text(first: &str, lines: &[String]) -> String {
    std::iter::once(first).chain(lines.iter().map(String::as_str)).fold(String::new(), |text, line| text + line + "\n")
}

async fn exposition(State(shared): State<Shared>) -> impl IntoResponse {
    for (kind, namespace, age) in shared.readiness.watches.ages() {
        shared.metrics.watch_age(kind, namespace, age);
    }
    match shared.metrics.encode() {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn what_keeps_the_process_from_its_work_is_told_and_at_last_unhealthy() {
        let readiness = Readiness::default();
        assert!(readiness.problem().is_some() && !readiness.is_wedged());
        for minute in 0..=10 {
            readiness.waits_for(format!("the list is answered 500, {minute}"));
            assert!(!readiness.is_wedged(), "{minute}");
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert_eq!(readiness.problem().as_deref(), Some("the list is answered 500, 10"));
        assert!(readiness.is_wedged());
        readiness.kinds_are_served();
        assert!(readiness.problem().is_none() && !readiness.is_wedged());
    }
}
