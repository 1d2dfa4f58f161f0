//! Finds the grant that serves a binding.

use std::sync::Arc;

use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::subject::Subject;

/// The binding with what its grant allows.
///
/// # Errors
/// Where no grant serves it, or where an ARN needs the account of the operator and AWS does not tell it.
pub async fn authorize(cx: &Context, subject: &Subject<'_>) -> Result<AuthorizedBinding, Error> {
    match cx.authorization.access(&subject.binding).await {
        Ok(access) => {
            let (binding, name) = (subject.binding.clone(), subject.name.clone());
            Ok(AuthorizedBinding { binding, name, access: Arc::new(access) })
        }
        Err(error) => {
            // What may not be read any more is not asked about either.
            cx.clients.reader.versions().forget(subject.name);
            Err(error.into())
        }
    }
}
