//! A secret version that several bindings share.

use std::ops::Deref;

use tokio::sync::OwnedSemaphorePermit;

use crate::domain::secret::version::SecretVersion;

/// A secret version that several bindings share. It keeps its memory permit until the last of them drops it.
pub struct SharedVersion {
    version: SecretVersion,
    _permit: Option<OwnedSemaphorePermit>,
}

impl SharedVersion {
    /// Shares `version`, which occupies the memory of `permit`.
    pub(crate) fn new(version: SecretVersion, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { version, _permit: permit }
    }
}

impl Deref for SharedVersion {
    type Target = SecretVersion;

    fn deref(&self) -> &SecretVersion {
        &self.version
    }
}
