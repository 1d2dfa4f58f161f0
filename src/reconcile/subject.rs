//! The binding that a reconcile is about.

use std::sync::Arc;

use crate::api::SecretBindingStatus;
use crate::domain::binding::Binding;
use crate::domain::name::BindingName;

/// A binding and its status before the reconcile.
#[derive(Clone)]
pub struct Subject<'a> {
    /// The binding.
    pub binding: Arc<Binding>,
    /// Its name.
    pub name: &'a BindingName,
    /// Its status before the reconcile.
    pub before: &'a SecretBindingStatus,
}

impl Subject<'_> {
    /// Whether the annotation `bindery.dev/sync` asks for a read that was not made yet.
    #[must_use]
    pub fn asks_for_sync(&self) -> bool {
        self.binding.sync.is_some() && self.binding.sync != self.before.last_handled_sync
    }
}
