//! What is remembered of a binding from one reconcile to the next. All of it can be lost: a restart costs one list of
//! the secrets' versions, which all bindings share.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::SecretBindingStatus;
use crate::domain::name::BindingName;
use crate::domain::note::Note;
use crate::domain::render::key::TargetKey;
use crate::domain::render::rejection::Rejection;
use crate::domain::rollout::history::RolloutHistory;
use crate::domain::rotation::age::UnknownAge;
use crate::domain::rotation::key_source::KeySource;
use crate::state::backoff::Backoff;

/// Repairs are counted over this time.
const REPAIR_WINDOW: Duration = Duration::from_secs(600);

/// Of a report that cannot be written no more Events are kept.
const MAX_NOTES: usize = 8;

/// What is remembered of one binding.
#[derive(Default)]
pub struct History {
    /// The pauses after failures.
    pub backoff: Backoff,
    /// When the sources were last known at their present versions.
    pub verified: Option<Instant>,
    /// Inputs that are known to give no Secret.
    pub rejected: Option<RejectedInputs>,
    /// The repairs of the last minutes.
    pub repairs: Repairs,
    /// The generation for which no Secret of an earlier name is left.
    pub tidy: Option<i64>,
    /// The last status written, until the watch has shown it.
    pub reported: Option<ReportedStatus>,
    /// What could not be written yet.
    pub unwritten: Option<Box<UnwrittenReport>>,
    /// The restarts.
    pub rollout: RolloutHistory,
    /// The keys of unknown age.
    pub ages: AgeHistory,
    /// Where the keys of rules come from that an action is under way for.
    pub key_sources: Option<KeySources>,
}

/// What one reconcile leaves to remember. What it did not come to is `None`, and stays as it was.
#[derive(Debug, Default)]
pub struct HistoryUpdate {
    /// When the sources were known at their present versions.
    pub verified: Option<Instant>,
    /// The inputs that give no Secret; `None` inside where the present ones do give one.
    pub rejected: Option<Option<RejectedInputs>>,
    /// When the target was repaired.
    pub repaired: Option<Instant>,
    /// The generation for which no Secret of an earlier name is left; `None` inside where one is.
    pub tidy: Option<Option<i64>>,
    /// The keys of unknown age after a publication.
    pub unknown_ages: Option<BTreeMap<String, UnknownAge>>,
    /// The keys of unknown age, with their backfill.
    pub ages: Option<AgeHistory>,
    /// Where keys come from.
    pub key_sources: Option<KeySources>,
    /// The restarts.
    pub rollout: Option<RolloutHistory>,
}

impl History {
    /// The history after a reconcile that panicked: what was found out is found out anew.
    #[must_use]
    pub fn without_facts(self) -> Self {
        Self { backoff: self.backoff, reported: self.reported, unwritten: self.unwritten, ..Self::default() }
    }

    /// The history after a reconcile that left these facts.
    #[must_use]
    pub fn after(self, facts: HistoryUpdate) -> Self {
        let changed = facts.unknown_ages.filter(|unknown| *unknown != self.ages.unknown);
        let ages = match (facts.ages, changed) {
            (Some(ages), _) => ages,
            (None, Some(unknown)) => AgeHistory { unknown, retry_at: None, ..self.ages },
            (None, None) => self.ages,
        };
        Self {
            verified: facts.verified.or(self.verified),
            rejected: facts.rejected.unwrap_or(self.rejected),
            repairs: facts.repaired.map_or(self.repairs.clone(), |now| self.repairs.with(now)),
            tidy: facts.tidy.unwrap_or(self.tidy),
            rollout: facts.rollout.unwrap_or(self.rollout),
            key_sources: facts.key_sources.or(self.key_sources),
            backoff: self.backoff,
            reported: self.reported,
            unwritten: self.unwritten,
            ages,
        }
    }
}

/// Inputs that give no Secret, and why. They are not read again until they change.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectedInputs {
    /// The digest of the inputs.
    pub inputs: String,
    /// Why they give no Secret.
    pub rejection: Rejection,
}

/// A status that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedStatus {
    /// The resource version that the write gave the binding.
    pub resource_version: u64,
    /// The status.
    pub status: Box<SecretBindingStatus>,
}

/// A report that the API server did not take. It is all there is of what was found out, so reconciles go on from it.
#[derive(Clone, Debug, PartialEq)]
pub struct UnwrittenReport {
    /// The status.
    pub status: SecretBindingStatus,
    /// The status that the API server had.
    pub base: SecretBindingStatus,
    /// The Events that go with it.
    pub notes: Vec<Note>,
    /// The pauses between the tries.
    pub backoff: Backoff,
    /// When it is tried again.
    pub retry_at: Instant,
}

impl UnwrittenReport {
    /// The report after one more try that failed at `now`. `jitter` is between 0 and 1.
    #[must_use]
    pub fn after(
        before: Option<&Self>,
        status: SecretBindingStatus,
        mut notes: Vec<Note>,
        now: Instant,
        jitter: f64,
    ) -> Self {
        let backoff = before.map_or(Backoff::default(), |before| before.backoff).failed(Duration::ZERO, jitter);
        notes.drain(..notes.len().saturating_sub(MAX_NOTES));
        Self { status, base: SecretBindingStatus::default(), notes, backoff, retry_at: now + backoff.pause() }
    }

    /// How long until it is tried again.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Duration {
        self.retry_at.saturating_duration_since(now)
    }
}

/// The keys of a binding whose age is unknown, and their backfill.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgeHistory {
    /// The keys.
    pub unknown: BTreeMap<String, UnknownAge>,
    /// Whether a backfill is under way.
    pub running: bool,
    /// When the next backfill may begin, after one that failed.
    pub retry_at: Option<Instant>,
}

impl AgeHistory {
    /// How long until a backfill is to begin; `None` where there is nothing to find, or one is under way.
    #[must_use]
    pub fn next_backfill(&self, now: Instant) -> Option<Duration> {
        let pause = || self.retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        (!self.unknown.is_empty() && !self.running).then(pause)
    }
}

/// Where keys come from, and which binding and versions that was found of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySources {
    /// The generation, the grant and the versions.
    pub of: Vec<String>,
    /// The sources, by target key.
    pub sources: BTreeMap<TargetKey, KeySource>,
}

/// When the target was repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs(VecDeque<Instant>);

impl Repairs {
    /// The same with one more repair at `now`. Those that count no more are dropped.
    #[must_use]
    pub fn with(mut self, now: Instant) -> Self {
        self.0.retain(|repair| now.duration_since(*repair) <= REPAIR_WINDOW);
        self.0.push_back(now);
        self
    }

    /// How many repairs there were within the last ten minutes.
    #[must_use]
    pub fn recent(&self, now: Instant) -> usize {
        self.0.iter().filter(|repair| now.duration_since(**repair) <= REPAIR_WINDOW).count()
    }
}

/// The histories of all bindings, each with the uid of its binding.
#[derive(Default)]
pub struct Histories(Mutex<HashMap<BindingName, (String, Box<History>)>>);

impl Histories {
    fn lock(&self) -> MutexGuard<'_, HashMap<BindingName, (String, Box<History>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the history of the binding of this name, with its uid.
    #[must_use]
    pub fn take(&self, binding: &BindingName) -> Option<(String, Box<History>)> {
        self.lock().remove(binding)
    }

    /// Puts a history back.
    pub fn put(&self, binding: &BindingName, uid: String, history: Box<History>) {
        self.lock().insert(binding.clone(), (uid, history));
    }

    /// Drops a written status once the watch shows it, or a later one.
    pub fn shown(&self, binding: &BindingName, resource_version: Option<u64>) {
        if let Some((_, history)) = self.lock().get_mut(binding)
            && history.reported.as_ref().is_some_and(|written| resource_version >= Some(written.resource_version))
        {
            history.reported = None;
        }
    }

    /// Has the next reconcile of a binding search for Secrets that are not its target's any more, or never were.
    pub fn search_anew(&self, binding: &BindingName) {
        if let Some((_, history)) = self.lock().get_mut(binding) {
            history.tidy = None;
        }
    }

    /// Forgets a deleted binding.
    pub fn forget(&self, binding: &BindingName) {
        self.lock().remove(binding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    #[test]
    fn repairs_are_counted_over_ten_minutes() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let repairs = (0..5).fold(Repairs::default(), |repairs, number| repairs.with(at(150 * number)));
        assert_eq!(repairs.recent(at(600)), 5);
        assert_eq!(repairs.recent(at(899)), 3);
        assert_eq!(repairs.with(at(899)), Repairs([300, 450, 600, 899].map(at).into()), "older ones are dropped");
    }

    #[test]
    fn a_report_that_cannot_be_written_is_tried_with_growing_pauses_and_keeps_its_last_events() {
        let (now, mut report) = (Instant::now(), None::<UnwrittenReport>);
        let note = |text: &str| Note { warning: true, reason: Reason::Published, text: text.to_owned() };
        let mut pauses = Vec::new();
        for number in 0..11 {
            let mut notes = report.as_ref().map(|report| report.notes.clone()).unwrap_or_default();
            notes.push(note(&number.to_string()));
            let next = UnwrittenReport::after(report.as_ref(), SecretBindingStatus::default(), notes, now, 0.0);
            pauses.push(next.pause(now).as_secs());
            report = Some(next);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let texts: Vec<String> = report.unwrap().notes.into_iter().map(|note| note.text).collect();
        assert_eq!(texts, ["3", "4", "5", "6", "7", "8", "9", "10"]);
    }

    #[test]
    fn a_written_status_is_kept_until_the_watch_shows_it() {
        let (histories, name) = (Histories::default(), BindingName::new("n", "b"));
        let reported = ReportedStatus { resource_version: 7, status: Box::default() };
        histories.put(&name, "u".to_owned(), Box::new(History { reported: Some(reported), ..History::default() }));
        for (shown, kept) in [(None, true), (Some(6), true), (Some(7), false)] {
            histories.shown(&name, shown);
            let (_, history) = histories.take(&name).unwrap();
            assert_eq!(history.reported.is_some(), kept, "{shown:?}");
            histories.put(&name, "u".to_owned(), history);
        }
    }
}
