//! The rules of a binding that are acted on in a pass, after it has published.
//!
//! The status says first for which due time an action begins (`actedFor`), and only the next pass begins it: whoever
//! takes over goes on with the same. That it has ended, the status says by having no such time any more.

#![allow(clippy::too_many_arguments, reason = "the object SecretRotation replaces this file")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::{KeyAge, Reason, RotationStatus};
use crate::domain::render::encoding::Encoding;
use crate::domain::render::key::TargetKey;
use crate::domain::rotation::age;
use crate::domain::rotation::due::{Activity, Emergency, Facts, rule_state};
use crate::domain::rotation::found::Acted;
use crate::domain::rotation::found::Found;
use crate::domain::rotation::rule::{Action, Rule};
use crate::domain::time::to_second;
use crate::domain::value::Value;
use crate::kubernetes::api_server::Permit;
use crate::reconcile::context::Context;
use crate::reconcile::rotation::action::act;
use crate::reconcile::rotation::action::{ActionOutcome, Due};
use crate::reconcile::subject::Subject;
use crate::state::history::{History, KeySources};

/// What a rule calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing.
    Rest,
    /// An action, of which the status must tell first.
    Begin(Timestamp),
    /// To go on with the action for this due time; whether the keys are still as old as then.
    Act(Timestamp, bool),
}

/// What a rule with an action calls for, by its status and by the ages of its keys.
fn stage(rule: &Rule, was: Option<&RotationStatus>, ages: &BTreeMap<String, KeyAge>, now: Timestamp) -> Stage {
    let acted_for = was.and_then(|was| was.acted_for.as_ref()).map(|time| time.0);
    if rule.action == Action::Notify && acted_for.is_none() {
        return Stage::Rest;
    }
    let emergency = was.and_then(|was| {
        let since = was.emergency_since.as_ref()?.0;
        Some(Emergency { since, keys: was.emergency_keys.clone() })
    });
    let standing = rule_state(rule, Facts { ages, emergency: emergency.as_ref(), activity: None, aws: &[] }, now);
    let due = standing.due.map(to_second).filter(|due| *due <= now);
    // A time that does not move with the keys, such as notAfter, is met once they are younger. Times are whole seconds.
    let is_met = |time: Timestamp| standing.rotated.is_some_and(|rotated| to_second(rotated) > time);
    match (acted_for, due) {
        (Some(acted_for), due) => Stage::Act(acted_for, due.is_some() && !is_met(acted_for)),
        // While an old and a new value live side by side, a still newer one would only wait.
        (None, Some(due)) if !is_met(due) && was.is_none_or(|was| was.phase.is_none()) => Stage::Begin(due),
        (None, _) => Stage::Rest,
    }
}

/// What came of the actions of rules.
#[derive(Debug, Default)]
pub struct Acting {
    /// How far they are, by rule; `None` where that could not be found out.
    pub acted: Option<BTreeMap<String, Acted>>,
    /// When to observe them again.
    pub next: Option<Duration>,
    /// Where keys come from, to be remembered.
    pub key_sources: Option<KeySources>,
}

/// Acts on the rules that are due, one step each.
pub async fn act_on_rules(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    found: &Found,
    history: &History,
    permit: &Permit<'_>,
) -> Acting {
    let rules = &subject.binding.rotation;
    let has_any = rules.iter().any(|rule| rule.action != Action::Notify)
        || subject.before.rotation.iter().any(|was| was.acted_for.is_some());
    if !has_any {
        return Acting { acted: Some(BTreeMap::new()), ..Acting::default() };
    }
    // Without access nothing is done, and the pass has told why.
    let Ok(access) = cx.authorization.access(&subject.binding).await else { return Acting::default() };
    let (access, mut key_sources) = (Arc::new(access), history.key_sources.clone());
    let kept = age::records(subject.before);
    let ages = found.ages.as_ref().unwrap_or(&kept);
    let (mut acted, mut next) = (BTreeMap::new(), None::<Duration>);
    for rule in rules {
        let was = subject.before.rotation.iter().find(|was| was.name == rule.name);
        let (due, outcome) = match stage(rule, was, ages, Timestamp::now()) {
            Stage::Rest => continue,
            Stage::Begin(due) => {
                (due, ActionOutcome::UnderWay { message: "it begins".to_owned(), again: Duration::ZERO })
            }
            Stage::Act(due, still_due) => {
                let is_known = |key: &TargetKey, arn: &str, json_key: &str, value: &Value| {
                    is_known(cx, subject, ages, key, arn, json_key, value)
                };
                let due = Due { rule, due, still_due, is_known: &is_known };
                (due.due, Box::pin(act(cx, subject, &access, &due, &mut key_sources, permit)).await)
            }
        };
        let (this, again) = match outcome {
            ActionOutcome::Done => (Acted::default(), None),
            ActionOutcome::UnderWay { message, again } => {
                let activity = Activity { under_way: Some(message), ..Activity::default() };
                (Acted { due: Some(due), activity }, Some(again))
            }
            // Only another start of the operator changes that.
            ActionOutcome::Off(off) => {
                let trouble = Some((Reason::FeatureOff, off.to_string()));
                (Acted { due: Some(due), activity: Activity { trouble, ..Activity::default() } }, None)
            }
            ActionOutcome::Failed { message, again } => {
                let trouble = Some((Reason::RotationFailed, message));
                let activity = Activity { trouble, ..Activity::default() };
                (Acted { due: Some(due), activity }, Some(again))
            }
        };
        acted.insert(rule.name.clone(), this);
        next = [next, again].into_iter().flatten().min();
    }
    Acting { acted: Some(acted), next, key_sources }
}

/// Whether a value is the one whose age was told.
fn is_known(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    ages: &BTreeMap<String, KeyAge>,
    key: &TargetKey,
    arn: &str,
    json_key: &str,
    value: &Value,
) -> bool {
    let entry = subject.binding.mapping.data.iter().find(|entry| entry.key == *key);
    // What is published decoded has its age by what was decoded.
    if entry.is_some_and(|entry| entry.encoding != Encoding::None) {
        return true;
    }
    let fingerprint = age::fingerprint(&cx.key, &subject.binding.namespace, arn, Some(json_key), value);
    ages.get(key.as_str()).is_none_or(|age| age.fingerprint == fingerprint)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::domain::rotation::rule::Clock;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rule(action: Action, not_after: Option<Timestamp>) -> Rule {
        Rule {
            name: "r".to_owned(),
            keys: vec![TargetKey::try_from("K").unwrap()],
            clock: Some(Clock::Every(Duration::from_secs(100))),
            not_after,
            warn_before: Duration::ZERO,
            contact: None,
            action,
            overlap: None,
        }
    }

    fn ages(rotated: i64) -> BTreeMap<String, KeyAge> {
        let age = KeyAge {
            key: "K".to_owned(),
            fingerprint: "f".to_owned(),
            last_rotated_time: Some(Time(at(rotated))),
            at_least: false,
        };
        BTreeMap::from([("K".to_owned(), age)])
    }

    fn acting(due: i64) -> RotationStatus {
        RotationStatus { name: "r".to_owned(), acted_for: Some(Time(at(due))), ..RotationStatus::default() }
    }

    #[test]
    fn an_action_is_told_before_it_begins_and_goes_on_until_its_keys_are_younger() {
        let rule = rule(Action::RotateSecret, None);
        assert_eq!(stage(&rule, None, &ages(0), at(99)), Stage::Rest);
        assert_eq!(stage(&rule, None, &ages(0), at(100)), Stage::Begin(at(100)));
        assert_eq!(stage(&rule, None, &BTreeMap::new(), at(1000)), Stage::Rest, "no age, no action");
        let was = acting(100);
        assert_eq!(stage(&rule, Some(&was), &ages(0), at(101)), Stage::Act(at(100), true));
        assert_eq!(stage(&rule, Some(&was), &ages(101), at(102)), Stage::Act(at(100), false));
        assert_eq!(stage(&rule, Some(&was), &BTreeMap::new(), at(102)), Stage::Act(at(100), false));
    }

    #[test]
    fn no_action_begins_while_values_overlap() {
        let rule = rule(Action::RotateSecret, None);
        let flying = RotationStatus { phase: Some("Promoted".to_owned()), ..RotationStatus::default() };
        assert_eq!(stage(&rule, Some(&flying), &ages(0), at(200)), Stage::Rest);
        let settled = RotationStatus::default();
        assert_eq!(stage(&rule, Some(&settled), &ages(0), at(200)), Stage::Begin(at(100)));
    }

    #[test]
    fn a_date_that_does_not_move_is_met_once() {
        let rule = rule(Action::RotateSecret, Some(at(50)));
        assert_eq!(stage(&rule, None, &ages(0), at(60)), Stage::Begin(at(50)));
        assert_eq!(stage(&rule, Some(&acting(50)), &ages(60), at(61)), Stage::Act(at(50), false));
        assert_eq!(stage(&rule, None, &ages(60), at(61)), Stage::Rest);
    }

    #[test]
    fn a_rule_that_only_tells_ends_what_was_begun_and_begins_nothing() {
        let rule = rule(Action::Notify, None);
        assert_eq!(stage(&rule, None, &ages(0), at(1000)), Stage::Rest);
        assert_eq!(stage(&rule, Some(&acting(100)), &ages(0), at(1000)), Stage::Act(at(100), true));
    }
}
