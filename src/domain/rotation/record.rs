//! The record of an overlap, as it stands on the target beside the data and written in the same apply: what is
//! published under the key, and how far its way to a new value is.
//!
//! It holds no value. Values are told apart by fingerprints: keyed digests over the namespace and the value, which are
//! the same for all bindings of a group, and of no use to anybody without the installation's key.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::OverlapStrategy;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::render::key::TargetKey;
use crate::domain::rotation::rule::Overlap;
use crate::domain::value::Value;

/// The fingerprint of a value in a namespace.
#[must_use]
pub fn fingerprint(key: &FingerprintKey, namespace: &str, value: &Value) -> String {
    key.digest("overlap", [namespace.as_bytes(), value.expose()])
}

/// The records of a target, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records(pub BTreeMap<TargetKey, Record>);

/// One value: by what it is known, and a version of the source that holds it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Print {
    /// The fingerprint.
    pub fingerprint: String,
    /// The version; empty where none is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// The record of one key.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The fingerprint of what the source held when the target was last written.
    pub source: String,
    /// What is published under the key where no change is under way.
    pub settled: Print,
    /// A value of the source that is not followed, since its introduction was aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
    /// The change that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flight: Option<Flight>,
}

/// A change from an old to a new value that is under way.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Flight {
    /// Its name, the same for all bindings of the group.
    pub id: String,
    /// How far it is.
    pub phase: Phase,
    /// When this phase was published, by the API server's clock; absent where that was the last write of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The value that is left.
    pub old: Print,
    /// The value that is taken up.
    pub new: Print,
    /// When all pods were found to have been created after this phase was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Timestamp>,
    /// When the Job that re-encrypts had succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reencrypted: Option<Timestamp>,
    /// Whether somebody said that nothing needs the old value any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retire: bool,
    /// When nothing of the whole group was found to need the old value any more: the hold begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<Timestamp>,
    /// Whether it takes back a change that was aborted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aborted: bool,
    /// Whether a label keeps the old version in Secrets Manager.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The settings that it began with, under which it ends.
    pub settings: OverlapSettings,
}

/// How far a change is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The key holds the old value, the new one stands beside it.
    Introducing,
    /// The key holds the new value, the old one stands beside it.
    Promoted,
    /// The same, while a Job re-encrypts.
    Reencrypting,
}

impl Phase {
    /// The phase as the status shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Introducing => "Introducing",
            Self::Promoted => "Promoted",
            Self::Reencrypting => "Reencrypting",
        }
    }
}

/// The settings of an overlap.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OverlapSettings {
    /// Which value is used first.
    pub strategy: OverlapStrategy,
    /// The group.
    pub group: String,
    /// Where the new value is published before it is used.
    pub next: String,
    /// Where the old value is published as long as it may be needed.
    pub previous: String,
    /// How long the old value stays, in seconds.
    pub hold: u64,
    /// The CronJob that re-encrypts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reencrypt: Option<String>,
}

impl From<&Overlap> for OverlapSettings {
    fn from(overlap: &Overlap) -> Self {
        Self {
            strategy: overlap.strategy,
            group: overlap.group.clone(),
            next: overlap.next_key.to_string(),
            previous: overlap.previous_key.to_string(),
            hold: overlap.hold.as_secs(),
            reencrypt: overlap.reencrypt.clone(),
        }
    }
}

impl OverlapSettings {
    /// How long the old value stays.
    #[must_use]
    pub const fn hold(&self) -> Duration {
        Duration::from_secs(self.hold)
    }
}

/// Which values a record asks to be published, by fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents<'a> {
    /// Under the key itself.
    pub key: &'a Print,
    /// Under the name of the next key.
    pub next: Option<(&'a str, &'a Print)>,
    /// Under the name of the previous key.
    pub previous: Option<(&'a str, &'a Print)>,
}

impl Record {
    /// Which values are to be published.
    #[must_use]
    pub fn contents(&self) -> Contents<'_> {
        match &self.flight {
            None => Contents { key: &self.settled, next: None, previous: None },
            Some(flight) if flight.phase == Phase::Introducing => {
                Contents { key: &flight.old, next: Some((&flight.settings.next, &flight.new)), previous: None }
            }
            Some(flight) => {
                Contents { key: &flight.new, next: None, previous: Some((&flight.settings.previous, &flight.old)) }
            }
        }
    }

    /// The phase, where a change is under way.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.flight.as_ref().map(|flight| flight.phase)
    }
}

impl Records {
    /// Reads the annotation. `None` where it is not what Bindery writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let records: BTreeMap<String, Record> = serde_json::from_str(text).ok()?;
        let records = records.into_iter().map(|(key, record)| Some((TargetKey::try_from(key.as_str()).ok()?, record)));
        records.collect::<Option<_>>().map(Self)
    }

    /// The text of the annotation; `None` where there is nothing to record.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let records: BTreeMap<&str, &Record> = self.0.iter().map(|(key, record)| (key.as_str(), record)).collect();
        (!records.is_empty()).then(|| serde_json::to_string(&records).unwrap_or_default())
    }

    /// Writes the time of the last write where it is meant, before another write takes its place.
    pub fn date(&mut self, written: Option<Timestamp>) {
        for flight in self.0.values_mut().filter_map(|record| record.flight.as_mut()) {
            flight.since = flight.since.or(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn print(fingerprint: &str) -> Print {
        Print { fingerprint: fingerprint.to_owned(), version: String::new() }
    }

    fn in_flight(phase: Phase) -> Record {
        let settings = OverlapSettings {
            strategy: OverlapStrategy::Staged,
            group: "g".to_owned(),
            next: "K_NEXT".to_owned(),
            previous: "K_PREVIOUS".to_owned(),
            hold: 60,
            reencrypt: None,
        };
        Record {
            source: "b".to_owned(),
            settled: print("a"),
            ignored: None,
            flight: Some(Flight {
                id: "f".to_owned(),
                phase,
                since: None,
                old: print("a"),
                new: print("b"),
                gate: None,
                reencrypted: None,
                retire: false,
                cleared: None,
                aborted: false,
                held: false,
                settings,
            }),
        }
    }

    #[test]
    fn each_phase_says_which_value_stands_under_which_key() {
        let record = in_flight(Phase::Introducing);
        let contents = record.contents();
        assert_eq!(
            (contents.key, contents.next, contents.previous),
            (&print("a"), Some(("K_NEXT", &print("b"))), None)
        );
        for phase in [Phase::Promoted, Phase::Reencrypting] {
            let record = in_flight(phase);
            let contents = record.contents();
            assert_eq!(
                (contents.key, contents.next, contents.previous),
                (&print("b"), None, Some(("K_PREVIOUS", &print("a"))))
            );
        }
        let settled = Record { flight: None, ..in_flight(Phase::Promoted) };
        assert_eq!(settled.contents(), Contents { key: &print("a"), next: None, previous: None });
    }

    #[test]
    fn the_annotation_is_read_as_it_was_written_and_anything_else_is_none() {
        let records = Records(BTreeMap::from([("K".try_into().unwrap(), in_flight(Phase::Promoted))]));
        assert_eq!(Records::parse(&records.text().unwrap()), Some(records));
        assert_eq!(Records::default().text(), None);
        for text in ["", "[]", "{\"K\":{}}", "{\"a b\":{\"source\":\"s\",\"settled\":{\"fingerprint\":\"f\"}}}"] {
            assert_eq!(Records::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_time_of_the_last_write_is_filled_in_once() {
        let mut records = Records(BTreeMap::from([("K".try_into().unwrap(), in_flight(Phase::Promoted))]));
        let at = |second| Timestamp::from_second(second).unwrap();
        records.date(Some(at(5)));
        records.date(Some(at(9)));
        let record = records.0.into_values().next().unwrap();
        assert_eq!(record.flight.unwrap().since, Some(at(5)));
    }

    #[test]
    fn equal_values_have_equal_fingerprints_within_a_namespace_only() {
        let key = FingerprintKey::new(Zeroizing::new([1; 32]));
        let of = |namespace, value: &str| fingerprint(&key, namespace, &Value::from(value));
        assert_eq!(of("n", "v"), of("n", "v"));
        assert_ne!(of("n", "v"), of("m", "v"));
        assert_ne!(of("n", "v"), of("n", "w"));
    }
}
