//! Whole steps: a plan, and the result with the outcomes of its restarts.

use super::*;
use crate::domain::rollout::consumers::Uses;
use crate::domain::rollout::mark::{Digests, SecretDigests};
use crate::domain::rollout::outcome::RolloutOutcome;
use crate::domain::rollout::result::{RestartOutcome, RolloutProgress, RolloutStep, UnknownWorkloads};
use crate::domain::rollout::unhandled::{UnhandledChanges, unhandled};
use crate::domain::target::ObservedSecret;
use crate::domain::value::Value as SecretValue;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const SECOND: Duration = Duration::from_secs(1);

fn key() -> FingerprintKey {
    FingerprintKey::new(Zeroizing::new([7; 32]))
}

fn digests() -> Digests {
    Digests::of("n", "s", &BTreeMap::from([("A".to_owned(), SecretValue::from("1"))]), &key())
}

fn current_mark() -> RestartMark {
    digests().mark(&Uses::Whole, &changed("A", 10), &key())
}

fn current() -> String {
    current_mark().text()
}

fn named(name: &str, mut workload: Workload) -> Workload {
    workload.reference.name = name.to_owned();
    workload
}

/// A StatefulSet that uses the whole Secret, with all pods of its template.
fn steady(name: &str) -> Workload {
    named(name, simple(&whole()))
}

/// The same while its pods are replaced.
fn rolling(name: &str, mark: Option<&str>) -> Workload {
    let status = json!({"replicas": 2, "updatedReplicas": 1, "availableReplicas": 2, "currentRevision": "a", "updateRevision": "b"});
    named(name, workload(WorkloadKind::StatefulSet, &whole(), json!({}), status, mark))
}

fn opted_out(name: &str) -> Workload {
    let mut workload = steady(name);
    workload.opts_out = true;
    workload
}

/// Workloads with one pod, created at this second.
fn observed(workloads: Vec<Workload>, created: i64) -> ObservedWorkloads {
    let digests = SecretDigests { resource_version: "1".to_owned(), digests: digests() };
    let pods = pod_of(&workloads, &whole(), created).into_iter().collect();
    ObservedWorkloads { workloads, pods, unreadable: Vec::new(), digests: Some(digests) }
}

fn stale(workloads: Vec<Workload>) -> ObservedWorkloads {
    observed(workloads, 9)
}

#[allow(clippy::needless_pass_by_value, reason = "it is given json! literals")]
fn restart(more: Value) -> Restart {
    let mut spec = json!({"policy": "Consumers"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Restart::parse(Some(&serde_json::from_value(spec).unwrap())).ok().unwrap()
}

/// A window that opens at 03:00.
fn at_three() -> Restart {
    restart(json!({"window": {"schedule": "0 3 * * *", "duration": "1h"}}))
}

fn time(text: &str) -> Timestamp {
    format!("2027-01-01T{text}Z").parse().unwrap()
}

/// The start of a step at noon: by default without a window, with settled changes.
#[derive(Clone)]
struct Start {
    restart: Restart,
    settles: Option<Duration>,
    history: RolloutHistory,
    time: Timestamp,
}

fn start() -> Start {
    Start { restart: restart(json!({})), settles: None, history: RolloutHistory::default(), time: time("12:00:00") }
}

fn plan_of<'a>(start: &Start, observed: &'a ObservedWorkloads, now: Instant) -> RolloutPlan<'a> {
    let (changes, key) = (changed("A", 10), key());
    let terms = RolloutTerms { restart: &start.restart, changes: &changes, settles: start.settles, key: &key };
    plan(terms, observed, start.history.clone(), now, start.time)
}

struct Case {
    name: &'static str,
    start: Start,
    observed: ObservedWorkloads,
    /// The outcomes of the planned restarts.
    outcomes: Vec<RestartOutcome>,
    pending: &'static [&'static str],
    failed: &'static [&'static str],
    pause: Duration,
}

const OPENS: &str = "StatefulSet a: waits for spec.restart.window, which opens at 2027-01-01T03:00:00Z";

const TWO: Duration = Duration::from_secs(2);

fn case(name: &'static str, start: Start, observed: ObservedWorkloads) -> Case {
    Case { name, start, observed, outcomes: Vec::new(), pending: &[], failed: &[], pause: TWO }
}

/// Steps whose plan restarts nothing.
fn waiting() -> Vec<Case> {
    let night = Start { restart: at_three(), time: time("02:59:00"), ..start() };
    let listed = json!({"policy": "Listed", "workloads": [{"kind": "StatefulSet", "name": "gone"}]});
    let settling: &[&str] = &["StatefulSet a: the values changed a moment ago"];
    vec![
        Case {
            pending: &[OPENS],
            pause: Duration::from_secs(60),
            ..case("waits for its window", night.clone(), stale(vec![steady("a")]))
        },
        Case {
            pending: &["StatefulSet b: its pods are being replaced", OPENS],
            ..case(
                "waits for its window while another is replaced",
                night.clone(),
                stale(vec![steady("a"), rolling("b", Some(&current()))]),
            )
        },
        Case {
            pending: &["StatefulSet a: waits for spec.restart.window, which opens at 2027-01-02T03:00:00Z"],
            pause: Duration::from_secs(300),
            ..case("waits long", Start { restart: at_three(), ..start() }, stale(vec![steady("a")]))
        },
        Case {
            pending: settling,
            pause: SECOND,
            ..case("settles", Start { settles: Some(SECOND), ..start() }, stale(vec![steady("a")]))
        },
        Case {
            pending: settling,
            pause: SECOND,
            ..case("settles before its window", Start { settles: Some(SECOND), ..night }, stale(vec![steady("a")]))
        },
        Case {
            pending: &["StatefulSet gone: does not exist; create it or take it from spec.restart.workloads"],
            ..case("lists a workload that is missing", Start { restart: restart(listed), ..start() }, stale(vec![]))
        },
        Case {
            pending: &["StatefulSet a: its pods are being replaced"],
            ..case("is under way", start(), stale(vec![rolling("a", Some(&current()))]))
        },
        case("opts out", start(), stale(vec![opted_out("a")])),
        case("has the current values", start(), observed(vec![steady("a"), rolling("b", None)], 11)),
    ]
}

/// Steps whose plan restarts one workload or two.
fn restarting() -> Vec<Case> {
    use RestartOutcome::{NoSlot, Raced, Refused, Started, Unanswered, Uncounted};
    let no_slot: &[&str] = &["StatefulSet a: waits for other restarts to end (--max-rollouts)"];
    let one = || stale(vec![steady("a")]);
    let two = || stale(vec![steady("a"), steady("b")]);
    let open = Start { restart: at_three(), time: time("03:30:00"), ..start() };
    let started = || Started(Instant::now());
    vec![
        Case {
            outcomes: vec![started()],
            pending: &["StatefulSet a: its pods are being replaced"],
            ..case("is restarted within its window", open, one())
        },
        Case { outcomes: vec![NoSlot], pending: no_slot, ..case("has no slot", start(), one()) },
        Case { outcomes: vec![Uncounted], pending: no_slot, pause: SECOND, ..case("is not counted", start(), one()) },
        Case {
            outcomes: vec![Raced],
            pending: &["StatefulSet a: is about to be restarted"],
            pause: SECOND,
            ..case("loses a race", start(), one())
        },
        Case {
            outcomes: vec![Refused("no".to_owned())],
            failed: &["StatefulSet a: no"],
            ..case("is refused", start(), one())
        },
        Case {
            outcomes: vec![started(), NoSlot],
            pending: &[
                "StatefulSet a: its pods are being replaced",
                "StatefulSet b: waits for other restarts to end (--max-rollouts)",
            ],
            ..case("has a slot for one of two", start(), two())
        },
        Case {
            outcomes: vec![Unanswered],
            pending: &["the workloads of the namespace could not be looked at: the API server did not answer in time"],
            pause: Duration::from_secs(10),
            ..case("has no answer", start(), two())
        },
    ]
}

#[test]
fn each_step_has_its_report_and_its_pause() {
    for case in waiting() {
        let plan = plan_of(&case.start, &case.observed, Instant::now());
        assert!(plan.restarts.is_empty(), "{}", case.name);
        check(case);
    }
    for case in restarting() {
        let plan = plan_of(&case.start, &case.observed, Instant::now());
        assert_eq!(plan.restarts.len(), case.observed.workloads.len(), "{}", case.name);
        assert!(plan.restarts.iter().all(|restart| restart.mark == current_mark()), "{}", case.name);
        check(case);
    }
}

fn check(case: Case) {
    let plan = plan_of(&case.start, &case.observed, Instant::now());
    let progress = RolloutProgress::of(plan, case.outcomes);
    assert_eq!(progress.report.pending, case.pending, "{}", case.name);
    assert_eq!(progress.report.failed, case.failed, "{}", case.name);
    assert_eq!(progress.pause, case.pause, "{}", case.name);
}

#[test]
fn what_cannot_be_read_is_named_and_stops_no_other() {
    let observed = ObservedWorkloads { unreadable: vec!["Deployment odd".to_owned()], ..stale(vec![steady("a")]) };
    let plan = plan_of(&start(), &observed, Instant::now());
    assert_eq!(plan.restarts.len(), 1);
    assert!(plan.report.pending[0].starts_with("Deployment odd: cannot be read"), "{:?}", plan.report.pending);
}

#[test]
fn a_plan_names_what_is_under_way_and_what_opts_out() {
    let observed = stale(vec![opted_out("a"), rolling("b", Some(&current())), steady("c")]);
    let plan = plan_of(&start(), &observed, Instant::now());
    let [out, under_way, due] = [0, 1, 2].map(|at: usize| observed.workloads[at].reference.clone());
    assert_eq!(plan.report.opted_out, [out]);
    assert_eq!(plan.in_flight, BTreeSet::from([under_way]));
    let restarts: Vec<_> = plan.restarts.iter().map(|restart| restart.workload.reference.clone()).collect();
    assert_eq!(restarts, [due]);
}

#[test]
fn a_started_restart_is_remembered_and_its_end_is_counted_once() {
    let (now, due) = (Instant::now(), stale(vec![steady("a")]));
    let progress = RolloutProgress::of(plan_of(&start(), &due, now), vec![RestartOutcome::Started(now)]);
    let next = Start { history: progress.history, ..start() };
    let under_way = stale(vec![rolling("a", Some(&current()))]);
    assert_eq!(plan_of(&next, &under_way, now).ended, []);
    let status = json!({"replicas": 2, "availableReplicas": 2, "currentRevision": "b", "updateRevision": "b"});
    let done = named("a", workload(WorkloadKind::StatefulSet, &whole(), json!({}), status, Some(&current())));
    let done = observed(vec![done], 11);
    let plan = plan_of(&next, &done, now);
    assert_eq!(plan.ended, [EndedRestart { workload: &done.workloads[0].reference, result: "done" }]);
    let after = Start { history: plan.history, ..start() };
    assert_eq!(plan_of(&after, &done, now).ended, []);
}

#[test]
fn a_step_without_an_answer_remembers_the_restarts_before() {
    let (now, due) = (Instant::now(), stale(vec![steady("a"), steady("b")]));
    let outcomes = vec![RestartOutcome::Started(now), RestartOutcome::Unanswered];
    let history = RolloutProgress::of(plan_of(&start(), &due, now), outcomes).history;
    let known = |at: usize| history.attempt(&due.workloads[at].reference, &current_mark()).is_some();
    assert_eq!((known(0), known(1)), (true, false));
}

#[test]
fn digests_are_kept_for_their_version_of_the_secret() {
    let plan = plan_of(&start(), &stale(vec![steady("a")]), Instant::now()).history;
    assert!(plan.digests_at("1").is_some() && plan.digests_at("2").is_none());
    let unread = ObservedWorkloads { digests: None, ..stale(vec![]) };
    let kept = plan_of(&Start { history: plan, ..start() }, &unread, Instant::now()).history;
    assert_eq!(kept.last_digests(), digests());
}

/// A target with this annotation `bindery.dev/changed`.
fn target(changed: Option<&str>) -> crate::domain::target::ObservedTarget {
    let annotations = changed.map_or(json!({}), |changed| json!({"bindery.dev/changed": changed}));
    let metadata =
        json!({"name": "s", "namespace": "n", "uid": "u", "resourceVersion": "1", "annotations": annotations});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
    ObservedSecret::new(&serde_json::from_value(secret).unwrap(), &key()).observed
}

fn status(handled: Option<&str>, rolled_out: &str) -> crate::api::SecretBindingStatus {
    let condition = json!({"type": "RolledOut", "status": rolled_out, "reason": "RolledOut", "message": "", "lastTransitionTime": at(0)});
    serde_json::from_value(json!({"conditions": [condition], "rollout": {"handled": handled}})).unwrap()
}

fn left() -> UnhandledChanges {
    unhandled(&status(Some("earlier"), "True"), Some(target(Some(r#"{"A":null}"#)))).ok().unwrap()
}

#[test]
fn changes_are_left_until_they_are_handled() {
    let left = left();
    assert_eq!(left.handled.as_deref(), Some("earlier"));
    let handled = Some(left.digest.as_str());
    let known = |handled: Option<&str>| {
        let handled = handled.map(str::to_owned);
        RolloutOutcome::Known(RolloutReport { handled, ..RolloutReport::default() })
    };
    for (changed, before, outcome) in [
        (None, status(None, "True"), known(None)),
        (None, status(handled, "True"), known(None)),
        (Some(r#"{"A":null}"#), status(handled, "True"), RolloutOutcome::AsBefore),
        (Some(r#"{"A":null}"#), status(handled, "False"), known(handled)),
    ] {
        assert_eq!(unhandled(&before, Some(target(changed))).err(), Some(outcome), "{changed:?}");
    }
    assert_eq!(unhandled(&status(None, "True"), None).err(), Some(RolloutOutcome::AsBefore));
}

#[test]
fn a_finished_rollout_forgets_its_history_and_handles_the_changes() {
    let left = left();
    let now = Instant::now();
    let progress = |observed: &ObservedWorkloads| {
        let history = RolloutHistory::default().restarted(&steady("a"), &current_mark(), now);
        RolloutProgress::of(plan_of(&Start { history, ..start() }, observed, now), Vec::new())
    };
    for (observed, finished) in [
        (observed(vec![steady("a")], 11), true),
        (stale(vec![opted_out("a")]), true),
        (stale(vec![rolling("a", Some(&current()))]), false),
    ] {
        let step = RolloutStep::new(&left, progress(&observed));
        assert_eq!((step.is_finished(), step.next.is_none()), (finished, finished));
        let RolloutOutcome::Known(report) = step.outcome else { panic!("the workloads were observed") };
        let handled = if finished { left.digest.as_str() } else { "earlier" };
        assert_eq!(report.handled.as_deref(), Some(handled));
        assert_eq!(step.history.digests_at("1").is_none(), finished, "what is finished is forgotten");
    }
}

#[test]
fn workloads_that_are_unknown_are_observed_again() {
    for (why, message, pause) in [
        (UnknownWorkloads::SecretChanged, "the Secret has just changed", SECOND),
        (
            UnknownWorkloads::Failed("the API server answered 500".to_owned()),
            "the workloads of the namespace could not be looked at: the API server answered 500",
            Duration::from_secs(10),
        ),
    ] {
        let progress = RolloutProgress::unknown(why, RolloutHistory::default());
        assert_eq!((progress.report.pending, progress.pause), (vec![message.to_owned()], pause));
    }
}
