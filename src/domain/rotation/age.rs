//! When keys were last changed. Pure.
//!
//! Of each key that a rule names, the status keeps a keyed fingerprint of its value and the creation time of the version
//! that brought it. A read whose value has another fingerprint is a change, also where an old value comes back; a
//! change of other keys of the same secret is none. Where AWSCURRENT moves back to an older version, the time is that
//! version's, since the value is as old. The value is that of the source: what an overlap publishes under the key in
//! the meantime does not count.
//!
//! - A key that a template makes has no single origin. Its fingerprint is that of the rendered text; the time is the
//!   creation time of the newest version that the binding reads, and may be too late at first sight.
//! - A key that is not there to be published has an empty fingerprint and no time, so that it is not looked for again
//!   and again.
//! - At first sight the older versions are looked through, at most [`MOST_VERSIONS`] of them, once: see [`Backfill`].

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::{KeyAge, SecretBindingStatus};
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::payload::Payload;
use crate::domain::render::encoding::Encoding;
use crate::domain::render::key::TargetKey;
use crate::domain::render::mapping::{Mapping, MappingEntry, Rendered};
use crate::domain::render::template::Template;
use crate::domain::rotation::rule::Rule;
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::{ListedVersion, VersionRef};
use crate::domain::value::Value;

/// The most older versions that are looked through at first sight.
pub const MOST_VERSIONS: usize = 20;

/// A secret and its first version are created by one call, and this far apart at most.
const SAME_CALL: SignedDuration = SignedDuration::from_secs(5);

/// Where a key comes from, so that it can be found in other versions of the same secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The entry that gives the key.
    pub entry: MappingEntry,
    /// The version that was read.
    pub version: VersionRef,
}

impl Trace {
    /// The fingerprint of the key in another version of its secret; `None` where it is not in it. `allowed` tells
    /// whether a member of the payload may be looked at.
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

/// What a read shows of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedKey {
    /// The fingerprint of its value; empty where there is none.
    pub fingerprint: String,
    /// When the version was created that holds it.
    pub created: Option<Timestamp>,
    /// Where it comes from; none where a template makes it, or it is not there.
    pub trace: Option<Trace>,
    /// Whether the published Secret held the same value just before: asked only where the record tells nothing.
    pub was_published: Option<bool>,
}

/// A key of which it is not known yet since when it has its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAge {
    /// The fingerprint of its value.
    pub fingerprint: String,
    /// Where it comes from.
    pub trace: Trace,
}

/// The ages of keys after a read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aged {
    /// What is known, by key.
    pub records: BTreeMap<String, KeyAge>,
    /// What is to be found out.
    pub unaged: BTreeMap<String, UnknownAge>,
    /// The keys that have another value than before.
    pub changed: BTreeSet<String>,
}

/// The digest by which a change of a value is known. Under one key and without the rest, somebody who may read a status
/// could compare values of others, or test guesses with values of their own.
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

/// The ages that a status tells of, whichever rule named the key.
#[must_use]
pub fn records(status: &SecretBindingStatus) -> BTreeMap<String, KeyAge> {
    let ages = status.rotation.iter().flat_map(|rule| &rule.keys);
    ages.map(|age| (age.key.clone(), age.clone())).collect()
}

/// Whether the age of a ruled key can only be told after a read.
#[must_use]
pub fn needs_read(
    rules: &[Rule],
    status: &SecretBindingStatus,
    unaged: &BTreeMap<String, UnknownAge>,
    key: &FingerprintKey,
) -> bool {
    let records = records(status);
    ruled(rules).into_iter().any(|ruled| {
        let told = records.get(ruled).is_some_and(|age| age.fingerprint.is_empty() || key.made(&age.fingerprint));
        !told && !unaged.contains_key(ruled)
    })
}

/// Whether one of the ages can be told only by comparison with what is published: its fingerprint was made under a key
/// that is gone.
#[must_use]
pub fn needs_published(rules: &[Rule], status: &SecretBindingStatus, key: &FingerprintKey) -> bool {
    let records = records(status);
    ruled(rules)
        .into_iter()
        .filter_map(|ruled| records.get(ruled))
        .any(|age| !age.fingerprint.is_empty() && !key.made(&age.fingerprint))
}

/// What a read shows of the ruled keys: `selected` is what the sources give, `published` what the Secret held before,
/// where that is known.
#[must_use]
pub fn observed_keys(
    rules: &[Rule],
    mapping: &Mapping,
    selected: &Rendered,
    versions: &BTreeMap<Source, VersionRef>,
    published: Option<&BTreeMap<String, Value>>,
    namespace: &str,
    key: &FingerprintKey,
) -> BTreeMap<String, ObservedKey> {
    let ruled = ruled(rules);
    let made: BTreeSet<&str> = mapping.template.iter().flat_map(Template::keys).map(TargetKey::as_str).collect();
    let rendered = if ruled.iter().any(|key| made.contains(key)) {
        mapping.template.as_ref().and_then(|template| template.render(&selected.data).ok())
    } else {
        None
    };
    let newest = versions.values().filter_map(|version| version.created).max();
    let sight = |ruled: &str| {
        let absent = ObservedKey { fingerprint: String::new(), created: None, trace: None, was_published: None };
        let (target, value, origin) = if made.contains(ruled) {
            let made = rendered.iter().flatten().find(|(key, _)| key.as_str() == ruled);
            let Some((target, value)) = made else { return absent };
            (target, value, None)
        } else {
            let Some((target, value)) = selected.data.iter().find(|(key, _)| key.as_str() == ruled) else {
                return absent;
            };
            (target, value, selected.origins.get(target))
        };
        let was_published =
            published.and_then(|published| published.get(ruled)).map(|old| old.expose() == value.expose());
        let version = origin.and_then(|origin| Some((origin, versions.get(&origin.source)?)));
        let Some((origin, version)) = version else {
            let fingerprint = fingerprint(key, namespace, "", None, value);
            return ObservedKey { fingerprint, created: newest, trace: None, was_published };
        };
        let entry = mapping.data.iter().find(|entry| entry.key == *target).cloned().unwrap_or_else(|| MappingEntry {
            key: target.clone(),
            source: origin.source.clone(),
            json_key: origin.json_key.clone(),
            encoding: Encoding::None,
            optional: true,
        });
        ObservedKey {
            fingerprint: fingerprint(key, namespace, &version.arn, origin.json_key.as_deref(), value),
            created: version.created,
            trace: Some(Trace { entry, version: version.clone() }),
            was_published,
        }
    };
    ruled.into_iter().map(|ruled| (ruled.to_owned(), sight(ruled))).collect()
}

/// The ages after a read, from those before it. `compared` is whether the published Secret could be looked at, where
/// that was needed.
#[must_use]
pub fn update(
    before: &BTreeMap<String, KeyAge>,
    unaged: &BTreeMap<String, UnknownAge>,
    sights: BTreeMap<String, ObservedKey>,
    compared: bool,
    key: &FingerprintKey,
) -> Aged {
    let mut aged = Aged::default();
    for (name, sight) in sights {
        let known = before.get(&name);
        let rekeyed = known.filter(|age| !age.fingerprint.is_empty() && !key.made(&age.fingerprint));
        let same = match (known, rekeyed) {
            (_, Some(age)) if !compared => {
                aged.records.insert(name, age.clone());
                continue;
            }
            // Without a value to compare with, the loss of the key alone is no change.
            (_, Some(_)) => !sight.fingerprint.is_empty() && sight.was_published != Some(false),
            (Some(age), None) => age.fingerprint == sight.fingerprint,
            (None, None) => match (unaged.get(&name), sight.trace) {
                (Some(unaged), Some(trace)) if unaged.fingerprint == sight.fingerprint => {
                    aged.unaged.insert(name, UnknownAge { fingerprint: sight.fingerprint, trace });
                    continue;
                }
                (Some(_), _) => false,
                (None, Some(trace)) => {
                    aged.unaged.insert(name, UnknownAge { fingerprint: sight.fingerprint, trace });
                    continue;
                }
                (None, None) => {
                    let at_least = !sight.fingerprint.is_empty();
                    let age = record(&name, sight.fingerprint, sight.created, at_least);
                    aged.records.insert(name, age);
                    continue;
                }
            },
        };
        let age = match known {
            Some(age) if same => KeyAge { fingerprint: sight.fingerprint, ..age.clone() },
            _ => {
                aged.changed.insert(name.clone());
                record(&name, sight.fingerprint, sight.created, false)
            }
        };
        aged.records.insert(name, age);
    }
    aged
}

fn record(name: &str, fingerprint: String, created: Option<Timestamp>, at_least: bool) -> KeyAge {
    KeyAge { key: name.to_owned(), fingerprint, last_rotated_time: created.map(Time), at_least }
}

/// The way back through the older versions of a secret, from the one that was read, to find out since when keys have
/// their values.
#[derive(Clone, Debug)]
pub struct Backfill {
    open: BTreeMap<String, Step>,
    done: BTreeMap<String, KeyAge>,
}

#[derive(Clone, Debug)]
struct Step {
    fingerprint: String,
    since: Option<Timestamp>,
    /// Whether a version could not be seen since the last one that held the value.
    gap: bool,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillEnd {
    /// Every version was seen, and the oldest of them was created with the secret.
    Beginning,
    /// There may be, or were, older versions.
    Beyond,
}

impl Backfill {
    /// A walk for these keys, which were read from one version.
    #[must_use]
    pub fn new(unaged: &BTreeMap<String, UnknownAge>) -> Self {
        let step = |unaged: &UnknownAge| {
            let (fingerprint, since) = (unaged.fingerprint.clone(), unaged.trace.version.created);
            Step { fingerprint, since, gap: false }
        };
        let open = unaged.iter().map(|(name, unaged)| (name.clone(), step(unaged))).collect();
        Self { open, done: BTreeMap::new() }
    }

    /// Whether all is known.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes in an older version: the fingerprint of each key in it, `None` where it is not in it.
    pub fn add_version(&mut self, created: Option<Timestamp>, fingerprint: impl Fn(&str) -> Option<String>) {
        let mut settled = Vec::new();
        for (name, step) in &mut self.open {
            if fingerprint(name).as_ref() == Some(&step.fingerprint) {
                (step.since, step.gap) = (created.or(step.since), false);
            } else {
                settled.push(name.clone());
            }
        }
        for name in settled {
            self.settle(&name, |step| step.gap);
        }
    }

    /// Takes in that an older version is gone, or holds no value.
    pub fn add_gap(&mut self) {
        for step in self.open.values_mut() {
            step.gap = true;
        }
    }

    /// The ages, where the walk ends here.
    #[must_use]
    pub fn end(mut self, end: BackfillEnd) -> BTreeMap<String, KeyAge> {
        let open: Vec<String> = self.open.keys().cloned().collect();
        for name in open {
            self.settle(&name, |step| step.gap || end == BackfillEnd::Beyond);
        }
        self.done
    }

    fn settle(&mut self, name: &str, at_least: impl Fn(&Step) -> bool) {
        if let Some(step) = self.open.remove(name) {
            let at_least = at_least(&step);
            self.done.insert(name.to_owned(), record(name, step.fingerprint, step.since, at_least));
        }
    }
}

/// The versions to look through, the newest first: those that are older than the one that was read, at most
/// [`MOST_VERSIONS`]. `history` has the newest first.
#[must_use]
pub fn older_versions<'a>(history: &'a [ListedVersion], read: &VersionRef) -> Vec<&'a ListedVersion> {
    let older = history.iter().filter(|version| version.id != read.version_id && version.created <= read.created);
    older.take(MOST_VERSIONS).collect()
}

/// How a walk over all of `walked` ended, which began at `read`: whether there is nothing before it.
#[must_use]
pub fn backfill_end(
    history: &[ListedVersion],
    walked: &[&ListedVersion],
    read: &VersionRef,
    secret_created: Option<Timestamp>,
) -> BackfillEnd {
    let older = history.iter().filter(|version| version.id != read.version_id && version.created <= read.created);
    let oldest = walked.last().map_or(read.created, |version| version.created);
    let first = match (oldest, secret_created) {
        (Some(oldest), Some(secret)) => oldest.duration_since(secret) <= SAME_CALL,
        _ => false,
    };
    if first && older.count() <= walked.len() { BackfillEnd::Beginning } else { BackfillEnd::Beyond }
}

#[cfg(test)]
mod tests;
