//! The one way to a value: ask AWS, check the answer, record the read, hand the value on.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::audit::{AuditLog, ReadOutcome, ReadReason, ReadRecord};
use super::{Description, Identity, SecretVersion, SecretsApi, SourceError, SourceErrorKind};
use crate::binding::reference::{SecretId, Source, VersionSelector};

/// For whom a value is read, and why.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// The namespace of the binding.
    pub namespace: &'a str,
    /// The name of the binding.
    pub binding: &'a str,
    /// The grant that allows the read.
    pub grant: &'a str,
    /// Why the value is needed.
    pub reason: ReadReason,
}

/// The JSON keys that a binding takes of a payload.
pub struct Selection {
    /// Their names.
    pub keys: Vec<String>,
    /// Whether the payload is also taken whole.
    pub whole_payload: bool,
}

/// Reads through a [`SecretsApi`] and keeps the audit log.
#[derive(Clone)]
pub struct Reader {
    api: Arc<dyn SecretsApi>,
    audit: Arc<AuditLog>,
}

impl Reader {
    /// A reader that records in `audit`.
    #[must_use]
    pub fn new(api: Arc<dyn SecretsApi>, audit: Arc<AuditLog>) -> Self {
        Self { api, audit }
    }

    /// Asks for everything but the value.
    ///
    /// # Errors
    /// What AWS refuses, an answer for another secret than the one asked for, a secret pending deletion.
    pub async fn describe(&self, identity: &Identity, secret: &SecretId) -> Result<Description, SourceError> {
        let description = self.api.describe(identity, secret).await?;
        if !answers(secret, &description.arn, &description.name) {
            return Err(SourceError::new(SourceErrorKind::WrongSecret, secret.to_string()));
        }
        if description.pending_deletion {
            return Err(SourceError::new(SourceErrorKind::SecretPendingDeletion, secret.to_string()));
        }
        Ok(description)
    }

    /// The account of an identity.
    ///
    /// # Errors
    /// Where credentials fail.
    pub async fn account(&self, identity: &Identity) -> Result<String, SourceError> {
        self.api.account(identity).await
    }

    /// Reads a value. `permitted` is asked with the ARN and name of the answer, after the read, whether the value may
    /// still be used; `select` names the keys for the record.
    ///
    /// # Errors
    /// What AWS refuses, an answer that is not permitted, a read that could not be recorded.
    pub async fn read(
        &self,
        identity: &Identity,
        source: &Source,
        purpose: Purpose<'_>,
        permitted: impl FnOnce(&str, &str) -> bool,
        select: impl FnOnce(&SecretVersion) -> Selection,
    ) -> Result<SecretVersion, SourceError> {
        let reference = source.secret.to_string();
        let described = identity.describe();
        let stage = match &source.version {
            VersionSelector::Stage(stage) => Some(stage.as_str()),
            VersionSelector::Id(_) => None,
        };
        let mut record = ReadRecord {
            time: Timestamp::UNIX_EPOCH,
            kind: "read",
            outcome: ReadOutcome::Read,
            secret: &reference,
            version_id: None,
            version_stage: stage,
            namespace: purpose.namespace,
            binding: purpose.binding,
            grant: purpose.grant,
            region: identity.region.as_deref(),
            identity: &described,
            keys: Vec::new(),
            whole_payload: false,
            reason: purpose.reason,
            request_id: None,
        };
        match self.api.read(identity, &source.secret, &source.version).await {
            Ok(version) => {
                self.record_lost(&mut record, version.lost_attempts, &reference)?;
                let refused = if !answers(&source.secret, &version.arn, &version.name) {
                    Some(SourceErrorKind::WrongSecret)
                } else if !permitted(&version.arn, &version.name) {
                    Some(SourceErrorKind::NotGranted)
                } else {
                    None
                };
                let selection = select(&version);
                record.time = Timestamp::now();
                record.outcome = if refused.is_some() { ReadOutcome::Denied } else { ReadOutcome::Read };
                record.secret = &version.arn;
                record.version_id = Some(&version.version_id);
                record.request_id = version.request_id.as_deref();
                if refused.is_none() {
                    record.keys = selection.keys;
                    record.whole_payload = selection.whole_payload;
                }
                self.record(&record, &reference)?;
                match refused {
                    Some(kind) => Err(SourceError::new(kind, reference)),
                    None => Ok(version),
                }
            }
            Err(error) => {
                self.record_lost(&mut record, error.lost_attempts, &reference)?;
                if matches!(error.kind, SourceErrorKind::AccessDenied | SourceErrorKind::DecryptionFailed) {
                    record.time = Timestamp::now();
                    record.outcome = ReadOutcome::Denied;
                    record.request_id = error.request_id.as_deref();
                    self.record(&record, &reference)?;
                }
                Err(error)
            }
        }
    }

    /// One record for each attempt whose answer did not arrive.
    fn record_lost(&self, record: &mut ReadRecord<'_>, attempts: u32, reference: &str) -> Result<(), SourceError> {
        for _ in 0..attempts {
            record.time = Timestamp::now();
            record.outcome = ReadOutcome::Unknown;
            self.record(record, reference)?;
        }
        Ok(())
    }

    fn record(&self, record: &ReadRecord<'_>, reference: &str) -> Result<(), SourceError> {
        self.audit.write(record).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written; values are dropped until it can");
            SourceError::new(SourceErrorKind::AuditFailed, reference)
        })
    }
}

/// Whether an answer is for the secret that was asked for. A full ARN must agree whole, a partial one up to the
/// random suffix, a name exactly.
fn answers(asked: &SecretId, arn: &str, name: &str) -> bool {
    match asked {
        SecretId::Name(asked) => asked == name && has_name(arn, name),
        SecretId::Arn(asked) => {
            let asked = asked.to_string();
            has_name(arn, name)
                && arn.strip_prefix(asked.as_str()).is_some_and(|rest| rest.is_empty() || is_suffix(rest))
        }
    }
}

fn has_name(arn: &str, name: &str) -> bool {
    arn.splitn(7, ':').nth(6).and_then(|resource| resource.strip_prefix(name)).is_some_and(is_suffix)
}

/// `-` and the six characters that Secrets Manager adds to a name in an ARN.
fn is_suffix(text: &str) -> bool {
    text.len() == 7 && text.starts_with('-') && text[1..].bytes().all(|b| b.is_ascii_alphanumeric())
}
