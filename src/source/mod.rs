//! The AWS boundary: what Bindery asks of Secrets Manager, and what it makes of the answers.
//!
//! [`SecretsApi`] is the one trait of the crate. [`SecretsManager`](secrets_manager::SecretsManager)
//! implements it over the AWS SDK; tests of faults that no real service produces implement it in memory.
//!
//! | file | what |
//! |---|---|
//! | [`versions`] | which versions the secrets have, found without reading a value |
//! | [`sweep`] | what one list of all secrets tells of those that matter, pure |
//! | [`reader`] | the one way to a value: one read for all who ask, recorded |
//! | [`demand`] | who waits for which value, and what is read with one call, pure |
//! | [`writer`] | the one way to a new value: recorded before and after |
//! | [`audit`] | the record of reads and writes |
//! | [`event`] | what an event of CloudTrail says, pure |
//! | [`queue`] | the queues from which events are taken |
//! | [`quota`] | how often AWS is called |
//! | [`identity`], [`credentials`] | as whom |
//! | [`secrets_manager`] | the AWS SDK |

mod attempts;
pub mod audit;
pub mod credentials;
pub mod demand;
pub mod error;
pub mod event;
pub mod identity;
pub mod queue;
pub mod quota;
pub mod reader;
pub mod secrets_manager;
pub mod sweep;
pub mod versions;
pub mod writer;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;

use crate::binding::payload::Payload;
use crate::binding::reference::{SecretId, VersionSelector};
use crate::binding::value::Value;

pub use error::{SourceError, SourceErrorKind};
pub use identity::Identity;

/// What [`DescribeSecret`] tells of a secret: everything but its value.
///
/// [`DescribeSecret`]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DescribeSecret.html
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The full ARN, with the random suffix.
    pub arn: String,
    /// The name.
    pub name: String,
    /// The staging labels of each labelled version.
    pub versions: BTreeMap<String, BTreeSet<String>>,
    /// True while the secret is scheduled for deletion.
    pub pending_deletion: bool,
    /// When the secret was created.
    pub created: Option<Timestamp>,
    /// What AWS's own rotation of it is about.
    pub rotation: SecretRotation,
}

/// [AWS's own rotation][rotation] of a secret, as `DescribeSecret` and `ListSecrets` tell of it.
///
/// [rotation]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotating-secrets.html
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretRotation {
    /// Whether it is turned on.
    pub enabled: bool,
    /// `NextRotationDate`: by when it comes. It lies in the past where a rotation failed.
    pub next: Option<Timestamp>,
    /// `LastRotatedDate`: when it last succeeded.
    pub last: Option<Timestamp>,
}

/// One version in the answer of [`ListSecretVersionIds`][list], which shows no value.
///
/// [list]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_ListSecretVersionIds.html
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    /// Its id.
    pub id: String,
    /// Its staging labels; none where AWS may remove it at any time.
    pub stages: BTreeSet<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
}

/// One page of `ListSecretVersionIds`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// Versions, in no order.
    pub versions: Vec<ListedVersion>,
    /// The token of the next page.
    pub next: Option<String>,
}

impl Description {
    /// Whether a version is labelled AWSPENDING that is not the current one: a rotation is under way or was left
    /// behind ([rotation function steps][steps]).
    ///
    /// [steps]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot_rotation.html
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.versions.values().any(|stages| stages.contains("AWSPENDING") && !stages.contains("AWSCURRENT"))
    }

    /// The id of the version that `selector` means at present.
    #[must_use]
    pub fn version_id(&self, selector: &VersionSelector) -> Option<&str> {
        match selector {
            VersionSelector::Stage(stage) => {
                self.versions.iter().find(|(_, stages)| stages.contains(stage)).map(|(id, _)| id.as_str())
            }
            VersionSelector::Id(id) => self.versions.keys().find(|known| *known == id).map(String::as_str),
        }
    }
}

/// One version of a secret with its payload. Deliberately without `Debug`, `Clone` and `Serialize`.
pub struct SecretVersion {
    /// The full ARN, with the random suffix.
    pub arn: String,
    /// The name.
    pub name: String,
    /// The id of the version that was read.
    pub version_id: String,
    /// When the version was created.
    pub created: Option<Timestamp>,
    /// The value.
    pub payload: Payload,
    /// The id of the AWS request, by which CloudTrail records the read.
    pub request_id: Option<String>,
    /// Earlier attempts for which AWS may have sent a value that did not arrive.
    pub lost_attempts: u32,
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

/// Whether an answer is for the secret that was asked for. A full ARN must agree whole, a partial one up to the
/// random suffix, a name exactly.
#[must_use]
pub fn answers(asked: &SecretId, arn: &str, name: &str) -> bool {
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
