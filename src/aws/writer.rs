//! The one way to a new version of a secret: record the intent, write, record the outcome, use it.
//!
//! Each write is recorded twice. Before it, so that none is made that is not recorded; after it, so that the record tells
//! what became of it. Where the second record cannot be written, the outcome is not used: the next pass looks at what AWS
//! has.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::aws::api::SecretsApi;
use crate::aws::audit::{AuditLog, WriteOutcome, WriteRecord};
use crate::aws::classify::Write;
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::domain::name::BindingName;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretArn, SecretId};
use crate::domain::value::Value;

/// For whom a secret is written, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteAuthorization {
    /// The binding whose rule is due.
    pub binding: BindingName,
    /// The rule.
    pub rule: String,
    /// When it was due.
    pub due: Timestamp,
    /// The grant that allows the write.
    pub grant: String,
    /// As whom it is made.
    pub identity: Identity,
    /// The full ARN of the secret, as AWS answered it.
    pub arn: String,
    /// The JSON keys that get another value.
    pub keys: Vec<String>,
}

/// A write, without its value.
#[derive(Clone, Copy)]
struct Order<'a> {
    write: Write,
    version: Option<&'a str>,
    from: Option<&'a str>,
    stages: &'a [&'a str],
}

/// Writes through a [`SecretsApi`] and keeps the audit log.
#[derive(Clone)]
pub struct Writer {
    api: Arc<dyn SecretsApi>,
    audit: Arc<AuditLog>,
    quotas: Arc<RateLimits>,
}

impl Writer {
    /// A writer that records in `audit`.
    #[must_use]
    pub fn new(api: Arc<dyn SecretsApi>, audit: Arc<AuditLog>, quotas: Arc<RateLimits>) -> Self {
        Self { api, audit, quotas }
    }

    /// Writes a new version under the id `token`, with the labels `stages` and no other.
    ///
    /// # Errors
    /// [`SourceErrorKind::TokenTaken`] where the version exists with another value, and what AWS refuses.
    pub async fn put(
        &self,
        mandate: &WriteAuthorization,
        token: &str,
        text: &Value,
        stages: &[&str],
    ) -> Result<(), SourceError> {
        let secret = secret(mandate)?;
        let order = Order { write: Write::Put, version: Some(token), from: None, stages };
        self.recorded(mandate, order, || self.api.put(&mandate.identity, &secret, token, text, stages)).await
    }

    /// Moves a label from one version to another, if it is still there.
    ///
    /// # Errors
    /// [`SourceErrorKind::StageMoved`] where the label is not on `from` any more, and what AWS refuses.
    pub async fn move_label(
        &self,
        mandate: &WriteAuthorization,
        stage: &str,
        from: &str,
        to: &str,
    ) -> Result<(), SourceError> {
        self.label(mandate, stage, Some(from), Some(to)).await
    }

    /// Puts a label on a version that no other version has.
    ///
    /// # Errors
    /// [`SourceErrorKind::StageMoved`] where another version has the label, [`SourceErrorKind::LimitExceeded`] where
    /// the secret has 20 already, and what AWS refuses.
    pub async fn add_label(&self, mandate: &WriteAuthorization, stage: &str, version: &str) -> Result<(), SourceError> {
        self.label(mandate, stage, None, Some(version)).await
    }

    /// Takes a label off a version.
    ///
    /// # Errors
    /// [`SourceErrorKind::StageMoved`] where the version does not have the label, and what AWS refuses.
    pub async fn remove_label(
        &self,
        mandate: &WriteAuthorization,
        stage: &str,
        version: &str,
    ) -> Result<(), SourceError> {
        self.label(mandate, stage, Some(version), None).await
    }

    async fn label(
        &self,
        mandate: &WriteAuthorization,
        stage: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), SourceError> {
        let secret = secret(mandate)?;
        let order = Order { write: Write::Label, version: to, from, stages: &[stage] };
        self.recorded(mandate, order, || self.api.label(&mandate.identity, &secret, stage, from, to)).await
    }

    /// Has Secrets Manager rotate the secret, once for each token, which becomes the id of the new version.
    ///
    /// # Errors
    /// [`SourceErrorKind::NotRotatable`] where it is not set up for that or a rotation is under way, and what AWS
    /// refuses.
    pub async fn rotate(&self, mandate: &WriteAuthorization, token: &str) -> Result<(), SourceError> {
        let secret = secret(mandate)?;
        let order = Order { write: Write::Rotate, version: Some(token), from: None, stages: &[] };
        self.recorded(mandate, order, || self.api.rotate(&mandate.identity, &secret, token)).await
    }

    async fn recorded<F>(
        &self,
        mandate: &WriteAuthorization,
        order: Order<'_>,
        attempt: impl Fn() -> F,
    ) -> Result<(), SourceError>
    where
        F: Future<Output = Result<Option<String>, SourceError>>,
    {
        let described = mandate.identity.describe();
        let mut record = WriteRecord {
            time: Timestamp::now(),
            kind: "write",
            outcome: WriteOutcome::Intended,
            operation: order.write.operation(),
            secret: &mandate.arn,
            version_id: order.version,
            from_version_id: order.from,
            version_stages: order.stages,
            keys: &mandate.keys,
            namespace: &mandate.binding.namespace,
            binding: &mandate.binding.name,
            rule: &mandate.rule,
            due: mandate.due,
            grant: &mandate.grant,
            region: mandate.identity.region.as_deref(),
            identity: &described,
            code: None,
            request_id: None,
        };
        self.record(&record)?;
        let outcome = self.quotas.paced(&mandate.identity, RateClass::Write, attempt).await;
        record.time = Timestamp::now();
        match &outcome {
            Ok(request_id) => {
                record.outcome = WriteOutcome::Written;
                record.request_id = request_id.as_deref();
            }
            Err(error) => {
                let unknown = error.kind == SourceErrorKind::Unavailable;
                record.outcome = if unknown { WriteOutcome::Unknown } else { WriteOutcome::Refused };
                (record.code, record.request_id) = (error.code.as_deref(), error.request_id.as_deref());
            }
        }
        self.record(&record)?;
        outcome.map(|_| ())
    }

    fn record(&self, record: &WriteRecord<'_>) -> Result<(), SourceError> {
        self.audit.write_of_write(record).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written; secrets are not written until it can");
            SourceError::new(SourceErrorKind::AuditFailed, record.secret)
        })
    }
}

/// The secret by its full ARN, so that no other of a similar name is written.
fn secret(mandate: &WriteAuthorization) -> Result<SecretId, SourceError> {
    let arn = SecretArn::try_from(mandate.arn.as_str());
    arn.map(|arn| SecretId::Arn(Box::new(arn)))
        .map_err(|_| SourceError::new(SourceErrorKind::InvalidReference, mandate.arn.as_str()))
}
