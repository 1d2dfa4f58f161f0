//! `--concurrency` bounds the requests of reconciles to the API server, whatever they do; and what is up to date asks
//! for no write.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::standin::StandIn;
use crate::support::api_proxy::{ApiRequest, Verb};
use crate::support::workloads::{apply, manifest, whole};
use crate::support::world::CANARY;
use crate::support::{ApiFault, ApiProxy, Operator, World, eventually};

const KEY: &str = "TOKEN_ENCRYPTION_KEY";
const PREVIOUS: &str = "TOKEN_ENCRYPTION_KEY_PREVIOUS";
const LIMIT: Duration = Duration::from_secs(120);

/// Bindings that only publish, and those whose Secrets pods use, whose targets are renamed, whose key overlaps, and
/// that run a Job.
const PLAIN: [&str; 18] = [
    "p00", "p01", "p02", "p03", "p04", "p05", "p06", "p07", "p08", "p09", "p10", "p11", "p12", "p13", "p14", "p15",
    "p16", "p17",
];
const USED: [&str; 4] = ["used-0", "used-1", "used-2", "used-3"];
const MOVED: [&str; 3] = ["moved-0", "moved-1", "moved-2"];
const MEMBERS: [&str; 3] = ["member-0", "member-1", "member-2"];
const DUE: [&str; 3] = ["due-0", "due-1", "due-2"];

fn value(name: &str) -> String {
    format!("{CANARY}-{name}")
}

/// A world with many bindings whose operator goes through a proxy, with this bound.
struct Crowd {
    world: World,
    stand_in: StandIn,
    proxy: ApiProxy,
    operator: Operator,
    bound: usize,
    /// How often requests were held.
    stalls: usize,
}

fn put(world: &World, stand_in: &StandIn, secret: &str, key: &str, name: &str) {
    world.note_value(&value(name));
    stand_in.put(&world.secret_id(secret), &json!({key: value(name)}).to_string());
}

fn publishes(world: &World, secret: &str) -> Value {
    json!({"refreshInterval": "10s", "dataFrom": [{"secret": world.secret_id(secret)}]})
}

fn restarts(world: &World, secret: &str) -> Value {
    let mut spec = publishes(world, secret);
    spec["restart"] = json!({"policy": "Consumers"});
    spec
}

fn overlaps(world: &World, overlap: &Value) -> Value {
    let mut spec = restarts(world, "token");
    spec["rotation"] = json!([{"name": "token", "keys": [KEY], "overlap": overlap}]);
    spec
}

/// A CronJob whose Job Bindery may run.
async fn cron_job(world: &World, name: &str) {
    let object = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name, "annotations": {"bindery.dev/run": "allowed"}},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}],
        }}}}},
    });
    let api: Api<CronJob> = Api::namespaced(world.client.clone(), &world.namespace);
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap();
}

/// The digest of the change that the workloads of a binding were last restarted for.
async fn handled(world: &World, name: &str) -> Option<String> {
    world.bindings().get(name).await.unwrap().status?.rollout?.handled
}

async fn handled_anew(world: &World, name: &str, before: Option<&String>) {
    eventually(&format!("the rollout of {name}"), LIMIT, || async {
        let now = handled(world, name).await;
        (now.is_some() && now.as_ref() != before).then_some(())
    })
    .await;
    world.wait(name, "RolledOut", "True/RolledOut").await;
}

/// Whether a key of this binding is at rest at this value.
async fn is_at_rest(world: &World, name: &str, key: &str) -> bool {
    let data = world.data(name).await.unwrap_or_default();
    let status = world.bindings().get(name).await.unwrap().status.unwrap_or_default();
    data.get(KEY) == Some(&value(key))
        && !data.contains_key(PREVIOUS)
        && status.rotation.iter().all(|rule| rule.phase.is_none())
}

impl Crowd {
    async fn new(name: &str, bound: usize) -> Self {
        let (world, stand_in) = World::with_stand_in(name).await;
        let all = [format!("{}/*", world.namespace)];
        let grant = json!({
            "namespaces": {"names": [world.namespace]}, "secrets": [{"name": all[0]}], "aws": {"region": "eu-west-1"},
            "rotation": [
                {"action": "RunJob", "secrets": all, "keys": ["*"]},
                {"action": "Generate", "secrets": all, "keys": [KEY]},
            ],
        });
        world.grant_with(&world.namespace.clone(), grant).await;
        put(&world, &stand_in, "shared", "A", "shared-1");
        put(&world, &stand_in, "token", KEY, "token-1");
        let proxy = world.api_proxy().await;
        let operator = world.operator_through(&proxy, &[&format!("--concurrency={bound}"), "--max-rollouts=100"]);
        Self { world, stand_in, proxy, operator, bound, stalls: 0 }
    }

    /// Has each of some bindings read and written anew.
    async fn sync(&self, bindings: &[&str], text: &str) {
        for name in bindings {
            self.world.annotate(name, "bindery.dev/sync", text).await;
        }
    }

    fn hold(&self) {
        self.proxy.fail(ApiFault::Stall, ApiRequest::is_of_a_reconcile);
    }

    fn under_way(&self) -> usize {
        self.proxy.under_way(ApiRequest::is_of_a_reconcile)
    }

    /// Holds all requests of reconciles until as many are under way as may be, then lets them go.
    async fn stall(&mut self, during: &str) {
        // Shorter than the operator waits for an answer. A reconcile that waits for another of its group holds its
        // place without a request, so that it may take a few rounds.
        for _ in 0..12 {
            self.hold();
            for _ in 0..60 {
                if self.under_way() >= self.bound {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let full = self.under_way() >= self.bound;
            // Who did not wait for a place would come now.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(self.under_way() <= self.bound, "{} requests are under way during {during}", self.under_way());
            self.proxy.heal();
            if full {
                self.stalls += 1;
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} requests were never under way during {during}", self.bound);
    }

    async fn publish_first(&mut self) {
        self.hold();
        for name in PLAIN.iter().chain(&MOVED) {
            self.world.bind(name, publishes(&self.world, "shared")).await;
        }
        for name in USED {
            self.world.bind(name, restarts(&self.world, "shared")).await;
        }
        cron_job(&self.world, "reencrypt").await;
        for name in MEMBERS {
            let mut overlap = json!({"strategy": "Staged", "hold": "1s", "group": "keys"});
            if name == MEMBERS[0] {
                overlap["reencrypt"] = json!({"cronJob": "reencrypt"});
            }
            self.world.bind(name, overlaps(&self.world, &overlap)).await;
        }
        for _ in 0..3 {
            self.stall("the first publication").await;
        }
        for name in PLAIN.iter().chain(&USED).chain(&MOVED).chain(&MEMBERS) {
            self.world.wait_ready(name).await;
        }
        for name in [&USED[..], &MEMBERS[..1]].concat() {
            apply(&self.world, "test", &manifest("Deployment", name, &whole(name))).await;
        }
        // So that no pod is of the second of the change that follows.
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }

    /// Waits until all that `shared` goes to has this value, and the pods that use it are replaced.
    async fn has(&self, name: &str, before: &[Option<String>]) {
        for binding in PLAIN.iter().chain(&USED).chain(&MOVED) {
            let target = if MOVED.contains(binding) { format!("{binding}-new") } else { (*binding).to_owned() };
            self.world.wait_value(&target, "A", &value(name)).await;
            self.world.wait_ready(binding).await;
        }
        for (binding, before) in USED.iter().zip(before) {
            handled_anew(&self.world, binding, before.as_ref()).await;
        }
    }

    async fn handled(&self) -> Vec<Option<String>> {
        futures::future::join_all(USED.map(|name| handled(&self.world, name))).await
    }

    /// A changed secret, with restarts, and targets under other names.
    async fn change(&mut self) {
        let before = self.handled().await;
        self.hold();
        put(&self.world, &self.stand_in, "shared", "A", "shared-2");
        for name in MOVED {
            let mut spec = publishes(&self.world, "shared");
            spec["target"] = json!({"name": format!("{name}-new")});
            self.world.bind(name, spec).await;
        }
        self.sync(&[&PLAIN[..], &USED[..]].concat(), "change").await;
        for _ in 0..3 {
            self.stall("a change").await;
        }
        self.has("shared-2", &before).await;
        for name in MOVED {
            eventually("the Secret of the earlier name to be gone", LIMIT, || async {
                self.world.data(name).await.is_none().then_some(())
            })
            .await;
        }
    }

    /// A new key, from its first step to its last.
    async fn rotate(&mut self) {
        self.hold();
        put(&self.world, &self.stand_in, "token", KEY, "token-2");
        self.sync(&MEMBERS, "rotate").await;
        let (mut round, started) = (0, std::time::Instant::now());
        loop {
            self.sync(&PLAIN[..8], &format!("rotate-{round}")).await;
            self.stall("a rotation").await;
            round += 1;
            let rest = MEMBERS.map(|name| is_at_rest(&self.world, name, "token-2"));
            if futures::future::join_all(rest).await.into_iter().all(|rests| rests) && round >= 3 {
                break;
            }
            assert!(started.elapsed() < LIMIT, "the overlap did not end after {round} stalls");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for name in MEMBERS {
            self.world.wait_ready(name).await;
        }
    }

    /// A rule that is due runs its Job, once for all bindings with it.
    async fn run_job(&mut self) {
        let old = json!({"COOKIE": value("cookie-1")}).to_string();
        self.world.note_value(&value("cookie-1"));
        let long_ago = SystemTime::now() - Duration::from_secs(8 * 86_400);
        self.stand_in.put_at(&self.world.secret_id("cookie"), &old, long_ago);
        cron_job(&self.world, "renew").await;
        let rule = json!({
            "name": "session", "keys": ["COOKIE"], "every": "7d", "action": "RunJob", "runJob": {"cronJob": "renew"},
        });
        self.hold();
        for name in DUE {
            let mut spec = publishes(&self.world, "cookie");
            spec["rotation"] = json!([rule]);
            self.world.bind(name, spec).await;
        }
        let jobs: Api<Job> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        let (mut round, started) = (0, std::time::Instant::now());
        loop {
            self.sync(&PLAIN[..8], &format!("job-{round}")).await;
            self.stall("a rule that is due").await;
            round += 1;
            let found = jobs.list(&ListParams::default()).await.unwrap().items;
            let renewals = found.iter().filter(|job| job.metadata.name.as_ref().unwrap().starts_with("renew"));
            let count = renewals.count();
            assert!(count <= 1, "{count} Jobs for one rule");
            if count == 1 && round >= 3 {
                break;
            }
            assert!(started.elapsed() < LIMIT, "no Job ran after {round} stalls");
        }
        put(&self.world, &self.stand_in, "cookie", "COOKIE", "cookie-2");
        for name in DUE {
            self.world.wait_value(name, "COOKIE", &value("cookie-2")).await;
            self.world.wait(name, "RotationCurrent", "True/Current").await;
        }
    }

    /// The operator ends in the middle of requests and starts again, and meanwhile the secret has changed.
    async fn restart(&mut self) {
        let before = self.handled().await;
        self.sync(&PLAIN, "before the restart").await;
        self.hold();
        self.operator.kill();
        eventually("the connections to be closed", LIMIT, || async {
            (self.proxy.under_way(|_| true) == 0).then_some(())
        })
        .await;
        put(&self.world, &self.stand_in, "shared", "A", "shared-3");
        self.operator.restart();
        eventually("the operator to lead", LIMIT, || async { (self.under_way() > 0).then_some(()) }).await;
        for _ in 0..3 {
            self.stall("a restart").await;
        }
        self.has("shared-3", &before).await;
    }
}

/// Goes through all that reconciles do, with requests held again and again.
async fn goes_through_all(name: &str, bound: usize) {
    let mut crowd = Crowd::new(name, bound).await;
    crowd.publish_first().await;
    crowd.change().await;
    crowd.rotate().await;
    crowd.run_job().await;
    crowd.restart().await;
    let Crowd { world, proxy, operator, stalls, .. } = crowd;
    let kinds: BTreeSet<String> = proxy
        .exchanges(ApiRequest::is_of_a_reconcile)
        .iter()
        .map(|exchange| format!("{:?} {}", exchange.request.verb, exchange.request.resource))
        .collect();
    let requests = proxy.exchanges(ApiRequest::is_of_a_reconcile).len();
    println!("{requests} requests with --concurrency {bound}, held {stalls} times; of these kinds: {kinds:?}");
    for kind in ["Delete secrets", "Create jobs", "Patch deployments", "Apply secrets", "Patch secretbindings/status"] {
        assert!(kinds.contains(kind), "{kind} is among the requests that were bounded: {kinds:?}");
    }
    assert_eq!(proxy.most_under_way(ApiRequest::is_of_a_reconcile), bound, "at once, over the whole run");
    drop(operator);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_than_concurrency_are_under_way_through_publishing_overlaps_actions_and_restarts() {
    goes_through_all("bounded", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_concurrency_of_one_everything_is_done_and_nothing_waits_for_ever() {
    goes_through_all("one-by-one", 1).await;
}

/// What a binding can cause. The status of a grant counts the bindings of all, and is told by the clock.
fn is_write_of_a_binding(request: &ApiRequest) -> bool {
    request.writes() && request.is_of_a_reconcile() && !request.is_of("secretgrants")
}

const SETTLED: [&str; 3] = ["plain", "used", "token"];

/// Three bindings at rest: one that only publishes, one whose pods were restarted, one whose key has overlapped.
async fn settle(world: &World, stand_in: &StandIn) {
    world.bind("plain", publishes(world, "shared")).await;
    world.bind("used", restarts(world, "shared")).await;
    world.bind("token", overlaps(world, &json!({"strategy": "Staged", "hold": "1s"}))).await;
    for name in SETTLED {
        world.wait_ready(name).await;
    }
    apply(world, "test", &manifest("Deployment", "used", &whole("used"))).await;
    // So that no pod is of the second of the change that follows.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    put(world, stand_in, "shared", "A", "shared-2");
    put(world, stand_in, "token", KEY, "token-2");
    handled_anew(world, "used", None).await;
    world.wait_value("token", PREVIOUS, &value("token-1")).await;
    world.annotate("token", "bindery.dev/rotation", "retire-token").await;
    eventually("the overlap to end", LIMIT, || async { is_at_rest(world, "token", "token-2").await.then_some(()) })
        .await;
    for name in SETTLED {
        world.wait_ready(name).await;
    }
    // The last writes may still be on their way.
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_is_up_to_date_attempts_no_write_while_every_write_is_refused() {
    let (world, stand_in) = World::with_stand_in("no-attempt").await;
    put(&world, &stand_in, "shared", "A", "shared-1");
    put(&world, &stand_in, "token", KEY, "token-1");
    let proxy = world.api_proxy().await;
    let _operator = world.operator_through(&proxy, &[]);
    settle(&world, &stand_in).await;
    let written = proxy.exchanges(is_write_of_a_binding).len();
    let looks = || world.proxy.count("DescribeSecret") + world.proxy.count("ListSecrets");
    let before = looks();
    let refused = |request: &ApiRequest| request.writes() && !request.is_of("leases") && !request.is_of("events");
    proxy.fail(ApiFault::Status(403), refused);
    for number in 0..5 {
        for name in SETTLED {
            world.annotate(name, "example.com/number", &number.to_string()).await;
        }
        // Half a refresh interval, so that reconciles begin by the clock as well.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(looks() >= before + 2, "the secrets are looked at all the while: {} times", looks() - before);
    let attempts = proxy.exchanges(is_write_of_a_binding).split_off(written);
    assert!(attempts.is_empty(), "{attempts:?}");

    // What is not up to date is attempted, and succeeds once it may.
    put(&world, &stand_in, "shared", "A", "shared-3");
    eventually("a refused publication", LIMIT, || async {
        let applied = proxy.exchanges(|request| request.verb == Verb::Apply && request.resource == "secrets");
        applied.iter().any(|exchange| exchange.status == Some(403)).then_some(())
    })
    .await;
    proxy.heal();
    world.annotate("plain", "example.com/number", "last").await;
    world.wait_value("plain", "A", &value("shared-3")).await;
    world.wait_ready("plain").await;
    world.end().await;
}
