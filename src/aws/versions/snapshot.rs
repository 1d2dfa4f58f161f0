//! Snapshots of a secret without its value, and requests for them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::secret::description::Description;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, VersionSelector};

/// The cause that made Bindery find a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// A request to AWS.
    Request,
    /// An event.
    Event,
}

/// The versions of a secret at one time, without values.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The versions.
    pub description: Arc<Description>,
    /// When the request to AWS began.
    pub at: Instant,
    /// False where the snapshot rests on a list alone, which may be five minutes old.
    pub confirmed: bool,
    /// What found the present version.
    pub discovery: Discovery,
    /// Whether only the versions that were read are known.
    pub(super) partial: bool,
}

impl Snapshot {
    /// Whether the snapshot has the dates of AWS's own rotation. Reads do not answer them.
    #[must_use]
    pub const fn has_rotation_dates(&self) -> bool {
        !self.partial
    }
}

/// A request for a [`Snapshot`].
#[derive(Clone, Debug)]
pub struct SnapshotRequest<'a> {
    /// The namespace that pays for the call, where one is made.
    pub namespace: &'a str,
    /// The age up to which a known snapshot serves.
    pub max_age: Duration,
    /// The age up to which a known failure serves.
    pub max_failure_age: Duration,
    /// Whether a list is not enough.
    pub confirmed: bool,
    /// The versions that the snapshot must answer for.
    pub versions: &'a [&'a VersionSelector],
}

/// A request to describe one secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct DescribeRequest<'a> {
    pub(super) identity: &'a Identity,
    pub(super) secret: &'a SecretId,
    /// When the description was requested. A description that began later serves too.
    pub(super) requested: Instant,
    /// The cause that the snapshot records where the version is new.
    pub(super) discovery: Discovery,
    /// The namespace that pays for the call; without one, that of any registered binding.
    pub(super) payer: Option<&'a str>,
}

/// When a description began.
#[derive(Clone, Copy, Debug)]
pub(super) struct DescribeStart {
    pub(super) at: Instant,
    /// The latest time that AWS had told before, on a message of a queue.
    pub(super) time: Option<Timestamp>,
}
