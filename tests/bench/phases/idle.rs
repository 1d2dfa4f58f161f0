//! A world in which nothing changes.

use std::time::{Duration, Instant};

use crate::Bench;
use crate::audit::by_kind;
use crate::phases::change::SWEEP;
use crate::report::float;
use crate::standin::Call;
use crate::watch::progress;

/// What the operator does by itself every so often.
const DEFAULT_SWEEPS_PER_HOUR: f64 = 12.0;

/// Of AWS, for 10,000 calls.
const DOLLARS: f64 = 0.05;

/// Measures it.
pub async fn run(bench: &mut Bench) {
    bench.report.note("idle", format!("in this phase the operator runs with --refresh-interval {}s", SWEEP.as_secs()));
    let operator = bench.settled_operator(&["--refresh-interval", &format!("{}s", SWEEP.as_secs())]).await;
    // What a start itself asks for is over when the clock has led to the first look.
    tokio::time::sleep(SWEEP + Duration::from_secs(2)).await;
    bench.forget();
    let (started, cpu) = (Instant::now(), operator.cpu());
    let aws = bench.aws.clone();
    let calls = || aws.counts().values().sum::<u64>();
    progress(bench.settings.idle * 2, tokio::time::sleep(bench.settings.idle), || format!("AWS calls: {}", calls()))
        .await;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), operator.cpu() - cpu);
    let report = &mut bench.report;
    report.counts("idle", "AWS calls", &bench.aws.counts());
    let sweeps = sweeps(&bench.aws.calls()).unwrap_or(seconds / SWEEP.as_secs_f64());
    let per_sweep = float(calls()) / sweeps.max(1.0);
    report.figure("idle", "sweeps", sweeps, "");
    report.figure("idle", "AWS calls per sweep", per_sweep, "");
    let per_hour = per_sweep * DEFAULT_SWEEPS_PER_HOUR;
    report.figure("idle", "AWS calls per hour at the default of 5m", per_hour, "");
    report.figure("idle", "dollars per hour at the default of 5m", per_hour / 10_000.0 * DOLLARS, "$");
    report.figure("idle", "dollars per month at the default of 5m", per_hour * 730.0 / 10_000.0 * DOLLARS, "$");
    report.figure("idle", "values sent by AWS", float(bench.aws.values_sent()), "");
    report.figure("idle", "CPU time per hour", cpu / seconds * 3600.0, "s");
    report.figure("idle", "resident memory", operator.resident(), "MB");
    let secrets: usize = bench.worlds.iter().map(|world| world.secrets).sum();
    report.at_most("idle", "AWS calls per sweep", Some(per_sweep), float(secrets.div_ceil(100)), "");
    let writes = bench.cluster.writes().map(|writes| by_kind(&writes));
    if let Some(writes) = &writes {
        bench.report.counts("idle", "Kubernetes writes but leases", writes);
    }
    let count = writes.map(|writes| float(writes.values().sum::<u64>()));
    bench.report.at_most("idle", "Kubernetes writes but leases", count, 0.0, "");
}

/// How many sweeps these calls are; none where secrets are asked for one by one.
fn sweeps(calls: &[Call]) -> Option<f64> {
    let mut pages: Vec<Instant> =
        calls.iter().filter(|call| call.operation == "ListSecrets").map(|call| call.at).collect();
    pages.sort();
    let gaps = pages.windows(2).filter(|pair| pair[1] - pair[0] > SWEEP / 4).count();
    (!pages.is_empty()).then(|| float(gaps + 1))
}
