//! The operator as a process of its own, as users run it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The flags for what is off by default.
const FEATURES: [&str; 3] = ["--enable-jobs", "--enable-service-account-tokens", "--enable-restarts"];

/// How to start an operator.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where its log, audit log and standard output go.
    pub folder: PathBuf,
    /// The namespaces to watch; none = all.
    pub namespaces: Vec<String>,
    /// The namespace of its own objects.
    pub home: String,
    /// The prefix of their names.
    pub name: String,
    /// Where AWS is.
    pub aws_endpoint: String,
    /// The name of the pod it plays.
    pub pod: String,
    /// Whether it may run Jobs, take tokens and restart workloads.
    pub features: bool,
    /// The level of its log.
    pub log_level: &'static str,
    /// Further flags.
    pub flags: Vec<String>,
    /// Further variables.
    pub variables: Vec<(String, String)>,
    /// Variables of the test that it does not get.
    pub without: Vec<&'static str>,
    /// When operators of this world were killed.
    pub kills: Kills,
}

/// When operators were killed: what AWS had sent them just before may have no record.
#[derive(Clone, Debug, Default)]
pub struct Kills(Arc<Mutex<Vec<Instant>>>);

impl Kills {
    /// How long an operator may take from an answer of AWS to the record of it.
    const TO_RECORD: Duration = Duration::from_secs(1);

    /// Whether an operator was killed so soon after `sent` that it may not have recorded what was sent then.
    pub fn explain(&self, sent: Instant) -> bool {
        let kills = self.0.lock().unwrap();
        kills.iter().any(|kill| kill.checked_duration_since(sent).is_some_and(|after| after < Self::TO_RECORD))
    }
}

/// A running operator. It is killed when dropped.
pub struct Operator {
    child: Child,
    setup: Setup,
    /// Where it serves its metrics.
    pub address: String,
}

impl Operator {
    /// Starts the binary.
    pub fn start(setup: Setup) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let log = |name: &str| File::options().create(true).append(true).open(setup.folder.join(name)).unwrap();
        // Measurements take a release build.
        let program = std::env::var_os("BINDERY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").into());
        let mut command = Command::new(program);
        command
            .arg("run")
            .args(["--listen", &address, "--log-level", setup.log_level, "--name", &setup.name])
            .args(setup.namespaces.iter().map(|namespace| format!("--watch-namespace={namespace}")))
            .args(if setup.features { &FEATURES[..] } else { &[] })
            .args(&setup.flags)
            .env("POD_NAMESPACE", &setup.home)
            .env("POD_NAME", &setup.pod)
            .env("AWS_ENDPOINT_URL", &setup.aws_endpoint)
            .envs(setup.variables.iter().cloned());
        for name in &setup.without {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(log("audit.jsonl")).stderr(log("operator.log"));
        Self { child: command.spawn().unwrap(), setup, address }
    }

    /// Ends it as `kill -9` does, at whatever it is doing.
    pub fn kill(&mut self) {
        self.setup.kills.0.lock().unwrap().push(Instant::now());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again as it was started.
    pub fn restart(&mut self) {
        *self = Self::start(self.setup.clone());
    }

    /// Sends SIGTERM and waits for the end; answers the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        for _ in 0..300 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the operator did not end within 30 s of SIGTERM");
    }

    /// Sends SIGHUP, upon which it opens its audit log anew.
    pub fn hang_up(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    /// The files that it has open.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        // A file may be closed while the folder is read.
        files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).collect()
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.memory("VmRSS")
    }

    /// The most resident memory so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.memory("VmHWM")
    }

    fn memory(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.setup.kills.0.lock().unwrap().push(Instant::now());
        // It may have ended by itself, which is for the test to judge.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an operator has written to one of its files so far.
pub fn read_log(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default()
}
