//! `spec.restart`, parsed: the workloads that a binding restarts, and the window for it.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::{RestartPolicy, RestartSpec, WorkloadReference};
use crate::domain::duration::Span;
use crate::domain::schedule::Schedule;

/// The workloads that a binding restarts, and the window for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restart {
    /// The workloads.
    pub scope: RestartScope,
    /// The window; `None` allows restarts at any time.
    pub window: Option<Window>,
}

/// The workloads that a binding restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RestartScope {
    /// None.
    #[default]
    Nobody,
    /// Those that refer to the target.
    Consumers,
    /// These.
    Listed(BTreeSet<WorkloadReference>),
}

/// A window of time in which restarts may begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    opens: Schedule,
    stays: Duration,
}

impl Window {
    /// How long until a restart may begin; zero where it may begin now.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Duration {
        let opened = now.checked_sub(self.stays).ok().and_then(|start| self.opens.after(start));
        match opened {
            Some(opened) if opened <= now => Duration::ZERO,
            Some(opens) => Duration::try_from(opens.duration_since(now)).unwrap_or_default(),
            None => Duration::MAX,
        }
    }
}

impl Restart {
    /// Parses `spec.restart`.
    ///
    /// # Errors
    /// The first wrong field below `spec.restart`, with the cure.
    pub fn parse(manifest: Option<&RestartSpec>) -> Result<Self, (&'static str, String)> {
        let Some(manifest) = manifest else { return Ok(Self::default()) };
        let listed: BTreeSet<_> = manifest.workloads.iter().cloned().collect();
        let scope = match manifest.policy.unwrap_or_default() {
            RestartPolicy::Listed if listed.is_empty() => {
                return Err(("workloads", "name the workloads that policy: Listed restarts".to_owned()));
            }
            RestartPolicy::Listed => RestartScope::Listed(listed),
            _ if !listed.is_empty() => return Err(("workloads", "belongs to policy: Listed".to_owned())),
            RestartPolicy::Never => RestartScope::Nobody,
            RestartPolicy::Consumers => RestartScope::Consumers,
        };
        let window = manifest.window.as_ref().map(|window| {
            let stays = Span::try_from(window.duration.as_str()).map_err(|e| ("window.duration", e.to_string()))?.get();
            if stays.is_zero() {
                return Err(("window.duration", "must be longer than 0s".to_owned()));
            }
            let opens = Schedule::parse(&window.schedule, window.time_zone.as_deref());
            Ok(Window { opens: opens.map_err(|error| ("window.schedule", error.to_string()))?, stays })
        });
        Ok(Self { scope, window: window.transpose()? })
    }

    /// Whether any workload may be restarted at all.
    #[must_use]
    pub fn restarts_any(&self) -> bool {
        self.scope != RestartScope::Nobody
    }
}

#[cfg(test)]
mod tests;
