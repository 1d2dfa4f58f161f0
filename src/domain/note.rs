//! What an Event says of a binding.

use crate::api::Reason;

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is about something that needs attention.
    pub warning: bool,
    /// The reason, which is that of the condition.
    pub reason: Reason,
    /// The message of the condition.
    pub text: String,
}
