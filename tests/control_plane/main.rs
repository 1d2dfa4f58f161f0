//! Every kind that Bindery watches, every fault of the way to the API server, at the start and while it runs: what the
//! API server holds is acted on, nothing that was revoked is served for longer than a minute, and health says so.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "a test tells its story from start to end, and IAM decides by as many inputs as it does"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures for those who read the output of a test")]

#[path = "../standin/mod.rs"]
mod standin;
#[path = "../behaviour/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the behaviour tests, which use all of it")]
mod support;

mod case;
mod row;

use std::time::{Duration, Instant};

use bindery::api::SecretBinding;
use futures::StreamExt as _;
use futures::future::join_all;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::api_proxy::{ApiRequest, Verb};
use crate::support::operator::{Setup, read_log};
use crate::support::serving::get;
use crate::support::{ApiFault, ApiProxy, Operator, World, eventually};
use case::{Case, Meanwhile};
use row::Row;

/// How often is looked: many worlds share the machine.
pub const LOOK: Duration = Duration::from_secs(2);
/// Within this time health says what is not seen, on a machine with fifty operators.
const TOLD: Duration = Duration::from_secs(240);
/// Nothing that was revoked may be served from here on.
const STALE: Duration = Duration::from_secs(60);

/// How many worlds are made at once.
static TURNS: Semaphore = Semaphore::const_new(8);

/// A row and a case, in a world of their own.
struct Cell {
    row: Row,
    case: Case,
    world: World,
    proxy: ApiProxy,
    operator: Operator,
    failures: Vec<String>,
}

impl Cell {
    async fn start(row: Row, case: Case) -> Self {
        // The worlds are made in turns, so that each has the machine for it.
        let turn = TURNS.acquire().await.unwrap();
        let world = World::without_grant(&format!("cell-{}-{}", row.resource(), case.name)).await;
        row.prepare(&world).await;
        if row == Row::Secret {
            let mut first = Operator::start(Setup { log_level: "info", ..world.setup() });
            world.wait_ready("app").await;
            first.terminate().await;
        }
        drop(turn);
        row.change_before_start(&world).await;
        let proxy = world.api_proxy().await;
        proxy.fail(case.fault, case.concerns(row));
        // Leases of so many worlds would be most of the requests.
        let flags = vec!["--leader-elect=false".to_owned()];
        let operator = Operator::start(Setup { log_level: "info", flags, ..world.setup_through(&proxy) });
        Self { row, case, world, proxy, operator, failures: Vec::new() }
    }

    fn failed(&mut self, moment: &str, what: Option<String>) {
        let (row, case) = (self.row, self.case.name);
        let failure = what.map(|what| format!("{row:?} × {case} × {moment} ({}): {what}", self.world.namespace));
        if let Some(failure) = failure {
            println!("{failure}");
            self.failures.push(failure);
        }
    }

    /// Begins a process that ended anew, as a kubelet does.
    fn keep_running(&mut self) {
        if !self.operator.is_running() {
            self.operator.restart();
        }
    }

    /// What the probes and the metrics say of the kind.
    async fn said(&self) -> String {
        let address = &self.operator.address;
        let mut said = String::new();
        for path in ["/healthz", "/readyz", "/metrics"] {
            said += &get(address, path).await.map(|(status, body)| format!("{status}\n{body}")).unwrap_or_default();
        }
        said
    }

    /// Whether both the probes and the metrics tell of a watch that is not seen.
    fn tells(&self, said: &str) -> bool {
        let watch = format!("the watch of {}", self.row.kind());
        let fails = said.lines().any(|line| line.starts_with(&watch) && line.contains(" fails since "));
        let errors = format!("bindery_watch_errors_total{{kind=\"{}\"}} ", self.row.kind());
        // At the start the kinds of Bindery are listed before there is a watch.
        let waits = said.contains("HTTP/1.0 503") && said.matches("secretgrants").count() >= 2
            || said.matches("the API server does not answer").count() >= 2;
        fails && said.contains(&errors) || waits
    }

    /// Waits until health tells of it.
    async fn until_told(&mut self, moment: &str) {
        let started = Instant::now();
        loop {
            self.keep_running();
            let said = self.said().await;
            if self.tells(&said) {
                return;
            }
            if started.elapsed() > TOLD {
                let said: Vec<&str> = said.lines().filter(|line| line.contains("watch")).collect();
                self.failed(moment, Some(format!("health does not tell of it: {said:?}")));
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn until_refused(&mut self) {
        let concerned = self.case.concerns(self.row);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) && self.proxy.exchanges(&concerned).len() < 2 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The fault is there when the operator starts.
    async fn at_start(&mut self) {
        match self.case.meanwhile {
            Meanwhile::Blind => self.until_told("at start").await,
            Meanwhile::Refused => self.until_refused().await,
            Meanwhile::Acts => {
                let undone = self.row.acted_on_start(&self.world).await;
                self.failed("at start, while it lasted", undone);
            }
        }
        self.proxy.heal();
        let undone = self.row.acted_on_start(&self.world).await;
        self.failed("at start", undone);
        self.recovered("at start").await;
    }

    /// The fault comes while the operator runs.
    async fn while_running(&mut self) {
        self.world.wait_ready("app").await;
        self.proxy.fail(self.case.fault, self.case.concerns(self.row));
        self.row.touch_decoy(&self.world).await;
        self.row.revoke(&self.world).await;
        let revoked = Instant::now();
        match self.case.meanwhile {
            Meanwhile::Acts => {
                let undone = self.row.acted_on_revocation(&self.world, 1).await;
                self.failed("while running, while it lasted", undone);
                row::put(&self.world, 2).await;
            }
            Meanwhile::Refused => {
                self.until_refused().await;
                row::put(&self.world, 2).await;
            }
            Meanwhile::Blind => {
                self.until_told("while running").await;
                self.serves_nothing_revoked(revoked).await;
            }
        }
        self.proxy.heal();
        self.keep_running();
        let undone = self.row.acted_on_revocation(&self.world, 2).await;
        self.failed("while running", undone);
        self.recovered("while running").await;
    }

    /// After a minute there is a new value, which must not be served.
    async fn serves_nothing_revoked(&mut self, revoked: Instant) {
        while self.row != Row::Secret && revoked.elapsed() < STALE {
            self.keep_running();
            tokio::time::sleep(LOOK).await;
        }
        row::put(&self.world, 2).await;
        let began = Instant::now();
        // The value would be found within ten seconds.
        while self.row != Row::Secret && began.elapsed() < Duration::from_secs(15) {
            self.keep_running();
            let data = self.world.data("app").await.unwrap_or_default();
            if data.get("A") == Some(&row::value("A", 2)) {
                self.failed("while running", Some(format!("served {:?} after the revocation", revoked.elapsed())));
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn recovered(&mut self, moment: &str) {
        let started = Instant::now();
        loop {
            self.keep_running();
            let said = self.said().await;
            let ready = said.matches("HTTP/1.0 200").count() == 3;
            if ready && !said.contains(" fails since ") {
                return;
            }
            if started.elapsed() > TOLD {
                let said: Vec<&str> =
                    said.lines().filter(|line| line.contains("watch") || line.contains("HTTP")).collect();
                self.failed(moment, Some(format!("health does not recover: {said:?}")));
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn end(mut self) -> Vec<String> {
        self.operator.terminate().await;
        self.row.clean_up(&self.world).await;
        if self.failures.is_empty() {
            // A process that ends because it is blind may have had a read under way.
            self.world.end_without_records().await;
        }
        self.failures
    }
}

/// Both moments of a cell of the matrix.
async fn both_moments(row: Row, case: Case) -> Vec<String> {
    let mut cell = Cell::start(row, case).await;
    cell.at_start().await;
    cell.while_running().await;
    cell.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_holds_is_acted_on_whatever_happens_to_lists_and_watches() {
    let only = std::env::var("BINDERY_CELLS").unwrap_or_default();
    let cells: Vec<(Row, Case)> = row::ALL
        .into_iter()
        .flat_map(|row| case::all().into_iter().filter(move |case| case.is_of(row)).map(move |case| (row, case)))
        .filter(|(row, case)| format!("{row:?}/{}", case.name).contains(&only))
        .collect();
    let began = Instant::now();
    let runs = cells.iter().map(|(row, case)| {
        let (row, case) = (*row, *case);
        // A cell that panics must not hide the others.
        async move {
            match tokio::spawn(both_moments(row, case)).await {
                Ok(failures) => failures,
                Err(panic) => {
                    let panic: String = panic.to_string().chars().take(200).collect();
                    println!("{row:?} × {}: {panic}", case.name);
                    vec![format!("{row:?} × {}: {panic}", case.name)]
                }
            }
        }
    });
    let failures: Vec<String> = join_all(runs).await.into_iter().flatten().collect();
    println!("control plane matrix: {} cells in {:?}", cells.len() * 2, began.elapsed());
    assert!(failures.is_empty(), "{} failures: {failures:#?}", failures.len());
}

/// A grant of all secrets, which is revoked while the leader cannot see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_blind_gives_up_the_lease_and_a_replica_that_sees_takes_over() {
    let world = World::new("blind-leader").await;
    row::put(&world, 1).await;
    let proxy = world.api_proxy().await;
    let mut leader = world.operator_through(&proxy, &[]);
    let source = json!({"secret": world.secret_id("app")});
    world.bind("app", json!({"refreshInterval": "10s", "dataFrom": [source]})).await;
    world.wait_ready("app").await;
    let _replica = Operator::start(Setup { pod: "bindery-1".to_owned(), ..world.setup() });
    proxy.fail(ApiFault::Stall, |request| request.resource == "secretgrants");
    world.delete_grant(&world.namespace).await;
    let revoked = Instant::now();
    world.wait("app", "Granted", "False/AccessDenied").await;
    println!("a replica acted {:?} after the revocation", revoked.elapsed());
    assert!(!leader.is_running(), "the leader that saw nothing has ended");
    row::put(&world, 2).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(world.data("app").await.unwrap()["A"], row::value("A", 1), "nothing that was revoked is served");
    let log = read_log(&world.folder, "operator.log");
    assert!(log.contains("gives up the lead") && log.contains("the watch of SecretGrant"));
    proxy.heal();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_that_change_between_the_pages_of_a_list_are_acted_on() {
    let world = World::new("pages").await;
    let bind = async |number: usize| {
        let source = json!({"secret": world.secret_id(&format!("s{number}"))});
        world.bind(&format!("b{number:03}"), json!({"suspend": true, "dataFrom": [source]})).await;
    };
    // So many that a list takes two pages.
    futures::stream::iter(0..620).for_each_concurrent(8, bind).await;
    let proxy = world.api_proxy().await;
    let _operator = Operator::start(Setup { log_level: "info", ..world.setup_through(&proxy) });
    let current = async || {
        let bindings = world.bindings().list(&ListParams::default()).await.unwrap().items;
        let acted = |binding: &&SecretBinding| {
            let conditions = binding.status.iter().flat_map(|status| &status.conditions);
            conditions.clone().any(|condition| condition.observed_generation == binding.metadata.generation)
        };
        (bindings.iter().filter(acted).count(), bindings.len())
    };
    let until = async |number: usize| {
        eventually("each binding to be acted on", Duration::from_secs(120), || async {
            (current().await == (number, number)).then_some(())
        })
        .await;
    };
    until(620).await;
    // The list is made anew, and its second page is late.
    let of_bindings = |request: &ApiRequest| request.resource == "secretbindings";
    let second = move |request: &ApiRequest| of_bindings(request) && request.query.contains("continue=");
    let before = proxy.exchanges(second).len();
    proxy.fail(ApiFault::Status(410), move |request| of_bindings(request) && request.verb == Verb::Watch);
    proxy.fail(ApiFault::Delay(Duration::from_secs(15)), second);
    eventually("the second page", Duration::from_secs(60), || async {
        (proxy.exchanges(second).len() > before).then_some(())
    })
    .await;
    futures::stream::iter(620..676).for_each_concurrent(8, bind).await;
    let edit = json!({"spec": {"refreshInterval": "1h"}});
    for number in (0..620).step_by(20) {
        let name = format!("b{number:03}");
        world.bindings().patch(&name, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    }
    assert_eq!(proxy.under_way(second), 1, "all of that happened between two pages");
    proxy.heal();
    until(676).await;
    world.end().await;
}
