//! What the operator serves over HTTP.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;

use crate::publishing::guide;
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
