//! The label that keeps the old version of a key in Secrets Manager while an overlap needs it.
//!
//! `AWSPREVIOUS` belongs to the whole secret, so any other write moves it on, and a version without a label is
//! [collected][versions] in time. A label of Bindery's own stays where it is put.
//!
//! [versions]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html#term_version

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::RotationAction;
use crate::aws::versions::snapshot::SnapshotRequest;
use crate::aws::writer::WriteAuthorization;
use crate::domain::fingerprint::hex;
use crate::domain::grant::Access;
use crate::domain::name::BindingName;
use crate::domain::render::key::TargetKey;
use crate::domain::rotation::job::digest;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::reference::SecretId;
use crate::domain::secret::version::VersionRef;
use crate::reconcile::context::Context;

/// The version of a secret that is to stay.
pub(crate) struct Hold<'a> {
    pub(crate) binding: &'a BindingName,
    pub(crate) uid: &'a str,
    pub(crate) rule: &'a str,
    pub(crate) access: &'a Access,
    pub(crate) key: &'a TargetKey,
    pub(crate) json_key: Option<&'a str>,
    pub(crate) secret: &'a VersionRef,
}

/// What came of an attempt to keep a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It has the label.
    Yes,
    /// The grant or IAM does not allow it, or the version is gone.
    No,
    /// The secret has as many labels as AWS allows.
    Full,
}

impl Hold<'_> {
    /// The label, the same for all changes of a key of a binding.
    fn label(&self) -> String {
        let mut digest = hex(&digest([self.uid, self.key.as_str()]));
        digest.truncate(12);
        format!("bindery-hold-{digest}")
    }

    fn is_allowed(&self) -> bool {
        let key = self.json_key.unwrap_or("*");
        [RotationAction::Generate, RotationAction::RotateSecret, RotationAction::RunJob]
            .into_iter()
            .any(|action| self.access.permits_rotation(action, &self.secret.name, key))
    }

    fn mandate(&self) -> WriteAuthorization {
        WriteAuthorization {
            binding: self.binding.clone(),
            rule: self.rule.to_owned(),
            due: Timestamp::now(),
            grant: self.access.grant.clone(),
            identity: self.access.identity.clone(),
            arn: self.secret.arn.clone(),
            keys: self.json_key.map(str::to_owned).into_iter().collect(),
        }
    }

    /// Where the label is at present.
    async fn holder(&self, context: &Context) -> Result<Option<String>, SourceError> {
        let Ok(secret) = self.secret.arn.parse::<SecretId>() else { return Ok(None) };
        let want = SnapshotRequest {
            namespace: &self.binding.namespace,
            max_age: Duration::ZERO,
            max_failure_age: Duration::ZERO,
            confirmed: true,
            versions: &[],
        };
        let versions = context.clients.reader.versions();
        let seen = versions.snapshot(&self.access.identity, &secret, &want).await?;
        let label = self.label();
        let versions = seen.iter().flat_map(|seen| &seen.description.versions);
        Ok(versions.filter(|(_, labels)| labels.contains(&label)).map(|(version, _)| version.clone()).next())
    }

    /// Puts the label on a version.
    ///
    /// # Errors
    /// Where AWS cannot be asked at present.
    pub(crate) async fn keep(&self, context: &Context, version: &str) -> Result<Held, SourceError> {
        if version.is_empty() || !self.is_allowed() {
            return Ok(Held::No);
        }
        let (mandate, label) = (self.mandate(), self.label());
        let mut outcome = context.clients.writer.add_label(&mandate, &label, version).await;
        if outcome.as_ref().is_err_and(|error| error.kind == SourceErrorKind::StageMoved) {
            outcome = match self.holder(context).await? {
                Some(holder) if holder == version => Ok(()),
                Some(holder) => context.clients.writer.move_label(&mandate, &label, &holder, version).await,
                None => outcome,
            };
        }
        match outcome {
            Ok(()) => Ok(Held::Yes),
            Err(error) => match error.kind {
                SourceErrorKind::LimitExceeded => Ok(Held::Full),
                SourceErrorKind::Throttled
                | SourceErrorKind::TenantLimit
                | SourceErrorKind::Unavailable
                | SourceErrorKind::CredentialsFailed => Err(error),
                _ => Ok(Held::No),
            },
        }
    }

    /// Takes the label off again. A label that stays behind does no harm.
    pub(crate) async fn release(&self, context: &Context) {
        let released = match self.holder(context).await {
            Ok(Some(holder)) => context.clients.writer.remove_label(&self.mandate(), &self.label(), &holder).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = released {
            let (secret, label) = (&self.secret.name, self.label());
            tracing::warn!(binding = %self.binding, %secret, %label, %error, "a label that kept an old version could not be removed");
        }
    }
}
