//! The age backfill: reads the older versions of a secret, the newest first, until the ages of its keys are known. Pure.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::KeyAge;
use crate::domain::rotation::age::{UnknownAge, key_age};
use crate::domain::secret::version::{ListedVersion, VersionRef};

/// The most older versions that a backfill reads.
pub const MOST_VERSIONS: usize = 20;

/// A secret and its first version are created by one call, and this far apart at most.
const SAME_CALL: SignedDuration = SignedDuration::from_secs(5);

/// The state of the backfill of keys that were read from one version.
#[derive(Clone, Debug)]
pub struct Backfill {
    open: BTreeMap<String, OpenKey>,
    done: BTreeMap<String, KeyAge>,
}

/// A key whose age is still unknown.
#[derive(Clone, Debug)]
struct OpenKey {
    fingerprint: String,
    /// The creation time of the oldest version so far with the value.
    since: Option<Timestamp>,
    /// Whether a version could not be read after that one.
    gap: bool,
}

/// How a backfill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillEnd {
    /// Every version was read, and the oldest of them was created with the secret.
    Beginning,
    /// There may be, or were, older versions.
    Beyond,
}

impl Backfill {
    /// Begins at the version from which these keys were read.
    #[must_use]
    pub fn new(unknown: &BTreeMap<String, UnknownAge>) -> Self {
        let open_key = |unknown: &UnknownAge| {
            let (fingerprint, since) = (unknown.fingerprint.clone(), unknown.trace.version.created);
            OpenKey { fingerprint, since, gap: false }
        };
        let open = unknown.iter().map(|(name, unknown)| (name.clone(), open_key(unknown))).collect();
        Self { open, done: BTreeMap::new() }
    }

    /// Whether every age is known.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// Ends without the ages that are not known yet. A later backfill finds them.
    pub fn abandon(&mut self) {
        self.open.clear();
    }

    /// Adds an older version: the fingerprint of each key in it, `None` for a key that it lacks.
    pub fn add_version(&mut self, created: Option<Timestamp>, fingerprint: impl Fn(&str) -> Option<String>) {
        let mut settled = Vec::new();
        for (name, key) in &mut self.open {
            if fingerprint(name).as_ref() == Some(&key.fingerprint) {
                (key.since, key.gap) = (created.or(key.since), false);
            } else {
                settled.push(name.clone());
            }
        }
        for name in settled {
            self.settle(&name, |key| key.gap);
        }
    }

    /// Adds an older version that is gone, or has no value.
    pub fn add_gap(&mut self) {
        for key in self.open.values_mut() {
            key.gap = true;
        }
    }

    /// Ends the backfill. Returns the ages.
    #[must_use]
    pub fn end(mut self, end: BackfillEnd) -> BTreeMap<String, KeyAge> {
        let open: Vec<String> = self.open.keys().cloned().collect();
        for name in open {
            self.settle(&name, |key| key.gap || end == BackfillEnd::Beyond);
        }
        self.done
    }

    fn settle(&mut self, name: &str, at_least: impl Fn(&OpenKey) -> bool) {
        if let Some(key) = self.open.remove(name) {
            let at_least = at_least(&key);
            self.done.insert(name.to_owned(), key_age(name, key.fingerprint, key.since, at_least));
        }
    }
}

/// The versions to read, the newest first: those older than `read`, at most [`MOST_VERSIONS`]. `history` has the newest
/// first.
#[must_use]
pub fn older_versions<'a>(history: &'a [ListedVersion], read: &VersionRef) -> Vec<&'a ListedVersion> {
    all_older(history, read).take(MOST_VERSIONS).collect()
}

/// How a backfill ends that began at `read` and got through all of `versions`.
#[must_use]
pub fn backfill_end(
    history: &[ListedVersion],
    versions: &[&ListedVersion],
    read: &VersionRef,
    secret_created: Option<Timestamp>,
) -> BackfillEnd {
    let oldest = versions.last().map_or(read.created, |version| version.created);
    let is_first = match (oldest, secret_created) {
        (Some(oldest), Some(secret)) => oldest.duration_since(secret) <= SAME_CALL,
        _ => false,
    };
    let is_complete = all_older(history, read).count() <= versions.len();
    if is_first && is_complete { BackfillEnd::Beginning } else { BackfillEnd::Beyond }
}

fn all_older<'a>(history: &'a [ListedVersion], read: &VersionRef) -> impl Iterator<Item = &'a ListedVersion> {
    history.iter().filter(|version| version.id != read.version_id && version.created <= read.created)
}

#[cfg(test)]
mod tests;
