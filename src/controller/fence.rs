//! Tests the fence around the operator's ServiceAccount at the start and now and then, in every replica.

use std::time::Duration;

use kube::Client;

use crate::kubernetes::fence::{FencePolicy, FenceTest, test_fence};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::state::fence::{CURE, FenceHealth};

/// The pause after a test that all policies passed.
const HOLDS: Duration = Duration::from_secs(60);
/// The pause while one does not hold.
const OPEN: Duration = Duration::from_secs(10);

/// Tests the fence for ever. `home` is the namespace of the operator's own objects.
pub async fn keep_testing(client: &Client, home: &str, settings: &Settings, health: &FenceHealth, metrics: &Metrics) {
    if !settings.fence {
        return std::future::pending().await;
    }
    // With namespaces to watch, only there it may have tokens and Jobs.
    let watched = settings.watch_namespaces.first().map_or(home, String::as_str);
    let features = settings.features;
    loop {
        let mut all = true;
        for (policy, namespace, is_on) in [
            (FencePolicy::Secrets, home, true),
            (FencePolicy::Tokens, watched, features.service_account_tokens),
            (FencePolicy::Jobs, watched, features.jobs),
        ] {
            if is_on {
                all &= tell(policy, test_fence(client, namespace, policy).await, health, metrics);
            }
        }
        tokio::time::sleep(if all { HOLDS } else { OPEN }).await;
    }
}

/// Tells what a test gave. Answers whether the policy holds.
fn tell(policy: FencePolicy, test: FenceTest, health: &FenceHealth, metrics: &Metrics) -> bool {
    let (policy, holds) = match test {
        FenceTest::Holds => (policy.name(), true),
        FenceTest::Open => (policy.name(), false),
        FenceTest::Unknown(why) => {
            tracing::debug!(policy = policy.name(), %why, "whether the fence holds cannot be told at present");
            health.untold(policy.name(), why);
            return false;
        }
    };
    metrics.fence(policy, holds);
    match (health.tested(policy, holds), holds) {
        (true, false) => tracing::warn!(
            policy,
            "no admission policy fences in the operator's ServiceAccount, so who steals its token can use all its rights; {CURE}"
        ),
        (true, true) => tracing::info!(policy, "the admission policy fences in the operator's ServiceAccount now"),
        (false, _) => {}
    }
    holds
}
