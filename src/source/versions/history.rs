//! The versions that a secret had, without values.

use super::{QuotaClass, Versions};
use crate::binding::reference::SecretId;
use crate::source::{Identity, ListedVersion, SourceError, SourceErrorKind, answers};

/// A secret has about a hundred versions at most, unless it gets them faster than one each ten minutes
/// ([quotas][quotas]). What does not stand on so many pages is not seen.
///
/// [quotas]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
const MOST_PAGES: usize = 10;

/// What [`Versions::history`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The full ARN of the secret.
    pub arn: String,
    /// The name of the secret.
    pub name: String,
    /// The versions, the newest first.
    pub versions: Vec<ListedVersion>,
}

impl Versions {
    /// The versions that a secret has, with and without a label, the newest first.
    ///
    /// # Errors
    /// What AWS refuses, and an answer for another secret.
    pub async fn history(&self, identity: &Identity, secret: &SecretId) -> Result<History, SourceError> {
        let (mut history, mut page) = (History::default(), None);
        for _ in 0..MOST_PAGES {
            let list = || self.api.list_versions(identity, secret, page.clone());
            let answer = self.quotas.paced(identity, QuotaClass::List, list).await?;
            if !answers(secret, &answer.arn, &answer.name) {
                return Err(SourceError::new(SourceErrorKind::WrongSecret, secret.to_string()));
            }
            history.versions.extend(answer.versions);
            (history.arn, history.name, page) = (answer.arn, answer.name, answer.next);
            if page.is_none() {
                break;
            }
        }
        history.versions.sort_by_key(|version| std::cmp::Reverse(version.created));
        Ok(history)
    }
}
