//! The status and the Events that a reconcile leads to, as a pure function of the status before it and of its results.

use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::{ConditionType, Reason, SecretBindingStatus, TargetReference};
use crate::domain::binding::Binding;
use crate::domain::note::Note;
use crate::domain::rollout::outcome::RolloutOutcome;
use crate::domain::target::withdrawal::Withdrawal;
use crate::reconcile::binding::attempt::{Attempt, Reached};
use crate::reconcile::binding::cleanup::RemainingSecret;
use crate::reconcile::binding::conditions::Conditions;
use crate::reconcile::binding::events::transitions;
use crate::reconcile::binding::recorded::{deletions, foreign_keys, record_targets, unproven};
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
    let notes = transitions(before, &status).into_iter().chain(of_rules).collect();
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
        let (state, reason, message) = part(type_, step, findings);
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
    }
    if matches!(attempt.withdrawal, Withdrawal::Delete | Withdrawal::Release) {
        (status.binding, status.target) = (None, None);
        (status.keys, status.last_changed_time) = (None, None);
        status.sources.clear();
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
        return ("Unknown", Reason::NotEvaluated, "not reached in the last pass".to_owned());
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
        _ => (Reason::Published, published_message(attempt)),
    };
    ("True", reason, message)
}

fn published_message(attempt: &Attempt) -> String {
    attempt.published.as_ref().map_or_else(String::new, |published| {
        let mut message = format!("the Secret {:?} holds {} keys", published.name, published.observed.keys);
        for RemainingSecret { name, why } in published.remaining() {
            let _ = write!(message, "; the Secret of the earlier name, {name}, stays {why}");
        }
        message.push_str(&foreign_keys(&published.observed));
        message.push_str(&unproven(published));
        message
    })
}

/// The summary `Ready`: whether the target holds what the last verified versions give.
fn summary(
    conditions: &Conditions<'_>,
    findings: Findings<'_>,
    before: &SecretBindingStatus,
) -> (bool, Reason, String) {
    let Findings { attempt, error, interval, .. } = findings;
    let Some(error) = error else {
        return (true, Reason::Published, published_message(attempt));
    };
    let was_ready = before.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    let was_stale = before
        .conditions
        .iter()
        .any(|c| c.type_ == ConditionType::Ready.as_str() && c.reason == Reason::Stale.as_str());
    if error.class() == Class::Passing && attempt.intact.is_some() && (was_ready || was_stale) {
        let failing_since =
            conditions.get(ConditionType::Fetched).map_or(conditions.now, |fetched| fetched.last_transition_time.0);
        if conditions.now.duration_since(failing_since) < stale_after(interval) {
            return (
                true,
                Reason::Published,
                "the Secret holds the last verified versions; AWS cannot be asked at present".to_owned(),
            );
        }
        let message = format!(
            "no source could be verified for {STALE_AFTER_INTERVALS} refresh intervals; the Secret holds the last verified versions: {error}"
        );
        return (false, Reason::Stale, message);
    }
    (false, error.reason(), error.to_string())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::domain::grant::GrantError;
    use crate::domain::secret::error::{SourceError, SourceErrorKind};
    use crate::domain::target::ObservedTarget;
    use crate::reconcile::binding::attempt::{GrantInUse, Published};

    const INTERVAL: Duration = Duration::from_secs(300);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn observed() -> ObservedTarget {
        ObservedTarget {
            uid: String::new(),
            resource_version: String::new(),
            mark: None,
            fields: String::new(),
            keys: 22,
            owns_mark: true,
            written: Some(Time(at(0))),
            other_manager: None,
            changed: None,
            rotation_state: None,
            digest: Some("key.digest".into()),
            foreign: Box::default(),
        }
    }

    fn published() -> Attempt {
        Attempt {
            grant: Some(GrantInUse { name: "g".to_owned(), expires: None }),
            sources: Some(Vec::new()),
            published: Some(Published { name: "worker".to_owned(), observed: observed(), cleaned: None }),
            intact: Some(Box::new(observed())),
            reached: Reached::Applied,
            ..Attempt::default()
        }
    }

    fn failed(kind: SourceErrorKind, request: &str) -> Error {
        Error::Source(SourceError { request_id: Some(request.to_owned()), ..SourceError::new(kind, "app") })
    }

    fn stopped(intact: bool) -> Attempt {
        let grant = Some(GrantInUse { name: "g".to_owned(), expires: None });
        let intact = intact.then(|| Box::new(observed()));
        Attempt { grant, intact, reached: Reached::Granted, ..Attempt::default() }
    }

    fn after(
        before: &SecretBindingStatus,
        attempt: &Attempt,
        error: Option<&Error>,
        now: Timestamp,
    ) -> SecretBindingStatus {
        let findings = Findings { binding: None, generation: 3, attempt, error, interval: INTERVAL, looks_again: true };
        super::status(before, findings, now).status
    }

    fn show(status: &SecretBindingStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
    }

    #[test]
    fn a_full_pass_is_ready_and_says_what_is_published() {
        let status = after(&SecretBindingStatus::default(), &published(), None, at(0));
        assert_eq!(
            show(&status),
            [
                "Granted=True/Allowed",
                "Fetched=True/Verified",
                "Rendered=True/Complete",
                "Applied=True/Published",
                "Ready=True/Published"
            ]
        );
        assert_eq!((status.keys, status.observed_generation), (Some(22), Some(3)));
        assert_eq!(status.binding.unwrap().name, "worker");
    }

    #[test]
    fn an_unchanged_world_gives_the_same_status() {
        let first = after(&SecretBindingStatus::default(), &published(), None, at(0));
        assert_eq!(after(&first, &published(), None, at(500)), first);
        let failure = after(&first, &stopped(true), Some(&failed(SourceErrorKind::Throttled, "r1")), at(600));
        let again = after(&failure, &stopped(true), Some(&failed(SourceErrorKind::Throttled, "r2")), at(700));
        assert_eq!(again, failure, "a new request id is no change");
    }

    #[test]
    fn a_passing_failure_keeps_ready_until_three_intervals_have_passed() {
        let error = failed(SourceErrorKind::Unavailable, "r");
        let ready = after(&SecretBindingStatus::default(), &published(), None, at(0));
        let first = after(&ready, &stopped(true), Some(&error), at(100));
        assert_eq!(
            show(&first),
            [
                "Granted=True/Allowed",
                "Fetched=False/AwsUnavailable",
                "Rendered=Unknown/NotEvaluated",
                "Applied=Unknown/NotEvaluated",
                "Ready=True/Published",
                "Reconciling=True/Retrying"
            ]
        );
        let late = after(&first, &stopped(true), Some(&error), at(100 + 899));
        assert!(show(&late).contains(&"Ready=True/Published".to_owned()));
        let stale = after(&late, &stopped(true), Some(&error), at(100 + 900));
        assert!(show(&stale).contains(&"Ready=False/Stale".to_owned()));
        let still = after(&stale, &stopped(true), Some(&error), at(5000));
        assert_eq!(still, stale);
        let cured = after(&still, &published(), None, at(6000));
        assert!(show(&cured).contains(&"Ready=True/Published".to_owned()));
    }

    #[test]
    fn a_passing_failure_with_a_broken_target_or_nothing_published_is_not_ready() {
        let error = failed(SourceErrorKind::Unavailable, "r");
        let ready = after(&SecretBindingStatus::default(), &published(), None, at(0));
        for (before, intact) in [(&ready, false), (&SecretBindingStatus::default(), true)] {
            let status = after(before, &stopped(intact), Some(&error), at(1));
            assert!(show(&status).contains(&"Ready=False/AwsUnavailable".to_owned()), "{:?}", show(&status));
        }
    }

    #[test]
    fn other_failures_are_not_ready_at_once_and_keep_what_is_published() {
        let ready = after(&SecretBindingStatus::default(), &published(), None, at(0));
        let error = Error::Grant(GrantError::NotFound("x".to_owned()));
        let status = after(&ready, &Attempt::default(), Some(&error), at(1));
        assert_eq!(show(&status)[0], "Granted=False/GrantNotFound");
        assert!(show(&status).contains(&"Ready=False/GrantNotFound".to_owned()));
        assert!(!show(&status).iter().any(|c| c.starts_with("Reconciling") || c.starts_with("Stalled")));
        assert_eq!(status.keys, Some(22));
        assert_eq!(status.binding.unwrap().name, "worker");
    }

    #[test]
    fn only_an_edit_stalls() {
        let error = failed(SourceErrorKind::InvalidReference, "r");
        let status = after(&SecretBindingStatus::default(), &stopped(false), Some(&error), at(1));
        assert!(show(&status).contains(&"Stalled=True/InvalidReference".to_owned()));
        assert!(!show(&status).iter().any(|c| c.starts_with("Reconciling")));
    }

    #[test]
    fn suspension_leaves_ready_as_it_was_and_ends_with_a_pass() {
        let ready = after(&SecretBindingStatus::default(), &published(), None, at(0));
        let suspended = suspended(&ready, 4, at(10)).status;
        assert!(show(&suspended).contains(&"Suspended=True/Suspended".to_owned()));
        assert!(show(&suspended).contains(&"Ready=True/Published".to_owned()));
        assert_eq!(show(&after(&suspended, &published(), None, at(20))), show(&ready));
    }

    #[test]
    fn events_are_sent_on_transitions_only_and_once_for_one_cause() {
        let ready = after(&SecretBindingStatus::default(), &published(), None, at(0));
        let reasons = |before: &SecretBindingStatus, after: &SecretBindingStatus| -> Vec<Reason> {
            transitions(before, after).into_iter().map(|note| note.reason).collect()
        };
        assert_eq!(reasons(&SecretBindingStatus::default(), &ready), [Reason::Published]);
        assert_eq!(reasons(&ready, &ready), []);
        let denied = after(&ready, &stopped(true), Some(&failed(SourceErrorKind::AccessDenied, "r")), at(1));
        assert_eq!(reasons(&ready, &denied), [Reason::AwsAccessDenied]);
        let throttled = after(&ready, &stopped(true), Some(&failed(SourceErrorKind::Throttled, "r")), at(1));
        assert_eq!(reasons(&ready, &throttled), [Reason::Throttled]);
        assert_eq!(reasons(&throttled, &ready), [], "Ready never changed");
    }
}
