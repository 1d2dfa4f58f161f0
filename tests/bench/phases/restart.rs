//! The operator is killed and started again over a world that is published.

use crate::Bench;
use crate::audit::by_kind;
use crate::phases::cold::REST;
use crate::report::float;
use crate::watch::progress;

/// Measures it.
pub async fn run(bench: &mut Bench) {
    let mut operator = bench.settled_operator(&[]).await;
    // What it tells of grants comes late.
    tokio::time::sleep(REST).await;
    bench.forget();
    operator.kill();
    let operator = bench.operator(&[]);
    let ready = async {
        while !operator.is_ready().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        operator.started.elapsed()
    };
    let ready = progress(bench.patience(), ready, || "waits for /readyz".to_owned()).await;
    let settled = bench.settle(&operator).await;
    tokio::time::sleep(REST).await;
    let report = &mut bench.report;
    if let Some(ready) = ready {
        report.time("restart", "ready after", ready);
    }
    if let Some(settled) = settled {
        report.time("restart", "settled after", settled - operator.started);
    }
    report.counts("restart", "AWS calls", &bench.aws.counts());
    report.figure("restart", "resident memory, peak", operator.peak(), "MB");
    report.figure("restart", "resident memory, at rest", operator.resident(), "MB");
    report.figure("restart", "CPU time", operator.cpu(), "s");
    report.must("restart", "it settles", Some(settled.is_some()));
    report.at_most("restart", "values sent by AWS", Some(float(bench.aws.values_sent())), 0.0, "");
    let writes = bench.cluster.writes();
    if let Some(writes) = &writes {
        bench.report.counts("restart", "Kubernetes writes", &by_kind(writes));
    }
    for (claim, resource) in [("writes of Secrets", "secrets"), ("writes of statuses", "secretbindings/status")] {
        let count = writes.as_ref().map(|writes| writes.iter().filter(|write| write.resource == resource).count());
        bench.report.at_most("restart", claim, count.map(float), 0.0, "");
    }
    let all = writes.map(|writes| writes.iter().filter(|write| !write.is_lease()).count());
    bench.report.at_most("restart", "writes of anything but leases", all.map(float), 0.0, "");
}
