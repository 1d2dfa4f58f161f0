//! The result of one step of a rollout: a pure fold of the plan and the outcomes of its restarts.

use std::time::{Duration, Instant};

use crate::domain::rollout::history::RolloutHistory;
use crate::domain::rollout::outcome::{RolloutOutcome, RolloutReport};
use crate::domain::rollout::plan::{REPLACING, RolloutPlan, SETTLING, SHORTEST_PAUSE};
use crate::domain::rollout::unhandled::UnhandledChanges;

/// The pause after a failed observation.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// The cause for workloads that wait for a slot.
const NO_SLOT: &str = "waits for other restarts to end (--max-rollouts)";

/// The cause why the workloads of a namespace are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownWorkloads {
    /// The Secret changed while they were observed.
    SecretChanged,
    /// The API server refused or failed; the text names the cause.
    Failed(String),
    /// The time of the step ended first.
    Unanswered,
}

/// The outcome of a planned restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartOutcome {
    /// The workload was restarted at this time.
    Started(Instant),
    /// The restarts of an earlier process are not all counted yet.
    Uncounted,
    /// As many workloads are restarted as `--max-rollouts` allows.
    NoSlot,
    /// The workload is not as it was observed.
    Raced,
    /// The API server refused; the text names the cause.
    Refused(String),
    /// The time of the step ended first.
    Unanswered,
}

/// The state of the workloads after a step.
#[derive(Clone, Debug)]
pub struct RolloutProgress {
    /// The report, without the digest of the changes.
    pub report: RolloutReport,
    /// The pause before the next observation.
    pub pause: Duration,
    /// The history.
    pub history: RolloutHistory,
}

impl RolloutProgress {
    /// Every workload waits for the same cause.
    fn pending(why: &str, pause: Duration, history: RolloutHistory) -> Self {
        let report = RolloutReport { pending: vec![why.to_owned()], ..RolloutReport::default() };
        Self { report, pause, history }
    }

    /// The changes have to settle first.
    #[must_use]
    pub fn settling(left: Duration, history: RolloutHistory) -> Self {
        Self::pending(SETTLING, left, history)
    }

    /// The workloads are unknown.
    #[must_use]
    pub fn unknown(why: UnknownWorkloads, history: RolloutHistory) -> Self {
        let why = match why {
            UnknownWorkloads::SecretChanged => {
                return Self::pending("the Secret has just changed", SHORTEST_PAUSE, history);
            }
            UnknownWorkloads::Failed(why) => why,
            UnknownWorkloads::Unanswered => "the API server did not answer in time".to_owned(),
        };
        let why = format!("the workloads of the namespace could not be looked at: {why}");
        Self::pending(&why, FAILED_PAUSE, history)
    }

    /// The plan with the outcomes of its restarts, in the order of the plan.
    #[must_use]
    pub fn of(plan: RolloutPlan<'_>, outcomes: Vec<RestartOutcome>) -> Self {
        let RolloutPlan { mut history, mut report, restarts, settles, window_pause, .. } = plan;
        let (mut moved, mut again, mut in_time) = (false, settles, true);
        for (restart, outcome) in restarts.iter().zip(outcomes) {
            let reference = &restart.workload.reference;
            let pending = match outcome {
                RestartOutcome::Started(at) => {
                    moved = true;
                    history = history.restarted(restart.workload, &restart.mark, at);
                    REPLACING
                }
                RestartOutcome::Uncounted => {
                    again = Some(SHORTEST_PAUSE);
                    NO_SLOT
                }
                RestartOutcome::NoSlot => NO_SLOT,
                RestartOutcome::Raced => {
                    again = Some(SHORTEST_PAUSE);
                    "is about to be restarted"
                }
                RestartOutcome::Refused(why) => {
                    report.failed.push(format!("{reference}: {why}"));
                    continue;
                }
                RestartOutcome::Unanswered => {
                    in_time = false;
                    continue;
                }
            };
            report.pending.push(format!("{reference}: {pending}"));
        }
        if !in_time {
            return Self::unknown(UnknownWorkloads::Unanswered, history);
        }
        let (history, pause) = match window_pause {
            Some(pause) => (history, pause),
            None => history.next_pause(moved),
        };
        Self { report, pause: again.map_or(pause, |again| again.min(pause)), history }
    }
}

/// The result of one step of a rollout.
#[derive(Debug)]
pub struct RolloutStep {
    /// The state of the workloads.
    pub outcome: RolloutOutcome,
    /// The pause before the next step; `None` if nothing is left to do.
    pub next: Option<Duration>,
    /// The history.
    pub history: RolloutHistory,
}

impl RolloutStep {
    /// Nothing is left to do.
    #[must_use]
    pub fn finished(outcome: RolloutOutcome) -> Self {
        Self { outcome, next: None, history: RolloutHistory::default() }
    }

    /// A step for these changes.
    #[must_use]
    pub fn new(unhandled: &UnhandledChanges, progress: RolloutProgress) -> Self {
        let RolloutProgress { report, pause, history } = progress;
        if report.is_done() {
            let handled = Some(unhandled.digest.clone());
            return Self::finished(RolloutOutcome::Known(RolloutReport { handled, ..report }));
        }
        let outcome = RolloutOutcome::Known(RolloutReport { handled: unhandled.handled.clone(), ..report });
        Self { outcome, next: Some(pause), history }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.next.is_none()
    }
}
