//! The versions that a secret had, without values.

use crate::aws::versions::{RateClass, Versions};
use crate::domain::secret::error::SourceError;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;
use crate::domain::secret::version::ListedVersion;

/// A secret has about a hundred versions at most, unless it gets them faster than one each ten minutes
/// ([quotas][quotas]). What does not stand on so many pages is not seen.
///
/// [quotas]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
const MOST_PAGES: usize = 10;

impl Versions {
    /// The versions that a secret has, with and without a label, the newest first. That they are of the secret that is
    /// meant shows where a version is among them that was read.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn history(&self, identity: &Identity, secret: &SecretId) -> Result<Vec<ListedVersion>, SourceError> {
        let (mut history, mut page) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let list = || self.api.list_versions(identity, secret, page.clone());
            let answer = self.quotas.paced(identity, RateClass::List, list).await?;
            history.extend(answer.versions);
            page = answer.next;
            if page.is_none() {
                break;
            }
        }
        history.sort_by_key(|version: &ListedVersion| std::cmp::Reverse(version.created));
        Ok(history)
    }
}
