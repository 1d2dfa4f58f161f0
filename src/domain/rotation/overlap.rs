//! How a key comes from an old to a new value while both live side by side: one step, as a pure function of what is
//! recorded and observed.
//!
//! ```text
//!   Settled ──────────▶ Introducing ──────────▶ Promoted ──────────▶ (Reencrypting) ──────────▶ Settled
//!   KEY = old           KEY = old               KEY = new            KEY = new                  KEY = new
//!                       NEXT = new              PREVIOUS = old       PREVIOUS = old
//! ```
//!
//! What makes this safe: the key becomes the new value only when every pod of every binding of the group was created
//! while the new value stood beside the old one, so all can decrypt what any of them may now encrypt. The old value
//! goes only when every pod encrypts with the new one, what was encrypted before is encrypted anew, and the hold is
//! over. Going back ([abort](OverlapCommand::Abort)) is a change in the other direction that begins at `Promoted`, since all
//! pods have both values already.
//!
//! Each binding takes its own steps and records them on its target; a group has no leader. Two bindings of a group do
//! not step at once (the controller sees to it), and what one takes for granted
//! of another, the other has recorded before.

use k8s_openapi::jiff::Timestamp;

use crate::api::OverlapStrategy;
use crate::domain::rotation::record::{Flight, OverlapSettings, Phase, Print, Record};
use crate::domain::rotation::rule::Overlap;
use crate::settings::FeatureOff;

/// What somebody asks for by the annotation `bindery.dev/rotation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlapCommand {
    /// Go back to the old value.
    Abort,
    /// Nothing needs the old value any more.
    Retire,
}

/// What is recorded and observed of one key of one binding.
#[derive(Clone, Debug)]
pub struct OverlapSituation<'a> {
    /// The rule as it is now; `None` where it was removed.
    pub rule: Option<&'a Overlap>,
    /// The record; `None` where the key was not published under a rule yet.
    pub record: Option<&'a Record>,
    /// What the source holds, as far as it is known.
    pub source: &'a Print,
    /// The fingerprint of what is published under the key, where there is no record.
    pub published: Option<&'a str>,
    /// When the target was last written.
    pub written: Option<Timestamp>,
    /// The other bindings of the group that have published the key, by name.
    pub others: &'a [Member],
    /// The name of this one.
    pub name: &'a str,
    /// Where the pods stand; looked at while [`OverlapSituation::awaits_pods`].
    pub gate: &'a Gate,
    /// Where the Job of this flight stands; looked at while [`OverlapSituation::awaits_job`].
    pub job: &'a Job,
    /// What somebody asks for.
    pub command: Option<OverlapCommand>,
    /// The time.
    pub now: Timestamp,
}

/// Another binding of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its record.
    pub record: Record,
    /// Why it cannot step, where it cannot.
    pub stuck: Option<String>,
}

/// Where the pods that can see the key stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Whether they were looked at.
    pub seen: bool,
    /// Pods that were created before the phase was published and are there to be replaced.
    pub older: Vec<String>,
    /// What stands in the way and does not go by itself.
    pub blocked: Vec<String>,
}

impl Gate {
    const fn is_passed(&self) -> bool {
        self.seen && self.older.is_empty() && self.blocked.is_empty()
    }
}

/// Where the Job that re-encrypts stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Job {
    /// It was not looked at.
    #[default]
    Unseen,
    /// There is none.
    Absent,
    /// It runs.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed, or cannot be run.
    Failed(String),
    /// The installation runs no Jobs.
    Off(FeatureOff),
}

/// What a situation calls for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlapStep {
    /// The record as it should be; `None` where there is none to keep.
    pub record: Option<Record>,
    /// What is waited for.
    pub waits: Option<Wait>,
    /// When something will be due by the clock alone.
    pub wake: Option<Timestamp>,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Something that comes by itself.
    For(String),
    /// Something that somebody must do.
    Blocked(String),
    /// The installation has switched off what it needs.
    Off(FeatureOff),
}

impl OverlapSituation<'_> {
    /// Whether the pods must be looked at.
    #[must_use]
    pub fn awaits_pods(&self) -> bool {
        self.record.and_then(|record| record.flight.as_ref()).is_some_and(|flight| {
            flight.settings.strategy == OverlapStrategy::Staged
                // The gate of the first phase is looked at again just before the key becomes the new value.
                && (flight.gate.is_none() || flight.phase == Phase::Introducing)
        })
    }

    /// Whether the Job must be looked at, or made.
    #[must_use]
    pub fn awaits_job(&self) -> bool {
        let flight = self.record.and_then(|record| record.flight.as_ref());
        flight.is_some_and(|flight| flight.phase == Phase::Reencrypting && flight.reencrypted.is_none())
    }

    /// The next step. `name_flight` names a flight by the fingerprints of its old and new value.
    #[must_use]
    pub fn step(&self, name_flight: impl Fn(&Print, &Print) -> String) -> OverlapStep {
        let Some(record) = self.record else { return self.first(&name_flight) };
        let mut next = record.clone();
        next.source.clone_from(&self.source.fingerprint);
        if next.ignored.as_ref().is_some_and(|ignored| *ignored != self.source.fingerprint) {
            next.ignored = None;
        }
        match next.flight.take() {
            Some(flight) => self.fly(next, flight, &name_flight),
            None => self.rest(next, &name_flight),
        }
    }

    /// The first publication under a rule.
    fn first(&self, name_flight: &impl Fn(&Print, &Print) -> String) -> OverlapStep {
        let Some(rule) = self.rule else { return OverlapStep::default() };
        let source = &self.source.fingerprint;
        let record = |settled| Record { source: source.clone(), settled, ignored: None, flight: None };
        let unversioned = |fingerprint: &str| Print { fingerprint: fingerprint.to_owned(), version: String::new() };
        if let Some(published) = self.published {
            // What is published already is the old value.
            return self.rest(record(unversioned(published)), name_flight);
        }
        if rule.strategy == OverlapStrategy::Staged {
            let flights = || self.others.iter().filter_map(|other| other.record.flight.as_ref());
            if let Some(theirs) = flights().find(|flight| flight.new.fingerprint == *source) {
                // The others are on their way to this value: this one joins them where they are.
                let old = unversioned(&theirs.old.fingerprint);
                let phase = theirs.phase.min(Phase::Promoted);
                let joined = begin(rule, phase, old.clone(), self.source.clone(), name_flight);
                return self.waiting(record(old), joined);
            }
            let in_use = self.others.iter().map(|other| &other.record.settled.fingerprint);
            let is_left = flights().any(|flight| flight.old.fingerprint == *source);
            if let Some(old) = in_use.into_iter().find(|in_use| *in_use != source)
                && !is_left
            {
                // The others still use another value: this one does not go ahead of them.
                return self.rest(record(unversioned(old)), name_flight);
            }
        }
        OverlapStep { record: Some(record(self.source.clone())), ..OverlapStep::default() }
    }

    /// Where no change is under way.
    fn rest(&self, mut record: Record, name_flight: &impl Fn(&Print, &Print) -> String) -> OverlapStep {
        let Some(rule) = self.rule else {
            // Nobody asks for an overlap any more. A value that was ignored is followed from here on.
            return OverlapStep::default();
        };
        let source = &self.source.fingerprint;
        if *source == record.settled.fingerprint {
            record.settled.version.clone_from(&self.source.version);
            return OverlapStep { record: Some(record), ..OverlapStep::default() };
        }
        let aborted = self.others.iter().any(|other| {
            other.record.ignored.as_ref() == Some(source)
                || other
                    .record
                    .flight
                    .as_ref()
                    .is_some_and(|flight| flight.aborted && flight.old.fingerprint == *source)
        });
        if aborted {
            record.ignored = Some(source.clone());
        }
        if record.ignored.is_some() {
            return OverlapStep { record: Some(record), ..OverlapStep::default() };
        }
        let phase = match rule.strategy {
            OverlapStrategy::Immediate => Phase::Promoted,
            OverlapStrategy::Staged => Phase::Introducing,
        };
        let flight = begin(rule, phase, record.settled.clone(), self.source.clone(), name_flight);
        self.waiting(record, flight)
    }

    /// Where a change is under way.
    fn fly(&self, record: Record, mut flight: Flight, name_flight: &impl Fn(&Print, &Print) -> String) -> OverlapStep {
        let takes_back = |other: &Member| {
            let on_the_way = other.record.flight.as_ref().is_some_and(|other| {
                other.aborted
                    && other.new.fingerprint == flight.old.fingerprint
                    && other.old.fingerprint == flight.new.fingerprint
            });
            on_the_way || other.record.ignored.as_ref() == Some(&flight.new.fingerprint)
        };
        let others_abort = self.others.iter().any(takes_back);
        let source = &self.source.fingerprint;
        let untouched = !self.others.iter().any(|other| {
            other.record.flight.as_ref().is_some_and(|other| other.id == flight.id && other.phase > Phase::Introducing)
        });
        // A change that is taken back before anybody uses the new value.
        let goes_back = flight.phase == Phase::Introducing && *source == flight.old.fingerprint && untouched;
        // Where another has retired the old value, its pods do not know it any more: there is no way back.
        let retired = self.others.iter().any(|other| other.record.settled.fingerprint == flight.new.fingerprint);
        let aborts = (self.command == Some(OverlapCommand::Abort) && !retired) || others_abort;
        if !flight.aborted && (aborts || goes_back) {
            return self.waiting(record, take_back(flight, !goes_back, name_flight));
        }
        if self.command == Some(OverlapCommand::Retire) {
            flight.retire = true;
        }
        if flight.phase == Phase::Introducing && *source != flight.new.fingerprint && untouched {
            // Nobody uses the new value yet, so a newer one takes its place.
            flight.new = self.source.clone();
            flight.id = name_flight(&flight.old, &flight.new);
            (flight.since, flight.gate) = (None, None);
            return self.waiting(record, flight);
        }
        if *source == flight.new.fingerprint {
            flight.new.version.clone_from(&self.source.version);
        }
        if flight.settings.strategy == OverlapStrategy::Immediate {
            return self.expire(record, flight);
        }
        match flight.phase {
            Phase::Introducing => self.introduce(record, flight),
            Phase::Promoted => self.promote(record, flight),
            Phase::Reencrypting => {
                match self.job {
                    Job::Succeeded => flight.reencrypted = flight.reencrypted.or(Some(self.now)),
                    Job::Failed(why) if flight.reencrypted.is_none() => {
                        return OverlapStep { waits: Some(Wait::Blocked(why.clone())), ..self.waiting(record, flight) };
                    }
                    Job::Off(off) if flight.reencrypted.is_none() => {
                        return OverlapStep { waits: Some(Wait::Off(*off)), ..self.waiting(record, flight) };
                    }
                    _ => {}
                }
                self.retire(record, flight)
            }
        }
    }

    /// Waits until all pods of all members know the new value; then it is used.
    fn introduce(&self, record: Record, mut flight: Flight) -> OverlapStep {
        if !self.gate.is_passed() {
            return self.at_gate(record, flight);
        }
        flight.gate = flight.gate.or(Some(self.now));
        let lagging = self.others.iter().find_map(|other| {
            let known = match &other.record.flight {
                Some(theirs) if theirs.new.fingerprint == flight.new.fingerprint => {
                    theirs.phase > Phase::Introducing || theirs.gate.is_some()
                }
                Some(theirs) if theirs.old.fingerprint == flight.new.fingerprint => true,
                Some(theirs) => {
                    return Some((other, format!("its source holds another new value (flight {})", theirs.id)));
                }
                None => other.record.settled.fingerprint == flight.new.fingerprint,
            };
            let why = || match &other.record.flight {
                Some(_) => "its pods do not all have the new value beside the old one yet".to_owned(),
                None => "its source does not hold the new value yet".to_owned(),
            };
            (!known).then(|| (other, why()))
        });
        if let Some((other, why)) = lagging {
            return OverlapStep { waits: Some(lags(other, &why)), ..self.waiting(record, flight) };
        }
        flight.phase = Phase::Promoted;
        (flight.since, flight.gate) = (None, None);
        self.waiting(record, flight)
    }

    /// Waits until all pods of all members use the new value; then what was encrypted before is encrypted anew.
    fn promote(&self, record: Record, mut flight: Flight) -> OverlapStep {
        if flight.gate.is_none() && !self.gate.is_passed() {
            return self.at_gate(record, flight);
        }
        flight.gate = flight.gate.or(Some(self.now));
        if let Some(waits) = self.lagging(&flight) {
            return OverlapStep { waits: Some(waits), ..self.waiting(record, flight) };
        }
        if flight.settings.reencrypt.is_some() {
            // One Job at a time, in the order of the names.
            let before = self.others.iter().filter(|other| other.name.as_str() < self.name);
            let runs = |other: &&Member| {
                other.record.flight.as_ref().is_some_and(|theirs| {
                    theirs.new.fingerprint == flight.new.fingerprint
                        && theirs.settings.reencrypt.is_some()
                        && theirs.reencrypted.is_none()
                })
            };
            let after = self.others.iter().filter(|other| other.name.as_str() > self.name);
            let running = after.filter(|other| other.record.phase() == Some(Phase::Reencrypting));
            if let Some(other) = before.chain(running).find(runs) {
                let waits = lags(other, "what it encrypted is encrypted anew first");
                return OverlapStep { waits: Some(waits), ..self.waiting(record, flight) };
            }
            flight.phase = Phase::Reencrypting;
            return self.waiting(record, flight);
        }
        self.retire(record, flight)
    }

    /// Waits until nothing of the group needs the old value, and then for the hold; then it goes.
    fn retire(&self, record: Record, mut flight: Flight) -> OverlapStep {
        if let Some(waits) = self.lagging(&flight) {
            return OverlapStep { waits: Some(waits), ..self.waiting(record, flight) };
        }
        let own = flight.settings.reencrypt.is_none() || flight.reencrypted.is_some();
        if !own {
            let waits = Wait::For("a Job encrypts anew what was encrypted with the old value".to_owned());
            return OverlapStep { waits: Some(waits), ..self.waiting(record, flight) };
        }
        let fellows: Vec<(&Member, &Flight)> = self
            .others
            .iter()
            .filter_map(|other| Some((other, other.record.flight.as_ref()?)))
            .filter(|(_, theirs)| theirs.new.fingerprint == flight.new.fingerprint)
            .collect();
        if flight.cleared.is_none() {
            let waits_for = |(_, theirs): &&(&Member, &Flight)| {
                theirs.gate.is_none() || (theirs.settings.reencrypt.is_some() && theirs.reencrypted.is_none())
            };
            if let Some((other, _)) = fellows.iter().find(waits_for) {
                let waits = lags(other, "it is not done with the old value yet");
                return OverlapStep { waits: Some(waits), ..self.waiting(record, flight) };
            }
            // Where no Job tells that everything is encrypted anew, somebody must.
            let told =
                |flight: &Flight| flight.settings.reencrypt.is_some() || flight.retire || flight.cleared.is_some();
            if !told(&flight) && !fellows.iter().any(|(_, theirs)| told(theirs)) {
                let waits = Wait::For(
                    "no Job encrypts anew what was encrypted with the old value: once that is done, annotate a binding \
                     of the group with bindery.dev/rotation: retire-<rule>"
                        .to_owned(),
                );
                return OverlapStep { waits: Some(waits), ..self.waiting(record, flight) };
            }
            flight.cleared = Some(self.now);
        }
        let cleared = fellows.iter().map(|(_, theirs)| theirs.cleared).chain([flight.cleared]);
        let Some(cleared) = cleared.collect::<Option<Vec<_>>>() else {
            let waits = Wait::For("the other bindings of the group come to the same phase".to_owned());
            return OverlapStep { waits: Some(waits), ..self.waiting(record, flight) };
        };
        let hold = fellows.iter().map(|(_, theirs)| theirs.settings.hold()).chain([flight.settings.hold()]).max();
        let over = cleared.into_iter().max().and_then(|cleared| cleared.checked_add(hold.unwrap_or_default()).ok());
        self.until(over, record, flight)
    }

    /// The first member whose pods do not all use the new value.
    fn lagging(&self, flight: &Flight) -> Option<Wait> {
        let lagging = self.others.iter().find(|other| !uses(other, &flight.new.fingerprint))?;
        Some(lags(lagging, "its pods do not all use the new value yet"))
    }

    /// With `Immediate` the hold begins with the change.
    fn expire(&self, record: Record, flight: Flight) -> OverlapStep {
        let over = flight.since.or(self.written).and_then(|since| since.checked_add(flight.settings.hold()).ok());
        self.until(over, record, flight)
    }

    fn until(&self, over: Option<Timestamp>, mut record: Record, flight: Flight) -> OverlapStep {
        match over {
            Some(over) if over <= self.now => {
                if flight.aborted {
                    record.ignored =
                        (flight.old.fingerprint == self.source.fingerprint).then_some(flight.old.fingerprint);
                }
                record.settled = flight.new;
                OverlapStep { record: self.rule.is_some().then_some(record), ..OverlapStep::default() }
            }
            Some(over) => {
                let waits = Wait::For(format!("the old value stays until {over:.0}"));
                OverlapStep { waits: Some(waits), wake: Some(over), ..self.waiting(record, flight) }
            }
            None => self.waiting(record, flight),
        }
    }

    fn at_gate(&self, record: Record, flight: Flight) -> OverlapStep {
        let waits = if self.gate.blocked.is_empty() {
            let mut older = self.gate.older.clone();
            let more = older.len().saturating_sub(5);
            older.truncate(5);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let which = if older.is_empty() {
                "the pods".to_owned()
            } else {
                format!("these pods: {}{more}", older.join(", "))
            };
            Wait::For(format!(
                "pods that were created before {} was published are to be replaced: {which}",
                flight.phase.as_str()
            ))
        } else {
            Wait::Blocked(self.gate.blocked.join("; "))
        };
        OverlapStep { waits: Some(waits), ..self.waiting(record, flight) }
    }

    #[allow(clippy::unused_self, reason = "reads as a sentence beside the others")]
    fn waiting(&self, mut record: Record, flight: Flight) -> OverlapStep {
        record.flight = Some(flight);
        OverlapStep { record: Some(record), ..OverlapStep::default() }
    }
}

fn begin(rule: &Overlap, phase: Phase, old: Print, new: Print, name: &impl Fn(&Print, &Print) -> String) -> Flight {
    fresh(phase, old, new, OverlapSettings::from(rule), name)
}

/// The change in the other direction. All pods have both values, so it begins with the value it goes back to in use.
fn take_back(flight: Flight, aborted: bool, name: &impl Fn(&Print, &Print) -> String) -> Flight {
    Flight { aborted, ..fresh(Phase::Promoted, flight.new, flight.old, flight.settings, name) }
}

/// A change of which nothing but its first phase is done.
fn fresh(
    phase: Phase,
    old: Print,
    new: Print,
    settings: OverlapSettings,
    name: &impl Fn(&Print, &Print) -> String,
) -> Flight {
    Flight {
        id: name(&old, &new),
        phase,
        since: None,
        old,
        new,
        gate: None,
        reencrypted: None,
        retire: false,
        cleared: None,
        aborted: false,
        held: false,
        settings,
    }
}

/// Whether all pods of another member use a value.
fn uses(other: &Member, value: &str) -> bool {
    match &other.record.flight {
        Some(theirs) if theirs.new.fingerprint == value => theirs.phase > Phase::Introducing && theirs.gate.is_some(),
        // It is on its way from this value to a still newer one.
        Some(theirs) => theirs.phase == Phase::Introducing && theirs.old.fingerprint == value,
        None => other.record.settled.fingerprint == value,
    }
}

fn lags(other: &Member, why: &str) -> Wait {
    match &other.stuck {
        Some(stuck) => Wait::Blocked(format!("waits for the SecretBinding {:?}, which is stuck: {stuck}", other.name)),
        None => Wait::For(format!("waits for the SecretBinding {:?}: {why}", other.name)),
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
