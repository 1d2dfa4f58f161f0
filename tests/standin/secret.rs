//! One secret: its versions and the labels on them. Pure: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::refusal::Refusal;
use super::rotation::Rotation;

pub const CURRENT: &str = "AWSCURRENT";
pub const PREVIOUS: &str = "AWSPREVIOUS";
pub const PENDING: &str = "AWSPENDING";

/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html>
pub const MOST_LABELS: usize = 20;
/// How many versions stay though nothing is attached to them, and how long every version stays:
/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html>
pub const KEPT_VERSIONS: usize = 100;
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The value of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// `SecretString`.
    Text(String),
    /// `SecretBinary`, in Base64 as it came.
    Binary(String),
}

#[derive(Clone, Debug)]
pub struct Version {
    pub id: String,
    /// None while a rotation has made the version and its function has not yet written.
    pub content: Option<Content>,
    pub created: SystemTime,
    pub accessed: Option<SystemTime>,
    pub labels: BTreeSet<String>,
}

/// A deletion that can still be taken back.
#[derive(Clone, Copy, Debug)]
pub struct Deletion {
    pub requested: SystemTime,
    pub ends: SystemTime,
}

#[derive(Clone, Debug)]
pub struct Secret {
    pub name: String,
    pub arn: String,
    pub description: Option<String>,
    pub tags: Vec<(String, String)>,
    pub created: SystemTime,
    pub changed: SystemTime,
    pub accessed: Option<SystemTime>,
    pub deletion: Option<Deletion>,
    pub rotation: Option<Rotation>,
    /// In the order in which they were made.
    pub versions: Vec<Version>,
}

impl Secret {
    pub fn new(name: &str, arn: &str, now: SystemTime) -> Self {
        Self {
            name: name.to_owned(),
            arn: arn.to_owned(),
            description: None,
            tags: vec![],
            created: now,
            changed: now,
            accessed: None,
            deletion: None,
            rotation: None,
            versions: vec![],
        }
    }

    pub fn version(&self, id: &str) -> Option<&Version> {
        // What is asked for is nearly always among the newest.
        self.versions.iter().rev().find(|version| version.id == id)
    }

    pub fn version_mut(&mut self, id: &str) -> Option<&mut Version> {
        self.versions.iter_mut().rev().find(|version| version.id == id)
    }

    /// The version that a label is attached to.
    pub fn holder(&self, label: &str) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.labels.contains(label))
    }

    /// The labels by version; a deprecated version has none and is not in it.
    pub fn stages(&self) -> BTreeMap<&str, &BTreeSet<String>> {
        let labelled = self.versions.iter().filter(|version| !version.labels.is_empty());
        labelled.map(|version| (version.id.as_str(), &version.labels)).collect()
    }

    /// Refuses what a secret that waits for its deletion does not allow.
    pub fn living(&self) -> Result<(), Refusal> {
        if self.deletion.is_some() { Err(Refusal::marked_for_deletion()) } else { Ok(()) }
    }

    /// The version that a read means, which has a value.
    pub fn read(&self, id: Option<&str>, label: Option<&str>) -> Result<&Version, Refusal> {
        self.living()?;
        let missing = |what: &str, which: &str| {
            Refusal::not_found(format!("Secrets Manager can't find the specified secret value for {what}: {which}"))
        };
        if let Some(id) = id {
            let version = self.version(id).ok_or_else(|| missing("VersionId", id))?;
            if label.is_some_and(|label| !version.labels.contains(label)) {
                return Err(Refusal::invalid_request(
                    "You provided a VersionStage that is not associated to the provided VersionId.",
                ));
            }
            return if version.content.is_some() { Ok(version) } else { Err(missing("VersionId", id)) };
        }
        let label = label.unwrap_or(CURRENT);
        let held = self.holder(label).filter(|version| version.content.is_some());
        held.ok_or_else(|| missing("staging label", label))
    }

    /// `PutSecretValue`, under the token that becomes the version's id.
    pub fn put(
        &mut self,
        token: &str,
        content: Content,
        labels: Option<&[String]>,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        self.living()?;
        let filled = match self.version(token) {
            // The function of a rotation writes into the version that the rotation has made.
            Some(version) if version.content.is_none() => true,
            Some(version) if version.content.as_ref() == Some(&content) => return Ok(()),
            Some(_) => return Err(self.token_in_use(token)),
            None => false,
        };
        let mut labels: BTreeSet<String> =
            labels.map_or_else(|| [CURRENT.to_owned()].into(), |labels| labels.iter().cloned().collect());
        if self.versions.iter().all(|version| version.content.is_none()) {
            labels.insert(CURRENT.to_owned());
        }
        self.room_for(&labels)?;
        if filled {
            if let Some(version) = self.version_mut(token) {
                version.content = Some(content);
            }
        } else {
            self.versions.push(Version {
                id: token.to_owned(),
                content: Some(content),
                created: now,
                accessed: None,
                labels: BTreeSet::new(),
            });
        }
        for label in &labels {
            self.attach(label, token);
        }
        self.changed = now;
        self.collect(now);
        Ok(())
    }

    /// `UpdateSecret` with a value. Unlike `PutSecretValue` it refuses every token that is in use.
    pub fn update(&mut self, token: &str, content: Content, now: SystemTime) -> Result<(), Refusal> {
        self.living()?;
        if self.version(token).is_some() {
            return Err(self.token_in_use(token));
        }
        self.put(token, content, None, now)
    }

    fn token_in_use(&self, token: &str) -> Refusal {
        Refusal::exists(format!(
            "You can't use ClientRequestToken {token} because that value is already in use for a version of secret {}.",
            self.arn
        ))
    }

    /// `UpdateSecretVersionStage`: a compare-and-set of one label.
    pub fn move_label(
        &mut self,
        label: &str,
        to: Option<&str>,
        from: Option<&str>,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        self.living()?;
        for id in [to, from].into_iter().flatten() {
            if self.version(id).is_none() {
                return Err(Refusal::invalid_parameter(format!("Not a valid version: {id}")));
            }
        }
        let holder = self.holder(label).map(|version| version.id.clone());
        match (to, from, holder.as_deref()) {
            (None, None, _) => {
                return Err(Refusal::invalid_parameter(
                    "You must specify MoveToVersionId, RemoveFromVersionId, or both.",
                ));
            }
            (None, Some(_), _) if label == CURRENT => {
                return Err(Refusal::invalid_parameter(
                    "You can only move staging label AWSCURRENT to a different secret version. It can't be completely \
                     removed.",
                ));
            }
            (Some(to), None, Some(holder)) if to != holder => {
                return Err(Refusal::invalid_parameter(format!(
                    "The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently attached to \
                     version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
                )));
            }
            (_, Some(from), holder) if holder != Some(from) => {
                return Err(Refusal::invalid_parameter(format!(
                    "When you move staging label {label}, if you specify RemoveFromVersionId, it must be set to the \
                     version that currently has the staging label {label}."
                )));
            }
            _ => {}
        }
        if let Some(to) = to {
            self.room_for(&[label.to_owned()].into())?;
            self.attach(label, to);
        } else {
            self.detach(label);
        }
        self.changed = now;
        Ok(())
    }

    /// Attaches a label to one version and takes it off every other. The version that loses AWSCURRENT becomes
    /// AWSPREVIOUS.
    pub fn attach(&mut self, label: &str, id: &str) {
        let former = self.holder(label).map(|version| version.id.clone()).filter(|former| former != id);
        self.detach(label);
        if let Some(version) = self.version_mut(id) {
            version.labels.insert(label.to_owned());
        }
        if let Some(former) = former.filter(|_| label == CURRENT) {
            self.attach(PREVIOUS, &former);
        }
    }

    pub fn detach(&mut self, label: &str) {
        for version in &mut self.versions {
            version.labels.remove(label);
        }
    }

    fn room_for(&self, labels: &BTreeSet<String>) -> Result<(), Refusal> {
        let mut all: BTreeSet<&str> =
            self.versions.iter().flat_map(|version| &version.labels).map(String::as_str).collect();
        if labels.contains(CURRENT) && all.contains(CURRENT) {
            all.insert(PREVIOUS);
        }
        all.extend(labels.iter().map(String::as_str));
        if all.len() <= MOST_LABELS {
            return Ok(());
        }
        let message = format!("The secret can't have more than {MOST_LABELS} staging labels attached to its versions.");
        Err(Refusal::of("LimitExceededException", message))
    }

    /// Drops the versions that AWS removes: without a label, older than a day, and not among the newest.
    pub fn collect(&mut self, now: SystemTime) {
        let outside = self.versions.len().saturating_sub(KEPT_VERSIONS);
        let mut place = 0;
        self.versions.retain(|version| {
            place += 1;
            let young = now.duration_since(version.created).is_ok_and(|age| age < KEPT_FOR);
            !version.labels.is_empty() || young || place > outside
        });
    }
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
