//! The decision which workloads to restart, as a pure function of the observed state.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use crate::api::{WorkloadKind, WorkloadReference};
use crate::domain::rollout::changed::Times;
use crate::domain::rollout::consumers::Uses;
use crate::domain::rollout::manifest::WorkloadStatus;
use crate::domain::rollout::mark::Digests;
use crate::domain::rollout::policy::RestartScope;
use crate::domain::rollout::progress::PodProgress;
use crate::domain::rollout::workload::{ObservedPod, Workload};

/// Changes within this time make one restart. It also keeps the pods of a restart out of the second of the write.
pub const SETTLE: Duration = Duration::from_secs(2);

/// A restart that is undone this often is not made again.
const MAX_REVERTS: u32 = 3;

/// StatefulSets and DaemonSets have no deadline of their own. If the counts of one do not move for this long, its restart
/// has failed, and the next workload may begin. The default of a Deployment's `progressDeadlineSeconds` is as long.
const STUCK_AFTER: Duration = Duration::from_secs(600);

/// The restarts of a binding as the operator remembers them. All of it may be lost.
#[derive(Clone, Debug, Default)]
pub struct RolloutHistory {
    /// The last observed changes, with the time of their first observation.
    observed_changes: Option<(String, Instant)>,
    /// The pause before the next observation.
    pause: Duration,
    /// Digests of the values, with the resource version of the Secret.
    pub digests: Option<(String, Digests)>,
    attempts: BTreeMap<WorkloadReference, Attempt>,
}

#[derive(Clone, Debug)]
struct Attempt {
    mark: String,
    /// Whether the mark was on the template at the last observation.
    is_marked: bool,
    reverts: u32,
    failed: bool,
    counts: WorkloadStatus,
    since: Instant,
}

impl RolloutHistory {
    /// How long these changes still have to settle, since others may follow at once. The time counts from the first
    /// observation, which is after the write.
    pub fn settling(&mut self, changes: &str, now: Instant) -> Option<Duration> {
        match &self.observed_changes {
            Some((observed, since)) if observed == changes => {
                SETTLE.checked_sub(now.duration_since(*since)).filter(|left| !left.is_zero())
            }
            _ => {
                self.observed_changes = Some((changes.to_owned(), now));
                self.pause = Duration::ZERO;
                Some(SETTLE)
            }
        }
    }

    /// The pause before the next observation: 2 s, growing to 30 s while nothing moves.
    pub fn next_pause(&mut self, moved: bool) -> Duration {
        let grown = if moved { Duration::ZERO } else { self.pause.mul_f64(1.5) };
        self.pause = grown.clamp(Duration::from_secs(2), Duration::from_secs(30));
        self.pause
    }

    /// Records a restart.
    pub fn restarted(&mut self, workload: &Workload, mark: &str, now: Instant) {
        let reverts = self.attempts.get(&workload.reference).filter(|a| a.mark == mark).map_or(0, |a| a.reverts);
        let attempt = Attempt {
            mark: mark.to_owned(),
            is_marked: true,
            reverts,
            failed: false,
            counts: workload.counts.clone(),
            since: now,
        };
        self.attempts.insert(workload.reference.clone(), attempt);
    }

    /// Records an observed workload. After a start of the operator this finds a restart that is under way.
    pub fn observe(&mut self, workload: &Workload, mark: &str, now: Instant) {
        let marked = workload.mark.as_deref() == Some(mark);
        match self.attempts.get_mut(&workload.reference) {
            Some(attempt) if attempt.mark == mark => {
                if attempt.is_marked && !marked {
                    (attempt.is_marked, attempt.reverts) = (false, attempt.reverts.saturating_add(1));
                }
                if attempt.counts != workload.counts {
                    (attempt.counts, attempt.since) = (workload.counts.clone(), now);
                }
            }
            _ if marked && workload.progress != PodProgress::Done => self.restarted(workload, mark, now),
            _ => {}
        }
    }

    /// Records a verdict. Returns the result to count, `done` or `failed`, once for each restart.
    pub fn judged(&mut self, workload: &Workload, verdict: &RestartVerdict) -> Option<&'static str> {
        match verdict {
            RestartVerdict::Current => self.attempts.remove(&workload.reference).map(|_| "done"),
            RestartVerdict::Failed(_) => {
                let attempt = self.attempts.get_mut(&workload.reference)?;
                let first = !attempt.failed;
                attempt.failed = true;
                first.then_some("failed")
            }
            _ => None,
        }
    }
}

/// The verdict on a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartVerdict {
    /// Its pods have the current values.
    Current,
    /// It opts out of restarts, and some of its pods have earlier values.
    OptsOut,
    /// It needs a restart.
    Due,
    /// Its pods are being replaced.
    UnderWay,
    /// It waits for a person; the text names the step.
    Pending(String),
    /// It failed; the text names the cause.
    Failed(String),
}

/// Whether the scope covers this workload.
#[must_use]
pub fn concerns(scope: &RestartScope, workload: &Workload) -> bool {
    match scope {
        RestartScope::Nobody => false,
        RestartScope::Consumers => workload.uses != Uses::Nothing,
        RestartScope::Listed(listed) => listed.contains(&workload.reference),
    }
}

/// Whether a pod of the workload is older than a change of a key that it uses. Every change concerns a listed workload
/// that does not refer to the Secret.
#[must_use]
pub fn is_stale(workload: &Workload, pods: &[ObservedPod], changes: &Times) -> bool {
    let all = workload.uses == Uses::Nothing;
    workload.pods(pods).any(|pod| {
        let changed = changes.latest(if all { &Uses::Whole } else { &pod.uses });
        // Pods have whole seconds, so one that was created in the second of the change counts as older.
        changed.is_some_and(|changed| pod.created.as_second() <= changed.as_second())
    })
}

/// The keys that the mark of a workload covers.
#[must_use]
pub fn marked_by(workload: &Workload) -> &Uses {
    if workload.uses == Uses::Nothing { &Uses::Whole } else { &workload.uses }
}

/// Judges a workload in scope. `mark` is the mark of the current values.
#[must_use]
pub fn judge(workload: &Workload, stale: bool, mark: &str, history: &RolloutHistory, now: Instant) -> RestartVerdict {
    let attempt = history.attempts.get(&workload.reference).filter(|attempt| attempt.mark == mark);
    let under_way = || {
        let own_deadline = matches!(workload.reference.kind, WorkloadKind::Deployment | WorkloadKind::Rollout);
        match attempt {
            Some(attempt) if !own_deadline && now.duration_since(attempt.since) > STUCK_AFTER => {
                let minutes = STUCK_AFTER.as_secs() / 60;
                RestartVerdict::Failed(format!(
                    "none of its pods was replaced for {minutes} minutes; see why they do not start"
                ))
            }
            _ => RestartVerdict::UnderWay,
        }
    };
    let marked = workload.mark.as_deref() == Some(mark);
    match (stale, marked, &workload.progress) {
        (false, false, _) | (false, true, PodProgress::Done | PodProgress::Waiting(_) | PodProgress::Partial(_)) => {
            RestartVerdict::Current
        }
        (true, _, _) if workload.opts_out => RestartVerdict::OptsOut,
        (_, true, PodProgress::Rolling) => under_way(),
        (_, true, PodProgress::Failed(why)) => RestartVerdict::Failed(why.clone()),
        // The values that it was restarted for are back, so its pods have them.
        (true, true, PodProgress::Done) => RestartVerdict::Current,
        (true, _, PodProgress::Waiting(what)) | (true, true, PodProgress::Partial(what)) => {
            RestartVerdict::Pending(what.clone())
        }
        (true, false, _) => match attempt {
            Some(attempt) if attempt.reverts >= MAX_REVERTS => {
                let manager = workload.other_manager.as_deref().unwrap_or("another writer");
                RestartVerdict::Failed(format!(
                    "the annotation of the restart was undone {MAX_REVERTS} times, and {manager:?} wrote last; let it leave the annotations of pod templates alone that it does not set"
                ))
            }
            _ => RestartVerdict::Due,
        },
    }
}

/// Why a due workload waits.
#[must_use]
pub fn until_window(wait: Duration, now: Timestamp) -> String {
    match now.checked_add(wait).ok().and_then(|opens| Timestamp::from_second(opens.as_second()).ok()) {
        Some(opens) if wait != Duration::MAX => format!("waits for spec.restart.window, which opens at {opens}"),
        _ => "waits for spec.restart.window, which never opens; correct its schedule".to_owned(),
    }
}

#[cfg(test)]
mod tests;
