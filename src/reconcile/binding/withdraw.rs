//! Deletes what was published through a grant that ended and asks for that.

use crate::domain::grant::GrantError;
use crate::domain::target::TargetState;
use crate::domain::target::orphan::Orphan;
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::write::delete_secret;
use crate::kubernetes::write_error::WriteError;
use crate::reconcile::binding::observe_target::observe_live;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::subject::Subject;

/// Deletes the target where `refusal` is the end of the grant that published it, and that grant asks for it. True where
/// the target is gone.
///
/// # Errors
/// What Kubernetes refuses.
pub async fn withdraw(
    cx: &Context,
    subject: &Subject<'_>,
    refusal: &Error,
    permit: &Permit<'_>,
) -> Result<bool, Error> {
    let Error::Grant(GrantError::Expired { grant, delete: true, .. }) = refusal else { return Ok(false) };
    if subject.before.grant.as_ref() != Some(grant) {
        return Ok(false);
    }
    let (namespace, name) = (&subject.binding.namespace, &subject.binding.target.name);
    match observe_live(cx, subject, permit.reads().await).await? {
        TargetState::Absent => Ok(true),
        TargetState::Owned(observed) => {
            let seen = Orphan { name: name.clone(), uid: observed.uid, resource_version: observed.resource_version };
            if !delete_secret(permit.writes().await, namespace, &seen).await? {
                return Err(WriteError::Raced.into());
            }
            tracing::info!(%namespace, secret = %name, "deleted, since its grant ended");
            Ok(true)
        }
        TargetState::Foreign(_) | TargetState::Adoptable(_) => Ok(false),
    }
}
