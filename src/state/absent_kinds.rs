//! The kinds of workloads that are not installed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::WorkloadKind;

/// How long it is relied on that Argo Rollouts is not installed.
const ABSENT: Duration = Duration::from_secs(300);

/// Which kinds of workloads the API server does not know, and when it said so.
#[derive(Debug, Default)]
pub struct AbsentKinds(Mutex<BTreeMap<WorkloadKind, Instant>>);

impl AbsentKinds {
    /// Whether the API server said a moment ago that it does not know the kind.
    #[must_use]
    pub fn has(&self, kind: WorkloadKind) -> bool {
        let absent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        absent.get(&kind).is_some_and(|seen| seen.elapsed() < ABSENT)
    }

    /// Notes that the API server does not know the kind.
    pub fn note(&self, kind: WorkloadKind) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, Instant::now());
    }
}
