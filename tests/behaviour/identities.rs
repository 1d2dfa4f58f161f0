//! Many identities at once: each has credentials and a retry budget of its own.

use std::time::{Duration, Instant};

use bindery::api::SecretBinding;
use futures::{StreamExt as _, stream};
use kube::api::ListParams;
use serde_json::json;

use crate::publishing::guide;
use crate::support::{Fault, World, eventually};

/// More than the SDK's own cache of credentials holds (64), by far.
const IDENTITIES: usize = 500;

async fn each<F: Future<Output = ()>>(f: impl Fn(usize) -> F) {
    stream::iter(0..IDENTITIES).for_each_concurrent(16, f).await;
}

fn is_ready(binding: &SecretBinding) -> bool {
    let status = binding.status.as_ref();
    status.is_some_and(|status| status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_identities_neither_leak_nor_evict_each_other() {
    let world = World::new("identities").await;
    world.put("app", &guide()).await;
    let operator = world.operator();
    world.bind("first", json!({"grant": world.namespace, "dataFrom": [{"secret": world.secret_id("app")}]})).await;
    world.wait_ready("first").await;
    let before = operator.resident_kib();

    let grant = |index: usize| format!("{}-{index}", world.namespace);
    each(|index| {
        let world = &world;
        async move {
            let role = format!("arn:aws:iam::123456789012:role/reader-{index}");
            let spec = json!({
                "namespaces": {"names": [world.namespace]}, "secrets": [{"name": world.secret_id("app")}],
                "aws": {"region": "eu-west-1", "roleArn": role},
            });
            world.grant_with(&grant(index), spec).await;
            let spec = json!({"grant": grant(index), "dataFrom": [{"secret": world.secret_id("app")}]});
            world.bind(&format!("b{index}"), spec).await;
        }
    })
    .await;
    let all_ready = |count: usize| {
        let world = &world;
        async move {
            let bindings = world.bindings().list(&ListParams::default()).await.unwrap();
            (bindings.iter().filter(|binding| is_ready(binding)).count() == count).then_some(())
        }
    };
    eventually("all bindings to be ready", Duration::from_secs(240), || all_ready(IDENTITIES + 1)).await;
    assert_eq!(world.proxy.count("AssumeRole"), IDENTITIES, "each role is assumed once");
    let after = operator.resident_kib();

    // A second read of each finds its credentials where it left them.
    each(|index| {
        let world = &world;
        async move { world.annotate(&format!("b{index}"), "bindery.dev/sync", "again").await }
    })
    .await;
    eventually("all to be read again", Duration::from_secs(120), || async {
        (world.audit().len() == 1 + 2 * IDENTITIES).then_some(())
    })
    .await;
    assert_eq!(world.proxy.count("AssumeRole"), IDENTITIES, "no identity has evicted another");
    println!(
        "{IDENTITIES} identities: {} KiB each, their bindings and Secrets in the caches included ({before} → {after} KiB, then {})",
        after.saturating_sub(before) / 500,
        operator.resident_kib()
    );
    let audit = world.audit();
    for index in 0..IDENTITIES {
        let role = format!("role/reader-{index} as bindery-{}", world.namespace);
        let of_binding: Vec<_> =
            audit.iter().filter(|record| record["binding"] == format!("b{index}").as_str()).collect();
        assert_eq!(of_binding.len(), 2);
        assert!(of_binding.iter().all(|record| record["identity"].as_str().unwrap().ends_with(&role)));
    }

    // One identity is throttled without end; the others are served as before.
    let quiet = latencies(&world).await;
    world.put("noisy", &guide()).await;
    world.proxy.fail_for(&world.secret_id("noisy"), &[], Fault::Error(400, "ThrottlingException", "Rate exceeded"));
    let spec = json!({"namespaces": {"names": [world.namespace]}, "secrets": [{"name": world.secret_id("noisy")}],
        "aws": {"region": "eu-west-1", "roleArn": "arn:aws:iam::123456789012:role/noisy"}});
    world.grant_with(&grant(IDENTITIES), spec).await;
    for index in 0..8 {
        let spec = json!({"grant": grant(IDENTITIES), "dataFrom": [{"secret": world.secret_id("noisy")}]});
        world.bind(&format!("noisy{index}"), spec).await;
    }
    world.wait("noisy0", "Fetched", "False/Throttled").await;
    let beside = latencies(&world).await;
    println!("a read takes {quiet:?} at the median, and {beside:?} beside a throttled identity");
    each(|index| {
        let world = &world;
        async move { world.delete_grant(&grant(index)).await }
    })
    .await;
    world.delete_grant(&grant(IDENTITIES)).await;
    world.end().await;
}

/// The median time from asking for a read to its having been done, over 20 bindings of different identities.
async fn latencies(world: &World) -> Duration {
    let text = format!("{:x}", fastrand::u64(..));
    let mut times = Vec::new();
    for index in 0..20 {
        let name = format!("b{index}");
        let started = Instant::now();
        world.annotate(&name, "bindery.dev/sync", &text).await;
        eventually("the read", Duration::from_secs(60), || async {
            let status = world.bindings().get(&name).await.unwrap().status.unwrap();
            (status.last_handled_sync.as_deref() == Some(text.as_str())).then_some(())
        })
        .await;
        times.push(started.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

/// Forty bindings that name their secret by its ARN.
async fn forty_by_arn(world: &World) {
    let arn = format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{}", world.secret_id("app"));
    for index in 0..40 {
        world.bind(&format!("b{index}"), json!({"dataFrom": [{"secret": arn}]})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_names_its_account_needs_no_identity_of_the_operator_s_own() {
    let world = World::without_grant("named-account").await;
    world.put("app", &guide()).await;
    world.proxy.fail(&["GetCallerIdentity"], Fault::Error(403, "InvalidClientTokenId", "no"));
    let spec = json!({
        "namespaces": {"names": [world.namespace]}, "secrets": [{"name": world.secret_id("*")}],
        "aws": {"region": "eu-west-1", "accountId": "123456789012"},
    });
    world.grant_with(&world.namespace, spec).await;
    let _operator = world.operator();
    forty_by_arn(&world).await;
    for index in 0..40 {
        world.wait_ready(&format!("b{index}")).await;
    }
    assert!(world.proxy.count("GetCallerIdentity") <= 1, "it is asked for the log alone, and no binding waits for it");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sts_does_not_answer_all_bindings_say_so_soon_and_share_the_question() {
    let world = World::new("slow-sts").await;
    world.put("app", &guide()).await;
    world.proxy.fail(&["GetCallerIdentity"], Fault::Slow(Duration::from_secs(60)));
    let _operator = world.operator();
    let began = Instant::now();
    forty_by_arn(&world).await;
    for index in 0..40 {
        world.wait(&format!("b{index}"), "Fetched", "False/CredentialsFailed").await;
    }
    let (took, asked) = (began.elapsed(), world.proxy.count("GetCallerIdentity"));
    println!("40 bindings told of it after {took:?}, with {asked} attempts of sts:GetCallerIdentity");
    assert!(asked <= 12, "{asked}");
    world.proxy.heal();
    for index in 0..40 {
        world.wait_ready(&format!("b{index}")).await;
    }
    world.end().await;
}
