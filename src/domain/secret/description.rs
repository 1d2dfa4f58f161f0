//! A secret as `DescribeSecret` and `ListSecrets` describe it: everything but its value.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use crate::domain::secret::reference::{SecretId, VersionSelector};

/// The answer of [`DescribeSecret`]: everything but the value.
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
    /// AWS's own rotation of it.
    pub rotation: RotationDates,
}

/// [AWS's own rotation][rotation] of a secret, as `DescribeSecret` and `ListSecrets` report it.
///
/// [rotation]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotating-secrets.html
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationDates {
    /// Whether it is turned on.
    pub enabled: bool,
    /// `NextRotationDate`: by when it comes. It lies in the past where a rotation failed.
    pub next: Option<Timestamp>,
    /// `LastRotatedDate`: when it last succeeded.
    pub last: Option<Timestamp>,
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
