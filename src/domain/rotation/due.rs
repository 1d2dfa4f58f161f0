//! Whether a rule is due. Pure: the time is an argument.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::jiff::{Timestamp, Unit};

use crate::api::{KeyAge, Reason, RotationState};
use crate::domain::render::key::TargetKey;
use crate::domain::rotation::rule::Rule;
use crate::domain::secret::description::RotationDates;

/// The action or the overlap of a rule that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// The action or step that is under way; with one, the rule is `Rotating`.
    pub under_way: Option<String>,
    /// The cause of a failure or of a blocked overlap, `RotationFailed` or `OverlapBlocked`, with its cure.
    pub trouble: Option<(Reason, String)>,
    /// The phase of an overlap.
    pub phase: Option<String>,
    /// The record of an overlap.
    pub record: Option<String>,
}

/// AWS's own rotation of a secret that a rule's keys may come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsRotation {
    /// The name of the secret.
    pub name: String,
    /// Its settings and times.
    pub rotation: RotationDates,
    /// Whether a version labelled AWSPENDING waits to become the current one.
    pub pending: bool,
}

/// An emergency, which the annotation `bindery.dev/rotation: emergency-<rule>` declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// When the operator first read the annotation.
    pub since: Timestamp,
    /// The keys that were not changed since.
    pub keys: Vec<String>,
}

/// The facts that decide the state of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The ages of the binding's keys.
    pub ages: &'a BTreeMap<String, KeyAge>,
    /// An emergency of the rule, until all its keys are changed.
    pub emergency: Option<&'a Emergency>,
    /// The action or overlap that is under way.
    pub activity: Option<&'a Activity>,
    /// AWS's own rotation of the secrets that the rule's keys may come from.
    pub aws: &'a [&'a AwsRotation],
}

/// The state of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleState {
    /// Its state; `None` for a rule that only names a contact, or whose keys have unknown ages.
    pub state: Option<RotationState>,
    /// When it is due.
    pub due: Option<Timestamp>,
    /// When the oldest key was changed.
    pub rotated: Option<Timestamp>,
    /// When the clock alone changes the state or the message; `None` if it never does.
    pub wake: Option<Timestamp>,
    /// The text for users.
    pub message: String,
}

/// The state of a rule at `now`.
#[must_use]
pub fn rule_state(rule: &Rule, facts: Facts<'_>, now: Timestamp) -> RuleState {
    let Facts { ages, emergency, activity, aws } = facts;
    let known: Vec<&KeyAge> = rule.keys.iter().filter_map(|key| ages.get(key.as_str())).collect();
    let oldest = known.iter().copied().filter(|age| age.last_rotated_time.is_some());
    let oldest = oldest.min_by_key(|age| age.last_rotated_time.as_ref().map(|time| time.0));
    let rotated = oldest.and_then(|age| age.last_rotated_time.as_ref()).map(|time| time.0);
    // A key of unknown age may be the oldest.
    let complete = known.len() == rule.keys.len();
    let by_age = rule.clock.as_ref().zip(rotated.filter(|_| complete)).and_then(|(clock, rotated)| clock.due(rotated));
    let by_clock = [by_age, rule.not_after].into_iter().flatten().min();
    let due = [by_clock, emergency.map(|emergency| emergency.since)].into_iter().flatten().min();
    let warn = due.map(|due| due.checked_sub(rule.warn_before).unwrap_or(Timestamp::MIN));
    let under_way = activity.and_then(|activity| activity.under_way.as_deref());
    let trouble = activity.and_then(|activity| activity.trouble.as_ref());

    let (state, wake) = match (due, warn) {
        _ if under_way.is_some() => (Some(RotationState::Rotating), None),
        (Some(due), _) if now >= due => (Some(RotationState::Overdue), None),
        // A key of unknown age may be due before this.
        _ if rule.clock.is_some() && by_age.is_none() => (None, due),
        (Some(due), Some(warn)) if now >= warn => (Some(RotationState::DueSoon), Some(due)),
        (_, Some(warn)) => (Some(RotationState::Current), Some(warn)),
        _ => (None, None),
    };
    let attention = matches!(state, Some(RotationState::DueSoon | RotationState::Overdue));
    let next_of_aws = aws.iter().filter(|of| attention && of.rotation.enabled).filter_map(|of| of.rotation.next);
    let wake = next_of_aws.filter(|next| *next > now).chain(wake).min();

    let mut message = summary(rule, state, due, emergency, under_way);
    if let Some((_, what)) = trouble {
        message = format!("{message}: {what}");
    }
    if attention {
        if let Some(age) = oldest.filter(|_| emergency.is_none()) {
            push_age(&mut message, age);
        }
        for of in aws {
            push_aws(&mut message, of, now);
        }
    }
    let absent: Vec<&str> = known.iter().filter(|age| age.fingerprint.is_empty()).map(|age| age.key.as_str()).collect();
    if !absent.is_empty() {
        let _ = write!(message, "; {} not published, check spec.rotation", are(&absent));
    }
    if let Some(contact) = rule.contact.as_ref().filter(|_| attention || trouble.is_some()) {
        let _ = write!(message, "; ask {contact}");
    }
    RuleState { state, due, rotated, wake, message }
}

/// Adds when the oldest key was changed.
fn push_age(message: &mut String, age: &KeyAge) {
    let time = age.last_rotated_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let or_before = if age.at_least { ", or before" } else { "" };
    let _ = write!(message, "; {} was last changed at {}{or_before}", age.key, shown(time));
    if age.at_least {
        message.push_str(" (older versions cannot be seen)");
    }
}

/// Adds what AWS's own rotation of a secret lacks.
fn push_aws(message: &mut String, of: &AwsRotation, now: Timestamp) {
    if let Some(next) = of.rotation.next.filter(|next| of.rotation.enabled && *next <= now) {
        let name = &of.name;
        let _ = write!(message, "; AWS's own rotation of {name} should have come by {} and did not", shown(next));
    }
    if of.pending {
        let name = &of.name;
        let _ =
            write!(message, "; {name} has a version labelled AWSPENDING: a rotation is under way or was left behind");
    }
}

fn summary(
    rule: &Rule,
    state: Option<RotationState>,
    due: Option<Timestamp>,
    emergency: Option<&Emergency>,
    under_way: Option<&str>,
) -> String {
    let name = &rule.name;
    let keys = rule.keys.iter().map(TargetKey::as_str).collect::<Vec<_>>().join(", ");
    let at = due.map(shown).unwrap_or_default();
    match state {
        Some(RotationState::Rotating) => format!("the rule {name:?} rotates: {}", under_way.unwrap_or_default()),
        Some(RotationState::Overdue) => match emergency {
            Some(emergency) => {
                let keys = emergency.keys.join(", ");
                format!("the rule {name:?} is an emergency since {}: change {keys}", shown(emergency.since))
            }
            None => format!("the rule {name:?} was due at {at}: change {keys}"),
        },
        Some(RotationState::DueSoon) => format!("the rule {name:?} is due at {at}: change {keys}"),
        Some(RotationState::Current) => format!("the rule {name:?} is due at {at}"),
        None if rule.has_clock() => {
            format!("when the keys of the rule {name:?} ({keys}) were last changed is not known yet")
        }
        None => format!("the rule {name:?} has no clock"),
    }
}

fn are(keys: &[&str]) -> String {
    format!("{} {}", keys.join(", "), if keys.len() == 1 { "is" } else { "are" })
}

/// A time as messages show it, without fractions.
fn shown(time: Timestamp) -> String {
    time.round(Unit::Second).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests;
