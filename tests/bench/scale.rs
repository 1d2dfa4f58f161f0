//! The scale benchmark: what a number of bindings costs, and whether the limits that Bindery promises are held.
//!
//! `make bench` starts a cluster for it. AWS is a stand-in inside this process, the operator a process of its own under
//! the rights of the chart. The variables N, M, PHASES, IDLE, ROUNDS, SHARED, RULES, FOREIGN, FAILOVER, GROWTH, STRICT
//! and OPERATOR say what is measured; `settings.rs` says what they mean.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod audit;
mod cluster;
mod floor;
mod phases;
mod process;
#[path = "../behaviour/support/release.rs"]
#[allow(dead_code, reason = "shared with the behaviour tests, which use all of it")]
mod release;
mod report;
mod settings;
#[path = "../standin/mod.rs"]
#[allow(unused_imports, reason = "a benchmark without a harness has the modules of its tests, and no tests in them")]
mod standin;
mod watch;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use cluster::{ACCOUNTS, Cluster};
use process::{Operator, Setup};
use report::Report;
use settings::{PHASES, Settings};
use standin::{Options, StandIn};
use world::World;

/// One size under measurement.
pub struct Bench {
    settings: Settings,
    cluster: Cluster,
    aws: StandIn,
    bindings: usize,
    secrets: usize,
    report: Report,
    /// The worlds that are there and are served by [`Bench::aws`].
    worlds: Vec<World>,
    /// Which version of the shared secret is current.
    shared_round: usize,
}

impl Bench {
    async fn new(settings: &Settings, (bindings, secrets): (usize, usize)) -> Self {
        Self {
            settings: settings.clone(),
            cluster: Cluster::prepare().await,
            aws: StandIn::start(Options { list_lag: Duration::ZERO, ..Options::default() }).await,
            bindings,
            secrets,
            report: Report::new(bindings, secrets),
            worlds: Vec::new(),
            shared_round: 0,
        }
    }

    /// The bindings that are measured.
    async fn main_world(&mut self) -> World {
        let (bindings, secrets) = (self.bindings, self.secrets);
        self.world("main", bindings, secrets).await
    }

    /// As many bindings over one secret as share one in the main world, and at least a hundred.
    async fn shared_world(&mut self) -> World {
        let sharing = (self.bindings / self.secrets).max(100);
        self.main_world().await;
        self.world("shared", if self.settings.shared { self.bindings } else { sharing }, 1).await
    }

    async fn world(&mut self, name: &str, bindings: usize, secrets: usize) -> World {
        let name = format!("{}-{name}", self.cluster.run);
        if let Some(world) = self.worlds.iter().find(|world| world.name == name) {
            return world.clone();
        }
        let world = World { name, bindings, secrets, previous: false, rules: self.settings.rules };
        world.create(&self.cluster, &self.aws).await;
        self.worlds.push(world.clone());
        world
    }

    async fn remove_worlds(&mut self) {
        for world in std::mem::take(&mut self.worlds) {
            self.cluster.remove_world(&world.name).await;
        }
        self.shared_round = 0;
    }

    /// Forgets calls and writes so far.
    fn forget(&mut self) {
        self.aws.reset();
        self.cluster.writes();
    }

    /// How long everything may take to become Ready.
    fn patience(&self) -> Duration {
        Duration::from_secs(120) + Duration::from_millis(50) * u32::try_from(self.bindings).unwrap()
    }

    fn operator(&self, flags: &[&str]) -> Operator {
        self.operator_at(&self.aws, 0, flags)
    }

    /// Starts one of two operators.
    fn operator_at(&self, aws: &StandIn, number: usize, flags: &[&str]) -> Operator {
        Operator::start(&Setup {
            program: self.settings.program.clone(),
            folder: self.cluster.folder.path().to_owned(),
            kubeconfig: self.cluster.kubeconfig(ACCOUNTS[number]),
            home: self.cluster.run.clone(),
            name: self.cluster.run.clone(),
            pod: ACCOUNTS[number].to_owned(),
            secrets_manager: aws.endpoint.clone(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        })
    }

    /// An operator over worlds that are published, with nothing left to do.
    async fn settled_operator(&mut self, flags: &[&str]) -> Operator {
        self.main_world().await;
        let operator = self.operator(flags);
        assert!(self.settle(&operator).await.is_some(), "not all bindings become Ready, so nothing can be measured");
        operator
    }

    async fn settle(&self, operator: &Operator) -> Option<Instant> {
        let bindings = self.worlds.iter().map(|world| world.bindings).sum();
        let settled = operator.settle(bindings, self.patience());
        watch::progress(self.patience(), settled, || "waits until the operator has nothing to do".to_owned())
            .await
            .flatten()
    }

    async fn run(&mut self) {
        let phases = self.settings.phases.clone();
        for phase in PHASES.into_iter().filter(|phase| phases.contains(phase)) {
            println!("\n== {phase}: {} bindings over {} secrets", self.bindings, self.secrets);
            match phase {
                "floor" => floor::run(self).await,
                "cold" => phases::cold::run(self).await,
                "idle" => phases::idle::run(self).await,
                "change" => phases::change::run(self).await,
                "restart" => phases::restart::run(self).await,
                "foreign" => phases::foreign::run(self).await,
                "throttle" => phases::throttle::run(self).await,
                _ => phases::failover::run(self).await,
            }
        }
    }
}

async fn measure(settings: &Settings) -> ExitCode {
    let mut reports = Vec::new();
    for size in &settings.sizes {
        let mut bench = Bench::new(settings, *size).await;
        bench.run().await;
        // The next size begins with nothing there; after the last one nobody waits.
        if reports.len() + 1 < settings.sizes.len() {
            bench.remove_worlds().await;
        }
        bench.cluster.remove().await;
        reports.push(bench.report);
    }
    for report in &reports {
        report.print();
    }
    if reports.len() > 1 {
        report::print_growth(&reports);
    }
    for report in &reports {
        println!("   written to {}", report.write().display());
    }
    let failed = settings.strict && reports.iter().any(Report::has_failed);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::from(2);
        }
    };
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    // Whichever ends first, what the other holds is dropped, and operators are killed with it.
    tokio::select! {
        code = measure(&settings) => code,
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        _ = terminate.recv() => ExitCode::from(143),
    }
}
