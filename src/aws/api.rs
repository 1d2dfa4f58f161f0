//! The calls to AWS that Bindery makes, as one trait.

use futures::future::BoxFuture;

use crate::domain::secret::description::Description;
use crate::domain::secret::error::SourceError;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, VersionSelector};
use crate::domain::secret::version::{ListedVersion, SecretVersion};
use crate::domain::value::Value;

/// One page of `ListSecretVersionIds`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// Versions, in no order.
    pub versions: Vec<ListedVersion>,
    /// The token of the next page.
    pub next: Option<String>,
}

/// What one [`BatchGetSecretValue`][batch] answered.
///
/// [batch]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html
#[derive(Default)]
pub struct Batch {
    /// The values, in no order.
    pub versions: Vec<SecretVersion>,
    /// What AWS refuses of single secrets, by the id that was asked for.
    pub failures: Vec<(String, SourceError)>,
    /// Earlier attempts for which AWS may have sent the values, and they did not arrive.
    pub lost_attempts: u32,
}

/// One page of [`ListSecrets`](https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_ListSecrets.html).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The secrets, without values.
    pub secrets: Vec<Description>,
    /// The token of the next page.
    pub next: Option<String>,
}

/// The most secrets that one [`SecretsApi::read_batch`] takes.
pub const BATCH_LIMIT: usize = 20;

/// The calls to AWS that Bindery makes.
pub trait SecretsApi: Send + Sync + 'static {
    /// Asks for everything but the value. Needs `secretsmanager:DescribeSecret`.
    fn describe<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
    ) -> BoxFuture<'a, Result<Description, SourceError>>;

    /// Reads the value of one version. Needs `secretsmanager:GetSecretValue`, and `kms:Decrypt` where the
    /// secret is encrypted with a customer managed key.
    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        version: &'a VersionSelector,
    ) -> BoxFuture<'a, Result<SecretVersion, SourceError>>;

    /// Reads the values of at most [`BATCH_LIMIT`] secrets at AWSCURRENT. Needs
    /// `secretsmanager:BatchGetSecretValue`, and for each secret what [`SecretsApi::read`] needs.
    fn read_batch<'a>(
        &'a self,
        identity: &'a Identity,
        secrets: &'a [SecretId],
    ) -> BoxFuture<'a, Result<Batch, SourceError>>;

    /// Lists at most 100 secrets whose names begin with one of `prefixes` (none = all). Needs
    /// `secretsmanager:ListSecrets`, which IAM gives for all secrets or none.
    fn list<'a>(
        &'a self,
        identity: &'a Identity,
        prefixes: &'a [String],
        page: Option<String>,
    ) -> BoxFuture<'a, Result<Page, SourceError>>;

    /// Writes a new version, whose id becomes `token`, and puts the labels `stages` on it, which are taken off other
    /// versions. The same token with the same bytes does nothing; with other bytes it is
    /// [`SourceErrorKind::TokenTaken`]. Answers the request id. Needs `secretsmanager:PutSecretValue`, and
    /// `kms:GenerateDataKey` and `kms:Decrypt` where the secret is encrypted with a customer managed key.
    fn put<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        token: &'a str,
        text: &'a Value,
        stages: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>>;

    /// Moves a label, as [`UpdateSecretVersionStage`][stage] does: off the version `from` and onto the version `to`.
    /// Where it is not on `from`, nothing is changed and it is [`SourceErrorKind::StageMoved`]. Answers the request id.
    /// Needs `secretsmanager:UpdateSecretVersionStage`.
    ///
    /// [stage]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html
    fn label<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        stage: &'a str,
        from: Option<&'a str>,
        to: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>>;

    /// Has the secret rotated as it is set up to, by [`RotateSecret`][rotate]; the id of the new version becomes
    /// `token`. Answers the request id. Needs `secretsmanager:RotateSecret`.
    ///
    /// [rotate]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_RotateSecret.html
    fn rotate<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>>;
    /// Lists at most 100 versions of a secret, those without a label too. Needs `secretsmanager:ListSecretVersionIds`.
    fn list_versions<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<VersionPage, SourceError>>;

    /// The account of the identity, by `sts:GetCallerIdentity`, which needs no permission.
    fn account<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<String, SourceError>>;
}
