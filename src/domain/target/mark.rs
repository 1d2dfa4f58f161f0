//! The annotation `bindery.dev/inputs`: proof that a Secret is as Bindery published it.

use std::collections::BTreeSet;

use crate::domain::fingerprint::FingerprintKey;

/// The text of the annotation: a digest of the inputs that decide the content, and a digest of the published fields.
pub(super) fn mark(inputs: &str, fields: &str) -> String {
    format!("v1:{inputs}:{fields}")
}

/// The digest of the fields that Bindery owns.
pub(super) fn fields_digest(fields: &BTreeSet<String>, key: &FingerprintKey) -> String {
    key.digest("fields", fields.iter().map(String::as_str))
}
