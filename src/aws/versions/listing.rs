//! One list of the secrets of an identity, page by page.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::aws::api::SecretsApi;
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::aws::versions::sweep::SecretLookup;
use crate::domain::secret::description::Description;
use crate::domain::secret::error::SourceError;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;

/// The secrets that a list requests.
pub(super) struct ListRequest {
    pub(super) lookup: SecretLookup,
    /// The most pages that the list may have. A longer list costs more calls than descriptions do.
    pub(super) max_pages: usize,
}

/// The answer of a list.
pub(super) struct Listing {
    pub(super) secrets: HashMap<SecretId, Description>,
    /// When the list began.
    pub(super) started: Instant,
    pub(super) pages: usize,
    /// False where the list has more than [`ListRequest::max_pages`].
    pub(super) complete: bool,
}

/// Lists the secrets of `identity`, up to the last page that the request allows.
///
/// # Errors
/// What AWS refuses.
pub(super) async fn list_secrets(
    api: &dyn SecretsApi,
    limits: &RateLimits,
    identity: &Identity,
    request: &ListRequest,
) -> Result<Listing, SourceError> {
    let prefixes = request.lookup.prefixes();
    let mut listing = Listing { secrets: HashMap::new(), started: Instant::now(), pages: 0, complete: false };
    let mut page = None;
    loop {
        let list = || api.list(identity, &prefixes, page.clone());
        let answer = limits.send(identity, RateClass::List, list).await?;
        listing.pages += 1;
        for description in answer.secrets {
            for secret in request.lookup.matches(&description) {
                listing.secrets.insert(secret.clone(), description.clone());
            }
        }
        match answer.next {
            None => {
                listing.complete = true;
                return Ok(listing);
            }
            Some(_) if listing.pages >= request.max_pages => return Ok(listing),
            next => page = next,
        }
    }
}
