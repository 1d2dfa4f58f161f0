//! The operator ends at any moment and starts again: the world is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::ListParams;
use serde_json::{Value, json};

use crate::publishing::guide;
use crate::support::operator::Setup;
use crate::support::world::CANARY;
use crate::support::{Operator, World, eventually};

/// The resource versions of all that an operator could write in the namespace, its lease aside.
pub async fn versions(world: &World) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for secret in world.secrets().list(&ListParams::default()).await.unwrap() {
        versions.insert(format!("secret/{}", secret.metadata.name.unwrap()), secret.metadata.resource_version.unwrap());
    }
    for binding in world.bindings().list(&ListParams::default()).await.unwrap() {
        versions
            .insert(format!("binding/{}", binding.metadata.name.unwrap()), binding.metadata.resource_version.unwrap());
    }
    let events: kube::Api<k8s_openapi::api::events::v1::Event> =
        kube::Api::namespaced(world.client.clone(), &world.namespace);
    for event in events.list(&ListParams::default()).await.unwrap() {
        versions.insert(format!("event/{}", event.metadata.name.unwrap()), event.metadata.resource_version.unwrap());
    }
    versions
}

/// Writes of this world's operator by the API server's own audit log, the lease aside; `None` where the cluster does
/// not keep one that can be read.
pub fn audited_writes(world: &World) -> Option<usize> {
    let folder = std::env::var("BINDERY_TEST_CLUSTER").ok()?;
    let log = std::fs::read_to_string(std::path::Path::new(&folder).join("audit.log")).ok()?;
    let writes = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|event| {
        let object = &event["objectRef"];
        ["create", "update", "patch", "delete"].contains(&event["verb"].as_str().unwrap_or_default())
            && object["namespace"] == world.namespace.as_str()
            // By dry runs the operator tests its fence.
            && !event["requestURI"].as_str().unwrap_or_default().contains("dryRun=")
            && ["secrets", "secretbindings", "events"].contains(&object["resource"].as_str().unwrap_or_default())
    });
    Some(writes.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_world_causes_no_write_and_no_read_also_after_a_restart() {
    let world = World::new("quiet").await;
    world.put("app", &guide()).await;
    let mut operator = world.operator();
    for name in ["a", "b", "c"] {
        world.bind(name, json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    }
    for name in ["a", "b", "c"] {
        world.wait_ready(name).await;
    }
    // The events of the operator's own writes come back to it before the count begins.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, written, read) = (versions(&world).await, audited_writes(&world), world.proxy.count("GetSecretValue"));
    let looks = world.proxy.count("DescribeSecret");
    operator.kill();
    operator.restart();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(operator.is_running());
    assert_eq!(versions(&world).await, before);
    assert_eq!(audited_writes(&world), written);
    assert!(written.is_none_or(|written| written >= 9), "the audit log shows the writes before: {written:?}");
    assert_eq!(world.proxy.count("GetSecretValue"), read, "no value is read anew");
    let looks = world.proxy.count("DescribeSecret") - looks;
    assert!((5..=9).contains(&looks), "versions are looked at all the while, once for all three: {looks}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_and_started_again_the_end_is_the_same() {
    let world = World::new("killed").await;
    world.put("app", &guide()).await;
    let names: Vec<String> = (0..6).map(|i| format!("b{i}")).collect();
    for name in &names {
        world.bind(name, json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    }
    let mut operator = world.operator();
    // The start takes some 100 ms; the moments spread over it and over the first publications.
    for moment in [60, 90, 120, 140, 160, 180, 200, 240, 300, 400] {
        tokio::time::sleep(Duration::from_millis(moment)).await;
        operator.kill();
        operator.restart();
    }
    for name in &names {
        world.wait_ready(name).await;
    }
    // A change, and a kill at each of several moments while it spreads.
    let mut payload = guide();
    payload["S3_BUCKET"] = json!(format!("{CANARY}-after-the-kills"));
    world.put("app", &payload).await;
    for moment in [150, 250, 350, 450] {
        operator.kill();
        operator.restart();
        tokio::time::sleep(Duration::from_millis(moment)).await;
    }
    for name in &names {
        world.wait_value(name, "S3_BUCKET", &format!("{CANARY}-after-the-kills")).await;
    }
    let mut shown = Vec::new();
    for name in &names {
        let status = eventually("the status to be complete", Duration::from_secs(30), || async {
            let status = world.bindings().get(name).await.unwrap().status?;
            let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            let source = status.sources.first().filter(|source| source.created_time.is_some())?.clone();
            let data = world.data(name).await?;
            (ready && !data.is_empty()).then_some((source, status.keys, data))
        })
        .await;
        shown.push(status);
    }
    assert!(shown.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", shown.iter().map(|s| &s.0).collect::<Vec<_>>());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_acts_and_another_takes_over() {
    let world = World::new("lease").await;
    world.put("app", &guide()).await;
    let mut first = world.operator();
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("app").await;
    let second = Operator::start(Setup { pod: "bindery-1".to_owned(), ..world.setup() });
    let holder = || async {
        let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> =
            kube::Api::namespaced(world.client.clone(), &world.namespace);
        let lease = leases.get(&format!("bindery-{}", world.namespace)).await.unwrap();
        lease.spec.unwrap().holder_identity
    };
    assert_eq!(holder().await.as_deref(), Some("bindery-0"));
    // Asked to end, the first gives the lease up, and the second need not wait for it to expire.
    assert_eq!(first.terminate().await, Some(0));
    assert_ne!(holder().await.as_deref(), Some("bindery-0"));
    eventually("the second to hold the lease", Duration::from_secs(60), || async {
        (holder().await.as_deref() == Some("bindery-1")).then_some(())
    })
    .await;
    let mut payload = guide();
    payload["S3_BUCKET"] = json!(format!("{CANARY}-by-the-second"));
    world.put("app", &payload).await;
    world.wait_value("app", "S3_BUCKET", &format!("{CANARY}-by-the-second")).await;
    // Killed, it leaves a lease that must expire.
    drop(second);
    first.restart();
    eventually("the first to hold the lease again", Duration::from_secs(25), || async {
        (holder().await.as_deref() == Some("bindery-0")).then_some(())
    })
    .await;
    world.end().await;
}
