//! The requests to Secrets Manager that Bindery sends, as one trait.

use futures::future::BoxFuture;

use crate::domain::secret::description::Description;
use crate::domain::secret::error::SourceError;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, VersionSelector};
use crate::domain::secret::version::{ListedVersion, SecretVersion};
use crate::domain::value::Value;

/// One page of [`ListSecretVersionIds`][list].
///
/// [list]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_ListSecretVersionIds.html
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// The versions, in no order.
    pub versions: Vec<ListedVersion>,
    /// The token of the next page.
    pub next: Option<String>,
}

/// The answer of one [`BatchGetSecretValue`][batch].
///
/// [batch]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html
#[derive(Default)]
pub struct Batch {
    /// The values, in no order.
    pub versions: Vec<SecretVersion>,
    /// The failures of single secrets, by the id of the request.
    pub failures: Vec<(String, SourceError)>,
    /// The number of attempts for which AWS may have sent values that did not arrive.
    pub lost_attempts: u32,
}

/// One page of [`ListSecrets`](https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_ListSecrets.html).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretPage {
    /// The secrets, without values.
    pub secrets: Vec<Description>,
    /// The token of the next page.
    pub next: Option<String>,
}

/// A version that [`SecretsApi::put`] writes. It carries a value, so it has no `Debug`.
#[derive(Clone, Copy)]
pub struct NewVersion<'a> {
    /// The id of the new version, 32 to 64 characters.
    pub token: &'a str,
    /// The value.
    pub text: &'a Value,
    /// The version stages, which other versions lose.
    pub stages: &'a [&'a str],
}

/// The move of one version stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageMove<'a> {
    /// The version stage.
    pub stage: &'a str,
    /// The id of the version that loses the stage; `None` where no version has it.
    pub from: Option<&'a str>,
    /// The id of the version that gets the stage; `None` removes it.
    pub to: Option<&'a str>,
}

/// The most secrets of one [`SecretsApi::read_batch`].
pub const BATCH_LIMIT: usize = 20;

/// The requests to Secrets Manager that Bindery sends.
pub trait SecretsApi: Send + Sync + 'static {
    /// Describes a secret, without its value. Needs `secretsmanager:DescribeSecret`.
    fn describe<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
    ) -> BoxFuture<'a, Result<Description, SourceError>>;

    /// Reads the value of one version. Needs `secretsmanager:GetSecretValue`, and `kms:Decrypt` where the secret is
    /// encrypted with a customer managed key.
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
    /// `secretsmanager:ListSecrets`, which IAM allows for all secrets or none.
    fn list<'a>(
        &'a self,
        identity: &'a Identity,
        prefixes: &'a [String],
        page: Option<String>,
    ) -> BoxFuture<'a, Result<SecretPage, SourceError>>;

    /// Lists at most 100 versions of a secret, also those without a version stage. Needs
    /// `secretsmanager:ListSecretVersionIds`.
    fn list_versions<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<VersionPage, SourceError>>;

    /// Writes a new version. Does nothing where the token exists with the same value; another value is
    /// [`SourceErrorKind::TokenTaken`]. Returns the request id. Needs `secretsmanager:PutSecretValue`, and
    /// `kms:GenerateDataKey` and `kms:Decrypt` where the secret is encrypted with a customer managed key.
    ///
    /// [`SourceErrorKind::TokenTaken`]: crate::domain::secret::error::SourceErrorKind::TokenTaken
    fn put<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        version: NewVersion<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>>;

    /// Moves a version stage by [`UpdateSecretVersionStage`][stage]. Changes nothing where the stage is not on the
    /// version `from`: that is [`SourceErrorKind::StageMoved`]. Returns the request id. Needs
    /// `secretsmanager:UpdateSecretVersionStage`.
    ///
    /// [stage]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html
    /// [`SourceErrorKind::StageMoved`]: crate::domain::secret::error::SourceErrorKind::StageMoved
    fn move_stage<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        stage: StageMove<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>>;

    /// Starts the rotation that is set up for the secret, by [`RotateSecret`][rotate]. The id of the new version is
    /// `token`. Returns the request id. Needs `secretsmanager:RotateSecret`.
    ///
    /// [rotate]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_RotateSecret.html
    fn rotate<'a>(
        &'a self,
        identity: &'a Identity,
        secret: &'a SecretId,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, SourceError>>;

    /// The account of the identity, by `sts:GetCallerIdentity`, which needs no permission.
    fn account<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<String, SourceError>>;
}
