//! The audit record of a read, with the check of the answer for each binding.

use k8s_openapi::jiff::Timestamp;

use crate::aws::audit::{AuditLog, ReadOutcome, ReadRecord};
use crate::aws::read_queue::PendingRead;
use crate::aws::read_request::Selection;
use crate::aws::shared_version::SharedVersion;
use crate::domain::secret::description::answers;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{Source, VersionSelector};

/// A version after its read was recorded.
pub(super) struct RecordedVersion {
    pub(super) version: SharedVersion,
    /// For each pending read, why its binding may not have the value.
    pub(super) refusals: Vec<Option<SourceErrorKind>>,
}

/// Checks the result of a read for each pending read, and records it.
///
/// # Errors
/// The error of the read, and [`SourceErrorKind::AuditFailed`] where the record cannot be written.
pub(super) fn record_read(
    audit: &AuditLog,
    identity: &Identity,
    source: &Source,
    pending: &[PendingRead],
    result: Result<SharedVersion, SourceError>,
) -> Result<RecordedVersion, SourceError> {
    let (reference, described) = (source.secret.to_string(), identity.describe());
    let mut record = unanswered(identity, source, pending);
    (record.secret, record.identity) = (&reference, &described);
    record.principal = audit.principal_of(identity);
    let lost = result.as_ref().map_or_else(|error| error.lost_attempts, |version| version.lost_attempts);
    for _ in 0..lost {
        write(audit, &mut record, &reference)?;
    }
    let version = match result {
        Ok(version) => version,
        Err(error) => {
            if matches!(error.kind, SourceErrorKind::AccessDenied | SourceErrorKind::DecryptionFailed) {
                record.outcome = ReadOutcome::Denied;
                record.request_id = error.request_id.as_deref();
                write(audit, &mut record, &reference)?;
            }
            return Err(error);
        }
    };
    let is_of_source = answers(&source.secret, &version.arn, &version.name);
    let mut refusals = Vec::with_capacity(pending.len());
    record.served.clear();
    for read in pending {
        let check = if is_of_source { checked(read, &version) } else { Err(SourceErrorKind::WrongSecret) };
        refusals.push(check.as_ref().err().copied());
        record.served.push(read.request.served_with(check));
    }
    let is_used = refusals.iter().any(Option::is_none);
    record.outcome = if is_used { ReadOutcome::Read } else { ReadOutcome::Denied };
    record.secret = &version.arn;
    record.version_id = Some(&version.version_id);
    record.request_id = version.request_id.as_deref();
    write(audit, &mut record, &reference)?;
    Ok(RecordedVersion { version, refusals })
}

/// The check of one binding. One that panics refuses the value to that binding alone: the read is shared and must be on
/// record.
fn checked(read: &PendingRead, version: &SharedVersion) -> Result<Selection, SourceErrorKind> {
    let check = std::panic::AssertUnwindSafe(|| (read.request.check)(version));
    std::panic::catch_unwind(check).unwrap_or(Err(SourceErrorKind::Unavailable))
}

/// The record of a read whose answer did not arrive, without the names of secret and identity.
fn unanswered<'a>(identity: &'a Identity, source: &'a Source, pending: &'a [PendingRead]) -> ReadRecord<'a> {
    let stage = match &source.version {
        VersionSelector::Stage(stage) => Some(stage.as_str()),
        VersionSelector::Id(_) => None,
    };
    ReadRecord {
        time: Timestamp::UNIX_EPOCH,
        kind: "read",
        outcome: ReadOutcome::Unknown,
        secret: "",
        version_id: None,
        version_stage: stage,
        region: identity.region.as_deref(),
        identity: "",
        principal: None,
        request_id: None,
        served: pending.iter().map(|read| read.request.served()).collect(),
    }
}

fn write(audit: &AuditLog, record: &mut ReadRecord<'_>, reference: &str) -> Result<(), SourceError> {
    record.time = Timestamp::now();
    audit.record_read(record).map_err(|error| {
        tracing::error!(%error, "the audit log cannot be written; values are dropped until it can");
        let fault = Some(format!("writing gave: {}", error.kind()));
        SourceError { fault, ..SourceError::new(SourceErrorKind::AuditFailed, reference) }
    })
}
