//! The status and the Events that a reconcile leads to, as a pure function of the status before it and of its results.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::{ConditionType, Reason, RolloutStatus, SecretBindingStatus, TargetReference};
use crate::domain::binding::Binding;
use crate::domain::note::Note;
use crate::domain::rollout::outcome::RolloutOutcome;
use crate::domain::target::withdrawal::Withdrawal;
use crate::reconcile::binding::attempt::{Attempt, Integrity, Reached};
use crate::reconcile::binding::conditions::Conditions;
use crate::reconcile::binding::events::transitions;
use crate::reconcile::binding::recorded::{
    deletions, no_environment, published_message, record_binary_keys, record_targets, risky_note,
};
use crate::reconcile::binding::stale::{STALE_AFTER_INTERVALS, stale_after};
use crate::reconcile::error::{Class, Error};
use crate::reconcile::rotation::overlap::report::activities;
use crate::reconcile::rotation::status::{RotationReport, rotation_report};

/// The steps on the way to the Secret, with the condition of each, in the order of the reference.
const STEPS: [(ConditionType, Reached); 4] = [
    (ConditionType::Granted, Reached::Granted),
    (ConditionType::Fetched, Reached::Fetched),
    (ConditionType::Rendered, Reached::Rendered),
    (ConditionType::Applied, Reached::Applied),
];

/// What a status is made from, beside the status before it.
#[derive(Clone, Copy)]
pub struct Findings<'a> {
    /// The binding; `None` where its manifest does not parse.
    pub binding: Option<&'a Binding>,
    /// The generation of the binding.
    pub generation: i64,
    /// The results of the steps.
    pub attempt: &'a Attempt,
    /// What ended the attempt, where it was not done.
    pub error: Option<&'a Error>,
    /// The refresh interval; the operator's where the binding's is `0s`.
    pub interval: Duration,
    /// Whether the clock leads to another observation.
    pub looks_again: bool,
}

/// What a reconcile says of a binding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The status.
    pub status: SecretBindingStatus,
    /// The Events that go with a change of the status.
    pub notes: Vec<Note>,
    /// The Events that go out in any case.
    pub commands: Vec<Note>,
    /// When each rule is due, for the metrics.
    pub due: Vec<(String, Timestamp)>,
    /// When any of this changes by the clock alone.
    pub wake: Option<Timestamp>,
}

/// The status and the Events after an attempt.
#[must_use]
pub fn status(before: &SecretBindingStatus, findings: Findings<'_>, now: Timestamp) -> Report {
    let rotation = &findings.attempt.rotation;
    let mut status = after_attempt(before, findings, now);
    let mut found = rotation.found.clone();
    if let Some(overlaps) = &rotation.overlaps {
        let published = findings.attempt.published.as_ref();
        let written = published.and_then(|published| Some(published.written()?.0));
        found.activities.get_or_insert_default().extend(activities(overlaps, before, written));
    }
    let mut told = findings.binding.map(|binding| rotation_report(binding, before, &found, now));
    if let (Some(told), Some(handled)) = (&mut told, &rotation.handled_command) {
        told.handled = Some(handled.clone());
    }
    with_rotation(&mut status, before, told.as_ref(), now);
    let RotationReport { notes: of_rules, due, wake, .. } = told.unwrap_or_default();
    let notes = transitions(before, &status)
        .into_iter()
        .chain(risky_note(before, findings.binding, findings.attempt))
        .chain(of_rules)
        .collect();
    let of_overlaps = rotation.overlaps.iter().flatten().filter_map(|overlap| overlap.note.clone());
    let commands = of_overlaps.chain(deletions(before, findings.attempt, status != *before)).collect();
    Report { status, notes, commands, due, wake }
}

/// The status of a suspended binding: what was, and that it is suspended.
#[must_use]
pub fn suspended(before: &SecretBindingStatus, generation: i64, now: Timestamp) -> Report {
    let mut conditions = Conditions::new(&before.conditions, generation, now);
    let message = "spec.suspend is true: nothing is read and nothing is written until it is false".to_owned();
    conditions.set(ConditionType::Suspended, "True", Reason::Suspended, message);
    let mut status = before.clone();
    status.observed_generation = Some(generation);
    let kept = before.conditions.iter().filter(|condition| {
        ![ConditionType::Suspended, ConditionType::Reconciling, ConditionType::Stalled]
            .iter()
            .any(|type_| condition.type_ == type_.as_str())
    });
    status.conditions = kept.cloned().chain(conditions.after).collect();
    let notes = transitions(before, &status);
    Report { status, notes, ..Report::default() }
}

fn after_attempt(before: &SecretBindingStatus, findings: Findings<'_>, now: Timestamp) -> SecretBindingStatus {
    let Findings { generation, attempt, error, .. } = findings;
    let mut status = before.clone();
    status.observed_generation = Some(generation);
    publish(&mut status, attempt, findings.binding.map(|binding| binding.target.name.as_str()));
    let mut conditions = Conditions::new(&before.conditions, generation, now);
    for (type_, step) in STEPS {
        let (state, reason, mut message) = part(type_, step, findings);
        if type_ == ConditionType::Rendered && state == "True" {
            message.push_str(&no_environment(&status.binary_keys));
        }
        conditions.set(type_, state, reason, message);
    }
    let (ready, reason, message) = summary(&conditions, findings, before);
    conditions.set(ConditionType::Ready, state(ready), reason, message);
    match error.map(Error::class) {
        Some(Class::Edit) => {
            let (reason, message) = described(error);
            conditions.set(ConditionType::Stalled, "True", reason, message);
        }
        Some(Class::NewVersion) if !findings.looks_again => {}
        Some(Class::NewVersion | Class::Passing | Class::Retry) => {
            conditions.set(ConditionType::Reconciling, "True", Reason::Retrying, "a retry is scheduled".to_owned());
        }
        Some(Class::Watched) | None => {}
    }
    match &attempt.rollout.outcome {
        RolloutOutcome::Known(report) => {
            status.rollout = Some(report.status());
            let (state, reason, message) = report.condition();
            conditions.set(ConditionType::RolledOut, state, reason, message);
        }
        RolloutOutcome::AsBefore => conditions.keep(ConditionType::RolledOut),
        RolloutOutcome::SwitchedOff(off) => {
            // What was handled before is not handled again once restarts are on.
            let handled = before.rollout.as_ref().and_then(|rollout| rollout.handled.clone());
            status.rollout = Some(RolloutStatus { handled, ..RolloutStatus::default() });
            conditions.set(ConditionType::RolledOut, "False", Reason::FeatureOff, off.to_string());
        }
        RolloutOutcome::Off => status.rollout = None,
    }
    status.conditions = conditions.after;
    status
}

/// Puts into a status what is published. `target` is the name of the target.
fn publish(status: &mut SecretBindingStatus, attempt: &Attempt, target: Option<&str>) {
    if let Some(grant) = &attempt.grant {
        status.grant = Some(grant.name.clone());
    }
    if let Some(sources) = &attempt.sources {
        status.sources.clone_from(sources);
    }
    record_targets(status, attempt, target);
    if let Some(published) = &attempt.published {
        status.binding = Some(TargetReference { name: published.name.clone() });
        status.keys = i32::try_from(published.observed.keys).ok();
        status.last_changed_time = published.written().cloned();
        record_binary_keys(status, published);
    }
    if matches!(attempt.withdrawal, Withdrawal::Delete | Withdrawal::Release) {
        (status.binding, status.target) = (None, None);
        (status.keys, status.last_changed_time) = (None, None);
        status.sources.clear();
        status.binary_keys.clear();
    }
    if attempt.handled_sync.is_some() {
        status.last_handled_sync.clone_from(&attempt.handled_sync);
    }
}

/// Adds the report on rotation rules to a status. Without it, as where the spec does not parse, all
/// of that stays as it was.
fn with_rotation(
    status: &mut SecretBindingStatus,
    before: &SecretBindingStatus,
    told: Option<&RotationReport>,
    now: Timestamp,
) {
    let type_ = ConditionType::RotationCurrent;
    let Some(told) = told else {
        let kept = before.conditions.iter().filter(|condition| condition.type_ == type_.as_str());
        status.conditions.extend(kept.cloned());
        return;
    };
    status.rotation.clone_from(&told.rotation);
    status.rotation_state.clone_from(&told.state);
    status.next_rotation_time.clone_from(&told.next);
    status.last_handled_rotation.clone_from(&told.handled);
    if let Some((state, reason, message)) = &told.condition {
        let generation = status.observed_generation.unwrap_or_default();
        let mut conditions = Conditions::new(&before.conditions, generation, now);
        conditions.set(type_, state, *reason, message.clone());
        status.conditions.append(&mut conditions.after);
    }
}

fn state(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

fn described(error: Option<&Error>) -> (Reason, String) {
    error.map_or((Reason::Published, String::new()), |error| (error.reason(), error.to_string()))
}

fn part(type_: ConditionType, step: Reached, findings: Findings<'_>) -> (&'static str, Reason, String) {
    let Findings { attempt, error, .. } = findings;
    if let Some(error) = error.filter(|error| error.condition() == Some(type_)) {
        return ("False", error.reason(), error.to_string());
    }
    if attempt.reached < step {
        return ("Unknown", Reason::NotEvaluated, "not reached in the last reconcile".to_owned());
    }
    let (reason, message) = match type_ {
        ConditionType::Granted => (
            Reason::Allowed,
            format!(
                "the SecretGrant {:?} allows every source",
                attempt.grant.as_ref().map(|grant| grant.name.as_str()).unwrap_or_default()
            ),
        ),
        ConditionType::Fetched => (Reason::Verified, "every source is known at its present version".to_owned()),
        ConditionType::Rendered => (Reason::Complete, "every key has its value".to_owned()),
        _ => (Reason::Published, published_message(findings.binding, findings.attempt)),
    };
    ("True", reason, message)
}

/// The summary `Ready`: whether the target holds what the last verified versions give.
fn summary(
    conditions: &Conditions<'_>,
    findings: Findings<'_>,
    before: &SecretBindingStatus,
) -> (bool, Reason, String) {
    let Findings { attempt, error, interval, .. } = findings;
    let Some(error) = error else {
        return (true, Reason::Published, published_message(findings.binding, findings.attempt));
    };
    let was_ready = before.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    let was_stale = before
        .conditions
        .iter()
        .any(|c| c.type_ == ConditionType::Ready.as_str() && c.reason == Reason::Stale.as_str());
    // A target that this pass did not come to is as it was.
    let may_be_intact = !matches!(attempt.integrity, Integrity::Broken);
    if error.class() == Class::Passing && may_be_intact && (was_ready || was_stale) {
        let failing = error.condition().and_then(|failing| conditions.get(failing));
        let failing_since = failing.map_or(conditions.now, |failing| failing.last_transition_time.0);
        if conditions.now.duration_since(failing_since) < stale_after(interval) {
            let why = match error {
                Error::Deadline { .. } => "the last pass over it did not end in time",
                _ => "AWS cannot be asked at present",
            };
            return (true, Reason::Published, format!("the Secret holds the last verified versions; {why}"));
        }
        let message = format!(
            "no source could be verified for {STALE_AFTER_INTERVALS} refresh intervals; the Secret holds the last verified versions: {error}"
        );
        return (false, Reason::Stale, message);
    }
    (false, error.reason(), error.to_string())
}

#[cfg(test)]
mod tests;
