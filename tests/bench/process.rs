//! The operator as a process, and what `/proc` and its own port tell of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::report::float;

/// Linux counts the CPU time of processes in this unit on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// How to start an operator.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The program.
    pub program: PathBuf,
    /// Where its log and its audit log go.
    pub folder: PathBuf,
    /// As whom it talks to Kubernetes.
    pub kubeconfig: PathBuf,
    /// The namespace of its own objects.
    pub home: String,
    /// The prefix of their names.
    pub name: String,
    /// The name of the pod it plays.
    pub pod: String,
    /// Where Secrets Manager and STS are.
    pub secrets_manager: String,
    /// Further flags.
    pub flags: Vec<String>,
}

/// A running operator. It is killed when dropped.
pub struct Operator {
    child: Child,
    address: String,
    /// When it was started.
    pub started: Instant,
}

impl Operator {
    /// Starts it.
    pub fn start(setup: &Setup) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let log = |kind: &str| {
            let path = setup.folder.join(format!("{}.{kind}", setup.pod));
            File::options().create(true).append(true).open(path).unwrap()
        };
        let aws = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let mut command = Command::new(&setup.program);
        command
            .args(["run", "--listen", &address, "--name", &setup.name])
            .args(&setup.flags)
            .env("KUBECONFIG", &setup.kubeconfig)
            .env("POD_NAMESPACE", &setup.home)
            .env("POD_NAME", &setup.pod)
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "testing")
            .env("AWS_SECRET_ACCESS_KEY", "testing")
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", &setup.secrets_manager)
            .env("AWS_ENDPOINT_URL_STS", &setup.secrets_manager)
            .env("AWS_ENDPOINT_URL_SQS", &aws)
            .stdin(Stdio::null())
            .stdout(log("audit.jsonl"))
            .stderr(log("log"));
        let started = Instant::now();
        Self { child: command.spawn().unwrap(), address, started }
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The resident memory in MB.
    pub fn resident(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most that the resident memory ever was, in MB.
    pub fn peak(&self) -> f64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        float(kib * 1024) / 1e6
    }

    /// The CPU time so far, in seconds.
    pub fn cpu(&self) -> f64 {
        cpu_of(&self.proc("stat"))
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_else(|error| {
            panic!("the operator has ended ({error}); see its log");
        })
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        self.get("readyz").await.is_some()
    }

    /// Whether it holds the lease.
    pub async fn leads(&self) -> bool {
        self.get("metrics").await.is_some_and(|text| text.lines().any(|line| line == "bindery_leader 1"))
    }

    /// How many passes it has made, and how many bindings it knows to be Ready.
    pub async fn progress(&self) -> Option<(u64, usize)> {
        let text = self.get("metrics").await?;
        let passes = text.lines().filter(|line| line.starts_with("bindery_reconcile_total{"));
        let passes = passes.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        let ready = |line: &&str| line.starts_with("bindery_binding_ready{") && line.ends_with(" 1");
        Some((passes, text.lines().filter(ready).count()))
    }

    /// Waits until it knows all bindings to be Ready and makes no more passes. Answers when it made the last one.
    pub async fn settle(&self, bindings: usize, limit: Duration) -> Option<Instant> {
        /// Longer than any pause between the passes of a start.
        const QUIET: Duration = Duration::from_secs(3);
        let mut last = (0, Instant::now());
        while self.started.elapsed() < limit {
            if let Some((passes, ready)) = self.progress().await {
                if passes != last.0 {
                    last = (passes, Instant::now());
                } else if ready >= bindings && last.1.elapsed() > QUIET {
                    return Some(last.1);
                }
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        None
    }

    async fn get(&self, path: &str) -> Option<String> {
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
        let uri = format!("http://{}/{path}", self.address).parse().unwrap();
        let answer = client.get(uri).await.ok().filter(|answer| answer.status().is_success())?;
        String::from_utf8(answer.into_body().collect().await.ok()?.to_bytes().into()).ok()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time in what `/proc/<pid>/stat` says, in seconds.
fn cpu_of(stat: &str) -> f64 {
    // The name, in parentheses, may hold spaces; the fields behind it begin with the third.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().unwrap()).sum();
    float(ticks) / TICKS_PER_SECOND
}

/// The CPU time so far of the API server, where the cluster is one of `tests/cluster`, in seconds.
pub fn server_cpu() -> Option<f64> {
    let folder = PathBuf::from(std::env::var_os("BINDERY_TEST_CLUSTER")?);
    let processes: Value = serde_json::from_slice(&std::fs::read(folder.join("processes.json")).ok()?).ok()?;
    let server = processes.as_array()?.iter().find(|process| process["name"] == "kube-apiserver")?;
    Some(cpu_of(&std::fs::read_to_string(format!("/proc/{}/stat", server["pid"])).ok()?))
}

/// Whether the program has a flag.
pub fn has_flag(program: &Path, flag: &str) -> bool {
    let help = Command::new(program).args(["run", "--help"]).output().unwrap();
    String::from_utf8_lossy(&help.stdout).contains(flag)
}
