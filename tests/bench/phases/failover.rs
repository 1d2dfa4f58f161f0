//! The leader is killed in the middle of its work, and another process goes on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use crate::Bench;
use crate::audit::Write;
use crate::cluster::ACCOUNTS;
use crate::process::Operator;
use crate::report::float;
use crate::standin::{Options, StandIn};
use crate::watch::{Board, progress};
use crate::world::World;

/// Measures it.
pub async fn run(bench: &mut Bench) {
    bench.remove_worlds().await;
    let aws = StandIn::start(Options { list_lag: Duration::ZERO, ..Options::default() }).await;
    let bindings = bench.settings.failover.min(bench.bindings);
    let name = format!("{}-failover", bench.cluster.run);
    let world = World { name, bindings, secrets: bench.secrets.min(bindings), previous: false, rules: false };
    world.create(&bench.cluster, &aws).await;
    let mut board = Board::start(&bench.cluster.client, &world.name);
    bench.forget();
    let mut operators = [0, 1].map(|number| bench.operator_at(&aws, number, &[]));
    let Some(leader) = progress(bench.patience(), leader(&operators), || "waits for a leader".to_owned()).await else {
        bench.report.must("failover", "one process leads", Some(false));
        return;
    };
    println!("   {} leads", ACCOUNTS[leader]);
    board.until(bindings / 3, bench.patience()).await;
    let (killed, killed_at) = (Instant::now(), Timestamp::now());
    operators[leader].kill();
    let done = board.until(bindings, bench.patience()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = &mut bench.report;
    report.must("failover", "all bindings become Ready", Some(done.is_some()));
    if let Some(done) = done {
        report.time("failover", "all Ready after the kill", done - killed);
    }
    let writes = bench.cluster.writes();
    let of = |number: usize| {
        let user = bench.cluster.user(ACCOUNTS[number]);
        writes.as_ref().map(|writes| Writes::new(writes, &user))
    };
    let (first, second) = (of(leader), of(1 - leader));
    let takeover = second.as_ref().and_then(|writes| writes.first).map(|time| seconds(killed_at, time));
    if let (Some(first), Some(second)) = (&first, &second) {
        report.figure("failover", "Secrets written by the killed process", float(first.secrets.len()), "");
        report.figure("failover", "Secrets written by the other", float(second.secrets.len()), "");
        let both = first.secrets.intersection(&second.secrets).count();
        report.figure("failover", "Secrets written by both, one after the other", float(both), "");
        if let (Some(last), Some(next)) = (first.last, second.first) {
            report.figure("failover", "from the last write of one to the first of the other", seconds(last, next), "s");
        }
    }
    report.at_most("failover", "from the kill to the first Secret of the other", takeover, 20.0, "s");
    let apart =
        first.zip(second).map(|(first, second)| !matches!((first.last, second.first), (Some(a), Some(b)) if a >= b));
    report.must("failover", "no write of the killed process after one of the other", apart);
    let exact = world.exact(&bench.cluster, 0).await;
    bench.report.all("failover", "Secrets that are exact at the end", exact, bindings);
    drop(operators);
    bench.cluster.remove_world(&world.name).await;
}

async fn leader(operators: &[Operator; 2]) -> usize {
    loop {
        for (number, operator) in operators.iter().enumerate() {
            if operator.leads().await {
                return number;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What one process wrote.
struct Writes {
    secrets: BTreeSet<String>,
    /// The first write of a Secret.
    first: Option<Timestamp>,
    /// The last write of anything.
    last: Option<Timestamp>,
}

impl Writes {
    fn new(writes: &[Write], user: &str) -> Self {
        // The fingerprint key is made by whoever starts first, and a lease is asked for by both at any time.
        let is_own = |write: &&Write| write.user == user && !write.is_lease() && write.verb != "create";
        let own: Vec<&Write> = writes.iter().filter(is_own).collect();
        let secrets = own.iter().filter(|write| write.resource == "secrets" && write.may_be_done());
        Self {
            secrets: secrets.clone().map(|write| write.object.clone()).collect(),
            first: secrets.map(|write| write.received).min(),
            last: own.iter().map(|write| write.received).max(),
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
