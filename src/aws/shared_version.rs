//! A secret version that several bindings share.

use std::ops::Deref;

use crate::aws::value_memory::MemoryPermit;
use crate::domain::secret::version::SecretVersion;

/// A secret version that several bindings share. It keeps its memory permits until the last of them drops it.
pub struct SharedVersion {
    version: SecretVersion,
    _memory: [Option<MemoryPermit>; 2],
}

impl SharedVersion {
    /// Shares `version`, which occupies this memory of the whole and of the share of a namespace.
    pub(crate) const fn new(version: SecretVersion, memory: [Option<MemoryPermit>; 2]) -> Self {
        Self { version, _memory: memory }
    }
}

impl Deref for SharedVersion {
    type Target = SecretVersion;

    fn deref(&self) -> &SecretVersion {
        &self.version
    }
}
