//! The connections of the port: how many there are, and how long each lasts. Whoever holds many, or sends half a
//! request, takes neither the memory of the operator nor the place of a probe.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// So many connections are open at once. Beyond that the oldest is closed: a probe takes milliseconds, and what has been
/// open for long is no probe.
const MAX_CONNECTIONS: usize = 128;
/// The head of a request must come within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection ends within this time, its answer included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// The buffer of a connection, which also bounds the head of a request.
const MAX_BUFFER: usize = 16 * 1024;
/// How long a process that ends lets answers under way end.
const DRAIN: Duration = Duration::from_secs(2);
/// The pause after a connection could not be taken, as where the process may open no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`. Each connection carries one request.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let (mut shutdown, mut connections) = (pin!(shutdown), Connections::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connections.open(stream, router.clone()),
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    connections.drain().await;
}

/// The connections that are open.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// The oldest first.
    oldest: VecDeque<AbortHandle>,
}

impl Connections {
    fn open(&mut self, stream: TcpStream, router: Router) {
        while self.tasks.try_join_next().is_some() {}
        if self.oldest.len() >= MAX_CONNECTIONS {
            self.oldest.retain(|connection| !connection.is_finished());
        }
        if self.oldest.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.oldest.pop_front()
        {
            oldest.abort();
        }
        self.oldest.push_back(self.tasks.spawn(answer(stream, router)));
    }

    async fn drain(mut self) {
        // What is left ends with the process.
        let _ = timeout(DRAIN, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

/// Answers the request of a connection.
async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whatever a client does wrong is its own concern.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

/// Whether a failure to take a connection concerns that one alone.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}
