//! One secret that many bindings share gets a new version.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::Bench;
use crate::process::has_flag;
use crate::report::float;
use crate::watch::Versions;
use crate::world::{World, payload};

/// How often the operator sweeps where that is waited for; the least it takes is 10 s.
pub const SWEEP: Duration = Duration::from_secs(20);

/// Between rounds: longer than changes of one secret are held together for.
const PAUSE: Duration = Duration::from_secs(7);

/// Late reads of a round are waited for.
const AFTERMATH: Duration = Duration::from_secs(2);

/// How long a round may take beyond what is hoped for.
const PATIENCE: Duration = Duration::from_secs(60);

const EVENTS_FLAG: &str = "--events-queue-url";

/// Measures both ways on which a change is found.
pub async fn run(bench: &mut Bench) {
    let world = bench.shared_world().await;
    bench.report.figure("change", "bindings that share the secret", float(world.bindings), "");
    let mut round = Rounds { world, current: bench.shared_round, measured: Vec::new(), values: Vec::new() };
    if has_flag(&bench.settings.program, EVENTS_FLAG) {
        let queue = Queue::create(&bench.cluster.run).await;
        let operator = bench.settled_operator(&[EVENTS_FLAG, &queue.url]).await;
        round.measure(bench, Some(&queue)).await;
        drop(operator);
        queue.delete().await;
    } else {
        bench.report.note("change", format!("the operator has no {EVENTS_FLAG}, so events were not measured"));
    }
    round.report(bench, "event", "message", Some(2.0));
    let interval = format!("{}s", SWEEP.as_secs());
    let operator = bench.settled_operator(&["--refresh-interval", &interval]).await;
    round.measure(bench, None).await;
    drop(operator);
    round.report(bench, "sweep", "version", None);
    bench.shared_round = round.current;
}

struct Rounds {
    world: World,
    /// The version that is current in Secrets Manager.
    current: usize,
    /// For each round, how long each Secret took, in order; shorter where some did not come.
    measured: Vec<Vec<Duration>>,
    /// For each round, how many values AWS sent.
    values: Vec<u64>,
}

impl Rounds {
    async fn measure(&mut self, bench: &Bench, queue: Option<&Queue>) {
        let versions = Versions::start(&bench.cluster.client, &self.world.name);
        versions.until(self.current, self.world.bindings, PATIENCE).await;
        for number in 1..=bench.settings.rounds {
            // A sweep is seen at the end of each round: without chance, the next version would always come as long before
            // the next one.
            let chance = if queue.is_none() { SWEEP.mul_f64(fastrand::f64()) } else { Duration::ZERO };
            tokio::time::sleep(PAUSE + chance).await;
            self.current += 1;
            bench.aws.reset();
            let name = self.world.secret(0);
            let version = bench.aws.put(&name, &payload(0, self.current).to_string());
            let started = Instant::now();
            if let Some(queue) = queue {
                queue.tell(&name, &bench.aws.arn(&name).unwrap(), &version).await;
            }
            let times = versions.until(self.current, self.world.bindings, PATIENCE).await;
            tokio::time::sleep(AFTERMATH).await;
            let times: Vec<Duration> = times.iter().map(|time| *time - started).collect();
            let (first, last) = (times.first().copied(), times.last().copied());
            println!(
                "   round {number}: {} Secrets, the first after {:.3} s, the last after {:.3} s; values read: {}; calls: {:?}",
                times.len(),
                first.unwrap_or_default().as_secs_f64(),
                last.unwrap_or_default().as_secs_f64(),
                bench.aws.values_sent(),
                bench.aws.counts(),
            );
            self.measured.push(times);
            self.values.push(bench.aws.values_sent());
        }
    }

    /// Reports what was measured since the last time, and forgets it.
    fn report(&mut self, bench: &mut Bench, path: &str, from: &str, limit: Option<f64>) {
        let (measured, values) = (std::mem::take(&mut self.measured), std::mem::take(&mut self.values));
        let all_came = measured.iter().all(|times| times.len() == self.world.bindings);
        let mut times: Vec<Duration> = measured.concat();
        times.sort();
        let report = &mut bench.report;
        let slowest = times.last().filter(|_| all_came).map(Duration::as_secs_f64);
        if !times.is_empty() {
            let first = measured.iter().filter_map(|times| times.first()).max().copied().unwrap_or_default();
            report.time("change", &format!("{path}: {from} to the first Secret, slowest round"), first);
            report.time("change", &format!("{path}: {from} to Secret, p50"), percentile(&times, 50));
            report.time("change", &format!("{path}: {from} to Secret, p99"), percentile(&times, 99));
            report.time("change", &format!("{path}: {from} to the last Secret, slowest round"), times[times.len() - 1]);
        }
        if !measured.is_empty() {
            report.must("change", &format!("{path}: every Secret follows in every round"), Some(all_came));
        }
        if let Some(limit) = limit {
            let claim = format!("{path}: {from} to the last Secret, slowest of {} rounds", bench.settings.rounds);
            report.at_most("change", &claim, slowest, limit, "s");
        }
        let most = values.iter().max().map(|values| float(*values));
        report.at_most("change", &format!("{path}: values read in a round"), most, 1.0, "");
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

/// The queue of events.
struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    async fn create(name: &str) -> Self {
        let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .load()
            .await;
        let client = aws_sdk_sqs::Client::new(&config);
        let created = client.create_queue().queue_name(name).send().await.unwrap();
        let url = created.queue_url.unwrap();
        // Events of an earlier measurement would be for versions that are past.
        client.purge_queue().queue_url(&url).send().await.unwrap();
        Self { client, url }
    }

    async fn delete(self) {
        self.client.delete_queue().queue_url(self.url).send().await.unwrap();
    }

    /// Sends what EventBridge sends once CloudTrail has recorded a `PutSecretValue`.
    async fn tell(&self, name: &str, arn: &str, version: &str) {
        let parts: Vec<&str> = arn.split(':').collect();
        let (region, account) = (parts[3], parts[4]);
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let id = || {
            let random = fastrand::u128(..);
            format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                random >> 96,
                random >> 80 & 0xffff,
                random >> 68 & 0xfff,
                random >> 56 & 0xfff,
                random & 0xffff_ffff_ffff
            )
        };
        let event = json!({
            "version": "0", "id": id(), "detail-type": "AWS API Call via CloudTrail", "source": "aws.secretsmanager",
            "account": account, "time": now, "region": region, "resources": [],
            "detail": {
                "eventVersion": "1.11",
                "userIdentity": {"type": "AssumedRole", "accountId": account},
                "eventTime": now,
                "eventSource": "secretsmanager.amazonaws.com",
                "eventName": "PutSecretValue",
                "awsRegion": region,
                "sourceIPAddress": "203.0.113.7",
                "userAgent": "aws-cli/2.31.0",
                "requestParameters": {"secretId": name, "clientRequestToken": version},
                "responseElements": {"arn": arn},
                "requestID": id(),
                "eventID": id(),
                "readOnly": false,
                "eventType": "AwsApiCall",
                "managementEvent": true,
                "recipientAccountId": account,
                "eventCategory": "Management",
            },
        });
        self.client.send_message().queue_url(&self.url).message_body(event.to_string()).send().await.unwrap();
    }
}
