//! Every failure between Secrets Manager and the Secret, at each moment at which it can strike: what the binding says,
//! what becomes of the Secret, and that the binding recovers.

mod cases;
mod strike;

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use crate::support::aws_proxy::Sent;
use crate::support::board::{Board, condition, state};
use crate::support::operator::Setup;
use crate::support::world::CANARY;
use crate::support::{Fault, Operator, World, eventually};
use cases::{object, url, whole, without_version};
use strike::Strike;

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_at_every_moment_is_named_and_changes_nothing_and_passes() {
    let world = World::new("matrix").await;
    let mut operator = world.operator();
    let board = Board::of(&world);
    let cases = cases::all();
    let strikes: Vec<Strike<'_>> = cases
        .iter()
        .flat_map(|case| case.moments().iter().map(|moment| Strike::new(&world, &board, case, *moment)))
        .collect();
    let runs = strikes.iter().map(|strike| async {
        // A failed case must not hide the others: each is judged, and all that failed are told.
        let run = std::panic::AssertUnwindSafe(strike.run());
        futures::FutureExt::catch_unwind(run).await.is_err().then(|| strike.binding.clone())
    });
    let failed: Vec<String> = join_all(runs).await.into_iter().flatten().collect();
    println!("fault matrix: {} cases ({} failures, at up to three moments)", strikes.len(), cases.len());
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), strikes.len());

    for strike in &strikes {
        let expected = strike.events();
        let limit = Duration::from_secs(60);
        let events = eventually(&format!("{expected:?} of {}", strike.binding), limit, || async {
            let events: Vec<String> = world.events(&strike.binding).await;
            (events.len() >= expected.len()).then_some(events)
        })
        .await;
        let said: Vec<&str> = events.iter().map(|event| event.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(said, expected, "Events of {}", strike.binding);
    }
    // Some of them read again and again: calls and records are compared once nothing adds to either.
    assert_eq!(operator.terminate().await, Some(0));
    let audit = world.audit();
    for strike in &strikes {
        strike.judge_audit(&audit);
        strike.clean_up().await;
    }
    world.end().await;
}

/// A world with one published binding, `app`, that looks for a new version every ten seconds.
async fn published(name: &str) -> (World, Operator) {
    let world = World::new(name).await;
    world.put_text("app", &object(1)).await;
    let operator = world.operator();
    world.bind("app", whole(&world.secret_id("app"))).await;
    world.wait_ready("app").await;
    (world, operator)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_aws_cannot_be_reached_the_secret_stays_and_after_three_intervals_it_is_called_stale() {
    let world = World::new("unreachable").await;
    let board = Board::of(&world);
    world.put_text("app", &object(1)).await;
    world.proxy.stop().await;
    let mut operator = world.operator();
    world.bind("app", whole(&world.secret_id("app"))).await;
    let message = world.wait("app", "Fetched", "False/AwsUnavailable").await;
    assert!(message.contains(&world.secret_id("app")) && message.contains("if that lasts, check"), "{message}");
    world.wait("app", "Ready", "False/AwsUnavailable").await;
    assert!(world.data("app").await.is_none());
    world.proxy.resume();
    // By the board, which may lag behind: what it shows from here on is of the second outage.
    board.wait("app", "the publication", |b| state(b, "Ready") == "True/Published").await;

    world.proxy.stop().await;
    let secret = world.secrets().get("app").await.unwrap();
    let failing = board.wait("app", "the failure", |b| state(b, "Fetched") == "False/AwsUnavailable").await;
    assert_eq!(state(&failing, "Ready"), "True/Published");
    eventually("the Event", Duration::from_secs(60), || async { (world.events("app").await.len() == 3).then_some(()) })
        .await;
    // An operator that starts in the outage finds all as it was told.
    operator.kill();
    operator.restart();
    let stale = board.wait("app", "Stale", |b| state(b, "Ready") != "True/Published").await;
    assert_eq!(
        (state(&stale, "Ready"), state(&stale, "Fetched")),
        ("False/Stale".into(), "False/AwsUnavailable".into())
    );
    let (failed, turned) = (condition(&failing, "Fetched").unwrap(), condition(&stale, "Ready").unwrap());
    assert_eq!(condition(&stale, "Fetched"), Some(failed), "nothing was written since");
    let waited = turned.last_transition_time.0.duration_since(failed.last_transition_time.0).as_secs();
    println!("stale {waited} s after the failure began");
    assert!((30..40).contains(&waited), "three intervals of 10 s, not {waited} s");
    assert!(turned.message.contains("last verified"), "{}", turned.message);
    assert_eq!(world.secrets().get("app").await.unwrap(), secret, "the Secret stays");

    world.proxy.resume();
    board
        .wait("app", "the recovery", |b| {
            state(b, "Ready") == "True/Published" && state(b, "Fetched") == "True/Verified"
        })
        .await;
    world.put_text("app", &object(2)).await;
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    let events: Vec<String> =
        world.events("app").await.iter().map(|event| event.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(
        events,
        ["Warning/AwsUnavailable", "Normal/Published", "Warning/AwsUnavailable", "Warning/Stale", "Normal/Published"]
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_lost_while_aws_fails_is_told_and_is_back_as_soon_as_aws_is() {
    let (world, _operator) = published("lost").await;
    let fault = Fault::Error(500, "InternalServiceError", "An error occurred on the server side.");
    world.proxy.fail(&[], fault);
    world.wait("app", "Fetched", "False/AwsUnavailable").await;
    world.wait("app", "Ready", "True/Published").await;
    world.secrets().delete("app", &kube::api::DeleteParams::default()).await.unwrap();
    world.wait("app", "Ready", "False/AwsUnavailable").await;
    // It is tried again and again, which is no repair that somebody undoes.
    let tries = || world.proxy.calls().iter().filter(|c| c.operation == "GetSecretValue" && c.attempt == 1).count();
    for number in 0..6 {
        let tried = tries();
        world.annotate("app", "bindery.dev/sync", &number.to_string()).await;
        eventually("another try", Duration::from_secs(60), || async { (tries() > tried).then_some(()) }).await;
    }
    let (ready, message) = world.condition("app", "Ready").await.unwrap();
    assert_eq!(ready, "False/AwsUnavailable", "{message}");
    world.proxy.heal();
    // After so many failures the next try by itself is a minute or two away.
    world.annotate("app", "bindery.dev/sync", "last").await;
    world.wait_ready("app").await;
    world.wait_value("app", "DATABASE_URL", &url(1)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_edited_while_aws_fails_is_put_back_as_soon_as_aws_answers() {
    use kube::api::{Patch, PatchParams};
    let (world, _operator) = published("edited-in-outage").await;
    world.proxy.fail(&[], Fault::Hangup);
    world.wait("app", "Fetched", "False/AwsUnavailable").await;
    let edit = json!({"stringData": {"DATABASE_URL": "elsewhere"}});
    world.secrets().patch("app", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    world.wait("app", "Ready", "False/AwsUnavailable").await;
    world.proxy.heal();
    world.wait_value("app", "DATABASE_URL", &url(1)).await;
    world.wait_ready("app").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_secrets_are_published_together_or_not_at_all() {
    let world = World::new("together").await;
    world.put_text("app", &object(1)).await;
    world.put_text("worker", &json!({"METRICS_PORT": "9401"}).to_string()).await;
    let _operator = world.operator();
    let sources = [json!({"secret": world.secret_id("app")}), json!({"secret": world.secret_id("worker")})];
    world.bind("both", json!({"refreshInterval": "10s", "dataFrom": sources})).await;
    world.wait_ready("both").await;
    let before = world.secrets().get("both").await.unwrap();
    let throttle = |name: &str| {
        let throttled = Fault::Error(400, "ThrottlingException", "Rate exceeded");
        world.proxy.fail_for(&world.secret_id(name), &["GetSecretValue"], throttled);
    };
    throttle("app");
    throttle("worker");
    world.put_text("app", &object(2)).await;
    world.put_text("worker", &json!({"METRICS_PORT": "9402"}).to_string()).await;
    // Each in turn is the one that cannot be read.
    for (failing, other) in [("worker", "app"), ("app", "worker")] {
        throttle(failing);
        world.proxy.heal_for(&world.secret_id(other));
        eventually(&format!("{failing} to be named"), Duration::from_secs(60), || async {
            let (state, message) = world.condition("both", "Fetched").await?;
            (state == "False/Throttled" && message.contains(&world.secret_id(failing))).then_some(())
        })
        .await;
        assert_eq!(world.secrets().get("both").await.unwrap(), before, "not a key of the other secret is published");
    }
    world.proxy.heal();
    world.wait_value("both", "DATABASE_URL", &url(2)).await;
    let data = world.data("both").await.unwrap();
    assert_eq!((data["DATABASE_URL"].as_str(), data["METRICS_PORT"].as_str()), (url(2).as_str(), "9402"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_sts_does_not_tell_is_a_failure_of_credentials() {
    let world = World::new("sts").await;
    world.put_text("app", &object(1)).await;
    let invalid = Fault::Error(403, "InvalidClientTokenId", "The security token included in the request is invalid.");
    world.proxy.fail(&["GetCallerIdentity"], invalid);
    let _operator = world.operator();
    // A name needs no account to be known; an ARN does.
    world.bind("by-name", whole(&world.secret_id("app"))).await;
    world.wait_ready("by-name").await;
    let arn = format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{}", world.secret_id("app"));
    world.bind("by-arn", whole(&arn)).await;
    let message = world.wait("by-arn", "Fetched", "False/CredentialsFailed").await;
    for text in ["InvalidClientTokenId", "(request req-0001", "AWS_ACCESS_KEY_ID", "accountId"] {
        assert!(message.contains(text), "{text:?} is missing in {message:?}");
    }
    world.wait("by-arn", "Ready", "False/CredentialsFailed").await;
    assert!(world.data("by-arn").await.is_none());
    world.proxy.fail(&["GetCallerIdentity"], Fault::Error(503, "ServiceUnavailable", "try later"));
    eventually("the next failure to be told", Duration::from_secs(60), || async {
        world.condition("by-arn", "Fetched").await?.1.contains("ServiceUnavailable").then_some(())
    })
    .await;
    assert_eq!(
        world.condition("by-arn", "Fetched").await.unwrap().0,
        "False/CredentialsFailed",
        "whatever fails at STS"
    );
    world.proxy.heal();
    world.wait_ready("by-arn").await;
    world.wait_value("by-arn", "DATABASE_URL", &url(1)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_whose_read_cannot_be_recorded_is_dropped() {
    let world = World::new("unrecorded").await;
    world.put_text("app", &object(1)).await;
    let (path, file) = (world.folder.join("audit.log"), world.folder.join("audit.file"));
    let record_in = |target: &std::path::Path| {
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, &path).unwrap();
    };
    // Every write to this device fails as one to a full disk does.
    let full = std::path::Path::new("/dev/full");
    record_in(full);
    world.recorded_in(&["audit.file"]);
    world.audit_is_full(true);
    let flags = vec![format!("--audit-log={}", path.display())];
    let operator = Operator::start(Setup { flags, ..world.setup() });
    let reopened = |target: std::path::PathBuf| {
        let operator = &operator;
        async move {
            operator.hang_up();
            eventually("the audit log to be opened anew", Duration::from_secs(60), || async {
                operator.open_files().contains(&target).then_some(())
            })
            .await;
        }
    };
    world.bind("app", whole(&world.secret_id("app"))).await;
    let message = world.wait("app", "Fetched", "False/AuditFailed").await;
    assert!(message.contains(&world.secret_id("app")) && message.contains("--audit-log"), "{message}");
    world.wait("app", "Ready", "False/AuditFailed").await;
    assert!(world.data("app").await.is_none());
    record_in(&file);
    reopened(file.clone()).await;
    world.audit_is_full(false);
    world.wait_ready("app").await;

    let before = world.secrets().get("app").await.unwrap();
    record_in(full);
    world.audit_is_full(true);
    reopened(full.to_owned()).await;
    world.put_text("app", &object(2)).await;
    world.wait("app", "Fetched", "False/AuditFailed").await;
    world.wait("app", "Ready", "False/AuditFailed").await;
    assert_eq!(world.secrets().get("app").await.unwrap(), before);
    record_in(&file);
    reopened(file.clone()).await;
    world.audit_is_full(false);
    world.wait_value("app", "DATABASE_URL", &url(2)).await;
    world.wait_ready("app").await;
    let records = std::fs::read_to_string(&file).unwrap();
    assert_eq!(records.lines().count(), 2, "the two reads that were used: {records}");
    assert!(!records.contains(CANARY));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_in_which_aws_may_have_sent_a_value_is_on_record() {
    let world = World::new("attempts").await;
    let _operator = world.operator();
    for (name, fault) in [
        ("cut", Fault::Cut),
        ("garbage", Fault::Garbage("<html>")),
        ("no-version", Fault::Edit(without_version, Sent::Uncertain)),
    ] {
        world.put_text(name, &object(1)).await;
        world.proxy.fail_for(&world.secret_id(name), &[], fault);
        world.bind(name, whole(&world.secret_id(name))).await;
        world.wait(name, "Fetched", "False/AwsUnavailable").await;
        world.proxy.heal_for(&world.secret_id(name));
        world.wait_ready(name).await;
    }
    let (calls, audit) = (world.proxy.calls(), world.audit());
    let counted = |name: &str| {
        let sent =
            calls.iter().filter(|call| call.secret == world.secret_id(name) && call.sent == Sent::Uncertain).count();
        let recorded =
            audit.iter().filter(|record| record["binding"] == name && record["outcome"] == "unknown").count();
        (name.to_owned(), sent, recorded)
    };
    let counts = ["cut", "garbage", "no-version"].map(counted);
    println!("attempts without a whole answer, and records of them: {counts:?}");
    assert!(counts.iter().all(|(_, sent, recorded)| sent == recorded && *sent > 0), "{counts:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_an_edit_cures_stalls_and_keeps_the_secret() {
    let (world, _operator) = published("stalled").await;
    let source = json!([{"secret": world.secret_id("app")}]);
    // None of these is found by the API server.
    let template = json!({"dataFrom": source, "target": {"template": {"DSN": "{{ DATABASE_URL"}}});
    let label = json!({"dataFrom": source, "target": {"labels": {"node.kubernetes.io/x": "y"}}});
    let version = json!({"data": [{"key": "A", "valueFrom": format!("{}:A::too-short", world.secret_id("app"))}]});
    for (spec, condition, reason, says) in [
        (template, "Ready", "InvalidSpec", "spec.target.template"),
        (label, "Ready", "InvalidSpec", "node.kubernetes.io/x"),
        (version, "Fetched", "InvalidReference", "too-short"),
    ] {
        let before = world.secrets().get("app").await.unwrap();
        let calls = world.proxy.calls().len();
        for name in ["app", "new"] {
            world.bind(name, spec.clone()).await;
            let message = world.wait(name, condition, &format!("False/{reason}")).await;
            assert!(message.contains(says), "{message}");
            assert_eq!(world.condition(name, "Ready").await.unwrap(), (format!("False/{reason}"), message.clone()));
            assert_eq!(world.condition(name, "Stalled").await.unwrap(), (format!("True/{reason}"), message));
            assert!(world.condition(name, "Reconciling").await.is_none());
        }
        assert_eq!(world.secrets().get("app").await.unwrap(), before);
        assert!(world.data("new").await.is_none());
        assert_eq!(world.proxy.calls().len(), calls, "AWS is not asked for it");
        for name in ["app", "new"] {
            world.bind(name, whole(&world.secret_id("app"))).await;
            world.wait_ready(name).await;
            assert!(world.condition(name, "Stalled").await.is_none());
        }
        world.bindings().delete("new", &kube::api::DeleteParams::default()).await.unwrap();
        eventually("the other Secret to go", Duration::from_secs(60), || async {
            world.data("new").await.is_none().then_some(())
        })
        .await;
    }
    world.end().await;
}
