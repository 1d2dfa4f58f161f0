//! Keyed digests: proof that nothing changed, of no use to anybody without the installation's key.
//!
//! A plain hash of a value, or of anything that follows from it, would let a reader of annotations test guesses.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The length of a key in bytes.
pub const KEY_LENGTH: usize = 32;

/// The random key of one installation.
pub struct FingerprintKey {
    id: String,
    key: Zeroizing<[u8; KEY_LENGTH]>,
}

impl FingerprintKey {
    /// A key from its bytes.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; KEY_LENGTH]>) -> Self {
        let mut id = hex(&Sha256::digest(key.as_slice()));
        id.truncate(8);
        Self { id, key }
    }

    /// The short public id of the key, which begins each of its digests.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether a digest was made under this key.
    #[must_use]
    pub fn made(&self, digest: &str) -> bool {
        digest.strip_prefix(&self.id).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The digest of a list of texts or bytes, as `<key-id>.<32 hex digits>`. `purpose` keeps digests of different
    /// things apart, and the length before each part keeps `["ab"]` apart from `["a", "b"]`. Bytes are not copied, so
    /// that values may be among them.
    #[must_use]
    pub fn digest<P: AsRef<[u8]>>(&self, purpose: &str, parts: impl IntoIterator<Item = P>) -> String {
        // HMAC takes keys of any length (RFC 2104), so the error arm does not happen.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.as_slice()) else { return String::new() };
        let mut update = |part: &[u8]| {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        };
        update(purpose.as_bytes());
        for part in parts {
            update(part.as_ref());
        }
        let mut digest = hex(&mac.finalize().into_bytes());
        digest.truncate(32);
        format!("{}.{digest}", self.id)
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> FingerprintKey {
        FingerprintKey::new(Zeroizing::new([byte; KEY_LENGTH]))
    }

    #[test]
    fn a_digest_depends_on_the_key_the_purpose_and_the_bounds_of_the_parts() {
        let digest = key(1).digest("inputs", ["a", "b"]);
        assert_eq!(digest, key(1).digest("inputs", ["a", "b"]));
        for other in [
            key(2).digest("inputs", ["a", "b"]),
            key(1).digest("fields", ["a", "b"]),
            key(1).digest("inputs", ["ab"]),
            key(1).digest("inputs", ["a", "b", ""]),
        ] {
            assert_ne!(digest, other);
        }
        assert_eq!(digest, key(1).digest("inputs", [b"a".as_slice(), b"b"]), "texts are their bytes");
        assert!(key(1).made(&digest) && !key(2).made(&digest) && !key(1).made(""));
        assert!(digest.starts_with(key(1).id()));
        assert_eq!(digest.len(), 8 + 1 + 32);
    }
}
