//! When the keys of a published Secret were last changed: the annotation `bindery.dev/changed`.
//!
//! The times are the API server's, as those of pods are: an operator whose clock is ahead or behind would miss restarts
//! or make needless ones. The time of a write is known only after it, so a write records `null` for the keys that it
//! changes. `null` means the time of the last write of the field manager `bindery`, which Kubernetes keeps in
//! `managedFields` ([field management][ssa]). The next write replaces `null` by that time.
//!
//! [ssa]: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::domain::fingerprint::hex;
use crate::domain::render::key::TargetKey;
use crate::domain::rollout::consumers::Uses;
use crate::domain::value::Value;

/// The entry for every key. No key of a Secret has this name.
const EVERY: &str = "*";

/// The limit of the annotation, since all annotations of an object have 256 KiB together. A longer one becomes a single
/// time for all keys.
const MAX_LENGTH: usize = 64 * 1024;

/// The annotation: the time of the last change, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<String, When>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    At(Timestamp),
    ByLastWrite,
}

/// A Secret before a write.
pub struct Before<'a> {
    /// Its values.
    pub data: &'a BTreeMap<String, Value>,
    /// The keys that Bindery published.
    pub owned: &'a BTreeSet<String>,
    /// The annotation.
    pub changes: Changes,
    /// When Bindery last wrote.
    pub written: Option<Timestamp>,
}

impl Changes {
    /// Reads the annotation; `None` if Bindery did not write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let times: BTreeMap<String, Option<String>> = serde_json::from_str(text).ok()?;
        let when = |time: Option<String>| match time {
            None => Some(When::ByLastWrite),
            Some(time) => time.parse().ok().map(When::At),
        };
        times.into_iter().map(|(key, time)| Some((key, when(time)?))).collect::<Option<_>>().map(Self)
    }

    /// Every key changes with the next write: for a Secret whose earlier values are unknown.
    #[must_use]
    pub fn all() -> Self {
        Self(BTreeMap::from([(EVERY.to_owned(), When::ByLastWrite)]))
    }

    /// The annotation after a write of `data` over `before`. The write changes values that differ, new keys and removed
    /// keys. Keys of other writers stay as they are.
    #[must_use]
    pub fn by_write(before: Before<'_>, data: &BTreeMap<TargetKey, Value>) -> Self {
        let Before { data: old, owned, changes, written } = before;
        let mut times = changes.resolved(written).0;
        let mut after: BTreeMap<String, When> = BTreeMap::new();
        for (key, value) in data {
            if old.get(key.as_str()).map(Value::expose) != Some(value.expose()) {
                after.insert(key.as_str().to_owned(), When::ByLastWrite);
            }
        }
        let stays = |key: &str| data.keys().any(|stays| stays.as_str() == key);
        after.extend(
            owned
                .iter()
                .filter(|key| old.contains_key(*key) && !stays(key))
                .map(|key| (key.clone(), When::ByLastWrite)),
        );
        times.retain(|key, _| !after.contains_key(key));
        after.extend(times.into_iter().map(|(key, time)| (key, When::At(time))));
        Self(after).bounded()
    }

    /// The text of the annotation; `None` before the first change.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let times: BTreeMap<&str, Option<String>> = self
            .0
            .iter()
            .map(|(key, when)| match when {
                When::At(time) => (key.as_str(), Some(time.to_string())),
                When::ByLastWrite => (key.as_str(), None),
            })
            .collect();
        if times.is_empty() { None } else { serde_json::to_string(&times).ok() }
    }

    /// The times, with `written` as the time of the last write. Without it every pod counts as older.
    #[must_use]
    pub fn resolved(&self, written: Option<Timestamp>) -> Times {
        let time = |when: &When| match when {
            When::At(time) => *time,
            When::ByLastWrite => written.unwrap_or(Timestamp::MAX),
        };
        Times(self.0.iter().map(|(key, when)| (key.clone(), time(when))).collect())
    }

    fn bounded(self) -> Self {
        if self.text().is_none_or(|text| text.len() <= MAX_LENGTH) {
            return self;
        }
        let latest = self.0.values().filter_map(|when| match when {
            When::At(time) => Some(*time),
            When::ByLastWrite => None,
        });
        let by_this = self.0.values().any(|when| *when == When::ByLastWrite);
        let when = if by_this { Some(When::ByLastWrite) } else { latest.max().map(When::At) };
        Self(when.map(|when| (EVERY.to_owned(), when)).into_iter().collect())
    }
}

/// When keys were last changed, by the clock of the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(BTreeMap<String, Timestamp>);

impl Times {
    /// Whether nothing was changed since the first publication.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time of the last change of a key that such a pod uses.
    #[must_use]
    pub fn latest(&self, uses: &Uses) -> Option<Timestamp> {
        self.0
            .iter()
            .filter(|(key, _)| *key == EVERY && *uses != Uses::Nothing || uses.sees(key))
            .map(|(_, t)| *t)
            .max()
    }

    /// A digest that identifies these changes. It hides nothing and needs no key: the Secret shows names and times in the
    /// clear.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (key, time) in &self.0 {
            hasher.update(format!("{key} {time}\n"));
        }
        let mut digest = hex(&hasher.finalize());
        digest.truncate(32);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
    }

    fn desired(pairs: &[(&str, &str)]) -> BTreeMap<TargetKey, Value> {
        pairs.iter().map(|(key, value)| (TargetKey::try_from(*key).unwrap(), Value::from(*value))).collect()
    }

    fn write(old: &[(&str, &str)], changes: &str, written: i64, new: &[(&str, &str)]) -> Option<String> {
        let old = data(old);
        let owned = old.keys().filter(|key| !key.starts_with("OTHER")).cloned().collect();
        let changes = Changes::parse(changes).unwrap();
        let before = Before { data: &old, owned: &owned, changes, written: Some(at(written)) };
        Changes::by_write(before, &desired(new)).text()
    }

    #[test]
    fn a_write_notes_what_it_changes_and_gives_the_time_of_the_write_before() {
        assert_eq!(write(&[("A", "1")], "{}", 0, &[("A", "1")]), None);
        assert_eq!(write(&[("A", "1")], "{}", 0, &[("A", "2")]).unwrap(), r#"{"A":null}"#);
        assert_eq!(write(&[("A", "1")], "{}", 0, &[("A", "1"), ("B", "")]).unwrap(), r#"{"B":null}"#);
        assert_eq!(write(&[("A", "1"), ("B", "2")], "{}", 0, &[("A", "1")]).unwrap(), r#"{"B":null}"#);
        assert_eq!(write(&[("A", "1"), ("OTHER", "2")], "{}", 0, &[("A", "1")]), None, "it is not Bindery's");
        let second = write(&[("A", "2"), ("B", "1")], r#"{"A":null}"#, 7, &[("A", "2"), ("B", "2")]).unwrap();
        assert_eq!(second, format!(r#"{{"A":"{}","B":null}}"#, at(7)));
        let third = write(&[("A", "2"), ("B", "2")], &second, 9, &[("A", "3"), ("B", "2")]).unwrap();
        assert_eq!(third, format!(r#"{{"A":null,"B":"{}"}}"#, at(9)));
    }

    #[test]
    fn the_next_write_changes_no_time_and_so_no_digest() {
        let by_last_write = Changes::parse(r#"{"A":null}"#).unwrap().resolved(Some(at(7)));
        let given = Changes::parse(&format!(r#"{{"A":"{}"}}"#, at(7))).unwrap().resolved(Some(at(99)));
        assert_eq!(by_last_write, given);
        assert_eq!(by_last_write.digest(), given.digest());
        assert_ne!(by_last_write.digest(), Times::default().digest());
    }

    #[test]
    fn a_pod_is_concerned_by_the_keys_it_uses() {
        let text = format!(r#"{{"A":"{}","B":"{}"}}"#, at(1), at(2));
        let times = Changes::parse(&text).unwrap().resolved(None);
        let keys = |key: &str| Uses::Keys(BTreeMap::from([(key.to_owned(), true)]));
        assert_eq!(times.latest(&Uses::Whole), Some(at(2)));
        assert_eq!(times.latest(&keys("A")), Some(at(1)));
        assert_eq!(times.latest(&keys("C")), None);
        assert_eq!(times.latest(&Uses::Nothing), None);
        let all = Changes::all().resolved(Some(at(5)));
        assert_eq!((all.latest(&keys("C")), all.latest(&Uses::Nothing)), (Some(at(5)), None));
    }

    #[test]
    fn what_bindery_did_not_write_is_not_believed() {
        for text in ["", "[]", "{\"A\":1}", "{\"A\":\"yesterday\"}", "null"] {
            assert_eq!(Changes::parse(text), None, "{text}");
        }
    }

    #[test]
    fn very_many_changes_become_one_for_all_keys() {
        let many: Vec<String> = (0..5000).map(|i| format!("KEY_{i:0>40}")).collect();
        let new: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "x")).collect();
        assert_eq!(write(&[], "{}", 0, &new).unwrap(), r#"{"*":null}"#);
        assert_eq!(write(&[("A", "1")], r#"{"*":null}"#, 3, &[("A", "1")]).unwrap(), format!(r#"{{"*":"{}"}}"#, at(3)));
    }

    proptest! {
        /// Whatever is written, exactly the keys whose values differ are changed by the write.
        #[test]
        fn a_write_changes_what_differs(
            old in proptest::collection::btree_map("[A-D]", "[xy]?", 0..4),
            new in proptest::collection::btree_map("[A-D]", "[xy]?", 0..4),
        ) {
            let pairs = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>();
            let (old_pairs, new_pairs) = (pairs(&old), pairs(&new));
            let borrowed = |pairs: &[(String, String)]| pairs.iter().map(|(k, v)| (k.as_str().to_owned(), Value::from(v.as_str()))).collect::<BTreeMap<_, _>>();
            let data = borrowed(&old_pairs);
            let owned = data.keys().cloned().collect();
            let before = Before { data: &data, owned: &owned, changes: Changes::default(), written: Some(at(0)) };
            let desired = new_pairs.iter().map(|(k, v)| (TargetKey::try_from(k.as_str()).unwrap(), Value::from(v.as_str()))).collect();
            let times = Changes::by_write(before, &desired).resolved(Some(at(1)));
            for key in ["A", "B", "C", "D"] {
                prop_assert_eq!(times.0.contains_key(key), old.get(key) != new.get(key));
            }
        }
    }
}
