//! A suspended binding: it costs nothing, and goes on where it is let.

use std::time::Duration;

use serde_json::json;

use crate::support::{World, eventually};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_binding_costs_no_aws_call_whatever_becomes_of_its_secret_and_follows_it_afterwards() {
    let world = World::new("suspended").await;
    for name in ["quiet", "busy", "other"] {
        world.put(name, &json!({"A": "one"})).await;
    }
    let mut operator = world.operator();
    let spec = |name: &str, suspend: bool| {
        json!({
            "refreshInterval": "10s", "suspend": suspend, "dataFrom": [{"secret": world.secret_id(name)}],
            "rotation": [{"name": "age", "keys": ["A"], "every": "30d"}],
        })
    };
    for name in ["quiet", "busy", "other"] {
        world.bind(name, spec(name, false)).await;
        world.wait_ready(name).await;
    }
    world.bind("quiet", spec("quiet", true)).await;
    world.wait("quiet", "Suspended", "True/Suspended").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = || world.proxy.calls_for(&world.secret_id("quiet"));
    let before = calls().len();

    // The secret changes, a sync is asked for, and the lists for the other bindings show the change.
    world.put("quiet", &json!({"A": "two"})).await;
    world.annotate("quiet", "bindery.dev/sync", "now").await;
    let lists = world.proxy.count("ListSecrets");
    eventually("three more lists", LIMIT, || async { (world.proxy.count("ListSecrets") >= lists + 3).then_some(()) })
        .await;
    assert_eq!(calls()[before..].iter().map(|call| &call.operation).collect::<Vec<_>>(), Vec::<&String>::new());

    // Nor does a start ask about it.
    operator.kill();
    operator.restart();
    world.put("busy", &json!({"A": "two"})).await;
    world.wait_value("busy", "A", "two").await;
    assert_eq!(calls()[before..].iter().map(|call| &call.operation).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(world.data("quiet").await.unwrap()["A"], "one");

    world.bind("quiet", spec("quiet", false)).await;
    world.wait_value("quiet", "A", "two").await;
    world.end().await;
}
