//! All versions of one secret, without values.

use std::collections::BTreeSet;

use crate::aws::api::SecretsApi;
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;
use crate::domain::secret::version::ListedVersion;

/// The pages of `ListSecretVersionIds` that one history requests. A secret has about a hundred versions, unless a
/// client writes more than one in ten minutes ([quotas][quotas]). Later pages are left out.
///
/// [quotas]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
const MAX_PAGES: usize = 10;

/// What a page costs a namespace, in calls. By default an account has as many lists a second as a namespace has calls, and
/// lists find the changes of all: so one namespace has a tenth of them.
const COST: f64 = 10.0;

/// Lists the versions of a secret, with and without a version stage, the newest first. Each page is a call that
/// one of the namespaces pays for.
///
/// # Errors
/// What AWS refuses, and where none of the namespaces has a call left.
pub(super) async fn version_history(
    api: &dyn SecretsApi,
    limits: &RateLimits,
    identity: &Identity,
    secret: &SecretId,
    payers: &BTreeSet<&str>,
) -> Result<Vec<ListedVersion>, SourceError> {
    let (mut history, mut page) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        if !limits.tenants.pay_for(COST, payers.iter().copied()) {
            return Err(SourceError::new(SourceErrorKind::TenantLimit, secret.to_string()));
        }
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
