//! The rejection of a render, kept until the sources change.

use crate::api::Reason;
use crate::domain::render::mapping::error::RenderError;

/// A [`RenderError`] as reason and message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    reason: Reason,
    message: String,
}

impl Rejection {
    /// The reason in the condition `Rendered`.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}

impl From<RenderError> for Rejection {
    fn from(error: RenderError) -> Self {
        Self { reason: render_reason(&error), message: error.to_string() }
    }
}

/// The reason in the condition `Rendered` (`Granted` if the grant does not allow a key).
#[must_use]
pub const fn render_reason(error: &RenderError) -> Reason {
    match error {
        RenderError::InvalidPayload { .. } => Reason::InvalidPayload,
        RenderError::KeyNotFound { .. } | RenderError::OverlapKeyMissing { .. } | RenderError::NothingToPublish => {
            Reason::KeyNotFound
        }
        RenderError::KeyRefused { .. } => Reason::AccessDenied,
        RenderError::InvalidKey { .. } | RenderError::KeysClash { .. } | RenderError::OverlapKeyTaken { .. } => {
            Reason::InvalidKey
        }
        RenderError::InvalidValue { .. } => Reason::InvalidValue,
        RenderError::TemplateFailed(_) => Reason::TemplateFailed,
        RenderError::RequiredKeyMissing { .. } => Reason::RequiredKeyMissing,
        RenderError::TooLarge { .. } | RenderError::TooCostly { .. } => Reason::TooLarge,
        RenderError::NotRead { .. } => Reason::AwsUnavailable,
    }
}
