//! Who wrote what, from the audit log of the API server.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// One write that the API server answered.
#[derive(Clone, Debug)]
pub struct Write {
    /// Whose.
    pub user: String,
    /// Such as `patch`.
    pub verb: String,
    /// The resource, with its subresource.
    pub resource: String,
    /// Namespace and name of the object.
    pub object: String,
    /// The answer.
    pub code: u64,
    /// When the API server received it.
    pub received: Timestamp,
}

impl Write {
    /// Whether it succeeded.
    pub const fn is_done(&self) -> bool {
        self.code < 300
    }

    /// Whether it succeeded, or may have: the client of a request that was not answered in time never learns it.
    pub const fn may_be_done(&self) -> bool {
        self.is_done() || self.code == 499 || self.code >= 500
    }

    /// Whether it renewed a lease, which is no sign of work.
    pub fn is_lease(&self) -> bool {
        self.resource == "leases"
    }
}

/// The audit log, from where it was last read.
pub struct AuditLog {
    folder: PathBuf,
    /// The users whose writes count begin with this.
    users: String,
    inode: u64,
    offset: u64,
}

impl AuditLog {
    /// The log of the cluster that the environment names, if it is one of `tests/cluster`.
    pub fn open(users: String) -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("BINDERY_TEST_CLUSTER")?);
        let inode = fs::metadata(folder.join("audit.log")).ok()?.ino();
        Some(Self { folder, users, inode, offset: 0 })
    }

    /// The writes since the last time.
    pub fn read(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        for path in self.files() {
            let mut file = BufReader::new(File::open(&path).unwrap());
            self.inode = file.get_ref().metadata().unwrap().ino();
            file.seek(SeekFrom::Start(self.offset)).unwrap();
            let mut line = String::new();
            // A line without its end is still being written.
            while file.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
                self.offset += u64::try_from(line.len()).unwrap();
                // Most lines are of others; finding that out by parsing would disturb what is measured.
                if line.contains(&self.users) {
                    writes.extend(parse(&line).filter(|write| write.user.starts_with(&self.users)));
                }
                line.clear();
            }
            if path.file_name().is_some_and(|name| name != "audit.log") {
                self.offset = 0;
            }
        }
        writes
    }

    /// The files from the one that was read last. The API server begins a new one every 100 MB, and gives the old one a
    /// name with its time.
    fn files(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut old: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("audit-")).collect();
        old.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "log"));
        old.sort();
        let mut files: Vec<PathBuf> = old.iter().map(|name| self.folder.join(name)).collect();
        files.push(self.folder.join("audit.log"));
        let is_last_read = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.ino() == self.inode);
        let from = files.iter().position(is_last_read).unwrap_or_default();
        files.split_off(from)
    }
}

fn parse(line: &str) -> Option<Write> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let verb = text("/verb");
    // By dry runs the operator tests its fence.
    if matches!(verb.as_str(), "get" | "list" | "watch") || text("/requestURI").contains("dryRun=All") {
        return None;
    }
    let subresource = text("/objectRef/subresource");
    let separator = if subresource.is_empty() { "" } else { "/" };
    Some(Write {
        user: text("/user/username"),
        verb,
        resource: format!("{}{separator}{subresource}", text("/objectRef/resource")),
        object: format!("{}/{}", text("/objectRef/namespace"), text("/objectRef/name")),
        code: event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
        received: text("/requestReceivedTimestamp").parse().ok()?,
    })
}

/// How many writes there were of each verb and resource; those that were refused say by which code.
pub fn by_kind<'a>(writes: impl IntoIterator<Item = &'a Write>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for write in writes.into_iter().filter(|write| !write.is_lease()) {
        let refused = if write.is_done() { String::new() } else { format!(" answered {}", write.code) };
        *counts.entry(format!("{} {}{refused}", write.verb, write.resource)).or_default() += 1;
    }
    counts
}
