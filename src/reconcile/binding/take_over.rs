//! Takes over the keys of a Secret that was restored without its managed fields.

use crate::domain::target::takeover::{managed_fields, proven_keys};
use crate::domain::target::{Desired, ObservedSecret, ObservedTarget};
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::read::PublishedSecret;
use crate::kubernetes::write::replace_managed_fields;
use crate::kubernetes::write_error::WriteError;
use crate::reconcile::context::Context;
use crate::reconcile::subject::Subject;

/// Takes over the keys that are proven to be Bindery's, where its own entry in the managed fields is lost, so that the
/// apply that follows removes those that are wanted no more. Answers the target to apply over.
///
/// # Errors
/// What Kubernetes refuses.
pub async fn take_over(
    cx: &Context,
    subject: &Subject<'_>,
    read: Option<&PublishedSecret>,
    desired: &Desired,
    permit: &Permit<'_>,
) -> Result<Option<ObservedTarget>, WriteError> {
    let Some(read) = read else { return Ok(None) };
    let keys = proven_keys(subject.before, desired, &read.meta, &read.data, &cx.key);
    if keys.is_empty() {
        return Ok(None);
    }
    let entries = managed_fields(&read.meta, &keys);
    let place = (&*desired.namespace, &*desired.name);
    let meta = replace_managed_fields(permit.writes().await, place, &read.meta, &entries).await?;
    Ok(Some(ObservedSecret::new(&meta, &cx.key).observed))
}
