//! The record of reads: where it cannot be kept, nothing is read.

use std::time::Duration;

use serde_json::json;

use crate::publishing::guide;
use crate::support::operator::{Setup, read_log};
use crate::support::{Operator, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_reads_with_a_clear_condition_and_what_is_published_stays() {
    let world = World::new("audit-full").await;
    world.put("app", &guide()).await;
    let mut operator = world.operator();
    world.bind("before", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("before").await;
    let published = world.data("before").await;
    operator.kill();

    // Every write to this file fails as on a full disk.
    let full = Setup { flags: vec!["--audit-log=/dev/full".to_owned()], ..world.setup() };
    world.audit_is_full(true);
    let operator = Operator::start(full);
    world.bind("new", json!({"dataFrom": [{"secret": world.secret_id("app")}]})).await;
    let message = world.wait("new", "Fetched", "False/AuditFailed").await;
    assert!(message.contains("--audit-log"), "{message}");
    world.wait("new", "Ready", "False/AuditFailed").await;
    assert!(world.data("new").await.is_none(), "a value that is not on record is not used");
    world.annotate("before", "bindery.dev/sync", "now").await;
    world.wait("before", "Fetched", "False/AuditFailed").await;
    assert_eq!(world.data("before").await, published);

    // The disk has room again.
    drop(operator);
    world.audit_is_full(false);
    let _operator = world.operator();
    world.wait_ready("new").await;
    world.wait_ready("before").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_appended_to_and_opened_anew_on_sighup() {
    let world = World::new("audit-file").await;
    world.put("app", &guide()).await;
    let path = world.folder.join("reads.jsonl");
    world.recorded_in(&["reads.jsonl", "reads.jsonl.1"]);
    let setup = Setup { flags: vec![format!("--audit-log={}", path.display())], ..world.setup() };
    let operator = Operator::start(setup);
    let bind = |name: &'static str| {
        let spec = json!({"dataFrom": [{"secret": world.secret_id("app")}]});
        let world = &world;
        async move {
            world.bind(name, spec).await;
            world.wait_ready(name).await;
        }
    };
    bind("first").await;
    std::fs::rename(&path, world.folder.join("reads.jsonl.1")).unwrap();
    bind("second").await;
    assert_eq!(
        read_log(&world.folder, "reads.jsonl.1").lines().count(),
        2,
        "until SIGHUP records go on to the old file"
    );
    operator.hang_up();
    eventually("the new file", Duration::from_secs(60), || async { path.exists().then_some(()) }).await;
    bind("third").await;
    let records = read_log(&world.folder, "reads.jsonl");
    assert_eq!(records.lines().count(), 1);
    let record: serde_json::Value = serde_json::from_str(records.trim()).unwrap();
    assert_eq!((record["served"][0]["binding"].as_str(), record["outcome"].as_str()), (Some("third"), Some("read")));
    assert_eq!(read_log(&world.folder, "audit.jsonl"), "", "nothing else stands on standard output");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    world.end().await;
}
