//! Cron expressions in a time zone.
//!
//! Five fields as [cron(8)][cron] reads them, with names of days and months. Around a switch to or from summer time
//! the rule of Vixie cron applies: a time that the clock skips is met at the moment it skips to, and one that it shows
//! twice is met once.
//!
//! [cron]: https://manpages.debian.org/stable/cron/crontab.5.en.html

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;

use crate::domain::quoted::Quoted;

/// The most characters of the library's own words.
const MAX_WHY: usize = 200;

/// The times that a cron expression gives in a time zone.
#[derive(Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The expression.
    #[error("{} is not a cron expression of five fields (minute hour day month weekday): {}", Quoted(.0), .1)]
    Expression(String, String),
    /// The time zone.
    #[error("{} is not a time zone of the IANA database, such as Europe/Berlin or UTC", Quoted(.0))]
    Zone(String),
    /// It never comes.
    #[error("{} never comes; correct the day and the month", Quoted(.0))]
    Never(String),
}

impl Schedule {
    /// Parses an expression and the name of a time zone, without which it is UTC.
    ///
    /// # Errors
    /// Where one of them is not well-formed, or the time never comes.
    pub fn parse(expression: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| {
            // The library may quote what it was given.
            let why = error.to_string().chars().filter(|c| !c.is_control()).take(MAX_WHY).collect();
            ScheduleError::Expression(expression.to_owned(), why)
        })?;
        let zone = zone.unwrap_or("UTC");
        let zone = TimeZone::get(zone).map_err(|_| ScheduleError::Zone(zone.to_owned()))?;
        let schedule = Self { cron, zone };
        if schedule.after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(ScheduleError::Never(expression.to_owned()));
        }
        Ok(schedule)
    }

    /// The first time after `time`. `None` where it lies beyond the calendar.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&time.to_zoned(self.zone.clone()), false).ok()?;
        Some(next.timestamp())
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.cron.pattern, self.zone)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.cron == other.cron && self.zone == other.zone
    }
}

#[cfg(test)]
mod tests;
