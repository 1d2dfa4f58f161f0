//! The bindings that are to be reconciled again.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::domain::name::BindingName;

/// Where the names of bindings go that are to be reconciled.
pub struct Requeue {
    sender: mpsc::UnboundedSender<BindingName>,
    /// Whether this process makes reconciles.
    leads: AtomicBool,
}

impl Requeue {
    /// A queue of triggers, and its receiving end.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<BindingName>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, leads: AtomicBool::new(false) }, receiver)
    }

    /// From now on triggers count: this process makes reconciles.
    pub fn begin(&self) {
        self.leads.store(true, Ordering::SeqCst);
    }

    /// Triggers a reconcile of a binding, if this process makes any.
    pub fn trigger(&self, binding: &BindingName) {
        if !self.leads.load(Ordering::SeqCst) {
            return;
        }
        // Without a receiver the process is ending.
        let _ = self.sender.send(binding.clone());
    }
}
