//! The quarterly rotation of `TOKEN_ENCRYPTION_KEY` for the guide's app and worker, down to the pods, under random
//! interleavings: no running pod ever meets a row that it cannot decrypt. And the two ways that do not hold this.

mod pair;
mod program;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::support::World;
use pair::{Layout, Pair};

const STAGED: Layout = Layout { strategy: "Staged", grouped: true, shared: true };

/// How many worlds are run, and how many pairs each has: few in `make test`, many in `make soak`.
fn extent() -> (u64, u64) {
    let soak = std::env::var("BINDERY_SOAK").ok().and_then(|text| text.parse().ok());
    soak.map_or((1, 4), |worlds| (worlds, 10))
}

/// Runs pairs through rotations, with the operator killed at random, until all are at rest; or, where a violation is
/// `expected`, until the first. Answers the violations.
async fn run(name: &str, pairs: u64, first_seed: u64, layout: Layout, expected: bool) -> Vec<String> {
    let (world, stand_in) = World::with_stand_in(name).await;
    let mut setup = world.setup();
    setup.flags.push("--max-rollouts=100".to_owned());
    let mut operator = crate::support::Operator::start(setup);
    let mut all = Vec::new();
    for seed in first_seed..first_seed + pairs {
        all.push(Pair::new(&world, &stand_in, seed, layout).await);
    }
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut random = fastrand::Rng::with_seed(first_seed);
    let started = Instant::now();
    let (disturbed_for, limit) = (Duration::from_secs(25), Duration::from_secs(300));
    let mut settled = vec![false; all.len()];
    let mut all_run = false;
    while !settled.iter().all(|settled| *settled) {
        let pods = api.list(&ListParams::default()).await.unwrap().items;
        for pair in &mut all {
            pair.play(&world, &pods).await;
        }
        // A rotation begins when the programs run.
        if !all_run {
            all_run = all.iter().all(Pair::runs_current);
        } else if started.elapsed() < disturbed_for {
            for pair in &mut all {
                pair.disturb(&world, &stand_in).await;
            }
        } else {
            for (pair, settled) in all.iter_mut().zip(&mut settled) {
                pair.rotate(&world, &stand_in);
                pair.catch_up(&world, &stand_in);
                *settled = pair.is_settled(&world).await && pair.runs_current();
            }
        }
        if !expected && started.elapsed() < limit / 2 && random.u32(..100) < 2 {
            operator.kill();
            operator.restart();
        }
        if expected && !all.iter().all(|pair| pair.violations.is_empty()) {
            break;
        }
        if started.elapsed() > limit {
            let stuck: Vec<_> = all.iter().zip(&settled).filter(|(_, settled)| !**settled).collect();
            for (pair, _) in &stuck {
                println!("{}", pair.describe());
            }
            panic!("{} of {pairs} pairs did not come to rest within {limit:?}", stuck.len());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let violations = all.iter().flat_map(|pair| pair.violations.clone()).collect();
    if !expected {
        assert!(all.iter().all(Pair::was_rotated), "each run has replaced its pods and re-encrypted its rows");
    }
    world.end().await;
    violations
}

async fn holds(name: &str, layout: Layout) {
    let ((worlds, pairs), mut runs) = (extent(), 0);
    for world in 0..worlds {
        let violations = run(name, pairs, world * 100, layout, false).await;
        assert_eq!(violations, Vec::<String>::new(), "world {world}");
        runs += pairs;
    }
    println!("{runs} seeded rotations of app and worker, {layout:?}: no pod met a row that it could not decrypt");
}

/// Where time decides which pod is first, one world may hold by chance; not each of five does.
async fn fails(name: &str, pairs: u64, layout: Layout, otherwise: &str) {
    for world in 0..5 {
        if !run(name, pairs, world * 100, layout, true).await.is_empty() {
            return;
        }
    }
    panic!("{otherwise}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_rotation_of_a_shared_secret_loses_no_row() {
    holds("staged-shared", STAGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_rotation_of_two_secrets_loses_no_row() {
    holds("staged-own", Layout { shared: false, ..STAGED }).await;
}

/// A counter-example: with the new key in use at once, a pod that started before cannot read what a new one wrote.
#[tokio::test(flavor = "multi_thread")]
async fn immediate_is_not_for_a_key_that_several_pods_encrypt_with() {
    fails("immediate", 4, Layout { strategy: "Immediate", ..STAGED }, "if this holds, Staged is not needed").await;
}

/// A counter-example: each program waits for its own pods only, and does not know when the other's can read the new key.
#[tokio::test(flavor = "multi_thread")]
async fn staged_without_a_common_group_is_not_for_programs_that_share_rows() {
    let layout = Layout { grouped: false, shared: false, ..STAGED };
    fails("ungrouped", 6, layout, "if this holds, groups are not needed").await;
}
