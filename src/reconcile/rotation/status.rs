//! What the status, the Events and the metrics say of rotation rules, as a pure function of the status before, of the
//! ages that were found and of the time.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::api::{ConditionType, Reason, RotationState, RotationStatus, SecretBindingStatus};
use crate::domain::binding::Binding;
use crate::domain::note::Note;
use crate::domain::render::mapping::Mapping;
use crate::domain::rotation::age;
use crate::domain::rotation::command::{RotationCommand, Verb};
use crate::domain::rotation::due::{Activity, AwsRotation, Emergency, Facts, RuleState, rule_state};
use crate::domain::rotation::found::Acted;
use crate::domain::rotation::found::Found;
use crate::domain::rotation::rule::{Action, Rule};
use crate::domain::secret::reference::SecretId;
use crate::domain::time::to_second;

/// A condition: status, reason, message.
pub type Verdict = (&'static str, Reason, String);

/// What is to be report of the rules of a binding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RotationReport {
    /// `status.rotation`.
    pub rotation: Vec<RotationStatus>,
    /// `status.rotationState`.
    pub state: Option<String>,
    /// `status.nextRotationTime`.
    pub next: Option<Time>,
    /// `status.lastHandledRotation`.
    pub handled: Option<String>,
    /// The condition `RotationCurrent`; absent where no rule has a state.
    pub condition: Option<Verdict>,
    /// The Events.
    pub notes: Vec<Note>,
    /// When each rule is due, for the metrics.
    pub due: Vec<(String, Timestamp)>,
    /// When any of this changes by the clock alone.
    pub wake: Option<Timestamp>,
}

struct Judged<'a> {
    rule: &'a Rule,
    standing: RuleState,
    trouble: Option<Reason>,
}

/// What is to be report at `now`.
#[must_use]
pub fn rotation_report(
    binding: &Binding,
    before: &SecretBindingStatus,
    found: &Found,
    now: Timestamp,
) -> RotationReport {
    let kept_ages = age::records(before);
    let ages = found.ages.as_ref().unwrap_or(&kept_ages);
    let (handled, declared, complaint) = command(binding, before);
    let mut report = RotationReport { handled, ..RotationReport::default() };
    let mut judged = Vec::new();
    for rule in &binding.rotation {
        let was = before.rotation.iter().find(|was| was.name == rule.name);
        let emergency = emergency(rule, was, declared == Some(&rule.name), &found.changed, now);
        let (activity, acted_for) = activity(&rule.name, was, found);
        let activity = activity.as_ref();
        let aws: Vec<&AwsRotation> = found.aws.iter().flat_map(|aws| sources(rule, &binding.mapping, aws)).collect();
        let facts = Facts { ages, emergency: emergency.as_ref(), activity, aws: &aws };
        let standing = rule_state(rule, facts, now);
        let trouble = activity.and_then(|activity| activity.trouble.as_ref());
        let status = RotationStatus {
            name: rule.name.clone(),
            state: standing.state,
            keys: rule.keys.iter().filter_map(|key| ages.get(key.as_str()).cloned()).collect(),
            last_rotated_time: standing.rotated.map(|time| Time(to_second(time))),
            next_rotation_time: standing.due.map(|time| Time(to_second(time))),
            phase: activity.and_then(|activity| activity.phase.clone()),
            overlap: activity.and_then(|activity| activity.record.clone()),
            acted_for: acted_for.map(Time),
            failure: trouble.map(|(_, what)| what.clone()),
            emergency_since: emergency.as_ref().map(|emergency| Time(emergency.since)),
            emergency_keys: emergency.map(|emergency| emergency.keys).unwrap_or_default(),
            contact: rule.contact.clone(),
        };
        report.notes.extend(note(was, &status, &standing, trouble));
        report.due.extend(standing.due.map(|due| (rule.name.clone(), due)));
        report.rotation.push(status);
        judged.push(Judged { rule, standing, trouble: trouble.map(|(reason, _)| *reason) });
    }
    report.rotation.extend(outlived(binding, before, found));
    report.wake = judged.iter().filter_map(|judged| judged.standing.wake).min();
    // An action begins once the status tells of what it is for, so the next reconcile follows at once.
    if judged.iter().any(|judged| declared == Some(&judged.rule.name) && judged.rule.action != Action::Notify) {
        report.wake = Some(now);
    }
    report.next = report.due.iter().map(|(_, due)| *due).min().map(|due| Time(to_second(due)));
    report.state = summary(&report.rotation);
    report.condition = condition(&judged, complaint.as_deref());
    if complaint.is_none() && report.rotation == before.rotation && !found.is_complete() {
        report.condition = report.condition.map(|condition| as_before(condition, before));
    }
    if let Some(text) = complaint.filter(|_| report.handled != before.last_handled_rotation) {
        report.notes.push(Note { warning: true, reason: Reason::InvalidSpec, text });
    }
    report
}

/// The condition with reason and message as before: what a reconcile could not find out is no reason to say anything
/// else.
fn as_before((status, reason, message): Verdict, before: &SecretBindingStatus) -> Verdict {
    let was = verdict(before);
    let was_reason = was.and_then(|was| Reason::ALL.iter().find(|reason| reason.as_str() == was.reason));
    match (was, was_reason) {
        (Some(was), Some(reason)) => (status, *reason, was.message.clone()),
        _ => (status, reason, message),
    }
}

/// The overlaps that outlive their rule.
fn outlived(binding: &Binding, before: &SecretBindingStatus, found: &Found) -> Vec<RotationStatus> {
    let outlived = before.rotation.iter().filter(|was| {
        let is_gone = !binding.rotation.iter().any(|rule| rule.name == was.name);
        let goes_on = found.activities.as_ref().is_none_or(|activities| activities.contains_key(&was.name));
        is_gone && was.overlap.is_some() && goes_on
    });
    let status = |was: &RotationStatus| {
        let activity = found.activities.as_ref().and_then(|activities| activities.get(&was.name));
        let (phase, overlap) = activity.map_or((was.phase.clone(), was.overlap.clone()), |activity| {
            (activity.phase.clone(), activity.record.clone())
        });
        RotationStatus { state: None, next_rotation_time: None, phase, overlap, ..was.clone() }
    };
    outlived.map(status).collect()
}

fn verdict(status: &SecretBindingStatus) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    status.conditions.iter().find(|condition| condition.type_ == ConditionType::RotationCurrent.as_str())
}

/// The text of the annotation that is dealt with, the rule that it newly declares an emergency of, and what is wrong
/// with it.
fn command<'a>(
    binding: &'a Binding,
    before: &SecretBindingStatus,
) -> (Option<String>, Option<&'a String>, Option<String>) {
    let handled = before.last_handled_rotation.clone();
    let Some(text) = binding.command.as_ref() else { return (handled, None, None) };
    let is_new = handled.as_ref() != Some(text);
    let Some(command) = RotationCommand::parse(text) else {
        let complaint = format!(
            "the annotation bindery.dev/rotation is {text:?}, which is none of emergency-<rule>, abort-<rule> and retire-<rule>; correct it"
        );
        return (Some(text.clone()), None, Some(complaint));
    };
    let Some(rule) = binding.rotation.iter().find(|rule| rule.name == command.rule) else {
        let complaint = format!(
            "the annotation bindery.dev/rotation speaks of the rule {:?}, which spec.rotation does not have; correct it",
            command.rule
        );
        return (Some(text.clone()), None, Some(complaint));
    };
    match command.verb {
        Verb::Emergency => (Some(text.clone()), is_new.then_some(&rule.name), None),
        Verb::Abort | Verb::Retire => (handled, None, None),
    }
}

/// The emergency of a rule: newly declared, or the one before less the keys that were changed, until none is left.
fn emergency(
    rule: &Rule,
    was: Option<&RotationStatus>,
    declared: bool,
    changed: &BTreeSet<String>,
    now: Timestamp,
) -> Option<Emergency> {
    if declared {
        let keys = rule.keys.iter().map(ToString::to_string).collect();
        return Some(Emergency { since: to_second(now), keys });
    }
    let since = was?.emergency_since.as_ref()?.0;
    let left = was?
        .emergency_keys
        .iter()
        .filter(|key| !changed.contains(*key) && rule.keys.iter().any(|ruled| ruled.as_str() == key.as_str()));
    let keys: Vec<String> = left.cloned().collect();
    (!keys.is_empty()).then_some(Emergency { since, keys })
}

/// What is under way for a rule, its action and its overlap together, and the due time for which the action is.
fn activity(name: &str, was: Option<&RotationStatus>, found: &Found) -> (Option<Activity>, Option<Timestamp>) {
    let acted = match &found.acted {
        Some(acted) => acted.get(name).cloned(),
        None => was.and_then(kept_action),
    };
    let overlap = match &found.activities {
        Some(activities) => activities.get(name).cloned(),
        None => was.and_then(kept_overlap),
    };
    let due = acted.as_ref().and_then(|acted| acted.due);
    let both = acted.map(|acted| acted.activity).into_iter().chain(overlap);
    let together = both.reduce(|action, overlap| Activity {
        under_way: action.under_way.or(overlap.under_way),
        trouble: action.trouble.or(overlap.trouble),
        ..overlap
    });
    (together, due)
}

/// The action that was under way, where a pass did not come to look.
fn kept_action(was: &RotationStatus) -> Option<Acted> {
    let due = was.acted_for.as_ref()?.0;
    let trouble = was.failure.clone().map(|what| (Reason::RotationFailed, what));
    let under_way = trouble.is_none().then(|| "see its last Event".to_owned());
    Some(Acted { due: Some(due), activity: Activity { under_way, trouble, ..Activity::default() } })
}

/// The overlap that was under way, where a pass did not come to look.
fn kept_overlap(was: &RotationStatus) -> Option<Activity> {
    // While an action is under way, state and failure are its own.
    let own = was.acted_for.is_none();
    let rotating = own && was.state == Some(RotationState::Rotating);
    let (under_way, phase) = (rotating.then(|| "see its last Event".to_owned()), was.phase.clone());
    let trouble = was.failure.clone().filter(|_| own).map(|what| (Reason::OverlapBlocked, what));
    let record = was.overlap.clone();
    let is_any = rotating || trouble.is_some() || phase.is_some() || record.is_some();
    is_any.then_some(Activity { under_way, trouble, phase, record })
}

/// AWS's own rotation of the secrets that the keys of a rule may come from.
fn sources<'a>(
    rule: &Rule,
    mapping: &Mapping,
    aws: &'a BTreeMap<SecretId, AwsRotation>,
) -> impl Iterator<Item = &'a AwsRotation> {
    let mut secrets = BTreeSet::new();
    for key in &rule.keys {
        match mapping.data.iter().find(|entry| entry.key == *key) {
            Some(entry) => secrets.extend([entry.source.secret.clone()]),
            None => secrets.extend(mapping.data_from.iter().map(|extract| extract.source.secret.clone())),
        }
    }
    aws.iter().filter(move |(secret, _)| secrets.contains(*secret)).map(|(_, of)| of)
}

/// The Event that a rule's way from one state to another calls for.
fn note(
    was: Option<&RotationStatus>,
    is: &RotationStatus,
    standing: &RuleState,
    trouble: Option<&(Reason, String)>,
) -> Option<Note> {
    let before = was.and_then(|was| was.state);
    let of = |warning, reason| Some(Note { warning, reason, text: standing.message.clone() });
    if let Some((reason, _)) = trouble
        && was.and_then(|was| was.failure.as_ref()) != is.failure.as_ref()
    {
        return of(true, *reason);
    }
    let new_emergency =
        is.emergency_since.is_some() && was.and_then(|was| was.emergency_since.as_ref()) != is.emergency_since.as_ref();
    match is.state {
        Some(RotationState::Overdue) if before != is.state || new_emergency => of(true, Reason::RotationOverdue),
        Some(RotationState::DueSoon) if before != is.state => of(true, Reason::DueSoon),
        Some(RotationState::Rotating) if before != is.state => of(false, Reason::Rotating),
        Some(RotationState::Current) if before.is_some() && before != is.state => of(false, Reason::Current),
        _ => None,
    }
}

/// The worst state; the phase of an overlap where one is under way and nothing is overdue.
fn summary(rotation: &[RotationStatus]) -> Option<String> {
    let worst = rotation.iter().filter_map(|rule| rule.state).max();
    let phase = rotation.iter().find_map(|rule| rule.phase.clone());
    match (worst, phase) {
        (Some(RotationState::Overdue), _) | (_, None) => worst.map(|state| state.as_str().to_owned()),
        (_, phase) => phase,
    }
}

fn condition(judged: &[Judged<'_>], complaint: Option<&str>) -> Option<Verdict> {
    let report: Vec<&Judged<'_>> =
        judged.iter().filter(|judged| judged.rule.has_clock() || judged.standing.state.is_some()).collect();
    let of = |state: RotationState| report.iter().filter(move |judged| judged.standing.state == Some(state));
    let troubled = |reason: Reason| report.iter().find(|judged| judged.trouble == Some(reason));
    let (status, reason) = if troubled(Reason::RotationFailed).is_some() {
        ("False", Reason::RotationFailed)
    } else if troubled(Reason::OverlapBlocked).is_some() {
        ("False", Reason::OverlapBlocked)
    } else if troubled(Reason::FeatureOff).is_some() {
        ("False", Reason::FeatureOff)
    } else if of(RotationState::Overdue).next().is_some() {
        ("False", Reason::RotationOverdue)
    } else if report.iter().any(|judged| judged.standing.state.is_none()) {
        ("Unknown", Reason::NotEvaluated)
    } else if of(RotationState::Rotating).next().is_some() {
        ("True", Reason::Rotating)
    } else if of(RotationState::DueSoon).next().is_some() {
        ("True", Reason::DueSoon)
    } else if report.is_empty() {
        return None;
    } else {
        ("True", Reason::Current)
    };
    // The worst first; of those that are current, the one that is due next speaks for all.
    let mut worst: Vec<&&Judged<'_>> = report.iter().filter(|judged| judged.standing.state.is_some()).collect();
    worst.sort_by_key(|judged| (std::cmp::Reverse(judged.standing.state), judged.standing.due));
    let quiet = |judged: &Judged<'_>| judged.standing.state == Some(RotationState::Current) && judged.trouble.is_none();
    let speaking = if reason == Reason::Current { 1 } else { worst.iter().filter(|judged| !quiet(judged)).count() };
    let unknown = report.iter().filter(|judged| judged.standing.state.is_none());
    let messages = worst.into_iter().take(speaking).map(|judged| judged.standing.message.as_str());
    let messages: Vec<&str> =
        messages.chain(unknown.map(|judged| judged.standing.message.as_str())).chain(complaint).collect();
    Some((status, reason, messages.join(". ")))
}

#[cfg(test)]
mod tests;
