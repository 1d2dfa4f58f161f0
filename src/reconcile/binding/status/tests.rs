use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::domain::grant::GrantError;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::target::ObservedTarget;
use crate::reconcile::binding::attempt::{GrantInUse, Integrity, Published};

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
        risky: Box::default(),
        held_by: Box::default(),
    }
}

fn published() -> Attempt {
    Attempt {
        grant: Some(GrantInUse { name: "g".to_owned(), expires: None, place: "in eu-west-1".to_owned() }),
        sources: Some(Vec::new()),
        published: Some(Box::new(Published {
            name: "worker".to_owned(),
            observed: observed(),
            cleaned: None,
            binary: None,
        })),
        integrity: Integrity::Intact(Box::new(observed())),
        reached: Reached::Applied,
        ..Attempt::default()
    }
}

fn failed(kind: SourceErrorKind, request: &str) -> Error {
    Error::Source(SourceError { request_id: Some(request.to_owned()), ..SourceError::new(kind, "app") })
}

fn stopped(intact: bool) -> Attempt {
    let grant = Some(GrantInUse { name: "g".to_owned(), expires: None, place: "in eu-west-1".to_owned() });
    let integrity = if intact { Integrity::Intact(Box::new(observed())) } else { Integrity::Broken };
    Attempt { grant, integrity, reached: Reached::Granted, ..Attempt::default() }
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

#[test]
fn a_pass_that_takes_too_long_keeps_ready_until_three_intervals_have_passed_whatever_it_waited_for() {
    let ready = after(&SecretBindingStatus::default(), &published(), None, at(0));
    for (fetched, condition) in [(false, "Fetched=False/AwsUnavailable"), (true, "Applied=False/ApplyFailed")] {
        let error = Error::Deadline { seconds: 600, fetched };
        let mut unseen = stopped(true);
        unseen.integrity = Integrity::Unobserved;
        if fetched {
            unseen.reached = Reached::Rendered;
        }
        let first = after(&ready, &unseen, Some(&error), at(600));
        assert!(show(&first).contains(&condition.to_owned()), "{:?}", show(&first));
        assert!(show(&first).contains(&"Ready=True/Published".to_owned()), "{:?}", show(&first));
        let late = after(&first, &unseen, Some(&error), at(600 + 899));
        assert!(show(&late).contains(&"Ready=True/Published".to_owned()), "{:?}", show(&late));
        let stale = after(&late, &unseen, Some(&error), at(600 + 900));
        assert!(show(&stale).contains(&"Ready=False/Stale".to_owned()), "{:?}", show(&stale));
        let broken = after(&ready, &stopped(false), Some(&error), at(600));
        assert!(!show(&broken).contains(&"Ready=True/Published".to_owned()), "{:?}", show(&broken));
    }
}

#[test]
fn an_outage_before_the_target_was_observed_keeps_ready_as_it_was() {
    let ready = after(&SecretBindingStatus::default(), &published(), None, at(0));
    let error = failed(SourceErrorKind::Unavailable, "r");
    let status = after(&ready, &Attempt::default(), Some(&error), at(1));
    assert!(show(&status).contains(&"Ready=True/Published".to_owned()), "{:?}", show(&status));
    let never = after(&SecretBindingStatus::default(), &Attempt::default(), Some(&error), at(1));
    assert!(show(&never).contains(&"Ready=False/AwsUnavailable".to_owned()), "{:?}", show(&never));
}
