//! The record of every read of a value, who got which keys of which version, and why; and of every write to Secrets
//! Manager.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::aws::read_request::{ReadRequest, Selection};
use crate::domain::secret::error::SourceErrorKind;

/// Why a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadReason {
    /// Nothing was published yet.
    Created,
    /// The secret has a new version, or the binding asks for something else of it.
    Changed,
    /// The target Secret was there before and is gone.
    Missing,
    /// The target Secret was edited.
    Drift,
    /// What was published before the operator started could not be proven current.
    Restart,
    /// Another grant serves the binding.
    Access,
    /// An event of AWS told that the secret has a new version.
    Event,
    /// The annotation `bindery.dev/sync` asks for it.
    Forced,
    /// The overlap of an old and a new value goes on.
    Overlap,
    /// A new value is made of it, since a rule is due.
    Rotation,
    /// When a key was last changed is not known yet.
    Age,
}

/// What became of an attempt to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadOutcome {
    /// AWS sent the value and it is used.
    Read,
    /// AWS refused, or what it sent may not be used.
    Denied,
    /// The answer did not arrive whole, so AWS may or may not count it as a read.
    Unknown,
}

/// One line of the audit log: one value that AWS sent, or may have sent, and all who were served with it. It names
/// keys; it has no field that could hold a value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadRecord<'a> {
    /// When the answer was parsed (RFC 3339).
    pub time: Timestamp,
    /// Always `read`; other records have other kinds.
    pub kind: &'static str,
    /// What became of it; `read` where anybody was given the value.
    pub outcome: ReadOutcome,
    /// The full ARN, or the reference of the binding where AWS answered none.
    pub secret: &'a str,
    /// The version that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<&'a str>,
    /// The version stage that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_stage: Option<&'a str>,
    /// The region asked; absent for the operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'a str>,
    /// As whom AWS was asked: `operator`, or the role and the name of the session.
    pub identity: &'a str,
    /// The AWS request id, by which CloudTrail records the same read; the secrets of one batch share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// For whom it was read.
    pub served: Vec<Served<'a>>,
}

/// One binding that a read served, or was meant to serve.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Served<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The binding.
    pub binding: &'a str,
    /// The grant that allows it.
    pub grant: &'a str,
    /// Why.
    pub reason: ReadReason,
    /// The JSON keys selected; empty where the whole payload is taken.
    pub keys: Vec<String>,
    /// Whether the whole payload is taken.
    pub whole_payload: bool,
    /// True where the binding was not given the value after all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteOutcome {
    /// It is about to be made.
    Intended,
    /// AWS took it, or had taken it before.
    Written,
    /// AWS refused it, and nothing was changed.
    Refused,
    /// AWS may or may not have taken it.
    Unknown,
}

/// One line of the audit log: a write to Secrets Manager that is about to be made, or what became of it. It names keys;
/// it has no field that could hold a value.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteRecord<'a> {
    /// When it was recorded (RFC 3339).
    pub time: Timestamp,
    /// Always `write`.
    pub kind: &'static str,
    /// Whether it is intended, and what became of it.
    pub outcome: WriteOutcome,
    /// The operation of Secrets Manager.
    pub operation: &'static str,
    /// The full ARN.
    pub secret: &'a str,
    /// The version that is written or labelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<&'a str>,
    /// The version that loses the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_version_id: Option<&'a str>,
    /// The labels that are put or moved.
    pub version_stages: &'a [&'a str],
    /// The JSON keys that get another value.
    pub keys: &'a [String],
    /// The namespace.
    pub namespace: &'a str,
    /// The binding.
    pub binding: &'a str,
    /// The rule.
    pub rule: &'a str,
    /// When the rule was due.
    pub due: Timestamp,
    /// The grant that allows it.
    pub grant: &'a str,
    /// The region asked; absent for the operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'a str>,
    /// As whom AWS is asked.
    pub identity: &'a str,
    /// AWS's error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// The AWS request id, by which CloudTrail records the same write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
}

impl<'a> Served<'a> {
    pub(super) fn by(asker: &'a ReadRequest) -> Self {
        Self {
            namespace: &asker.binding.namespace,
            binding: &asker.binding.name,
            grant: &asker.grant,
            reason: asker.reason,
            keys: Vec::new(),
            whole_payload: false,
            denied: false,
        }
    }

    /// Takes over the verdict on an answer; answers why the binding is refused.
    pub(super) fn judged(&mut self, verdict: Result<Selection, SourceErrorKind>) -> Option<SourceErrorKind> {
        match verdict {
            Ok(selection) => {
                self.keys = selection.keys;
                self.whole_payload = selection.whole_payload;
                None
            }
            Err(kind) => {
                self.denied = true;
                Some(kind)
            }
        }
    }
}

/// Where the records go.
pub struct AuditLog {
    sink: Mutex<Sink>,
}

enum Sink {
    Stdout,
    File { path: PathBuf, file: File },
}

impl AuditLog {
    /// Records on standard output, where nothing else is written.
    #[must_use]
    pub const fn stdout() -> Self {
        Self { sink: Mutex::new(Sink::Stdout) }
    }

    /// Records appended to a file, which is created with mode 0600 where it does not exist.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn file(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self { sink: Mutex::new(Sink::File { path, file }) })
    }

    /// Opens the file anew, as log rotation needs it. Does nothing for standard output.
    ///
    /// # Errors
    /// Where the file cannot be opened; records then go on to the old one.
    pub fn reopen(&self) -> io::Result<()> {
        if let Sink::File { path, file } = &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            *file = open(path)?;
        }
        Ok(())
    }

    /// Writes and flushes one record. The caller uses the value only after this returns `Ok`.
    ///
    /// # Errors
    /// Where the record could not be written whole.
    pub fn write(&self, record: &ReadRecord<'_>) -> io::Result<()> {
        self.append(record)
    }

    /// Writes and flushes one record of a write. The write is made only after this returns `Ok` for the record that
    /// tells of the intent, and its outcome is used only after it does for that of the outcome.
    ///
    /// # Errors
    /// Where the record could not be written whole.
    pub fn write_of_write(&self, record: &WriteRecord<'_>) -> io::Result<()> {
        self.append(record)
    }

    fn append(&self, record: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        match &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&line)?;
                stdout.flush()
            }
            Sink::File { file, .. } => {
                file.write_all(&line)?;
                file.flush()
            }
        }
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
