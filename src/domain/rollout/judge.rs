//! The judgement of one workload: whether a restart concerns it, and how far its restart is.

use std::time::{Duration, Instant};

use crate::domain::rollout::changed::Times;
use crate::domain::rollout::consumers::Uses;
use crate::domain::rollout::history::RolloutHistory;
use crate::domain::rollout::mark::RestartMark;
use crate::domain::rollout::policy::RestartScope;
use crate::domain::rollout::progress::PodProgress;
use crate::domain::rollout::verdict::RestartVerdict;
use crate::domain::rollout::workload::{ObservedPod, ObservedWorkloads, Workload};

/// A restart that is undone this often is not made again.
const MAX_REVERTS: u32 = 3;

/// If no more pods of a workload are replaced for this long, its restart has failed, and the next workload may begin. A
/// Deployment has a deadline of its own, but people set it to any length. The default of that is as long.
const STUCK_AFTER: Duration = Duration::from_secs(600);

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

/// Whether the mark of any workload matters: it needs a restart, or had one.
#[must_use]
pub fn marks_matter(observed: &ObservedWorkloads, changes: &Times) -> bool {
    observed.workloads.iter().any(|workload| workload.mark.is_some() || is_stale(workload, &observed.pods, changes))
}

/// The keys that the mark of a workload covers.
#[must_use]
pub fn marked_by(workload: &Workload) -> &Uses {
    if workload.uses == Uses::Nothing { &Uses::Whole } else { &workload.uses }
}

/// Judges a workload in scope. `mark` is the mark of the current values.
#[must_use]
pub fn judge(
    workload: &Workload,
    stale: bool,
    mark: &RestartMark,
    history: &RolloutHistory,
    now: Instant,
) -> RestartVerdict {
    let attempt = history.attempt(&workload.reference, mark);
    let is_stuck = attempt.is_some_and(|attempt| now.duration_since(attempt.since) > STUCK_AFTER);
    let marked = mark.is_met_by(workload.mark.as_deref());
    match (stale, marked, &workload.progress) {
        (false, false, _) | (false, true, PodProgress::Done | PodProgress::Waiting(_) | PodProgress::Partial(_)) => {
            RestartVerdict::Current
        }
        (true, _, _) if workload.opts_out => RestartVerdict::OptsOut,
        (_, true, PodProgress::Rolling) if is_stuck => {
            let minutes = STUCK_AFTER.as_secs() / 60;
            let why = format!(
                "no more of its pods came up for {minutes} minutes, so others go on; see why they do not start"
            );
            RestartVerdict::Failed(since(&why, workload))
        }
        (_, true, PodProgress::Rolling) => RestartVerdict::UnderWay,
        (_, true, PodProgress::Failed(why)) => RestartVerdict::Failed(since(why, workload)),
        // It was restarted after the change. Its pods look older where the clocks of API servers differ.
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

/// What failed, with the time of the restart.
fn since(why: &str, workload: &Workload) -> String {
    match workload.restarted {
        Some(restarted) => format!("restarted at {restarted}, {why}"),
        None => why.to_owned(),
    }
}
