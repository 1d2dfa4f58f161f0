//! When keys were last changed. Pure.
//!
//! For each key that a rule names, the status keeps a keyed fingerprint of its value and the creation time of the
//! version that brought the value. A read with another fingerprint is a change, even if an old value comes back; a change
//! of other keys of the same secret is none. If AWSCURRENT moves back to an older version, the time is the time of that
//! version, since the value is as old. The value is that of the source: an overlap may publish another one meanwhile.
//!
//! - A key that a template makes has no single origin. Its fingerprint is that of the rendered text; its time is the
//!   creation time of the newest version that the binding reads, and may be too late at the first read.
//! - A key that is absent from the sources has an empty fingerprint and no time, so that nothing searches for it twice.
//! - After the first read, a [`Backfill`](crate::domain::rotation::backfill::Backfill) reads the older versions once.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::api::{KeyAge, SecretBindingStatus};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::payload::Payload;
use crate::domain::render::encoding::Encoding;
use crate::domain::render::key::TargetKey;
use crate::domain::render::mapping::{Mapping, MappingEntry, Origin, Rendered};
use crate::domain::render::template::Template;
use crate::domain::rotation::rule::Rule;
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::domain::value::Value;

/// The origin of a key, by which it is found in other versions of the same secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The entry that gives the key.
    pub entry: MappingEntry,
    /// The version that was read.
    pub version: VersionRef,
}

impl Trace {
    /// The fingerprint of the key in another version of its secret; `None` if that version lacks it. `allowed` decides
    /// whether a member of the payload may be read.
    #[must_use]
    pub fn fingerprint_in(
        &self,
        payload: &Payload,
        namespace: &str,
        allowed: &dyn Fn(&str) -> bool,
        key: &FingerprintKey,
    ) -> Option<String> {
        let mapping = Mapping { data: vec![self.entry.clone()], ..Mapping::default() };
        let selected = mapping.select(|_| Some(payload), &|_, member| allowed(member)).ok()?;
        let value = selected.data.get(&self.entry.key)?;
        Some(fingerprint(key, namespace, &self.version.arn, self.entry.json_key.as_deref(), value))
    }
}

/// One key in a read of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedKey {
    /// The fingerprint of its value; empty if it has none.
    pub fingerprint: String,
    /// The creation time of the version with the value.
    pub created: Option<Timestamp>,
    /// Its origin; `None` if a template makes the key, or if it is absent.
    pub trace: Option<Trace>,
    /// Whether the published Secret had the same value before the read; `None` if that is unknown.
    pub was_published: Option<bool>,
}

impl ObservedKey {
    fn absent() -> Self {
        Self { fingerprint: String::new(), created: None, trace: None, was_published: None }
    }
}

/// A key of unknown age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAge {
    /// The fingerprint of its value.
    pub fingerprint: String,
    /// Its origin.
    pub trace: Trace,
}

/// The ages of keys after a read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgeUpdate {
    /// The known ages, by key.
    pub records: BTreeMap<String, KeyAge>,
    /// The unknown ages, by key.
    pub unknown: BTreeMap<String, UnknownAge>,
    /// The keys whose values have changed.
    pub changed: BTreeSet<String>,
}

/// The digest that shows a change of a value. The installation's key and the other parts keep readers of a status from
/// comparing the values of others, and from testing guesses with values of their own.
#[must_use]
pub fn fingerprint(key: &FingerprintKey, namespace: &str, arn: &str, json_key: Option<&str>, value: &Value) -> String {
    let json_key = json_key.unwrap_or_default();
    let parts = [b"1", namespace.as_bytes(), arn.as_bytes(), json_key.as_bytes(), value.expose()];
    key.digest("age", parts)
}

/// The keys that any rule names.
#[must_use]
pub fn ruled(rules: &[Rule]) -> BTreeSet<&str> {
    rules.iter().flat_map(|rule| &rule.keys).map(TargetKey::as_str).collect()
}

/// The ages that a status records, under any rule.
#[must_use]
pub fn records(status: &SecretBindingStatus) -> BTreeMap<String, KeyAge> {
    let ages = status.rotation.iter().flat_map(|rule| &rule.keys);
    ages.map(|age| (age.key.clone(), age.clone())).collect()
}

/// Whether only a read can show the age of a ruled key.
#[must_use]
pub fn needs_read(
    rules: &[Rule],
    status: &SecretBindingStatus,
    unknown: &BTreeMap<String, UnknownAge>,
    key: &FingerprintKey,
) -> bool {
    let records = records(status);
    ruled(rules).into_iter().any(|ruled| {
        let recorded = records.get(ruled).is_some_and(|age| age.fingerprint.is_empty() || key.made(&age.fingerprint));
        !recorded && !unknown.contains_key(ruled)
    })
}

/// Whether only a comparison with the published Secret can show one of the ages: its fingerprint was made under a key
/// that is lost.
#[must_use]
pub fn needs_published(rules: &[Rule], status: &SecretBindingStatus, key: &FingerprintKey) -> bool {
    let records = records(status);
    ruled(rules)
        .into_iter()
        .filter_map(|ruled| records.get(ruled))
        .any(|age| !age.fingerprint.is_empty() && !key.made(&age.fingerprint))
}

/// The values of one read of the sources.
#[derive(Clone, Copy)]
pub struct ReadValues<'a> {
    /// The keys that the mapping selects.
    pub selected: &'a Rendered,
    /// The version of each source.
    pub versions: &'a BTreeMap<Source, VersionRef>,
    /// The data of the Secret before this read, if it is known.
    pub published: Option<&'a BTreeMap<String, Value>>,
}

/// The ruled keys in a read.
#[must_use]
pub fn observed_keys(
    rules: &[Rule],
    mapping: &Mapping,
    read: ReadValues<'_>,
    namespace: &str,
    key: &FingerprintKey,
) -> BTreeMap<String, ObservedKey> {
    let ruled = ruled(rules);
    let templated: BTreeSet<&str> = mapping.template.iter().flat_map(Template::keys).map(TargetKey::as_str).collect();
    let rendered = if ruled.iter().any(|key| templated.contains(key)) {
        mapping.template.as_ref().and_then(|template| template.render(&read.selected.data).ok())
    } else {
        None
    };
    let newest = read.versions.values().filter_map(|version| version.created).max();
    let observe = |ruled: &str| {
        let made_by_template = templated.contains(ruled);
        let values = if made_by_template { rendered.as_ref() } else { Some(&read.selected.data) };
        let Some((target, value)) = values.into_iter().flatten().find(|(key, _)| key.as_str() == ruled) else {
            return ObservedKey::absent();
        };
        let origin = if made_by_template { None } else { read.selected.origins.get(target) };
        let old = read.published.and_then(|published| published.get(ruled));
        let was_published = old.map(|old| old.expose() == value.expose());
        match origin.and_then(|origin| Some((origin, read.versions.get(&origin.source)?))) {
            Some((origin, version)) => ObservedKey {
                fingerprint: fingerprint(key, namespace, &version.arn, origin.json_key.as_deref(), value),
                created: version.created,
                trace: Some(Trace { entry: entry_of(mapping, target, origin), version: version.clone() }),
                was_published,
            },
            None => ObservedKey {
                fingerprint: fingerprint(key, namespace, "", None, value),
                created: newest,
                trace: None,
                was_published,
            },
        }
    };
    ruled.into_iter().map(|ruled| (ruled.to_owned(), observe(ruled))).collect()
}

/// The entry of a key; one that says the same if a whole secret gives the key.
fn entry_of(mapping: &Mapping, target: &TargetKey, origin: &Origin) -> MappingEntry {
    mapping.data.iter().find(|entry| entry.key == *target).cloned().unwrap_or_else(|| MappingEntry {
        key: target.clone(),
        source: origin.source.clone(),
        json_key: origin.json_key.clone(),
        encoding: Encoding::None,
        optional: true,
    })
}

/// The ages after a read. `compared` says whether the published Secret could be read, if that was needed.
#[must_use]
pub fn update(
    before: &BTreeMap<String, KeyAge>,
    unknown: &BTreeMap<String, UnknownAge>,
    observed: BTreeMap<String, ObservedKey>,
    compared: bool,
    key: &FingerprintKey,
) -> AgeUpdate {
    let mut update = AgeUpdate::default();
    for (name, observed) in observed {
        let known = before.get(&name);
        let rekeyed = known.filter(|age| !age.fingerprint.is_empty() && !key.made(&age.fingerprint));
        let same = match (known, rekeyed) {
            (_, Some(age)) if !compared => {
                update.records.insert(name, age.clone());
                continue;
            }
            // Without a value to compare with, the loss of the key alone is no change.
            (_, Some(_)) => !observed.fingerprint.is_empty() && observed.was_published != Some(false),
            (Some(age), None) => age.fingerprint == observed.fingerprint,
            (None, None) => match (unknown.get(&name), observed.trace) {
                (Some(unknown), Some(trace)) if unknown.fingerprint == observed.fingerprint => {
                    update.unknown.insert(name, UnknownAge { fingerprint: observed.fingerprint, trace });
                    continue;
                }
                (Some(_), _) => false,
                (None, Some(trace)) => {
                    update.unknown.insert(name, UnknownAge { fingerprint: observed.fingerprint, trace });
                    continue;
                }
                (None, None) => {
                    let at_least = !observed.fingerprint.is_empty();
                    let age = key_age(&name, observed.fingerprint, observed.created, at_least);
                    update.records.insert(name, age);
                    continue;
                }
            },
        };
        let age = match known {
            Some(age) if same => KeyAge { fingerprint: observed.fingerprint, ..age.clone() },
            _ => {
                update.changed.insert(name.clone());
                key_age(&name, observed.fingerprint, observed.created, false)
            }
        };
        update.records.insert(name, age);
    }
    update
}

/// The record of a key. `at_least` says that the value may be older than `created`.
pub(super) fn key_age(name: &str, fingerprint: String, created: Option<Timestamp>, at_least: bool) -> KeyAge {
    KeyAge { key: name.to_owned(), fingerprint, last_rotated_time: created.map(Time), at_least }
}

#[cfg(test)]
pub(super) mod tests;
