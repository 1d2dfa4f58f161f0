//! One key with an overlap, as it was observed, and what is told of it.

#![allow(clippy::too_many_arguments, reason = "the object SecretRotation replaces this file")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::jiff::Timestamp;

use crate::api::Reason;
use crate::domain::grant::Access;
use crate::domain::note::Note;
use crate::domain::render::key::TargetKey;
use crate::domain::rotation::overlap::{Gate, Job, Member, OverlapCommand, OverlapSituation, OverlapStep, Wait};
use crate::domain::rotation::record::{OverlapSettings, Print, Record};
use crate::domain::rotation::rule::Overlap;
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::domain::time::until;
use crate::reconcile::context::Context;

/// How often pods and Jobs are looked at while a phase waits for them: at first, and at last.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One key with an overlap, as it was observed.
#[derive(Debug)]
pub struct ObservedOverlap {
    pub(crate) key: TargetKey,
    pub(crate) rule: Option<(String, Overlap)>,
    pub(crate) record: Option<Record>,
    pub(crate) others: Vec<Member>,
    pub(crate) gate: Gate,
    pub(crate) job: Job,
    /// The Job to create, where it is missing.
    pub(crate) missing: Option<Box<batch::Job>>,
    pub(crate) command: Option<OverlapCommand>,
    pub(crate) written: Option<Timestamp>,
}

/// What is told of an overlap at the end of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlapReport {
    /// The key.
    pub key: TargetKey,
    /// The rule; `None` where it was removed while its change is under way.
    pub rule: Option<String>,
    /// The record as it stands on the target.
    pub record: Option<Record>,
    /// What is waited for.
    pub waits: Option<Wait>,
    /// When to look again.
    pub again: Option<Duration>,
    /// What is to be told once.
    pub note: Option<Note>,
}

/// What was read, as far as an overlap asks for it.
pub(crate) struct OverlapMaterial<'a> {
    pub(crate) access: &'a Arc<Access>,
    pub(crate) versions: &'a BTreeMap<Source, VersionRef>,
}

impl ObservedOverlap {
    pub(crate) const fn new(
        key: TargetKey,
        rule: Option<(String, Overlap)>,
        record: Option<Record>,
        command: Option<OverlapCommand>,
        written: Option<Timestamp>,
    ) -> Self {
        let gate = Gate { seen: false, older: Vec::new(), blocked: Vec::new() };
        Self { key, rule, record, others: Vec::new(), gate, job: Job::Unseen, missing: None, command, written }
    }

    pub(crate) fn settings(&self) -> Option<OverlapSettings> {
        let flight = self.record.as_ref().and_then(|record| record.flight.as_ref());
        flight
            .map(|flight| flight.settings.clone())
            .or_else(|| self.rule.as_ref().map(|(_, rule)| OverlapSettings::from(rule)))
    }

    /// What the source held at the last write.
    pub(crate) fn known_source(&self) -> Option<Print> {
        let record = self.record.as_ref()?;
        let prints = record.flight.iter().flat_map(|flight| [&flight.old, &flight.new]).chain([&record.settled]);
        let same = prints.into_iter().find(|print| print.fingerprint == record.source);
        Some(same.cloned().unwrap_or_else(|| Print { fingerprint: record.source.clone(), version: String::new() }))
    }

    pub(crate) fn step(
        &self,
        context: &Context,
        namespace: &str,
        source: &Print,
        published: Option<&str>,
        name: &str,
    ) -> OverlapStep {
        let group = self.settings().map(|settings| settings.group).unwrap_or_default();
        self.situation(source, published, name).step(|old, new| {
            let parts = [namespace, &group, &old.fingerprint, &new.fingerprint];
            let mut id = context.key.digest("flight", parts).split_off(context.key.id().len() + 1);
            id.truncate(16);
            id
        })
    }

    pub(crate) fn situation<'a>(
        &'a self,
        source: &'a Print,
        published: Option<&'a str>,
        name: &'a str,
    ) -> OverlapSituation<'a> {
        OverlapSituation {
            rule: self.rule.as_ref().map(|(_, rule)| rule),
            record: self.record.as_ref(),
            source,
            published,
            written: self.written,
            others: &self.others,
            name,
            gate: &self.gate,
            job: &self.job,
            command: self.command,
            now: Timestamp::now(),
        }
    }

    /// What is told of it where it stays as it is.
    pub(crate) fn report(&self, step: &OverlapStep, record: Option<&Record>, now: Timestamp) -> OverlapReport {
        let flight = record.and_then(|record| record.flight.as_ref());
        let since = flight.and_then(|flight| flight.since.or(self.written));
        let age =
            since.map_or(Duration::ZERO, |since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
        let poll = step.waits.is_some().then(|| (age / 10).clamp(POLL.0, POLL.1));
        OverlapReport {
            key: self.key.clone(),
            rule: self.rule.as_ref().map(|(name, _)| name.clone()),
            record: record.cloned(),
            waits: step.waits.clone(),
            again: match step.wake {
                Some(wake) => Some(until(wake, now)),
                None => poll,
            },
            note: self.command.filter(|_| step.record == self.record).map(|command| without_effect(command, self)),
        }
    }
}

/// The Event for a command that changes nothing.
fn without_effect(command: OverlapCommand, seen: &ObservedOverlap) -> Note {
    let (verb, rule) = match command {
        OverlapCommand::Abort => ("abort", &seen.rule),
        OverlapCommand::Retire => ("retire", &seen.rule),
    };
    let rule = rule.as_ref().map_or(seen.key.as_str(), |(name, _)| name.as_str());
    let why = match seen.record.as_ref().and_then(|record| record.flight.as_ref()) {
        None => "no change of the key is under way",
        Some(flight) if flight.aborted => "it goes back to the old value already",
        Some(_) => "another binding of the group has retired the old value, or it was asked before",
    };
    Note { warning: true, reason: Reason::OverlapBlocked, text: format!("{verb}-{rule} has no effect: {why}") }
}
