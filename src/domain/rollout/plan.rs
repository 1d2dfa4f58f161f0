//! The plan of a rollout: which workloads are restarted now, and what the others wait for. A pure function of what is
//! observed and remembered; the time is an argument.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use crate::api::WorkloadReference;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::rollout::changed::Times;
use crate::domain::rollout::history::RolloutHistory;
use crate::domain::rollout::judge::{is_stale, judge, marked_by};
use crate::domain::rollout::mark::RestartMark;
use crate::domain::rollout::outcome::RolloutReport;
use crate::domain::rollout::policy::{Restart, RestartScope};
use crate::domain::rollout::verdict::RestartVerdict;
use crate::domain::rollout::workload::{ObservedWorkloads, Workload};

/// The shortest pause before the next observation.
pub const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause while every due workload waits for the window.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The cause for workloads whose values changed less than [`SETTLE`](super::history::SETTLE) ago.
pub const SETTLING: &str = "the values changed a moment ago";

/// The cause for workloads that are restarted.
pub const REPLACING: &str = "its pods are being replaced";

/// The conditions of a rollout.
#[derive(Clone, Copy)]
pub struct RolloutTerms<'a> {
    /// `spec.restart`.
    pub restart: &'a Restart,
    /// The changes of the Secret.
    pub changes: &'a Times,
    /// How long the changes still have to settle.
    pub settles: Option<Duration>,
    /// The key of the marks.
    pub key: &'a FingerprintKey,
}

/// The plan of a rollout.
#[derive(Debug)]
pub struct RolloutPlan<'a> {
    /// The history with what was observed.
    pub history: RolloutHistory,
    /// The report without the workloads that are restarted now.
    pub report: RolloutReport,
    /// The workloads whose restart is under way.
    pub in_flight: BTreeSet<WorkloadReference>,
    /// The restarts that ended since the last observation.
    pub ended: Vec<EndedRestart<'a>>,
    /// The restarts to begin, in this order.
    pub restarts: Vec<PlannedRestart<'a>>,
    /// The pause until the changes have settled.
    pub settles: Option<Duration>,
    /// The pause while only the window can change anything.
    pub window_pause: Option<Duration>,
}

/// A restart that ended.
#[derive(Debug, PartialEq, Eq)]
pub struct EndedRestart<'a> {
    /// The workload.
    pub workload: &'a WorkloadReference,
    /// The result to count: `done` or `failed`.
    pub result: &'static str,
}

/// A restart to begin.
#[derive(Debug)]
pub struct PlannedRestart<'a> {
    /// The workload as it was observed.
    pub workload: &'a Workload,
    /// The mark of the current values.
    pub mark: RestartMark,
}

/// Plans a rollout.
#[must_use]
pub fn plan<'a>(
    terms: RolloutTerms<'_>,
    observed: &'a ObservedWorkloads,
    history: RolloutHistory,
    now: Instant,
    time: Timestamp,
) -> RolloutPlan<'a> {
    let history = match &observed.digests {
        Some(digests) => history.with_digests(digests.clone()),
        None => history,
    };
    let digests = history.last_digests();
    let mut plan = RolloutPlan {
        history,
        report: RolloutReport { pending: unknown(&terms.restart.scope, observed), ..RolloutReport::default() },
        in_flight: BTreeSet::new(),
        ended: Vec::new(),
        restarts: Vec::new(),
        settles: None,
        window_pause: None,
    };
    for workload in &observed.workloads {
        let mark = digests.mark(marked_by(workload), terms.changes, terms.key);
        let is_stale = is_stale(workload, &observed.pods, terms.changes);
        plan = plan.with(PlannedRestart { workload, mark }, is_stale, now);
    }
    plan.scheduled(terms, time)
}

/// The listed workloads that do not exist, and the objects that cannot be read, each with the cure.
fn unknown(scope: &RestartScope, observed: &ObservedWorkloads) -> Vec<String> {
    let unreadable = observed.unreadable.iter().map(|unreadable| {
        format!("{unreadable}: cannot be read by this version of Bindery, so it is left alone; correct what its manifest says in a way of its own, or upgrade Bindery")
    });
    let RestartScope::Listed(listed) = scope else { return unreadable.collect() };
    let is_known = |listed: &WorkloadReference| {
        let is_read = observed.workloads.iter().any(|found| found.reference == *listed);
        is_read || observed.unreadable.contains(&listed.to_string())
    };
    let missing = listed.iter().filter(|listed| !is_known(listed));
    let missing =
        missing.map(|missing| format!("{missing}: does not exist; create it or take it from spec.restart.workloads"));
    missing.chain(unreadable).collect()
}

impl<'a> RolloutPlan<'a> {
    /// The same with one more workload.
    fn with(mut self, restart: PlannedRestart<'a>, is_stale: bool, now: Instant) -> Self {
        let PlannedRestart { workload, mark } = &restart;
        let reference = &workload.reference;
        let history = self.history.observe(workload, mark, now);
        let verdict = judge(workload, is_stale, mark, &history, now);
        let (history, result) = history.judged(workload, &verdict);
        self.history = history;
        self.ended.extend(result.map(|result| EndedRestart { workload: reference, result }));
        match verdict {
            RestartVerdict::Current => {}
            RestartVerdict::OptsOut => self.report.opted_out.push(reference.clone()),
            RestartVerdict::Due => self.restarts.push(restart),
            RestartVerdict::UnderWay => {
                self.in_flight.insert(reference.clone());
                self.report.pending.push(format!("{reference}: {REPLACING}"));
            }
            RestartVerdict::Pending(what) => self.report.pending.push(format!("{reference}: {what}")),
            RestartVerdict::Failed(how) => self.report.failed.push(format!("{reference}: {how}")),
        }
        self
    }

    /// The same without the restarts, if they may not begin yet.
    fn scheduled(mut self, terms: RolloutTerms<'_>, time: Timestamp) -> Self {
        if self.restarts.is_empty() {
            return self;
        }
        let wait = terms.restart.window.as_ref().map_or(Duration::ZERO, |window| window.wait(time));
        let only_window = self.report.is_done() && !wait.is_zero();
        self.window_pause = only_window.then(|| wait.clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        self.settles = terms.settles;
        let why = match terms.settles {
            Some(_) => SETTLING.to_owned(),
            None if wait.is_zero() => return self,
            None => until_window(wait, time),
        };
        let waiting = std::mem::take(&mut self.restarts);
        self.report.pending.extend(waiting.iter().map(|restart| format!("{}: {why}", restart.workload.reference)));
        self
    }
}

/// The cause for workloads that wait for the window.
#[must_use]
pub fn until_window(wait: Duration, now: Timestamp) -> String {
    match now.checked_add(wait).ok().and_then(|opens| Timestamp::from_second(opens.as_second()).ok()) {
        Some(opens) if wait != Duration::MAX => format!("waits for spec.restart.window, which opens at {opens}"),
        _ => "waits for spec.restart.window, which never opens; correct its schedule".to_owned(),
    }
}

#[cfg(test)]
mod tests;
