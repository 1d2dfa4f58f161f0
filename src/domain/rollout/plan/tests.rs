use super::*;
use crate::api::WorkloadKind;
use crate::domain::rollout::changed::Changes;
use crate::domain::rollout::history::SETTLE;
use crate::domain::rollout::judge::concerns;
use crate::domain::rollout::manifest::WorkloadManifest;
use crate::domain::rollout::mark::annotation;
use crate::domain::rollout::pod::PodManifest;
use crate::domain::rollout::workload::ObservedPod;
use serde_json::{Value, json};

mod step_tests;

const MARK: &str = "wanted";

/// The mark of values of which nobody knows when they changed.
fn mark(values: &str) -> RestartMark {
    RestartMark { values: values.to_owned(), changed: None }
}

fn at(second: i64) -> String {
    Timestamp::from_second(1_800_000_000 + second).unwrap().to_string()
}

fn uses_key(key: &str) -> Value {
    json!({"containers": [{"name": "c", "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "s", "key": key}}}]}]})
}

fn whole() -> Value {
    json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]})
}

fn nothing() -> Value {
    json!({"containers": [{"name": "c"}]})
}

#[allow(clippy::needless_pass_by_value, reason = "it is given json! literals")]
fn workload(kind: WorkloadKind, pod: &Value, spec: Value, status: Value, mark: Option<&str>) -> Workload {
    let mut annotations = json!({});
    if let Some(mark) = mark {
        annotations[annotation("s")] = json!(mark);
    }
    let mut whole = json!({
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}, "annotations": annotations}, "spec": pod},
    });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut status = status;
    status["observedGeneration"] = json!(1);
    let manifest = json!({"metadata": {"name": "w", "uid": "u", "generation": 1, "resourceVersion": "1"}, "spec": whole, "status": status});
    let manifest: WorkloadManifest = serde_json::from_value(manifest).unwrap();
    Workload::new(kind, &manifest, "s", &annotation("s")).unwrap()
}

fn simple(pod: &Value) -> Workload {
    workload(WorkloadKind::StatefulSet, pod, json!({}), json!({}), None)
}

/// A pod of these workloads.
fn pod_of(workloads: &[Workload], spec: &Value, created: i64) -> Option<ObservedPod> {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "w", "uid": "u", "controller": true}]);
    let metadata =
        json!({"name": "p", "labels": {"app": "a"}, "ownerReferences": owner, "creationTimestamp": at(created)});
    let pod: PodManifest = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
    ObservedPod::new(&pod, "s", workloads)
}

fn pod(spec: &Value, created: i64) -> ObservedPod {
    pod_of(&[simple(&whole())], spec, created).unwrap()
}

fn changed(key: &str, second: i64) -> Times {
    Changes::parse(&json!({key: at(second)}).to_string()).unwrap().resolved(None)
}

#[test]
fn a_workload_is_stale_by_a_pod_that_is_not_younger_than_a_change_of_a_key_it_uses() {
    let (a, b) = (uses_key("A"), uses_key("B"));
    for (template, of_pod, created, stale) in [
        (&a, &a, 9, true),
        (&a, &a, 10, true),
        (&a, &a, 11, false),
        (&b, &b, 9, false),
        (&whole(), &whole(), 9, true),
        (&whole(), &whole(), 11, false),
        // Its template came to use the key after this pod was made.
        (&a, &b, 9, false),
        // Listed, without a reference.
        (&nothing(), &nothing(), 9, true),
        (&nothing(), &nothing(), 11, false),
    ] {
        let found = is_stale(&simple(template), &[pod(of_pod, created)], &changed("A", 10));
        assert_eq!(found, stale, "{template} {of_pod} {created}");
    }
    assert!(!is_stale(&simple(&a), &[], &changed("A", 10)), "without pods there is nothing to restart");
    assert!(is_stale(&simple(&a), &[pod(&a, 11), pod(&a, 9)], &changed("A", 10)), "one is enough");
    assert!(!is_stale(&simple(&a), &[pod(&a, 9)], &Times::default()), "nothing was changed");
}

#[test]
fn a_policy_is_about_consumers_or_those_it_lists() {
    let listed = |name: &str| {
        let reference = WorkloadReference { kind: WorkloadKind::StatefulSet, name: name.to_owned() };
        RestartScope::Listed(std::collections::BTreeSet::from([reference]))
    };
    for (scope, pod, concerned) in [
        (RestartScope::Nobody, whole(), false),
        (RestartScope::Consumers, whole(), true),
        (RestartScope::Consumers, uses_key("A"), true),
        (RestartScope::Consumers, nothing(), false),
        (listed("w"), nothing(), true),
        (listed("other"), whole(), false),
    ] {
        assert_eq!(concerns(&scope, &simple(&pod)), concerned, "{scope:?} {pod}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Done,
    Rolling,
    Paused,
    OnDelete,
    Partitioned,
    Failed,
}

fn workload_in(is: Is, mark: Option<&str>, opts_out: bool) -> Workload {
    let deployment = |spec: Value, updated: i64, conditions: Value| {
        let status =
            json!({"replicas": 2, "updatedReplicas": updated, "availableReplicas": 2, "conditions": conditions});
        workload(WorkloadKind::Deployment, &whole(), spec, status, mark)
    };
    let gave_up = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    let set = |strategy: Value| {
        let status = json!({"replicas": 2, "updatedReplicas": 1, "availableReplicas": 2, "currentRevision": "a", "updateRevision": "b"});
        workload(WorkloadKind::StatefulSet, &whole(), json!({"updateStrategy": strategy}), status, mark)
    };
    let mut workload = match is {
        Is::Done => deployment(json!({}), 2, json!([])),
        Is::Rolling => deployment(json!({}), 1, json!([])),
        Is::Paused => deployment(json!({"paused": true}), 1, json!([])),
        Is::OnDelete => set(json!({"type": "OnDelete"})),
        Is::Partitioned => set(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}})),
        Is::Failed => deployment(json!({}), 1, gave_up),
    };
    workload.opts_out = opts_out;
    workload
}

fn word(verdict: &RestartVerdict) -> &'static str {
    match verdict {
        RestartVerdict::Current => "current",
        RestartVerdict::OptsOut => "out",
        RestartVerdict::Due => "due",
        RestartVerdict::UnderWay => "under way",
        RestartVerdict::Pending(_) => "pending",
        RestartVerdict::Failed(_) => "failed",
    }
}

#[test]
fn every_standing_of_a_workload_has_its_verdict() {
    let now = Instant::now();
    for is in [Is::Done, Is::Rolling, Is::Paused, Is::OnDelete, Is::Partitioned, Is::Failed] {
        for annotated in [None, Some("another"), Some(MARK)] {
            for stale in [false, true] {
                for opts_out in [false, true] {
                    let verdict = judge(
                        &workload_in(is, annotated, opts_out),
                        stale,
                        &mark(MARK),
                        &RolloutHistory::default(),
                        now,
                    );
                    let marked = annotated == Some(MARK);
                    let expected = match (stale, marked, is) {
                        (true, _, _) if opts_out => "out",
                        (_, true, Is::Rolling) => "under way",
                        (_, true, Is::Failed) => "failed",
                        (true, _, Is::Paused | Is::OnDelete) | (true, true, Is::Partitioned) => "pending",
                        (true, false, _) => "due",
                        // Whatever its own rollouts do, its pods have the current values.
                        (false, _, _) | (_, true, Is::Done) => "current",
                    };
                    assert_eq!(word(&verdict), expected, "{is:?} {annotated:?} stale={stale} out={opts_out}");
                    assert!(stale || verdict != RestartVerdict::Due, "what is current is never restarted");
                    assert!(!marked || verdict != RestartVerdict::Due, "what carries the mark is never restarted");
                }
            }
        }
    }
}

#[test]
fn a_restart_undone_three_times_is_not_made_again_until_the_values_change() {
    let (mut history, now) = (RolloutHistory::default(), Instant::now());
    let undone = workload_in(Is::Rolling, Some("another"), false);
    for _ in 0..3 {
        history = history.observe(&undone, &mark(MARK), now);
        assert_eq!(judge(&undone, true, &mark(MARK), &history, now), RestartVerdict::Due);
        history = history.restarted(&undone, &mark(MARK), now);
        let marked_again = workload_in(Is::Rolling, Some(MARK), false);
        history = history.observe(&marked_again, &mark(MARK), now);
        assert_eq!(judge(&marked_again, true, &mark(MARK), &history, now), RestartVerdict::UnderWay);
    }
    history = history.observe(&undone, &mark(MARK), now);
    // Observing again counts nothing.
    history = history.observe(&undone, &mark(MARK), now);
    let verdict = judge(&undone, true, &mark(MARK), &history, now);
    assert_eq!(word(&verdict), "failed");
    let (history, first) = history.judged(&undone, &verdict);
    assert_eq!(first, Some("failed"));
    let (history, second) = history.judged(&undone, &verdict);
    assert_eq!(second, None, "it is counted once");
    assert_eq!(judge(&undone, true, &mark("next"), &history, now), RestartVerdict::Due);
}

#[test]
fn a_restart_of_any_kind_has_failed_when_nothing_moves_for_ten_minutes() {
    for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet, WorkloadKind::Rollout] {
        let rolling = |updated: i64, available: i64| {
            let status = json!({
                "replicas": 3, "updatedReplicas": updated, "availableReplicas": available, "currentRevision": "a", "updateRevision": "b",
                "desiredNumberScheduled": 3, "updatedNumberScheduled": updated, "numberAvailable": available,
            });
            workload(kind, &whole(), json!({"progressDeadlineSeconds": 2_000_000_000}), status, Some(MARK))
        };
        let (mut history, mut now) = (RolloutHistory::default(), Instant::now());
        let mut look = |updated: i64, available: i64, pause: u64| {
            history = history.clone().observe(&rolling(updated, available), &mark(MARK), now);
            now += Duration::from_secs(pause);
            judge(&rolling(updated, available), true, &mark(MARK), &history, now)
        };
        for updated in [0, 1, 2] {
            assert_eq!(look(updated, 2, 590), RestartVerdict::UnderWay, "{kind:?}");
        }
        // A pod that comes up and crashes is no progress.
        assert_eq!(look(2, 1, 5), RestartVerdict::UnderWay);
        let verdict = look(2, 2, 6);
        assert_eq!(word(&verdict), "failed", "{kind:?}");
        let RestartVerdict::Failed(why) = verdict else { panic!("it has failed") };
        assert_eq!(why, "no more of its pods came up for 10 minutes, so others go on; see why they do not start");
        assert_eq!(look(3, 1, 0), RestartVerdict::UnderWay, "{kind:?} moved after all");
    }
}

#[test]
fn a_failure_says_since_when() {
    let mut failed = workload_in(Is::Failed, Some(MARK), false);
    failed.restarted = Some(at(0).parse().unwrap());
    let verdict = judge(&failed, true, &mark(MARK), &RolloutHistory::default(), Instant::now());
    let RestartVerdict::Failed(why) = verdict else { panic!("it has failed") };
    assert!(why.starts_with("restarted at 2027-01-15T08:00:00Z, its new pods did not become available"), "{why}");
}

#[test]
fn pods_that_began_before_the_values_came_back_are_restarted() {
    let of = |changed: i64| RestartMark { values: MARK.to_owned(), changed: Some(changed) };
    let now = Instant::now();
    let done = workload_in(Is::Done, Some(&of(1).text()), false);
    assert_eq!(judge(&done, true, &of(1), &RolloutHistory::default(), now), RestartVerdict::Current);
    assert_eq!(judge(&done, true, &of(2), &RolloutHistory::default(), now), RestartVerdict::Due);
    assert_eq!(judge(&done, false, &of(2), &RolloutHistory::default(), now), RestartVerdict::Current);
    let rolling = workload_in(Is::Rolling, Some(&of(1).text()), false);
    assert_eq!(judge(&rolling, true, &of(2), &RolloutHistory::default(), now), RestartVerdict::Due);
}

#[test]
fn a_restart_is_counted_as_done_once_also_by_an_operator_that_found_it_under_way() {
    let (mut history, now) = (RolloutHistory::default(), Instant::now());
    history = history.observe(&workload_in(Is::Rolling, Some(MARK), false), &mark(MARK), now);
    let done = workload_in(Is::Done, Some(MARK), false);
    history = history.observe(&done, &mark(MARK), now);
    let verdict = judge(&done, false, &mark(MARK), &history, now);
    let (history, first) = history.judged(&done, &verdict);
    assert_eq!((first, history.judged(&done, &verdict).1), (Some("done"), None));
}

#[test]
fn changes_settle_for_two_seconds_from_when_they_were_first_seen() {
    let (mut history, now) = (RolloutHistory::default(), Instant::now());
    let mut settling = |changes: &str, now: Instant| {
        let (next, left) = history.clone().settling(changes, now);
        history = next;
        left
    };
    let later = now + Duration::from_secs(1);
    assert_eq!(settling("a", now), Some(SETTLE));
    assert_eq!(settling("a", later), Some(Duration::from_secs(1)));
    assert_eq!(settling("b", later), Some(SETTLE), "another change begins anew");
    assert_eq!(settling("b", later + SETTLE), None);
}

#[test]
fn looks_become_rarer_while_nothing_moves() {
    let mut history = RolloutHistory::default();
    let mut next_pause = |moved: bool| {
        let (next, pause) = history.clone().next_pause(moved);
        history = next;
        pause
    };
    let pauses: Vec<u64> = (0..10).map(|_| next_pause(false).as_secs()).collect();
    assert_eq!(pauses, [2, 3, 4, 6, 10, 15, 22, 30, 30, 30]);
    assert_eq!(next_pause(true), Duration::from_secs(2));
}

#[test]
fn the_window_is_named_by_when_it_opens() {
    let now: Timestamp = "2027-01-01T00:00:00.9Z".parse().unwrap();
    assert!(until_window(Duration::from_secs(60), now).ends_with("opens at 2027-01-01T00:01:00Z"));
    assert!(until_window(Duration::MAX, now).contains("never opens"));
}
