//! Why a target may not be written.

/// Why a target may not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Another Secret has the name.
    #[error(
        "the Secret {name:?} exists and is not this binding's: {why}; choose another spec.target.name, delete the Secret, or let the binding adopt it (spec.target.adopt)"
    )]
    Foreign {
        /// The name of the target.
        name: String,
        /// Its owner.
        why: String,
    },
    /// Somebody deleted the Secret, and a finalizer holds it.
    #[error(
        "the Secret {name:?} is being deleted and is held by the finalizer {}; whoever set it must let go, or remove it from metadata.finalizers; then the Secret goes and is published anew", .finalizers.join(", ")
    )]
    Held {
        /// The name of the target.
        name: String,
        /// The finalizers.
        finalizers: Vec<String>,
    },
    /// Another writer undoes the writes of Bindery.
    #[error(
        "the Secret {name:?} was changed {times} times within 10 minutes after Bindery had put it right, last by {manager:?}; find and stop that writer"
    )]
    Contested {
        /// The name of the target.
        name: String,
        /// The number of repairs.
        times: usize,
        /// The field manager of the last change.
        manager: String,
    },
}
