//! An Event about a binding.

use crate::api::Reason;

/// The content of an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it needs attention.
    pub warning: bool,
    /// The reason of the condition.
    pub reason: Reason,
    /// The message of the condition.
    pub text: String,
}
