//! Reads the values of the sources, together with all bindings that ask for them at about the same time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::aws::audit::ReadReason;
use crate::aws::shared_version::SharedVersion;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::selection::selection;

/// The values of the sources. They are dropped as soon as they are rendered.
pub type Fetched = BTreeMap<Source, Arc<SharedVersion>>;

/// Reads the values of all sources. `wanted` are the versions, where they are known.
///
/// # Errors
/// What AWS refuses, and answers that the grant does not allow.
pub async fn fetch(
    cx: &Arc<Context>,
    authorized: &AuthorizedBinding,
    reason: ReadReason,
    wanted: BTreeMap<Source, VersionRef>,
) -> Result<Fetched, Error> {
    let AuthorizedBinding { binding, name, access } = authorized;
    let reads = binding.mapping.sources().into_iter().map(|source| {
        let (mapping, access, of) = (binding.clone(), access.clone(), source.clone());
        let select = move |version: &_| selection(&mapping.mapping, &access, &of, version);
        let judge = cx.authorization.check(authorized, &source.secret, select);
        let wanted = wanted.get(&source).map(|known| known.version_id.clone());
        let request = authorized.asks(reason, wanted, judge);
        async move {
            let version = cx.clients.reader.read(&authorized.access.identity, &source, request).await?;
            Ok::<_, SourceError>((source, version))
        }
    });
    let mut reads = std::pin::pin!(futures::future::try_join_all(reads));
    // The requests are made with the first poll.
    let first = futures::poll!(reads.as_mut());
    cx.state.warmup.reads.arrived(name);
    cx.clients.reader.versions().record_request(name);
    let read = match first {
        std::task::Poll::Ready(read) => read,
        std::task::Poll::Pending => reads.await,
    };
    Ok(read?.into_iter().collect())
}

/// Checks again, after a wait, what was checked before it: the binding may be another or gone by now, and access may be
/// withdrawn.
///
/// # Errors
/// [`Error::Superseded`] where the binding is another, and what the grants allow no more.
pub fn recheck(cx: &Context, authorized: &AuthorizedBinding, fetched: &Fetched) -> Result<(), Error> {
    let AuthorizedBinding { binding, name, .. } = authorized;
    if !cx.state.bindings.is_current(name, &binding.uid, binding.generation) {
        return Err(Error::Superseded);
    }
    for (source, version) in fetched {
        if !cx.authorization.still_permits(authorized, &source.secret, version) {
            return Err(SourceError::new(SourceErrorKind::NotGranted, source.secret.to_string()).into());
        }
    }
    Ok(())
}
