//! The restarts of a binding as the operator remembers them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::api::WorkloadReference;
use crate::domain::rollout::mark::{Digests, RestartMark, SecretDigests};
use crate::domain::rollout::progress::{PodProgress, Replaced};
use crate::domain::rollout::verdict::RestartVerdict;
use crate::domain::rollout::workload::Workload;

/// Changes within this time make one restart. It also keeps the pods of a restart out of the second of the write.
pub const SETTLE: Duration = Duration::from_secs(2);

/// The restarts of a binding as the operator remembers them. All of it may be lost.
#[derive(Clone, Debug, Default)]
pub struct RolloutHistory {
    /// The last observed changes, with the time of their first observation.
    observed_changes: Option<(String, Instant)>,
    /// The pause before the next observation.
    pause: Duration,
    digests: Option<SecretDigests>,
    attempts: BTreeMap<WorkloadReference, RestartAttempt>,
}

/// The last restart of a workload.
#[derive(Clone, Debug)]
pub(super) struct RestartAttempt {
    mark: RestartMark,
    /// Whether the mark was on the template at the last observation.
    is_marked: bool,
    pub(super) reverts: u32,
    failed: bool,
    /// The most that was seen replaced. Pods that come up and crash again and again are no progress.
    replaced: Option<Replaced>,
    /// The time of the last progress.
    pub(super) since: Instant,
}

impl RolloutHistory {
    /// How long these changes still have to settle, since others may follow at once. The time counts from the first
    /// observation, which is after the write.
    #[must_use]
    pub fn settling(self, changes: &str, now: Instant) -> (Self, Option<Duration>) {
        match &self.observed_changes {
            Some((observed, since)) if observed == changes => {
                let left = SETTLE.checked_sub(now.duration_since(*since)).filter(|left| !left.is_zero());
                (self, left)
            }
            _ => {
                let observed_changes = Some((changes.to_owned(), now));
                (Self { observed_changes, pause: Duration::ZERO, ..self }, Some(SETTLE))
            }
        }
    }

    /// The pause before the next observation: 2 s, growing to 30 s while nothing moves.
    #[must_use]
    pub fn next_pause(self, moved: bool) -> (Self, Duration) {
        let grown = if moved { Duration::ZERO } else { self.pause.mul_f64(1.5) };
        let pause = grown.clamp(Duration::from_secs(2), Duration::from_secs(30));
        (Self { pause, ..self }, pause)
    }

    /// The same with these digests.
    #[must_use]
    pub fn with_digests(self, digests: SecretDigests) -> Self {
        Self { digests: Some(digests), ..self }
    }

    /// The digests of the values of the Secret at this resource version, if they are known.
    #[must_use]
    pub fn digests_at(&self, resource_version: &str) -> Option<&SecretDigests> {
        self.digests.as_ref().filter(|digests| digests.resource_version == resource_version)
    }

    /// The last known digests of the values.
    #[must_use]
    pub fn last_digests(&self) -> Digests {
        self.digests.as_ref().map(|known| known.digests.clone()).unwrap_or_default()
    }

    /// The restart of this workload for these values.
    pub(super) fn attempt(&self, workload: &WorkloadReference, mark: &RestartMark) -> Option<&RestartAttempt> {
        self.attempts.get(workload).filter(|attempt| attempt.mark == *mark)
    }

    /// Records a restart.
    #[must_use]
    pub fn restarted(mut self, workload: &Workload, mark: &RestartMark, now: Instant) -> Self {
        let attempt = RestartAttempt {
            mark: mark.clone(),
            is_marked: true,
            reverts: self.attempt(&workload.reference, mark).map_or(0, |attempt| attempt.reverts),
            failed: false,
            replaced: None,
            since: now,
        };
        self.attempts.insert(workload.reference.clone(), attempt);
        self
    }

    /// Records an observed workload. After a start of the operator this finds a restart that is under way.
    #[must_use]
    pub fn observe(mut self, workload: &Workload, mark: &RestartMark, now: Instant) -> Self {
        let marked = mark.is_met_by(workload.mark.as_deref());
        match self.attempts.get_mut(&workload.reference) {
            Some(attempt) if attempt.mark == *mark => {
                if attempt.is_marked && !marked {
                    (attempt.is_marked, attempt.reverts) = (false, attempt.reverts.saturating_add(1));
                }
                if workload.replaced > attempt.replaced {
                    (attempt.replaced, attempt.since) = (workload.replaced, now);
                }
                self
            }
            _ if marked && workload.progress != PodProgress::Done => self.restarted(workload, mark, now),
            _ => self,
        }
    }

    /// Records a verdict. With the history comes the result to count, `done` or `failed`, once for each restart.
    #[must_use]
    pub fn judged(mut self, workload: &Workload, verdict: &RestartVerdict) -> (Self, Option<&'static str>) {
        let result = match verdict {
            RestartVerdict::Current => self.attempts.remove(&workload.reference).map(|_| "done"),
            RestartVerdict::Failed(_) => self
                .attempts
                .get_mut(&workload.reference)
                .and_then(|attempt| (!std::mem::replace(&mut attempt.failed, true)).then_some("failed")),
            _ => None,
        };
        (self, result)
    }
}
