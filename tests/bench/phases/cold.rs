//! From nothing to everything published.

use std::time::Duration;

use crate::Bench;
use crate::audit::by_kind;
use crate::floor::PLAIN;
use crate::process::server_cpu;
use crate::report::float;
use crate::watch::Board;

/// How long a process is left alone before it counts as being at rest.
pub const REST: Duration = Duration::from_secs(10);

/// The operations that answer with values.
const READS: [&str; 2] = ["GetSecretValue", "BatchGetSecretValue"];

/// Measures it.
pub async fn run(bench: &mut Bench) {
    let world = bench.main_world().await;
    let mut board = Board::start(&bench.cluster.client, &world.name);
    bench.forget();
    let server = server_cpu();
    let operator = bench.operator(&[]);
    let done = board.until(world.bindings, bench.patience()).await;
    let server = server_cpu().zip(server).map(|(now, before)| now - before);
    let own = operator.cpu();
    tokio::time::sleep(REST).await;
    let report = &mut bench.report;
    report.must("cold", "all bindings become Ready", Some(done.is_some()));
    if let Some(done) = done {
        let time = done - operator.started;
        report.time("cold", "all Ready after", time);
        report.figure("cold", "CPU time until all are Ready", own, "s");
        if let Some(server) = server {
            report.figure("cold", "CPU time of the API server until all are Ready", server, "s");
        }
        let floor = report.get("floor", PLAIN);
        let ratio = floor.map(|floor| time.as_secs_f64() / floor);
        if let Some(ratio) = ratio {
            report.figure("cold", "ratio to the floor", ratio, "×");
        }
        if let Some(same_kind) = report.get("floor", crate::floor::SAME_KIND) {
            report.figure("cold", "ratio to the floor of the same kind", time.as_secs_f64() / same_kind, "×");
        }
        report.at_most("cold", "time against the floor", ratio, 1.5, "×");
    }
    let calls = bench.aws.counts();
    report.counts("cold", "AWS calls", &calls);
    let reads: u64 = READS.iter().filter_map(|operation| calls.get(*operation)).sum();
    report.figure("cold", "AWS calls that read values", float(reads), "");
    report.figure("cold", "values sent by AWS", float(bench.aws.values_sent()), "");
    // Two for each batch of twenty.
    let limit = 2 * world.secrets.div_ceil(20);
    report.at_most("cold", "AWS calls that read values", Some(float(reads)), float(limit), "");
    report.figure("cold", "resident memory, peak", operator.peak(), "MB");
    report.figure("cold", "resident memory, at rest", operator.resident(), "MB");
    // Nothing is promised of fewer, whose memory is mostly the program's.
    let promised = (world.bindings >= 1000).then(|| operator.peak());
    report.at_most("cold", "peak of resident memory", promised, memory_limit(world.bindings), "MB");
    report.figure("cold", "CPU time", operator.cpu(), "s");
    if let Some(writes) = bench.cluster.writes() {
        let done = writes.iter().filter(|write| write.is_done() && !write.is_lease()).count();
        bench.report.figure("cold", "Kubernetes writes per binding", float(done) / float(world.bindings), "");
        bench.report.counts("cold", "Kubernetes writes", &by_kind(&writes));
    }
    let exact = world.exact(&bench.cluster, 0).await;
    bench.report.all("cold", "Secrets that are exact", exact, world.bindings);
}

/// In MB: 60 for 1,000 bindings and 150 for 10,000, on a line between them.
fn memory_limit(bindings: usize) -> f64 {
    (float(bindings) - 1000.0).max(0.0).mul_add(90.0 / 9000.0, 60.0)
}
