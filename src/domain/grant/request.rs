//! The keys that a binding asks for.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::payload::pointer::pointer_root;
use crate::domain::render::mapping::Mapping;
use crate::domain::secret::reference::SecretId;

/// The keys of one secret that a binding asks for, as far as they are known before the payload is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedKeys {
    /// JSON keys, a JSON Pointer by its first token.
    pub keys: BTreeSet<String>,
    /// Whether the whole payload is published.
    pub whole: bool,
}

/// The keys that a mapping asks for, by secret.
#[must_use]
pub fn requested_keys(mapping: &Mapping) -> BTreeMap<SecretId, RequestedKeys> {
    let mut requested: BTreeMap<SecretId, RequestedKeys> = BTreeMap::new();
    for extract in &mapping.data_from {
        requested.entry(extract.source.secret.clone()).or_default();
    }
    for entry in &mapping.data {
        let of_secret = requested.entry(entry.source.secret.clone()).or_default();
        match &entry.json_key {
            Some(key) => {
                of_secret.keys.insert(pointer_root(key).unwrap_or_else(|| key.clone()));
            }
            None => of_secret.whole = true,
        }
    }
    requested
}
