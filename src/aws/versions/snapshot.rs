//! What is known of a secret without its value, and what a binding asks for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::secret::description::Description;
use crate::domain::secret::reference::VersionSelector;

/// How a version was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// By a request to AWS.
    Request,
    /// By an event.
    Event,
}

/// What was seen of a secret.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its versions.
    pub description: Arc<Description>,
    /// When AWS was asked.
    pub at: Instant,
    /// Whether it rests on more than a list, which may be five minutes old.
    pub confirmed: bool,
    /// How the present version was found.
    pub discovery: Discovery,
    /// Whether only the versions that were read are known.
    pub(super) partial: bool,
}

impl Snapshot {
    /// Whether it tells of AWS's own rotation, as reads do not.
    #[must_use]
    pub const fn has_rotation_dates(&self) -> bool {
        !self.partial
    }
}

/// What a binding wants to know of a secret.
#[derive(Clone, Debug)]
pub struct SnapshotRequest<'a> {
    /// How old the answer may be.
    pub max_age: Duration,
    /// How old a failure may be to be taken for the answer.
    pub max_failure_age: Duration,
    /// Whether a list is not enough.
    pub confirmed: bool,
    /// The versions asked about.
    pub versions: &'a [&'a VersionSelector],
}
