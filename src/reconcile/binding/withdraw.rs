//! Takes back what was published through a grant that ended and asks for that.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use crate::api::OnExpiry;
use crate::domain::grant::GrantError;
use crate::domain::target::orphan::Orphan;
use crate::domain::target::record::is_proven;
use crate::domain::target::withdrawal::Withdrawal;
use crate::domain::target::{TargetState, owned_keys};
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::grant_object::GrantObject;
use crate::kubernetes::list::find_grant;
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
    let Error::Grant(GrantError::Expired { grant, delete: true, at }) = refusal else { return Ok(Withdrawal::None) };
    if subject.before.grant.as_ref() != Some(grant) {
        return Ok(Withdrawal::None);
    }
    // The watch may lag behind, and what is deleted does not come back when the grant turns out to be extended.
    let live = find_grant(permit.reads().await, grant).await.map_err(|_| unseen(&subject.binding.target.name))?;
    if !live.is_some_and(|live| still_asks(&live, *at)) {
        tracing::warn!(%grant, "a grant was changed after its end was seen, so nothing is deleted");
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
    let on_record = is_proven(subject.before, name, &observed);
    let own = owned_keys(&read.meta);
    let withdrawal = Withdrawal::of(on_record, adopted, &keys, &own);
    let seen = Orphan { name: name.clone(), uid: observed.uid, resource_version: observed.resource_version };
    match withdrawal {
        Withdrawal::Delete if !delete_secret(permit.writes().await, namespace, &seen).await? => {
            return Err(WriteError::Raced.into());
        }
        Withdrawal::Release => {
            release_secret(permit.writes().await, namespace, &seen, (&read.type_, &own)).await?;
        }
        Withdrawal::Delete | Withdrawal::Keep | Withdrawal::None => {}
    }
    Ok(withdrawal)
}

/// It is not known whether the grant still asks for the deletion. Another reconcile looks again.
fn unseen(secret: &str) -> Error {
    let what = "the grant that ended could not be read, so the Secret is not deleted yet".to_owned();
    WriteError::Failed { name: secret.to_owned(), what }.into()
}

/// Whether a grant ended at this time and still asks for what was published through it to be deleted.
fn still_asks(grant: &GrantObject, end: Timestamp) -> bool {
    grant.0.as_ref().is_ok_and(|grant| {
        grant.spec.on_expiry == Some(OnExpiry::Delete) && grant.spec.expires_at.as_ref().is_some_and(|at| at.0 == end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_grant_that_still_has_the_end_that_was_seen_has_secrets_deleted() {
        let grant = |end: &str, on_expiry: &str| -> GrantObject {
            let spec = json!({"namespaces": {"names": ["n"]}, "secrets": [{"name": "a"}], "expiresAt": end, "onExpiry": on_expiry});
            serde_json::from_value(json!({"metadata": {"name": "g"}, "spec": spec})).unwrap()
        };
        let end: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert!(still_asks(&grant("2026-01-01T00:00:00Z", "Delete"), end));
        assert!(!still_asks(&grant("2026-01-01T00:00:00Z", "Keep"), end));
        assert!(!still_asks(&grant("2027-01-01T00:00:00Z", "Delete"), end), "it was extended");
        assert!(!still_asks(&grant("9999-12-31T23:59:59Z", "Delete"), end), "it cannot be read");
    }
}
