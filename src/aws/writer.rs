//! The one way to write a secret: record the intent, send the request, record the outcome.
//!
//! The first record ensures that no write goes unrecorded; the second names its outcome. Where the second record fails,
//! the result is not used: the next reconcile observes the state at AWS.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::aws::api::{NewVersion, SecretsApi, StageMove};
use crate::aws::audit::{AuditLog, WriteOutcome, WriteRecord};
use crate::aws::classify::WriteOperation;
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::domain::name::BindingName;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretArn, SecretId};
use crate::domain::value::Value;

/// The grant and the rule that authorize a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteAuthorization {
    /// The binding of the rule.
    pub binding: BindingName,
    /// The rule that is due.
    pub rule: String,
    /// The due time of the rule.
    pub due: Timestamp,
    /// The grant that allows the write.
    pub grant: String,
    /// The identity of the request.
    pub identity: Identity,
    /// The full ARN of the secret, as AWS answered it.
    pub arn: String,
    /// The JSON keys that get a new value.
    pub keys: Vec<String>,
}

/// The fields of a write that the audit record names. It has no value.
#[derive(Clone, Copy)]
struct WriteSummary<'a> {
    operation: WriteOperation,
    version: Option<&'a str>,
    from: Option<&'a str>,
    stages: &'a [&'a str],
}

/// Writes secrets through a [`SecretsApi`] and writes the audit log.
#[derive(Clone)]
pub struct Writer {
    api: Arc<dyn SecretsApi>,
    audit: Arc<AuditLog>,
    limits: Arc<RateLimits>,
}

impl Writer {
    /// A writer that records in `audit`.
    #[must_use]
    pub fn new(api: Arc<dyn SecretsApi>, audit: Arc<AuditLog>, limits: Arc<RateLimits>) -> Self {
        Self { api, audit, limits }
    }

    /// Writes a new version with the id `token` and exactly the version stages `stages`.
    ///
    /// # Errors
    /// [`SourceErrorKind::TokenTaken`] where the version exists with another value, and what AWS refuses.
    pub async fn put(
        &self,
        authorization: &WriteAuthorization,
        token: &str,
        text: &Value,
        stages: &[&str],
    ) -> Result<(), SourceError> {
        let secret = secret(authorization)?;
        let summary = WriteSummary { operation: WriteOperation::Put, version: Some(token), from: None, stages };
        let version = NewVersion { token, text, stages };
        self.send(authorization, summary, || self.api.put(&authorization.identity, &secret, version)).await
    }

    /// Moves a version stage from the version `from` to the version `to`.
    ///
    /// # Errors
    /// [`SourceErrorKind::StageMoved`] where the stage is no longer on `from`, and what AWS refuses.
    pub async fn move_label(
        &self,
        authorization: &WriteAuthorization,
        stage: &str,
        from: &str,
        to: &str,
    ) -> Result<(), SourceError> {
        self.move_stage(authorization, StageMove { stage, from: Some(from), to: Some(to) }).await
    }

    /// Adds a version stage that no other version has.
    ///
    /// # Errors
    /// [`SourceErrorKind::StageMoved`] where another version has the stage, [`SourceErrorKind::LimitExceeded`] where
    /// the secret has 20 stages already, and what AWS refuses.
    pub async fn add_label(
        &self,
        authorization: &WriteAuthorization,
        stage: &str,
        version: &str,
    ) -> Result<(), SourceError> {
        self.move_stage(authorization, StageMove { stage, from: None, to: Some(version) }).await
    }

    /// Removes a version stage from a version.
    ///
    /// # Errors
    /// [`SourceErrorKind::StageMoved`] where the version does not have the stage, and what AWS refuses.
    pub async fn remove_label(
        &self,
        authorization: &WriteAuthorization,
        stage: &str,
        version: &str,
    ) -> Result<(), SourceError> {
        self.move_stage(authorization, StageMove { stage, from: Some(version), to: None }).await
    }

    async fn move_stage(&self, authorization: &WriteAuthorization, stage: StageMove<'_>) -> Result<(), SourceError> {
        let secret = secret(authorization)?;
        let StageMove { from, to, .. } = stage;
        let summary = WriteSummary { operation: WriteOperation::MoveStage, version: to, from, stages: &[stage.stage] };
        self.send(authorization, summary, || self.api.move_stage(&authorization.identity, &secret, stage)).await
    }

    /// Starts the rotation by Secrets Manager, once for each token. The token is the id of the new version.
    ///
    /// # Errors
    /// [`SourceErrorKind::NotRotatable`] where the secret has no rotation or a rotation is in progress, and what AWS
    /// refuses.
    pub async fn rotate(&self, authorization: &WriteAuthorization, token: &str) -> Result<(), SourceError> {
        let secret = secret(authorization)?;
        let operation = WriteOperation::Rotate;
        let summary = WriteSummary { operation, version: Some(token), from: None, stages: &[] };
        self.send(authorization, summary, || self.api.rotate(&authorization.identity, &secret, token)).await
    }

    /// Records the intent, sends the request and records the outcome.
    async fn send<F>(
        &self,
        authorization: &WriteAuthorization,
        summary: WriteSummary<'_>,
        request: impl Fn() -> F,
    ) -> Result<(), SourceError>
    where
        F: Future<Output = Result<Option<String>, SourceError>>,
    {
        let described = authorization.identity.describe();
        if !self.limits.tenants.pay([&*authorization.binding.namespace]) {
            return Err(SourceError::new(SourceErrorKind::TenantLimit, authorization.arn.clone()));
        }
        let mut record = intent(authorization, summary, &described);
        self.record(&record)?;
        let result = self.limits.send(&authorization.identity, RateClass::Write, request).await;
        record.time = Timestamp::now();
        match &result {
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
        result.map(|_| ())
    }

    fn record(&self, record: &WriteRecord<'_>) -> Result<(), SourceError> {
        self.audit.record_write(record).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written; secrets are not written until it can");
            SourceError::new(SourceErrorKind::AuditFailed, record.secret)
        })
    }
}

/// The record of an intended write. `identity` is the described identity of the request.
fn intent<'a>(authorization: &'a WriteAuthorization, summary: WriteSummary<'a>, identity: &'a str) -> WriteRecord<'a> {
    WriteRecord {
        time: Timestamp::now(),
        kind: "write",
        outcome: WriteOutcome::Intended,
        operation: summary.operation.name(),
        secret: &authorization.arn,
        version_id: summary.version,
        from_version_id: summary.from,
        version_stages: summary.stages,
        keys: &authorization.keys,
        namespace: &authorization.binding.namespace,
        binding: &authorization.binding.name,
        rule: &authorization.rule,
        due: authorization.due,
        grant: &authorization.grant,
        region: authorization.identity.region.as_deref(),
        identity,
        code: None,
        request_id: None,
    }
}

/// The id of the secret by its full ARN, so that no secret with a similar name is written.
fn secret(authorization: &WriteAuthorization) -> Result<SecretId, SourceError> {
    let arn = SecretArn::try_from(authorization.arn.as_str());
    arn.map(|arn| SecretId::Arn(Box::new(arn)))
        .map_err(|_| SourceError::new(SourceErrorKind::InvalidReference, authorization.arn.as_str()))
}
