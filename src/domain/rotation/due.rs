//! Whether a rule is due. Pure: the time is an argument.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::jiff::{Timestamp, Unit};

use crate::api::{KeyAge, Reason, RotationState};
use crate::domain::render::key::TargetKey;
use crate::domain::rotation::rule::Rule;
use crate::domain::secret::description::RotationDates;

/// What is under way for a rule: an action that was begun, an overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// What is being done, where something is; then the rule is `Rotating`.
    pub under_way: Option<String>,
    /// Why it failed or cannot go on: `RotationFailed` or `OverlapBlocked`, and what to do.
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
    /// What AWS tells of it.
    pub rotation: RotationDates,
    /// Whether a version labelled AWSPENDING waits to become the current one.
    pub pending: bool,
}

/// An emergency, which the annotation `bindery.dev/rotation: emergency-<rule>` declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// When it was seen.
    pub since: Timestamp,
    /// The keys that were not changed since.
    pub keys: Vec<String>,
}

/// What a rule's state follows from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The ages of the binding's keys.
    pub ages: &'a BTreeMap<String, KeyAge>,
    /// An emergency of the rule, until all its keys were changed.
    pub emergency: Option<&'a Emergency>,
    /// What is under way.
    pub activity: Option<&'a Activity>,
    /// AWS's own rotation of the secrets that the rule's keys may come from.
    pub aws: &'a [&'a AwsRotation],
}

/// Where a rule stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Its state; `None` for a rule that is there for its contact only, or of whose keys nothing is known.
    pub state: Option<RotationState>,
    /// When it is due.
    pub due: Option<Timestamp>,
    /// When the key that was changed longest ago was changed.
    pub rotated: Option<Timestamp>,
    /// When the state or the message changes by the clock alone; `None` where it does not.
    pub wake: Option<Timestamp>,
    /// What is to be said of it.
    pub message: String,
}

/// Where a rule stands at `now`.
#[must_use]
pub fn stand(rule: &Rule, facts: Facts<'_>, now: Timestamp) -> Standing {
    let Facts { ages, emergency, activity, aws } = facts;
    let known: Vec<&KeyAge> = rule.keys.iter().filter_map(|key| ages.get(key.as_str())).collect();
    let oldest = known.iter().copied().filter(|age| age.last_rotated_time.is_some());
    let oldest = oldest.min_by_key(|age| age.last_rotated_time.as_ref().map(|time| time.0));
    let rotated = oldest.and_then(|age| age.last_rotated_time.as_ref()).map(|time| time.0);
    // A key of which nothing is known yet may be the oldest.
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
        // A key that is not known yet may be due before this.
        _ if rule.clock.is_some() && by_age.is_none() => (None, due),
        (Some(due), Some(warn)) if now >= warn => (Some(RotationState::DueSoon), Some(due)),
        (_, Some(warn)) => (Some(RotationState::Current), Some(warn)),
        _ => (None, None),
    };
    let attention = matches!(state, Some(RotationState::DueSoon | RotationState::Overdue));
    let next_of_aws = aws.iter().filter(|of| attention && of.rotation.enabled).filter_map(|of| of.rotation.next);
    let wake = next_of_aws.filter(|next| *next > now).chain(wake).min();

    let mut message = words(rule, state, due, emergency, under_way);
    if let Some((_, what)) = trouble {
        message = format!("{message}: {what}");
    }
    if attention {
        if let Some(age) = oldest.filter(|_| emergency.is_none()) {
            let time = age.last_rotated_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            let or_before = if age.at_least { ", or before" } else { "" };
            let _ = write!(message, "; {} was last changed at {}{or_before}", age.key, shown(time));
            if age.at_least {
                message.push_str(" (older versions cannot be seen)");
            }
        }
        for of in aws {
            if let Some(next) = of.rotation.next.filter(|next| of.rotation.enabled && *next <= now) {
                let _ = write!(
                    message,
                    "; AWS's own rotation of {} should have come by {} and did not",
                    of.name,
                    shown(next)
                );
            }
            if of.pending {
                let _ = write!(
                    message,
                    "; {} has a version labelled AWSPENDING: a rotation is under way or was left behind",
                    of.name
                );
            }
        }
    }
    let absent: Vec<&str> = known.iter().filter(|age| age.fingerprint.is_empty()).map(|age| age.key.as_str()).collect();
    if !absent.is_empty() {
        let _ = write!(message, "; {} not published, check spec.rotation", are(&absent));
    }
    if let Some(contact) = rule.contact.as_ref().filter(|_| attention || trouble.is_some()) {
        let _ = write!(message, "; ask {contact}");
    }
    Standing { state, due, rotated, wake, message }
}

fn words(
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
