//! An app and a worker of the guide that share a table: two bindings, two Deployments, one key, in one secret or in two.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::program::{Environment, KEY, Table, new_key};
use crate::standin::StandIn;
use crate::support::World;

/// How the key is rotated.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// `Staged` or `Immediate`.
    pub strategy: &'static str,
    /// Whether app and worker advance together.
    pub grouped: bool,
    /// Whether the key stands in one secret for both, or in the app's and in the worker's own.
    pub shared: bool,
}

/// One seeded run.
pub struct Pair {
    name: String,
    layout: Layout,
    random: fastrand::Rng,
    table: Table,
    /// The environments of the pods that run, by name.
    running: BTreeMap<String, Environment>,
    jobs_done: BTreeSet<String>,
    /// What each secret holds.
    secrets: BTreeMap<String, Value>,
    keys_left: u32,
    lags: bool,
    /// Rows that some pod met and could not decrypt.
    pub violations: Vec<String>,
    /// How many pods were seen to start.
    started: usize,
}

impl Pair {
    pub async fn new(world: &World, stand_in: &StandIn, seed: u64, layout: Layout) -> Self {
        let name = format!("p{seed}");
        let key = new_key();
        let mut pair = Self {
            layout,
            random: fastrand::Rng::with_seed(seed),
            table: Table::default(),
            running: BTreeMap::new(),
            jobs_done: BTreeSet::new(),
            secrets: BTreeMap::new(),
            keys_left: 1 + u32::from(seed.is_multiple_of(3)),
            lags: false,
            violations: Vec::new(),
            started: 0,
            name,
        };
        for secret in pair.sources() {
            pair.secrets.insert(secret.clone(), json!({KEY: key, "DATABASE_URL": "postgres://canary-7f3a/0"}));
            pair.put(world, stand_in, &secret);
        }
        pair.set_up(world).await;
        pair
    }

    fn sources(&self) -> Vec<String> {
        let own = |program: &str| format!("{}-{program}", self.name);
        if self.layout.shared { vec![own("shared")] } else { vec![own("app"), own("worker")] }
    }

    fn source_of(&self, program: &str) -> String {
        let own = if self.layout.shared { "shared" } else { program };
        format!("{}-{own}", self.name)
    }

    fn put(&self, world: &World, stand_in: &StandIn, secret: &str) {
        let payload = &self.secrets[secret];
        for value in payload.as_object().unwrap().values() {
            world.note_value(value.as_str().unwrap());
        }
        stand_in.put(&world.secret_id(secret), &payload.to_string());
    }

    async fn set_up(&self, world: &World) {
        let slow = u32::from(self.random.clone().bool());
        for program in ["app", "worker"] {
            let name = format!("{}-{program}", self.name);
            let group = if self.layout.grouped { self.name.clone() } else { name.clone() };
            let mut overlap = json!({"strategy": self.layout.strategy, "hold": "1s"});
            if self.layout.strategy == "Staged" {
                overlap["group"] = json!(group);
                // Without a group each program re-encrypts by itself; with one, the app does it for both.
                if program == "app" || !self.layout.grouped {
                    overlap["reencrypt"] = json!({"cronJob": format!("reencrypt-{}", self.name)});
                }
            }
            let spec = json!({
                "refreshInterval": "10s",
                "dataFrom": [{"secret": world.secret_id(&self.source_of(program))}],
                "rotation": [{"name": "token-encryption-key", "keys": [KEY], "overlap": overlap}],
                "restart": {"policy": "Consumers"},
            });
            world.bind(&name, spec).await;
            let deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                "spec": {
                    "replicas": 2, "minReadySeconds": slow, "selector": {"matchLabels": {"app": name}},
                    "template": {
                        "metadata": {"labels": {"app": name}},
                        "spec": {
                            "terminationGracePeriodSeconds": 0,
                            "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": name}}]}],
                        },
                    },
                },
            });
            let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
            deployments.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&deployment)).await.unwrap();
        }
        let cron_job = json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": format!("reencrypt-{}", self.name), "annotations": {"bindery.dev/run": "allowed"}},
            "spec": {
                "schedule": "0 0 1 1 *", "suspend": true,
                "jobTemplate": {"spec": {"template": {
                    "metadata": {"labels": {"job-of": self.name}},
                    // Nobody schedules it, so that the test alone says when it has done its work.
                    "spec": {
                        "schedulerName": "the-test", "restartPolicy": "Never",
                        "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": format!("{}-app", self.name)}}]}],
                    },
                }}},
            },
        });
        let cron_jobs: Api<CronJob> = Api::namespaced(world.client.clone(), &world.namespace);
        let name = format!("reencrypt-{}", self.name);
        cron_jobs.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&cron_job)).await.unwrap();
    }

    /// Plays what happens in a moment: pods start and end, store tokens and read them all; a Job re-encrypts.
    pub async fn play(&mut self, world: &World, pods: &[Pod]) {
        let of = |pod: &&Pod, program: &str| {
            pod.labels().get("app").is_some_and(|app| *app == format!("{}-{program}", self.name))
        };
        let mut present = BTreeSet::new();
        for program in ["app", "worker"] {
            for pod in pods.iter().filter(|pod| of(pod, program)) {
                let name = pod.name_any();
                let ready = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
                if pod.meta().deletion_timestamp.is_some() || !ready {
                    continue;
                }
                present.insert(name.clone());
                if !self.running.contains_key(&name) {
                    // The kubelet reads the Secret after the pod is there.
                    let data = world.data(&format!("{}-{program}", self.name)).await.unwrap_or_default();
                    if let Some(environment) = Environment::of(&data) {
                        self.running.insert(name, environment);
                        self.started += 1;
                    }
                }
            }
        }
        self.running.retain(|pod, _| present.contains(pod));
        self.run_jobs(world, pods).await;
        let writers: Vec<String> = self.running.keys().cloned().collect();
        if let Some(pod) = self.random.choice(&writers)
            && is_there(world, pod).await
        {
            self.table.store(&self.running[pod]);
        }
        for (pod, environment) in &self.running {
            let lost = self.table.lost_to(environment);
            if lost > 0 && is_there(world, pod).await {
                self.violations.push(format!("{pod} cannot decrypt {lost} of {} rows", self.table.len()));
            }
        }
    }

    async fn run_jobs(&mut self, world: &World, pods: &[Pod]) {
        let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
        for pod in pods.iter().filter(|pod| pod.labels().get("job-of") == Some(&self.name)) {
            let name = pod.name_any();
            if self.jobs_done.contains(&name) || pod.meta().deletion_timestamp.is_some() {
                continue;
            }
            let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
            if secrets.get_metadata_opt(&format!("{}-app", self.name)).await.unwrap().is_none() {
                continue;
            }
            let data = world.data(&format!("{}-app", self.name)).await.unwrap_or_default();
            let Some(environment) = Environment::of(&data) else { continue };
            let lost = self.table.encrypt_anew(&environment);
            if lost > 0 {
                self.violations.push(format!("the Job {name} cannot decrypt {lost} rows"));
            }
            self.jobs_done.insert(name.clone());
            let status = json!({"status": {"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted"}]}});
            let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
        }
    }

    /// Does something random to the world.
    pub async fn disturb(&mut self, world: &World, stand_in: &StandIn) {
        match self.random.u32(..100) {
            0..4 => self.rotate(world, stand_in),
            4..12 => self.write_something_else(world, stand_in),
            12..16 => self.roll_out(world).await,
            _ => {}
        }
    }

    /// Writes a new key; where there are two secrets, to one of them first.
    pub fn rotate(&mut self, world: &World, stand_in: &StandIn) {
        let sources = self.sources();
        if self.lags {
            // The second secret may lag for longer than a phase takes.
            if self.random.u32(..4) == 0 {
                self.catch_up(world, stand_in);
            }
        } else if self.keys_left > 0 {
            self.keys_left -= 1;
            let key = new_key();
            let first = self.random.usize(..sources.len());
            for (index, source) in sources.iter().enumerate() {
                self.secrets.get_mut(source).unwrap()["later"] = json!(key);
                if index == first {
                    self.secrets.get_mut(source).unwrap()[KEY] = json!(key);
                    self.put(world, stand_in, source);
                }
            }
            self.lags = sources.len() > 1;
        }
    }

    /// Lets all sources hold the newest key.
    pub fn catch_up(&mut self, world: &World, stand_in: &StandIn) {
        self.lags = false;
        for source in self.sources() {
            let payload = self.secrets.get_mut(&source).unwrap();
            if let Some(later) = payload.as_object_mut().unwrap().remove("later") {
                payload[KEY] = later;
                self.put(world, stand_in, &source);
            }
        }
    }

    /// Another key of the same secret: AWSPREVIOUS moves on.
    fn write_something_else(&mut self, world: &World, stand_in: &StandIn) {
        let sources = self.sources();
        let source = self.random.choice(&sources).unwrap().clone();
        let text = format!("postgres://canary-7f3a/{}", self.random.u32(..));
        self.secrets.get_mut(&source).unwrap()["DATABASE_URL"] = json!(text);
        self.put(world, stand_in, &source);
    }

    /// Somebody restarts a Deployment for reasons of their own.
    async fn roll_out(&mut self, world: &World) {
        let program = if self.random.bool() { "app" } else { "worker" };
        let api: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
        let text = self.random.u32(..).to_string();
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": text}}}}});
        api.patch(&format!("{}-{program}", self.name), &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Whether the newest key is all that is published, in both Secrets.
    pub async fn is_settled(&self, world: &World) -> bool {
        let key = self.secrets.values().next().unwrap()[KEY].as_str().unwrap();
        for program in ["app", "worker"] {
            let data = world.data(&format!("{}-{program}", self.name)).await.unwrap_or_default();
            let settled = Environment::of(&data).is_some_and(|found| found.key == key && found.beside.is_empty());
            if !settled {
                return false;
            }
        }
        true
    }

    /// Whether all pods run, and with nothing but the newest key.
    pub fn runs_current(&self) -> bool {
        let key = self.secrets.values().next().unwrap()[KEY].as_str().unwrap();
        self.running.len() == 4 && self.running.values().all(|found| found.key == key)
    }

    /// Whether the run has shown anything: all pods were replaced twice, rows were written and encrypted anew.
    pub fn was_rotated(&self) -> bool {
        self.started >= 12 && self.table.len() >= 4 && !self.jobs_done.is_empty()
    }

    /// A line about how it stands, for a test that waits in vain.
    pub fn describe(&self) -> String {
        format!(
            "{} {:?}: {} pods run, {} rows, jobs done {}",
            self.name,
            self.layout,
            self.running.len(),
            self.table.len(),
            self.jobs_done.len()
        )
    }
}

async fn is_there(world: &World, pod: &str) -> bool {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let found = api.get_metadata_opt(pod).await.unwrap();
    found.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
}
