//! All versions of one secret, without values.

use crate::aws::api::SecretsApi;
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::domain::secret::error::SourceError;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;
use crate::domain::secret::version::ListedVersion;

/// The pages of `ListSecretVersionIds` that one history requests. A secret has about a hundred versions, unless a
/// client writes more than one in ten minutes ([quotas][quotas]). Later pages are left out.
///
/// [quotas]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
const MAX_PAGES: usize = 10;

/// Lists the versions of a secret, with and without a version stage, the newest first.
///
/// # Errors
/// What AWS refuses.
pub(super) async fn version_history(
    api: &dyn SecretsApi,
    limits: &RateLimits,
    identity: &Identity,
    secret: &SecretId,
) -> Result<Vec<ListedVersion>, SourceError> {
    let (mut history, mut page) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let list = || api.list_versions(identity, secret, page.clone());
        let answer = limits.send(identity, RateClass::List, list).await?;
        history.extend(answer.versions);
        page = answer.next;
        if page.is_none() {
            break;
        }
    }
    history.sort_by_key(|version: &ListedVersion| std::cmp::Reverse(version.created));
    Ok(history)
}
