//! The API server of a cluster that is the test's own.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// An API server that was stopped.
pub struct Stopped {
    folder: PathBuf,
    command: Vec<String>,
}

/// The words by which a process was started; none where there is no such process.
fn words(pid: u64) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn processes(folder: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("processes.json")).unwrap()).unwrap()
}

/// Stops the API server as a node does that loses its power.
pub fn stop() -> Stopped {
    let folder = PathBuf::from(std::env::var("BINDERY_TEST_CLUSTER").unwrap());
    let recorded = processes(&folder);
    let server = recorded.iter().rev().find(|process| process["name"] == "kube-apiserver").unwrap();
    let pid = server["pid"].as_u64().unwrap();
    let command = words(pid);
    assert!(command.iter().any(|word| word.starts_with("--etcd-servers=")), "{command:?}");
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    while !words(pid).is_empty() {
        std::thread::sleep(Duration::from_millis(50));
    }
    Stopped { folder, command }
}

/// Starts it again, and records it for the end of the cluster, which stops it.
#[allow(clippy::zombie_processes, reason = "it outlives the test, and the cluster stops it")]
pub fn start(stopped: Stopped) {
    let Stopped { folder, command } = stopped;
    let log = std::fs::File::options().append(true).open(folder.join("kube-apiserver.log")).unwrap();
    let mut again = Command::new(&command[0]);
    again.args(&command[1..]).current_dir(&folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let child = again.process_group(0).spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let began = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
    let mut recorded = processes(&folder);
    recorded.push(json!({"name": "kube-apiserver", "pid": child.id(), "start": began}));
    std::fs::write(folder.join("processes.json"), serde_json::to_vec(&recorded).unwrap()).unwrap();
}

/// Has etcd forget all revisions but the last one.
pub async fn compact(stopped: &Stopped) {
    let servers = stopped.command.iter().find_map(|word| word.strip_prefix("--etcd-servers=")).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let ask = async |path: &str, body: &Value| -> Value {
        let request = Request::post(format!("{servers}/v3/kv/{path}")).body(Full::from(body.to_string())).unwrap();
        let answer = client.request(request).await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    };
    let header = ask("range", &json!({"key": "YQ=="})).await;
    ask("compaction", &json!({"revision": header["header"]["revision"], "physical": true})).await;
}
