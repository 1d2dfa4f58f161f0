//! The status that a pass leads to, as a pure function of the status before it and of what was found.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::{ConditionType, Reason, SecretBindingStatus, SourceStatus, TargetReference};
use crate::domain::note::Note;
use crate::domain::rollout::outcome;
use crate::domain::rollout::outcome::RolloutOutcome;
use crate::domain::rotation::found::Found;
use crate::domain::target::ObservedTarget;
use crate::reconcile::error::{Class, Error};
use crate::reconcile::rotation::overlap::OverlapReport;
use crate::reconcile::rotation::status::Told;

/// A passing failure is reported as such for this many refresh intervals; then the binding is `Stale`.
const STALE_AFTER_INTERVALS: u32 = 3;

/// The steps of a pass, in the order of the reference.
const STEPS: [ConditionType; 4] =
    [ConditionType::Granted, ConditionType::Fetched, ConditionType::Rendered, ConditionType::Applied];

/// How far a pass came, and what it learned on the way.
#[derive(Debug, Default)]
pub struct Progress {
    /// The grant that serves the binding.
    pub grant: Option<String>,
    /// The versions that are published.
    pub sources: Option<Vec<SourceStatus>>,
    /// What is published.
    pub published: Option<Published>,
    /// The text of the annotation `bindery.dev/sync` that was acted on.
    pub handled_sync: Option<String>,
    /// Whether the target is as Bindery last published it.
    pub target_intact: bool,
    /// When the grant ends.
    pub expires: Option<Timestamp>,
    /// Whether what was published was deleted, since its grant ended and asks for that.
    pub withdrawn: bool,
    /// Where overlaps of old and new values stand; `None` where the pass did not come to them.
    pub overlaps: Option<Vec<OverlapReport>>,
    /// The text of the annotation `bindery.dev/rotation` that was acted on.
    pub handled_command: Option<String>,
    /// The target as it now stands, where the pass came to know.
    pub observed: Option<ObservedTarget>,
    /// How far the workloads are.
    pub rollout: RolloutOutcome,
    /// The steps that were done.
    pub done: Vec<ConditionType>,
    /// What was found out about rotation.
    pub rotation: Found,
}

/// The Secret as it now stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its name.
    pub name: String,
    /// The number of keys of Bindery.
    pub keys: usize,
    /// When it was last written.
    pub written: Option<Time>,
    /// Secrets of earlier names that something still refers to.
    pub leftovers: Vec<String>,
}

/// What a pass found.
#[derive(Clone, Copy, Debug)]
pub struct Findings<'a> {
    /// The generation of the binding.
    pub generation: i64,
    /// How far the pass came.
    pub progress: &'a Progress,
    /// What ended it, where it was not done.
    pub error: Option<&'a Error>,
    /// The refresh interval; the operator's where the binding's is `0s`.
    pub interval: Duration,
    /// Whether the clock leads to another look.
    pub looks_again: bool,
}

/// The status after a pass.
#[must_use]
pub fn after_pass(before: &SecretBindingStatus, findings: Findings<'_>, now: Timestamp) -> SecretBindingStatus {
    let Findings { generation, progress, error, .. } = findings;
    let mut status = before.clone();
    status.observed_generation = Some(generation);
    if progress.grant.is_some() {
        status.grant.clone_from(&progress.grant);
    }
    if let Some(sources) = &progress.sources {
        status.sources.clone_from(sources);
    }
    if let Some(published) = &progress.published {
        status.binding = Some(TargetReference { name: published.name.clone() });
        status.keys = i32::try_from(published.keys).ok();
        status.last_changed_time.clone_from(&published.written);
    }
    if progress.withdrawn {
        (status.binding, status.keys, status.last_changed_time) = (None, None, None);
        status.sources.clear();
    }
    if progress.handled_sync.is_some() {
        status.last_handled_sync.clone_from(&progress.handled_sync);
    }
    let mut conditions = Conditions { before: &before.conditions, after: Vec::new(), generation, now };
    for step in STEPS {
        let (state, reason, message) = part(step, findings);
        conditions.set(step, state, reason, message);
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
    match &progress.rollout {
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

/// Adds what is told of rotation rules to the status after a pass. Without it, as where the spec does not parse, all
/// of that stays as it was.
pub fn with_rotation(
    status: &mut SecretBindingStatus,
    before: &SecretBindingStatus,
    told: Option<&Told>,
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
        let mut conditions = Conditions { before: &before.conditions, after: Vec::new(), generation, now };
        conditions.set(type_, state, *reason, message.clone());
        status.conditions.append(&mut conditions.after);
    }
}

/// The status of a suspended binding: what was, and that it is suspended.
#[must_use]
pub fn suspended(before: &SecretBindingStatus, generation: i64, now: Timestamp) -> SecretBindingStatus {
    let mut conditions = Conditions { before: &before.conditions, after: Vec::new(), generation, now };
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
    status
}

fn state(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

fn described(error: Option<&Error>) -> (Reason, String) {
    error.map_or((Reason::Published, String::new()), |error| (error.reason(), error.to_string()))
}

fn part(step: ConditionType, findings: Findings<'_>) -> (&'static str, Reason, String) {
    let Findings { progress, error, .. } = findings;
    if let Some(error) = error.filter(|error| error.condition() == Some(step)) {
        return ("False", error.reason(), error.to_string());
    }
    if !progress.done.contains(&step) {
        return ("Unknown", Reason::NotEvaluated, "not reached in the last pass".to_owned());
    }
    let (reason, message) = match step {
        ConditionType::Granted => (
            Reason::Allowed,
            format!("the SecretGrant {:?} allows every source", progress.grant.as_deref().unwrap_or_default()),
        ),
        ConditionType::Fetched => (Reason::Verified, "every source is known at its present version".to_owned()),
        ConditionType::Rendered => (Reason::Complete, "every key has its value".to_owned()),
        _ => (Reason::Published, published_message(progress)),
    };
    ("True", reason, message)
}

fn published_message(progress: &Progress) -> String {
    progress.published.as_ref().map_or_else(String::new, |published| {
        let mut message = format!("the Secret {:?} holds {} keys", published.name, published.keys);
        for name in &published.leftovers {
            message.push_str("; the Secret of the earlier name, ");
            message.push_str(name);
            message.push_str(", stays until no pod and no workload refers to it");
        }
        message
    })
}

/// The summary `Ready`: whether the target holds what the last verified versions give.
fn summary(
    conditions: &Conditions<'_>,
    findings: Findings<'_>,
    before: &SecretBindingStatus,
) -> (bool, Reason, String) {
    let Findings { progress, error, interval, .. } = findings;
    let Some(error) = error else {
        return (true, Reason::Published, published_message(progress));
    };
    let was_ready = before.conditions.iter().any(|c| c.type_ == ConditionType::Ready.as_str() && c.status == "True");
    let was_stale = before
        .conditions
        .iter()
        .any(|c| c.type_ == ConditionType::Ready.as_str() && c.reason == Reason::Stale.as_str());
    if error.class() == Class::Passing && progress.target_intact && (was_ready || was_stale) {
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

/// How long a passing failure leaves `Ready` as it was.
#[must_use]
pub fn stale_after(interval: Duration) -> SignedDuration {
    SignedDuration::try_from(interval.saturating_mul(STALE_AFTER_INTERVALS)).unwrap_or(SignedDuration::MAX)
}

struct Conditions<'a> {
    before: &'a [Condition],
    after: Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl Conditions<'_> {
    fn get(&self, type_: ConditionType) -> Option<&Condition> {
        self.after.iter().find(|condition| condition.type_ == type_.as_str())
    }

    /// Takes a condition over as it was.
    fn keep(&mut self, type_: ConditionType) {
        let before = self.before.iter().find(|condition| condition.type_ == type_.as_str());
        self.after
            .extend(before.map(|before| Condition { observed_generation: Some(self.generation), ..before.clone() }));
    }

    /// The time of transition moves only with the status, and a message that differs only in AWS's request id stays
    /// as it was, so that a failure that repeats causes no write.
    fn set(&mut self, type_: ConditionType, status: &str, reason: Reason, message: String) {
        let before = self.before.iter().find(|condition| condition.type_ == type_.as_str());
        let same = before.filter(|before| before.status == status);
        let time = same.map_or_else(|| Time(to_second(self.now)), |before| before.last_transition_time.clone());
        let message = match same {
            Some(before)
                if before.reason == reason.as_str()
                    && without_request_id(&before.message) == without_request_id(&message) =>
            {
                before.message.clone()
            }
            _ => message,
        };
        self.after.push(Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: cut(message),
            last_transition_time: time,
            observed_generation: Some(self.generation),
        });
    }
}

/// The API server keeps conditions' messages to 32 KiB.
fn cut(mut message: String) -> String {
    if message.len() > 2048 {
        let mut end = 2048;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

/// Times in status have whole seconds, as they come back from the API server.
pub(crate) fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn without_request_id(message: &str) -> String {
    match message.split_once("(request ") {
        Some((start, rest)) => format!("{start}{}", rest.split_once(')').map_or("", |(_, end)| end)),
        None => message.to_owned(),
    }
}

/// The Events that a change of status calls for: one for each step that newly fails, and one for `Ready`.
#[must_use]
pub fn transitions(before: &SecretBindingStatus, after: &SecretBindingStatus) -> Vec<Note> {
    let find = |status: &'_ SecretBindingStatus, type_: ConditionType| -> Option<Condition> {
        status.conditions.iter().find(|condition| condition.type_ == type_.as_str()).cloned()
    };
    let changed = |type_: ConditionType| {
        let now = find(after, type_)?;
        let same = find(before, type_).is_some_and(|before| before.status == now.status && before.reason == now.reason);
        (!same).then_some(now)
    };
    let mut notes = Vec::new();
    for type_ in STEPS.into_iter().chain([ConditionType::Ready, ConditionType::Suspended]) {
        let Some(condition) = changed(type_) else { continue };
        let warning = condition.status == "False";
        let said = notes.iter().any(|note: &Note| note.reason.as_str() == condition.reason);
        let summary = matches!(type_, ConditionType::Ready | ConditionType::Suspended);
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == condition.reason);
        if let (true, false, Some(&reason)) = (warning || summary, said, reason) {
            notes.push(Note { warning, reason, text: condition.message });
        }
    }
    notes.extend(outcome::transition(before, after));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::grant::GrantError;
    use crate::domain::secret::error::{SourceError, SourceErrorKind};

    const INTERVAL: Duration = Duration::from_secs(300);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn published() -> Progress {
        Progress {
            grant: Some("g".to_owned()),
            sources: Some(Vec::new()),
            published: Some(Published {
                name: "worker".to_owned(),
                keys: 22,
                written: Some(Time(at(0))),
                leftovers: vec![],
            }),
            target_intact: true,
            done: STEPS.to_vec(),
            ..Progress::default()
        }
    }

    fn failed(kind: SourceErrorKind, request: &str) -> Error {
        Error::Source(SourceError { request_id: Some(request.to_owned()), ..SourceError::new(kind, "app") })
    }

    fn stopped(target_intact: bool) -> Progress {
        Progress {
            grant: Some("g".to_owned()),
            target_intact,
            done: vec![ConditionType::Granted],
            ..Progress::default()
        }
    }

    fn after(
        before: &SecretBindingStatus,
        progress: &Progress,
        error: Option<&Error>,
        now: Timestamp,
    ) -> SecretBindingStatus {
        after_pass(before, Findings { generation: 3, progress, error, interval: INTERVAL, looks_again: true }, now)
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
        let status = after(&ready, &Progress::default(), Some(&error), at(1));
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
        let suspended = suspended(&ready, 4, at(10));
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
