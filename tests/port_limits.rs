//! The port of probes and metrics under clients that mean no good, or forget that they are connected.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bindery::http::{Readiness, bind, serve};
use bindery::metrics::Metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// As many as starved the probes of an operator whose process may open 1,024 files, and more.
const MANY: usize = 2000;

async fn port(metrics: Metrics) -> SocketAddr {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(metrics), Arc::new(Readiness::default()), std::future::pending()));
    address
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = vec![0; 4096];
    let length = stream.read(&mut head).await.unwrap();
    String::from_utf8_lossy(&head[..length]).into_owned()
}

/// Connections on each of which `text` was sent.
async fn connections(address: SocketAddr, text: &str) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..MANY {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // One that was cut already may refuse it.
        let _ = stream.write_all(text.as_bytes()).await;
        open.push(stream);
    }
    open
}

/// How many of the connections the other end has closed.
fn closed(open: &[TcpStream]) -> usize {
    let is_closed = |stream: &&TcpStream| match stream.try_read(&mut [0; 1024]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    open.iter().filter(is_closed).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_while_thousands_of_connections_are_half_open() {
    for text in ["", "GET /healthz HTTP/1.1\r\nHost: "] {
        let address = port(Metrics::default()).await;
        let open = connections(address, text).await;
        for path in ["/healthz", "/readyz", "/metrics"] {
            let began = Instant::now();
            let answer = timeout(Duration::from_secs(2), get(address, path)).await.expect("the probe is answered");
            assert!(answer.starts_with("HTTP/1.1 200") || path == "/readyz", "{answer}");
            assert!(began.elapsed() < Duration::from_secs(1), "{path} took {:?}", began.elapsed());
        }
        // The rest is cut as others come.
        assert!(closed(&open) >= MANY - 200, "{} of {MANY} idle connections were cut", closed(&open));
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(closed(&open), MANY, "each connection ends without a whole request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_byte_by_byte_is_cut() {
    let mut stream = TcpStream::connect(port(Metrics::default()).await).await.unwrap();
    let began = Instant::now();
    for byte in "GET /healthz HTTP/1.1\r\nHost: a-name-that-takes-its-time".bytes() {
        if stream.write_all(&[byte]).await.is_err() || closed(std::slice::from_ref(&stream)) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(8), "it was cut after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_end_is_not_read() {
    let mut stream = TcpStream::connect(port(Metrics::default()).await).await.unwrap();
    let head = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut sent = 0;
    while sent < 100_000_000 && stream.write_all(&[0; 8_192]).await.is_ok() {
        sent += 8_192;
    }
    assert!(sent < 20_000_000, "{sent} bytes were taken");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let metrics = Metrics::default();
    for number in 0..60_000 {
        metrics.binding("namespace", &format!("a-binding-with-a-long-name-{number}"), true, Some(1));
    }
    let mut stream = TcpStream::connect(port(metrics).await).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
    let end = loop {
        match timeout(Duration::from_secs(5), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(length)) => read += length,
            Err(_) => break false,
        }
    };
    assert!(end && read < 9_000_000, "the answer went on after its time: {read} bytes");
}
