//! The AWS boundary: what Bindery asks of Secrets Manager, and what it makes of the answers.
//!
//! [`SecretsApi`] is the one trait of the crate. [`SecretsManager`](secrets_manager::SecretsManager)
//! implements it over the AWS SDK; tests of faults that no real service produces implement it in memory.

mod attempts;
pub mod audit;
pub mod credentials;
pub mod error;
pub mod identity;
pub mod reader;
pub mod secrets_manager;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;

use crate::binding::payload::Payload;
use crate::binding::reference::{SecretId, VersionSelector};

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
}

impl Description {
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

    /// The account of the identity, by `sts:GetCallerIdentity`, which needs no permission.
    fn account<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<String, SourceError>>;
}
