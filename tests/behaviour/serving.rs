//! What the operator serves over HTTP.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::publishing::guide;
use crate::support::operator::{Operator, Setup};
use crate::support::serving::get;
use crate::support::world::CANARY;
use crate::support::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_probes_tell_what_is_and_hold_no_value() {
    let world = World::new("serving").await;
    world.put("app", &guide()).await;
    let operator = world.operator();
    let address = operator.address.clone();
    for path in ["/healthz", "/readyz"] {
        eventually(path, Duration::from_secs(60), || async {
            get(&address, path).await.filter(|(status, _)| status.contains("200")).map(|_| ())
        })
        .await;
    }
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    world.bind("denied", json!({"dataFrom": [{"secret": "somebody/elses"}]})).await;
    world.wait("denied", "Granted", "False/AccessDenied").await;

    let series = |name: &str| format!("bindery_binding_ready{{namespace=\"{}\",name=\"{name}\"}}", world.namespace);
    let text = eventually("the metrics of both bindings", Duration::from_secs(60), || async {
        let (status, text) = get(&address, "/metrics").await?;
        assert!(status.contains("200"), "{status}");
        text.contains(&series("denied")).then_some(text)
    })
    .await;
    for line in [
        format!("{} 1", series("app")),
        format!("{} 0", series("denied")),
        "bindery_leader 1".to_owned(),
        "bindery_aws_requests_total{operation=\"GetSecretValue\",code=\"ok\"} 1".to_owned(),
        "bindery_reconcile_total{outcome=\"AccessDenied\"}".to_owned(),
        "bindery_reconcile_duration_seconds_count".to_owned(),
        "bindery_aws_request_duration_seconds_bucket{".to_owned(),
        "bindery_binding_verified_timestamp_seconds{".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is missing in:\n{text}");
    }
    assert!(!text.contains(CANARY) && text.ends_with("# EOF\n"));
    let (status, _) = get(&address, "/elsewhere").await.unwrap();
    assert!(status.contains("404"), "{status}");

    // The series of a deleted binding go with it.
    world.bindings().delete("denied", &DeleteParams::default()).await.unwrap();
    eventually("the series to go", Duration::from_secs(60), || async {
        let (_, text) = get(&address, "/metrics").await?;
        (!text.contains(&series("denied")) && text.contains(&series("app"))).then_some(())
    })
    .await;
    world.end().await;
}

/// Opens connections, idle and half-sent ones in turns, as a client that means no good holds them. Answers those that the
/// operator has not cut yet.
async fn hold(address: &str, number: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for n in 0..number {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            // One that was cut already may refuse it.
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await;
        }
        held.push(stream);
        if n % 256 == 255 {
            // A client may open no more files than its machine lets it.
            held.retain(|stream| !is_cut(stream));
        }
    }
    held
}

/// Whether the operator has closed a connection.
fn is_cut(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 64]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_held_connections_take_no_memory_and_no_probe() {
    let world = World::new("held").await;
    world.put("app", &guide()).await;
    let operator = Operator::start(Setup { log_level: "info", ..world.setup() });
    world.bind("app", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    for _ in 0..50 {
        get(&operator.address, "/metrics").await.unwrap();
    }
    let (rss, peak) = (operator.resident_kib(), operator.peak_kib());
    println!("0 connections: VmRSS {rss} KiB, VmHWM {peak} KiB");
    for number in [5_000, 15_000] {
        let held = hold(&operator.address, number).await;
        let began = std::time::Instant::now();
        for path in ["/healthz", "/readyz", "/metrics"] {
            let answer = tokio::time::timeout(Duration::from_secs(5), get(&operator.address, path)).await;
            let (head, _) = answer.expect("the probe is answered").unwrap();
            assert!(head.contains("200"), "{path}: {head}");
        }
        let (now, most) = (operator.resident_kib(), operator.peak_kib());
        let left = held.iter().filter(|stream| !is_cut(stream)).count();
        println!(
            "{number} connections: VmRSS {now} KiB, VmHWM {most} KiB, {left} left, probes in {:?}",
            began.elapsed()
        );
        // Far less than 1 KiB a connection: only so many are held at once.
        assert!(most < peak + 8 * 1024, "{number} connections take {} KiB", most - peak);
        eventually("each connection to be cut", Duration::from_secs(60), || async {
            held.iter().all(is_cut).then_some(())
        })
        .await;
    }
    world.end().await;
}
