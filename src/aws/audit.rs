//! The audit log: one record for each read of a value and two for each write to Secrets Manager.
//!
//! A record of a read names the bindings, the keys and the version, and the reason.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::aws::record_file::RecordFile;
use crate::domain::secret::identity::Identity;

/// The reason of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadReason {
    /// The binding has published no Secret yet.
    Created,
    /// The secret has a new version, or the mapping of the binding changed.
    Changed,
    /// The target Secret was deleted.
    Missing,
    /// The target Secret was edited.
    Drift,
    /// After a start, the operator cannot prove that the published Secret is current.
    Restart,
    /// Another grant allows the binding.
    Access,
    /// An event reports a new version of the secret.
    Event,
    /// The annotation `bindery.dev/sync` requests it.
    Forced,
    /// An overlap of an old and a new value needs the value.
    Overlap,
    /// A rule is due and replaces the value.
    Rotation,
    /// The age of a key is unknown.
    Age,
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadOutcome {
    /// AWS sent the value and a binding uses it.
    Read,
    /// AWS refused, or no binding may use the value.
    Denied,
    /// The answer did not arrive whole, so AWS may or may not count it as a read.
    Unknown,
}

/// One line of the audit log: a value that AWS sent or may have sent, and the bindings that it served. It names keys
/// and has no field for a value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadRecord<'a> {
    /// When the answer was parsed (RFC 3339).
    pub time: Timestamp,
    /// Always `read`; other records have other kinds.
    pub kind: &'static str,
    /// The outcome; `read` where a binding got the value.
    pub outcome: ReadOutcome,
    /// The full ARN, or the reference of the binding where AWS answered no ARN.
    pub secret: &'a str,
    /// The version that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<&'a str>,
    /// The version stage of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_stage: Option<&'a str>,
    /// The region of the request; absent for the operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'a str>,
    /// The identity of the request: `operator`, or the role and the name of the session.
    pub identity: &'a str,
    /// The ARN by which AWS knows the operator's own identity; absent for others, and until AWS has told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<&'a str>,
    /// The AWS request id, which CloudTrail records too. The secrets of one batch share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The bindings that the read served.
    pub served: Vec<Served<'a>>,
}

/// One binding that a read served or refused.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Served<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The binding.
    pub binding: &'a str,
    /// The grant that allows the read.
    pub grant: &'a str,
    /// The reason.
    pub reason: ReadReason,
    /// The selected JSON keys; empty where the binding selects the whole payload.
    pub keys: Vec<String>,
    /// Whether the binding selects the whole payload.
    pub whole_payload: bool,
    /// True where the check refused the value to the binding.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteOutcome {
    /// The request is about to be sent.
    Intended,
    /// AWS applied it, now or by an earlier request.
    Written,
    /// AWS refused it and changed nothing.
    Refused,
    /// AWS may have applied it.
    Unknown,
}

/// One line of the audit log: the intent or the outcome of a write to Secrets Manager. It names keys and has no field
/// for a value.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteRecord<'a> {
    /// The time of the record (RFC 3339).
    pub time: Timestamp,
    /// Always `write`.
    pub kind: &'static str,
    /// The intent, or the outcome.
    pub outcome: WriteOutcome,
    /// The operation of Secrets Manager.
    pub operation: &'static str,
    /// The full ARN.
    pub secret: &'a str,
    /// The version that the write creates or labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<&'a str>,
    /// The version that loses the version stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_version_id: Option<&'a str>,
    /// The version stages that the write sets or moves.
    pub version_stages: &'a [&'a str],
    /// The JSON keys that get a new value.
    pub keys: &'a [String],
    /// The namespace.
    pub namespace: &'a str,
    /// The binding.
    pub binding: &'a str,
    /// The rule.
    pub rule: &'a str,
    /// The due time of the rule.
    pub due: Timestamp,
    /// The grant that allows the write.
    pub grant: &'a str,
    /// The region of the request; absent for the operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'a str>,
    /// The identity of the request.
    pub identity: &'a str,
    /// AWS's error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// The AWS request id, which CloudTrail records too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
}

/// The destination of the audit records.
pub struct AuditLog {
    file: Mutex<RecordFile>,
    /// The ARN of the operator's own identity, once AWS has told it.
    principal: OnceLock<String>,
}

impl AuditLog {
    /// A log on standard output, which has no other content.
    ///
    /// # Errors
    /// Where the process has no standard output.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self::to(RecordFile::stdout()?))
    }

    fn to(file: RecordFile) -> Self {
        Self { file: Mutex::new(file), principal: OnceLock::new() }
    }

    /// Keeps the ARN of the operator's own identity for the records.
    pub fn name_principal(&self, arn: String) {
        // There is one, and it does not change.
        let _ = self.principal.set(arn);
    }

    /// The ARN of an identity, where it is the operator's own and AWS has told it.
    #[must_use]
    pub fn principal_of(&self, identity: &Identity) -> Option<&str> {
        let own = identity.role.is_none() && identity.service_account.is_none();
        self.principal.get().filter(|_| own).map(String::as_str)
    }

    /// A log that appends to a file. A new file gets mode 0600.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn file(path: PathBuf) -> io::Result<Self> {
        Ok(Self::to(RecordFile::open(path)?))
    }

    /// Reopens the file after log rotation. Does nothing for standard output.
    ///
    /// # Errors
    /// Where the file cannot be opened. Then the log keeps the old file.
    pub fn reopen(&self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).reopen()
    }

    /// Writes and flushes the record of a read. The caller uses the value only after `Ok`.
    ///
    /// # Errors
    /// Where the record could not be written whole.
    pub fn record_read(&self, record: &ReadRecord<'_>) -> io::Result<()> {
        self.append(record)
    }

    /// Writes and flushes a record of a write. The caller sends the request only after `Ok` for the intent, and uses
    /// the result only after `Ok` for the outcome.
    ///
    /// # Errors
    /// Where the record could not be written whole.
    pub fn record_write(&self, record: &WriteRecord<'_>) -> io::Result<()> {
        self.append(record)
    }

    fn append(&self, record: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.lock().unwrap_or_else(PoisonError::into_inner).append(&line)
    }
}
