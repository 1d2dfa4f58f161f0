//! Takes back what was published through a grant that ended and asks for that.

use std::collections::BTreeSet;

use crate::domain::grant::GrantError;
use crate::domain::target::orphan::Orphan;
use crate::domain::target::record::is_on_record;
use crate::domain::target::withdrawal::Withdrawal;
use crate::domain::target::{TargetState, owned_keys};
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::write::{delete_secret, release_secret};
use crate::kubernetes::write_error::WriteError;
use crate::reconcile::binding::observe_target::observe_with_values;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::subject::Subject;

/// Takes the target back where `refusal` is the end of the grant that published it, and that grant asks for it: deletes
/// it, or takes Bindery's own keys from a Secret that was adopted or that others use too.
///
/// # Errors
/// What Kubernetes refuses.
pub async fn withdraw(
    cx: &Context,
    subject: &Subject<'_>,
    refusal: &Error,
    permit: &Permit<'_>,
) -> Result<Withdrawal, Error> {
    let Error::Grant(GrantError::Expired { grant, delete: true, .. }) = refusal else { return Ok(Withdrawal::None) };
    if subject.before.grant.as_ref() != Some(grant) {
        return Ok(Withdrawal::None);
    }
    let (namespace, name) = (&subject.binding.namespace, &subject.binding.target.name);
    let (observed, read) = match observe_with_values(cx, subject, permit.reads().await).await? {
        (TargetState::Owned(observed), Some(read)) => (observed, read),
        (TargetState::Absent, _) => return Ok(Withdrawal::Delete),
        _ => return Ok(Withdrawal::None),
    };
    let keys: BTreeSet<String> = read.data.keys().cloned().collect();
    let adopted = subject.binding.target.adopt || read.is_adoptable();
    let on_record = is_on_record(subject.before, name, &observed.uid);
    let withdrawal = Withdrawal::of(on_record, adopted, &keys, &owned_keys(&read.meta));
    let seen = Orphan { name: name.clone(), uid: observed.uid, resource_version: observed.resource_version };
    match withdrawal {
        Withdrawal::Delete if !delete_secret(permit.writes().await, namespace, &seen).await? => {
            return Err(WriteError::Raced.into());
        }
        Withdrawal::Release => release_secret(permit.writes().await, namespace, &seen, &read.type_).await?,
        Withdrawal::Delete | Withdrawal::Keep | Withdrawal::None => {}
    }
    Ok(withdrawal)
}
