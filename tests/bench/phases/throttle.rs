//! AWS allows only so many calls a second.

use std::time::{Duration, Instant};

use crate::Bench;
use crate::report::float;
use crate::standin::{Options, StandIn};
use crate::watch::Board;
use crate::world::World;

/// Calls per second, and as many at once after a pause.
const RATE: f64 = 10.0;

/// How long the first burst may last, in seconds.
const BURST: usize = 2;

const BINDINGS: usize = 200;

const PATIENCE: Duration = Duration::from_secs(300);

/// Measures it.
pub async fn run(bench: &mut Bench) {
    bench.remove_worlds().await;
    let aws = StandIn::start(Options { list_lag: Duration::ZERO, ..Options::default() }).await;
    let name = format!("{}-throttle", bench.cluster.run);
    let world = World { name, bindings: BINDINGS, secrets: BINDINGS, previous: true, rules: false };
    world.create(&bench.cluster, &aws).await;
    world.put_all(&aws, 1);
    aws.set_options(|options| options.rate = Some((RATE, RATE)));
    aws.reset();
    let mut board = Board::start(&bench.cluster.client, &world.name);
    let operator = bench.operator_at(&aws, 0, &[]);
    let done = board.until(BINDINGS, PATIENCE).await;
    let timeline = per_second(&aws.calls().iter().map(|call| call.at).collect::<Vec<_>>());
    println!("   calls in each second: {timeline:?}");
    let report = &mut bench.report;
    report.must("throttle", "all bindings become Ready", Some(done.is_some()));
    if let Some(done) = done {
        report.time("throttle", "all Ready after", done - operator.started);
    }
    report.counts("throttle", "AWS calls", &aws.counts());
    report.figure("throttle", "calls that were throttled", float(aws.throttled()), "");
    report.figure("throttle", "values sent by AWS", float(aws.values_sent()), "");
    let most = timeline.iter().skip(BURST).max().copied().unwrap_or_default();
    report.at_most("throttle", "most calls in any second after the first two", Some(float(most)), RATE, "");
    let exact = world.exact(&bench.cluster, 1).await;
    bench.report.all("throttle", "Secrets that are exact", exact, BINDINGS);
    drop(operator);
    bench.cluster.remove_world(&world.name).await;
}

/// How many of these times lie in each second after the first of them.
fn per_second(times: &[Instant]) -> Vec<u64> {
    let Some(first) = times.iter().min() else { return Vec::new() };
    let mut counts = Vec::new();
    for time in times {
        let second = usize::try_from((*time - *first).as_secs()).unwrap_or_default();
        counts.resize(counts.len().max(second + 1), 0);
        counts[second] += 1;
    }
    counts
}
