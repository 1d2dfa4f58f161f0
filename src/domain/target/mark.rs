//! The annotation `bindery.dev/inputs`: proof that a Secret is as Bindery published it.

use std::collections::BTreeSet;

use crate::domain::fingerprint::FingerprintKey;

/// The Secret for which a mark was made. A mark of an older release does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkPlace {
    /// There is no mark, or it does not say, or it was made under another key.
    Unknown,
    /// The Secret that carries it.
    Here,
    /// Another Secret, from which it was copied.
    Elsewhere,
}

/// The text of the annotation: digests of the Secret's namespace and name, of the inputs that decide the content, and of
/// the published fields.
pub(super) fn mark(place: &str, inputs: &str, fields: &str) -> String {
    format!("v2:{place}:{inputs}:{fields}")
}

/// Whether a mark was made of these inputs and fields.
pub(super) fn is_of(mark: &str, inputs: &str, fields: &str) -> bool {
    mark.ends_with(&format!(":{inputs}:{fields}"))
}

/// The digest of the fields that a mark was made of.
pub(super) fn fields_of(mark: &str) -> Option<&str> {
    mark.rsplit(':').next()
}

/// The digest of the place of a Secret.
pub(super) fn place_digest((namespace, name): (&str, &str), key: &FingerprintKey) -> String {
    key.digest("place", [namespace, name])
}

/// For which Secret the mark of the Secret at `place` was made.
pub(super) fn place_of(mark: Option<&str>, place: (&str, &str), key: &FingerprintKey) -> MarkPlace {
    let made_for = mark.and_then(|mark| mark.strip_prefix("v2:")).and_then(|rest| rest.split(':').next());
    match made_for.filter(|digest| key.made(digest)) {
        Some(digest) if *digest == place_digest(place, key) => MarkPlace::Here,
        Some(_) => MarkPlace::Elsewhere,
        None => MarkPlace::Unknown,
    }
}

/// The digest of the fields that Bindery owns.
pub(super) fn fields_digest(fields: &BTreeSet<String>, key: &FingerprintKey) -> String {
    key.digest("fields", fields.iter().map(String::as_str))
}
