//! The source of a key of the target.

use crate::domain::payload::pointer::pointer_root;
use crate::domain::secret::reference::Source;

/// The source of a key of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// The secret and version in the words of the binding.
    pub source: Source,
    /// The full ARN of the secret.
    pub arn: String,
    /// The name of the secret.
    pub name: String,
    /// The JSON key; none for the whole payload.
    pub json_key: Option<String>,
}

impl KeySource {
    /// The key as grants name it; empty for the whole payload.
    #[must_use]
    pub fn granted_key(&self) -> String {
        let key = self.json_key.clone().unwrap_or_default();
        pointer_root(&key).unwrap_or(key)
    }
}
