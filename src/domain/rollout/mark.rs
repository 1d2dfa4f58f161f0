//! The mark that a restart leaves on a pod template: a digest of the values that the pods run with.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::api::RESTART_MARK_PREFIX;
use crate::domain::fingerprint::{FingerprintKey, hex};
use crate::domain::rollout::consumers::Uses;
use crate::domain::value::Value;

/// The part of an annotation's key after the `/` has at most this many characters ([syntax][syntax]).
///
/// [syntax]: https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/#syntax-and-character-set
const MAX_NAME: usize = 63;

/// The annotation for the Secret of this name. The name of a Secret can have 253 characters: a long one is cut and ends
/// in its hash, so that no other name has the same annotation.
#[must_use]
pub fn annotation(secret: &str) -> String {
    if secret.len() <= MAX_NAME {
        return format!("{RESTART_MARK_PREFIX}{secret}");
    }
    let mut hash = hex(&Sha256::digest(secret));
    hash.truncate(8);
    // Names of Secrets are ASCII.
    let stem: String = secret.chars().take(MAX_NAME - 9).collect();
    format!("{RESTART_MARK_PREFIX}{}-{hash}", stem.trim_end_matches(['-', '.']))
}

/// Digests of the values of a Secret, by key. Memory has them in place of the values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<String, String>);

impl Digests {
    /// The digests of the values of the Secret `namespace`/`secret`.
    #[must_use]
    pub fn of(namespace: &str, secret: &str, data: &BTreeMap<String, Value>, key: &FingerprintKey) -> Self {
        let of = |name: &str, value: &Value| {
            key.digest("restart-value", [namespace.as_bytes(), secret.as_bytes(), name.as_bytes(), value.expose()])
        };
        Self(data.iter().map(|(name, value)| (name.clone(), of(name, value))).collect())
    }

    /// The mark of a workload that uses these keys.
    #[must_use]
    pub fn mark(&self, uses: &Uses, key: &FingerprintKey) -> String {
        let used = self.0.iter().filter(|(name, _)| uses.sees(name));
        key.digest("restart", used.flat_map(|(name, digest)| [name.as_str(), digest.as_str()]))
    }
}

/// The digests of the values of a Secret at a resource version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretDigests {
    /// The resource version.
    pub resource_version: String,
    /// The digests.
    pub digests: Digests,
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn the_annotation_of_a_long_name_is_short_and_its_own() {
        assert_eq!(annotation("worker-env"), "secrets.bindery.dev/worker-env");
        let long = |end: &str| annotation(&format!("{}{end}", "a".repeat(100)));
        for name in [long("b"), annotation(&"a.".repeat(60)), annotation(&"b".repeat(63)), annotation(&"b".repeat(64))]
        {
            let name = name.strip_prefix(RESTART_MARK_PREFIX).unwrap().to_owned();
            assert!(name.len() <= 63 && name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
        }
        assert_ne!(long("b"), long("c"));
    }

    #[test]
    fn a_mark_follows_the_values_that_are_used_and_no_others() {
        let key = FingerprintKey::new(Zeroizing::new([1; 32]));
        let digests = |a: &str, b: &str| {
            let data = BTreeMap::from([("A".to_owned(), Value::from(a)), ("B".to_owned(), Value::from(b))]);
            Digests::of("n", "s", &data, &key)
        };
        let a = Uses::Keys(BTreeMap::from([("A".to_owned(), false)]));
        assert_eq!(digests("1", "1").mark(&a, &key), digests("1", "2").mark(&a, &key));
        assert_ne!(digests("1", "1").mark(&a, &key), digests("2", "1").mark(&a, &key));
        assert_ne!(digests("1", "1").mark(&Uses::Whole, &key), digests("1", "2").mark(&Uses::Whole, &key));
        assert!(!format!("{:?}", digests("hunter2", "")).contains("hunter2"));
    }
}
