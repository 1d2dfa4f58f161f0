//! Everything that can keep a binding from being published, with the condition it falsifies and what cures it.

use crate::api::{ConditionType, Reason};
use crate::domain::binding::SpecError;
use crate::domain::grant::GrantError;
use crate::domain::render::key::TargetKey;
use crate::domain::render::rejection::Rejection;
use crate::domain::rotation::record::Phase;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::target::TargetError;
use crate::kubernetes::write_error::WriteError;
use crate::reconcile::authorization::AccessError;

/// Why a reconcile did not publish.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The manifest is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No grant serves it.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// AWS did not give what it asks for.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What AWS gave does not make a Secret.
    #[error("{0}; the Secret stays as it was")]
    Render(Rejection),
    /// The target is not the binding's to write.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Kubernetes refused the write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A value that an overlap must publish is in no place that Bindery can read.
    #[error(
        "the {} of the key {key} is neither in the published Secret nor in a version of its source that can be read, so \
         nothing is published; put it back as a version of the secret, or end the overlap by removing the rule and the \
         annotation bindery.dev/rotation-state of the Secret",
        match phase { None | Some(Phase::Introducing) => "old or new value", Some(_) => "old value" }
    )]
    LostValue {
        /// The key.
        key: TargetKey,
        /// The phase that asks for it.
        phase: Option<Phase>,
    },
    /// The binding is not what the reconcile began with, so nothing is written and nothing is said of it: another reconcile
    /// begins with what it is now.
    #[error("the binding was edited, suspended or deleted while its pass waited")]
    Superseded,
    /// The reconcile took longer than its deadline.
    #[error("the pass over this binding took longer than {seconds} s and was ended; it is tried again")]
    Deadline {
        /// The deadline.
        seconds: u64,
        /// Whether the sources were known by then.
        fetched: bool,
    },
    /// The reconcile panicked.
    #[error(
        "a fault of Bindery ended the pass over this binding, and it is tried again with growing pauses; the log of the operator says at which place of the program"
    )]
    Panicked,
}

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Grant(error) => Self::Grant(error),
            AccessError::Source(error) => Self::Source(error),
        }
    }
}

/// What cures a failure, and so how the next try is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing but an edit of the binding.
    Edit,
    /// A change of another object that is watched, such as a grant.
    Watched,
    /// A new version of a source, which is observed at the refresh interval; until then nothing can change.
    NewVersion,
    /// Time: the failure passes by itself and the published Secret is as good as before.
    Passing,
    /// Something that cannot be watched, so it is tried again with growing pauses.
    Retry,
}

impl Error {
    /// The same failure, and where AWS was asked.
    #[must_use]
    pub fn asked(self, place: Option<&str>) -> Self {
        match (self, place) {
            (Self::Source(error), Some(place)) => Self::Source(error.asked(place)),
            (error, _) => error,
        }
    }

    /// The condition that is False for this failure; `None` where the manifest itself is wrong.
    #[must_use]
    pub const fn condition(&self) -> Option<ConditionType> {
        match self {
            Self::Spec(error) => match error.reason {
                Reason::InvalidReference => Some(ConditionType::Fetched),
                _ => None,
            },
            Self::Grant(_) => Some(ConditionType::Granted),
            Self::Source(error) => match error.kind {
                SourceErrorKind::NotGranted => Some(ConditionType::Granted),
                _ => Some(ConditionType::Fetched),
            },
            Self::Render(_) => Some(ConditionType::Rendered),
            Self::Deadline { fetched: false, .. } => Some(ConditionType::Fetched),
            Self::Target(_)
            | Self::Write(_)
            | Self::LostValue { .. }
            | Self::Superseded
            | Self::Deadline { .. }
            | Self::Panicked => Some(ConditionType::Applied),
        }
    }

    /// The reason in that condition.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Spec(error) => error.reason,
            Self::Grant(error) => error.reason(),
            Self::Source(error) => error.kind.reason(),
            Self::Render(rejection) => rejection.reason(),
            Self::Target(_) => Reason::TargetConflict,
            Self::Write(error) => error.reason(),
            Self::LostValue { .. } => Reason::OverlapBlocked,
            Self::Deadline { fetched: false, .. } => Reason::AwsUnavailable,
            Self::Superseded | Self::Deadline { .. } | Self::Panicked => Reason::ApplyFailed,
        }
    }

    /// What cures it.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Spec(_) => Class::Edit,
            Self::Grant(_) | Self::Superseded => Class::Watched,
            Self::Source(error) => match error.kind {
                SourceErrorKind::InvalidReference => Class::Edit,
                SourceErrorKind::Throttled | SourceErrorKind::TenantLimit | SourceErrorKind::Unavailable => {
                    Class::Passing
                }
                _ => Class::Retry,
            },
            Self::Render(_) => Class::NewVersion,
            // What was slow may be fast the next time, and the published Secret is as good as before.
            Self::Deadline { .. } => Class::Passing,
            Self::Target(_) | Self::Write(_) | Self::LostValue { .. } | Self::Panicked => Class::Retry,
        }
    }
}
