//! One version of a secret: with its value, in a list, and as a reference.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use crate::domain::payload::Payload;

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

impl SecretVersion {
    /// The reference to this version.
    #[must_use]
    pub fn reference(&self) -> VersionRef {
        VersionRef {
            arn: self.arn.clone(),
            name: self.name.clone(),
            version_id: self.version_id.clone(),
            created: self.created,
        }
    }
}

/// One version of one secret, without its value.
///
/// Two references are equal if ARN, name and id are equal. AWS fixes the creation time of a version, and not every
/// answer of AWS has it.
#[derive(Clone, Debug)]
pub struct VersionRef {
    /// The full ARN of the secret.
    pub arn: String,
    /// The name of the secret.
    pub name: String,
    /// The version id.
    pub version_id: String,
    /// When the version was created; `None` if it is unknown.
    pub created: Option<Timestamp>,
}

impl PartialEq for VersionRef {
    fn eq(&self, other: &Self) -> bool {
        (&self.arn, &self.name, &self.version_id) == (&other.arn, &other.name, &other.version_id)
    }
}

impl Eq for VersionRef {}
