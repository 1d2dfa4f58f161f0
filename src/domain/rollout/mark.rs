//! The mark that a restart leaves on a pod template: a digest of the values that the pods run with.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::api::RESTART_MARK_PREFIX;
use crate::domain::fingerprint::{FingerprintKey, hex};
use crate::domain::rollout::changed::Times;
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

    /// The mark of a workload that uses these keys, of which one was last changed at this time.
    #[must_use]
    pub fn mark(&self, uses: &Uses, changes: &Times, key: &FingerprintKey) -> RestartMark {
        let used = self.0.iter().filter(|(name, _)| uses.sees(name));
        let values = key.digest("restart", used.flat_map(|(name, digest)| [name.as_str(), digest.as_str()]));
        let changed = changes.latest(uses).filter(|changed| *changed != Timestamp::MAX);
        RestartMark { values, changed: changed.map(Timestamp::as_second) }
    }
}

/// The mark of the values that pods are restarted for: a digest of them, and the second of their last change. The second
/// tells values that came back from those that were never gone, since a pod may have begun in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartMark {
    pub(super) values: String,
    /// In seconds since 1970; `None` where it is unknown.
    pub(super) changed: Option<i64>,
}

impl RestartMark {
    /// The text of the annotation.
    #[must_use]
    pub fn text(&self) -> String {
        match self.changed {
            Some(changed) => format!("{}-{changed}", self.values),
            None => self.values.clone(),
        }
    }

    /// Whether a template with this annotation was restarted for these values, and no earlier than for their last change.
    #[must_use]
    pub fn is_met_by(&self, annotation: Option<&str>) -> bool {
        let Some(annotation) = annotation else { return false };
        let (values, since) = match annotation.split_once('-') {
            Some((values, since)) => (values, since.parse().ok()),
            None => (annotation, None),
        };
        values == self.values && (self.changed.is_none() || since >= self.changed)
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
    use crate::domain::rollout::changed::Changes;
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
        let mark = |digests: Digests, uses: &Uses| digests.mark(uses, &Times::default(), &key);
        assert_eq!(mark(digests("1", "1"), &a), mark(digests("1", "2"), &a));
        assert_ne!(mark(digests("1", "1"), &a), mark(digests("2", "1"), &a));
        assert_ne!(mark(digests("1", "1"), &Uses::Whole), mark(digests("1", "2"), &Uses::Whole));
        assert!(!format!("{:?}", digests("hunter2", "")).contains("hunter2"));
    }

    #[test]
    fn values_that_came_back_have_another_mark_than_values_that_were_never_gone() {
        let key = FingerprintKey::new(Zeroizing::new([1; 32]));
        let digests = Digests::of("n", "s", &BTreeMap::from([("A".to_owned(), Value::from("1"))]), &key);
        let of = |changes: &str, written: Option<&str>| {
            let changes = Changes::parse(changes).unwrap().resolved(written.map(|time| time.parse().unwrap()));
            digests.mark(&Uses::Whole, &changes, &key)
        };
        let early = of(r#"{"A":"2027-01-01T00:00:00Z"}"#, None);
        let late = of(r#"{"A":null}"#, Some("2027-01-01T00:01:00Z"));
        let unknown = of(r#"{"A":null}"#, None);
        assert!(early.is_met_by(Some(&early.text())) && early.is_met_by(Some(&late.text())));
        assert!(!late.is_met_by(Some(&early.text())), "a pod may have begun in between");
        assert!(unknown.is_met_by(Some(&early.text())), "without a time the values decide");
        assert!(!early.is_met_by(Some(&unknown.text())) && !early.is_met_by(Some("x")) && !early.is_met_by(None));
    }
}
