//! Which workloads are to be restarted, as a pure function of what was observed.

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

/// StatefulSets and DaemonSets have no deadline of their own. One whose counts do not move for this long, the default
/// of a Deployment's `progressDeadlineSeconds`, has failed as far as others are concerned that wait for their turn.
const STUCK_AFTER: Duration = Duration::from_secs(600);

/// What is remembered between looks. All of it can be lost.
#[derive(Default)]
pub struct RolloutHistory {
    /// The changes that were seen last, and when they were seen first.
    seen: Option<(String, Instant)>,
    /// The pause before the next look.
    pause: Duration,
    /// Digests of the values, with the resource version of the Secret.
    pub digests: Option<(String, Digests)>,
    attempts: BTreeMap<WorkloadReference, Attempt>,
}

#[derive(Clone, Debug)]
struct Attempt {
    mark: String,
    stands: bool,
    reverts: u32,
    failed: bool,
    counts: WorkloadStatus,
    since: Instant,
}

impl RolloutHistory {
    /// How long these changes still have to settle: others may follow at once. Counted from when they were seen, which
    /// is after they were written.
    pub fn settling(&mut self, changes: &str, now: Instant) -> Option<Duration> {
        match &self.seen {
            Some((seen, since)) if seen == changes => {
                SETTLE.checked_sub(now.duration_since(*since)).filter(|left| !left.is_zero())
            }
            _ => {
                self.seen = Some((changes.to_owned(), now));
                self.pause = Duration::ZERO;
                Some(SETTLE)
            }
        }
    }

    /// The pause before the next look: 2 s, growing to 30 s while nothing moves.
    pub fn next_pause(&mut self, moved: bool) -> Duration {
        let grown = if moved { Duration::ZERO } else { self.pause.mul_f64(1.5) };
        self.pause = grown.clamp(Duration::from_secs(2), Duration::from_secs(30));
        self.pause
    }

    /// Notes that a workload was restarted.
    pub fn restarted(&mut self, workload: &Workload, mark: &str, now: Instant) {
        let reverts = self.attempts.get(&workload.reference).filter(|a| a.mark == mark).map_or(0, |a| a.reverts);
        let attempt = Attempt {
            mark: mark.to_owned(),
            stands: true,
            reverts,
            failed: false,
            counts: workload.counts.clone(),
            since: now,
        };
        self.attempts.insert(workload.reference.clone(), attempt);
    }

    /// Notes what a look shows of a workload. A restart under way is found again after a start of the operator.
    pub fn observe(&mut self, workload: &Workload, mark: &str, now: Instant) {
        let marked = workload.mark.as_deref() == Some(mark);
        match self.attempts.get_mut(&workload.reference) {
            Some(attempt) if attempt.mark == mark => {
                if attempt.stands && !marked {
                    (attempt.stands, attempt.reverts) = (false, attempt.reverts.saturating_add(1));
                }
                if attempt.counts != workload.counts {
                    (attempt.counts, attempt.since) = (workload.counts.clone(), now);
                }
            }
            _ if marked && workload.progress != PodProgress::Done => self.restarted(workload, mark, now),
            _ => {}
        }
    }

    /// Notes how a workload was judged, and answers what is to be counted of it: `done` or `failed`, each once.
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

/// What is to be done about a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartVerdict {
    /// Nothing: its pods have the current values.
    Current,
    /// Nothing: it wants not to be restarted, though some of its pods have earlier values.
    OptsOut,
    /// It is to be restarted.
    Due,
    /// Its pods are being replaced.
    UnderWay,
    /// Somebody has to do something first; the text says what.
    Pending(String),
    /// It failed; the text says how.
    Failed(String),
}

/// Whether a policy is about this workload.
#[must_use]
pub fn concerns(scope: &RestartScope, workload: &Workload) -> bool {
    match scope {
        RestartScope::Nobody => false,
        RestartScope::Consumers => workload.uses != Uses::Nothing,
        RestartScope::Listed(listed) => listed.contains(&workload.reference),
    }
}

/// Whether a pod of the workload is older than a change that concerns it. A listed workload that does not refer to
/// the Secret is concerned by every change.
#[must_use]
pub fn is_stale(workload: &Workload, pods: &[ObservedPod], changes: &Times) -> bool {
    let all = workload.uses == Uses::Nothing;
    workload.pods(pods).any(|pod| {
        let changed = changes.latest(if all { &Uses::Whole } else { &pod.uses });
        // Pods have whole seconds, so one that was created in the second of the change counts as older.
        changed.is_some_and(|changed| pod.created.as_second() <= changed.as_second())
    })
}

/// What the mark of a workload is made from.
#[must_use]
pub fn marked_by(workload: &Workload) -> &Uses {
    if workload.uses == Uses::Nothing { &Uses::Whole } else { &workload.uses }
}

/// Judges a workload that the policy concerns. `mark` is the one that its template is to carry.
#[must_use]
pub fn judge(workload: &Workload, stale: bool, mark: &str, memory: &RolloutHistory, now: Instant) -> RestartVerdict {
    let attempt = memory.attempts.get(&workload.reference).filter(|attempt| attempt.mark == mark);
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
        (false, false, _) | (false, true, PodProgress::Done | PodProgress::Held(_) | PodProgress::Partial(_)) => {
            RestartVerdict::Current
        }
        (true, _, _) if workload.opts_out => RestartVerdict::OptsOut,
        (_, true, PodProgress::Rolling) => under_way(),
        (_, true, PodProgress::Failed(why)) => RestartVerdict::Failed(why.clone()),
        // The values that it was restarted for are back, so its pods have them.
        (true, true, PodProgress::Done) => RestartVerdict::Current,
        (true, _, PodProgress::Held(what)) | (true, true, PodProgress::Partial(what)) => {
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

/// Why a workload that is due is not restarted yet.
#[must_use]
pub fn until_window(wait: Duration, now: Timestamp) -> String {
    match now.checked_add(wait).ok().and_then(|opens| Timestamp::from_second(opens.as_second()).ok()) {
        Some(opens) if wait != Duration::MAX => format!("waits for spec.restart.window, which opens at {opens}"),
        _ => "waits for spec.restart.window, which never opens; correct its schedule".to_owned(),
    }
}

#[cfg(test)]
mod tests;
