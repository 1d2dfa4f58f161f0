//! The cluster: namespaces, the operator's rights, and work done by several workers at once.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bindery::api::SecretGrant;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::audit::{AuditLog, Write};
use super::release;
use super::watch::progress;

/// By how many workers this program writes, as the floor is defined.
pub const WORKERS: usize = 8;

/// The label by which objects of one world are found.
pub const LABEL: &str = "bench-world";

/// The ServiceAccounts of operators; the second one is needed to tell two processes apart in the audit log.
pub const ACCOUNTS: [&str; 2] = ["bindery-0", "bindery-1"];

/// What the chart makes besides rights; there is no image to run here.
const NOT_NEEDED: [&str; 3] = ["Deployment", "Service", "PodDisruptionBudget"];

/// The cluster, and what this run has in it.
pub struct Cluster {
    /// The client of an administrator.
    pub client: Client,
    /// A name that no other run has; also of the namespace of the operator's own objects.
    pub run: String,
    /// Where files of operators go.
    pub folder: TempDir,
    /// Who wrote what, where the cluster says so.
    audit: Option<AuditLog>,
}

impl Cluster {
    /// Takes the cluster that `KUBECONFIG` names, and gives the operator the rights of the chart.
    pub async fn prepare() -> Self {
        let client = Client::try_default().await.expect("KUBECONFIG must name a cluster: run `make bench`");
        let run = format!("bench-{:06x}", fastrand::u32(..0x0100_0000));
        let cluster = Self {
            client,
            folder: tempfile::Builder::new().prefix(&format!("bindery-{run}-")).tempdir().unwrap(),
            audit: AuditLog::open(format!("system:serviceaccount:{run}:")),
            run,
        };
        cluster.make_namespaces(&cluster.run, std::slice::from_ref(&cluster.run)).await;
        cluster.install();
        cluster
    }

    /// The writes of operators since the last time.
    pub fn writes(&mut self) -> Option<Vec<Write>> {
        self.audit.as_mut().map(AuditLog::read)
    }

    fn install(&self) {
        let name = format!("fullnameOverride={}", self.run);
        let account = format!("serviceAccount.name={}", ACCOUNTS[0]);
        let sets = ["--set", "crds.install=false", "--set", &name, "--set", &account];
        let chart = [&["template", &self.run, "charts/bindery", "--namespace", &self.run], &sets[..]].concat();
        let mut objects: Vec<Value> = serde_saphyr::from_multiple(&release::run("helm", &chart, None)).unwrap();
        objects.retain(|object| object["kind"].as_str().is_some_and(|kind| !NOT_NEEDED.contains(&kind)));
        for object in &mut objects {
            if let Some(subjects) = object.get_mut("subjects").and_then(Value::as_array_mut) {
                subjects.push(json!({"kind": "ServiceAccount", "name": ACCOUNTS[1], "namespace": self.run}));
            }
        }
        objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNTS[1]}}));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        release::run("kubectl", &["apply", "--server-side", "--namespace", &self.run, "-f", "-"], Some(&list));
    }

    /// Removes what stands outside of worlds.
    pub async fn remove(&self) {
        release::uninstall(&self.run);
        let api: Api<Namespace> = Api::all(self.client.clone());
        // The cluster itself goes next, where it was started for this run.
        let _ = api.delete(&self.run, &DeleteParams::background()).await;
    }

    /// A kubeconfig of one of [`ACCOUNTS`], with a token that is valid from now for an hour.
    pub fn kubeconfig(&self, account: &str) -> PathBuf {
        let folder = self.folder.path().join(account);
        std::fs::create_dir_all(&folder).unwrap();
        release::kubeconfig(account, &self.run, &folder)
    }

    /// The name of one of [`ACCOUNTS`] in the audit log.
    pub fn user(&self, account: &str) -> String {
        format!("system:serviceaccount:{}:{account}", self.run)
    }

    /// Makes the namespaces of a world.
    pub async fn make_namespaces(&self, world: &str, names: &[String]) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        for name in names {
            let labels = [(LABEL.to_owned(), world.to_owned())].into();
            let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() };
            let namespace = Namespace { metadata, ..Namespace::default() };
            api.create(&PostParams::default(), &namespace).await.unwrap();
        }
    }

    /// Removes the namespaces and grants of a world, and waits until all that was in them is gone: what deletes it
    /// would compete with what is measured next.
    pub async fn remove_world(&self, world: &str) {
        let selected = ListParams::default().labels(&format!("{LABEL}={world}"));
        let grants: Api<SecretGrant> = Api::all(self.client.clone());
        grants.delete_collection(&DeleteParams::default(), &selected).await.unwrap();
        let api: Api<Namespace> = Api::all(self.client.clone());
        let names: Vec<String> =
            api.list(&selected).await.unwrap().into_iter().filter_map(|namespace| namespace.metadata.name).collect();
        for name in &names {
            api.delete(name, &DeleteParams::background()).await.unwrap();
        }
        let left = AtomicUsize::new(names.len());
        let gone = async {
            while left.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                left.store(api.list_metadata(&selected).await.unwrap().items.len(), Ordering::Relaxed);
            }
        };
        let line = || format!("removes {world}: {} namespaces left", left.load(Ordering::Relaxed));
        let gone = progress(Duration::from_secs(1200), gone, line).await;
        assert!(gone.is_some(), "the namespaces of {world} do not go");
    }
}

/// Does something for each number below `count`, by [`WORKERS`] tasks; prints once a second how far it is. Answers how
/// long it took.
pub async fn work<F, W>(what: &str, count: usize, one: W) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
    W: Fn(usize) -> F + Send + Sync + 'static,
{
    let one = Arc::new(one);
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (one, next) = (one.clone(), next.clone());
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                one(number).await;
            }
        });
    }
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SECOND, SECOND);
    loop {
        tokio::select! {
            done = workers.join_next() => match done {
                Some(done) => done.unwrap(),
                None => return started.elapsed(),
            },
            _ = ticks.tick() => {
                let done = next.load(Ordering::Relaxed).min(count);
                println!("     {:>5.0} s  {what}: {done} of {count}", started.elapsed().as_secs_f64());
            }
        }
    }
}

/// How often progress is printed.
pub const SECOND: Duration = Duration::from_secs(1);
