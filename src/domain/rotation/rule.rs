//! A rotation rule whose every part is known to be well-formed.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::{
    Contact, GenerateEncoding, OverlapSpec, OverlapStrategy, RotationAction, RotationRule as Manifest, RuleAction,
};
use crate::domain::duration::Span;
use crate::domain::quoted::Quoted;
use crate::domain::render::key::TargetKey;
use crate::domain::schedule::Schedule;

/// The shortest time between two values that Bindery makes itself (the shortest that AWS's own rotation allows).
const MIN_GENERATE: Duration = Duration::from_secs(4 * 3600);

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its target keys; at least one.
    pub keys: Vec<TargetKey>,
    /// Its clock, which makes it due by the age of its keys.
    pub clock: Option<Clock>,
    /// The time at which it is due at any age.
    pub not_after: Option<Timestamp>,
    /// The time before the due time in which it is due soon.
    pub warn_before: Duration,
    /// The people to ask.
    pub contact: Option<Contact>,
    /// The action once it is due.
    pub action: Action,
    /// The overlap of an old and a new value.
    pub overlap: Option<Overlap>,
}

/// The clock of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Clock {
    /// So long after its keys were changed.
    Every(Duration),
    /// At the first of these times after its keys were changed.
    Schedule(Box<Schedule>),
}

impl Clock {
    /// When keys of this age are due.
    #[must_use]
    pub fn due(&self, rotated: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(period) => rotated.checked_add(*period).ok(),
            Self::Schedule(schedule) => schedule.after(rotated),
        }
    }
}

/// The action of a due rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The status, an Event and metrics report it.
    Notify,
    /// A Job runs from this CronJob's template.
    RunJob(String),
    /// Secrets Manager rotates the secret.
    RotateSecret,
    /// Bindery makes and writes a new value.
    Generate(Recipe),
}

impl Action {
    /// The action as grants allow it; `None` for what needs no grant.
    #[must_use]
    pub const fn needs(&self) -> Option<RotationAction> {
        match self {
            Self::Notify => None,
            Self::RunJob(_) => Some(RotationAction::RunJob),
            Self::RotateSecret => Some(RotationAction::RotateSecret),
            Self::Generate(_) => Some(RotationAction::Generate),
        }
    }
}

/// The form of a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The number of random bytes, or of characters where the encoding is `Alphanumeric`.
    pub bytes: usize,
    /// How they are written.
    pub encoding: GenerateEncoding,
}

/// The overlap of an old and a new value of the rule's only key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The value that programs use first.
    pub strategy: OverlapStrategy,
    /// The bindings of the namespace with this group advance together.
    pub group: String,
    /// The key itself.
    pub key: TargetKey,
    /// The key of the new value before programs use it.
    pub next_key: TargetKey,
    /// The key of the old value while programs may need it.
    pub previous_key: TargetKey,
    /// How long the old value stays.
    pub hold: Duration,
    /// The CronJob that re-encrypts.
    pub reencrypt: Option<String>,
}

/// A fault of a rule: the path of the field below the rule, and the cure.
pub type RuleError = (&'static str, String);

impl Rule {
    /// Parses a rule.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(manifest: &Manifest) -> Result<Self, RuleError> {
        let keys: Vec<TargetKey> = manifest.keys.iter().map(|key| key_of(key, "keys")).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(("keys", "give at least one key".to_owned()));
        }
        let clock = match (&manifest.every, &manifest.schedule) {
            (Some(_), Some(_)) => return Err(("schedule", "give every or schedule, not both".to_owned())),
            (Some(every), None) => {
                let period = span(every, "every")?;
                if period.is_zero() {
                    return Err(("every", "must be longer than 0s".to_owned()));
                }
                Some(Clock::Every(period))
            }
            (None, Some(schedule)) => {
                let schedule = Schedule::parse(schedule, manifest.time_zone.as_deref());
                Some(Clock::Schedule(Box::new(schedule.map_err(|error| ("schedule", error.to_string()))?)))
            }
            (None, None) => None,
        };
        let action = action(manifest)?;
        if action != Action::Notify && clock.is_none() {
            return Err(("action", "needs a clock: give every or schedule".to_owned()));
        }
        if let (Action::Generate(_), Some(Clock::Every(period))) = (&action, &clock)
            && *period < MIN_GENERATE
        {
            return Err(("every", "must be at least 4h with action: Generate".to_owned()));
        }
        Ok(Self {
            name: manifest.name.clone(),
            overlap: manifest
                .overlap
                .as_ref()
                .map(|overlap| parse_overlap(overlap, &manifest.name, &keys))
                .transpose()?,
            keys,
            clock,
            not_after: manifest.not_after.as_ref().map(|time| time.0),
            warn_before: manifest.warn_before.as_deref().map_or(Ok(Duration::ZERO), |text| span(text, "warnBefore"))?,
            contact: manifest.contact.clone(),
            action,
        })
    }

    /// Whether a clock says when the rule is due; one without is there for its contact.
    #[must_use]
    pub const fn has_clock(&self) -> bool {
        self.clock.is_some() || self.not_after.is_some()
    }
}

fn span(text: &str, field: &'static str) -> Result<Duration, RuleError> {
    Span::try_from(text).map(Span::get).map_err(|error| (field, error.to_string()))
}

fn key_of(text: &str, field: &'static str) -> Result<TargetKey, RuleError> {
    TargetKey::try_from(text).map_err(|error| (field, error.to_string()))
}

fn action(manifest: &Manifest) -> Result<Action, RuleError> {
    let action = manifest.action.unwrap_or_default();
    if action != RuleAction::RunJob && manifest.run_job.is_some() {
        return Err(("runJob", "belongs to action: RunJob".to_owned()));
    }
    Ok(match action {
        RuleAction::Notify => Action::Notify,
        RuleAction::RotateSecret => Action::RotateSecret,
        RuleAction::RunJob => match &manifest.run_job {
            Some(job) => Action::RunJob(job.cron_job.clone()),
            None => return Err(("runJob", "name the CronJob that action: RunJob runs".to_owned())),
        },
        RuleAction::Generate => {
            let spec = manifest.generate.clone().unwrap_or_default();
            let bytes = usize::try_from(spec.bytes.unwrap_or(32)).ok().filter(|bytes| (16..=1024).contains(bytes));
            let bytes = bytes.ok_or_else(|| ("generate.bytes", "must be from 16 to 1024".to_owned()))?;
            Action::Generate(Recipe { bytes, encoding: spec.encoding.unwrap_or_default() })
        }
    })
}

fn parse_overlap(manifest: &OverlapSpec, rule: &str, keys: &[TargetKey]) -> Result<Overlap, RuleError> {
    let [key] = keys else {
        return Err((
            "overlap",
            "is for one key: give the rule exactly one, and further keys rules of their own".to_owned(),
        ));
    };
    let beside = |text: Option<&String>, suffix: &str, field| match text {
        Some(text) => key_of(text, field),
        None => key_of(&format!("{key}{suffix}"), field),
    };
    let next_key = beside(manifest.next_key.as_ref(), "_NEXT", "overlap.nextKey")?;
    let previous_key = beside(manifest.previous_key.as_ref(), "_PREVIOUS", "overlap.previousKey")?;
    for (field, other, earlier) in [
        ("overlap.nextKey", &next_key, key),
        ("overlap.previousKey", &previous_key, key),
        ("overlap.previousKey", &previous_key, &next_key),
    ] {
        if other == earlier {
            return Err((field, format!("{} is taken already; choose another name", Quoted(earlier.as_str()))));
        }
    }
    Ok(Overlap {
        strategy: manifest.strategy,
        group: manifest.group.clone().unwrap_or_else(|| rule.to_owned()),
        key: key.clone(),
        next_key,
        previous_key,
        hold: span(&manifest.hold, "overlap.hold")?,
        reencrypt: manifest.reencrypt.as_ref().map(|job| job.cron_job.clone()),
    })
}

#[cfg(test)]
mod tests;
