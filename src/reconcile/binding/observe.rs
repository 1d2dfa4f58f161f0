//! Observes what a reconcile is planned by: the target, the sources, the overlaps. It only reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::domain::target::TargetState;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::binding::observe_sources::{ObservedSources, SourcesQuestion, observe_sources, register};
use crate::reconcile::binding::observe_target::refuse_foreign;
use crate::reconcile::consistency::Consistency;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::rotation::overlap;
use crate::reconcile::rotation::overlap::observed::ObservedOverlap;
use crate::reconcile::subject::Subject;
use crate::state::history::History;

/// What was observed of a binding, without any value.
pub struct Observed {
    /// The target.
    pub target: TargetState,
    /// The versions of the sources, where they are known without a read.
    pub sources: Option<ObservedSources>,
    /// The keys whose old and new values overlap.
    pub overlaps: Vec<ObservedOverlap>,
    /// Whether an overlap has a step to take.
    pub overlap_due: bool,
}

impl Observed {
    /// When the sources were last known at their present versions; `None` where they were not observed.
    #[must_use]
    pub fn verified(&self) -> Option<Instant> {
        self.sources.as_ref().map(|sources| sources.at)
    }

    /// The versions to read, where they are known.
    #[must_use]
    pub fn wanted(&self, at: &Subject<'_>) -> BTreeMap<Source, VersionRef> {
        let sources = self.sources.as_ref().filter(|_| !at.asks_for_sync());
        sources.map(|sources| sources.versions.clone()).unwrap_or_default()
    }
}

/// Observes the sources and the overlaps of a binding whose target was observed.
///
/// # Errors
/// Where the target is somebody else's, what AWS refuses, and where the API server does not answer.
pub async fn observe(
    cx: &Arc<Context>,
    at: &Subject<'_>,
    authorized: &AuthorizedBinding,
    history: &History,
    target: TargetState,
) -> Result<Observed, Error> {
    if let Err(error) = refuse_foreign(&at.binding, &target) {
        cx.clients.reader.versions().forget(at.name);
        return Err(error);
    }
    register(cx, authorized);
    cx.state.warmup.targets.arrived(at.name);
    let question = SourcesQuestion { target: &target, history, confirmed: false };
    let sources = Box::pin(observe_sources(cx, at, authorized, question)).await?;
    let (mut overlaps, mut overlap_due) = (Vec::new(), false);
    if overlap::overlaps_any(at, &target) {
        let reads = cx.clients.kubernetes.reads(&at.name.namespace);
        overlaps = Box::pin(overlap::look_at_overlaps(cx, at, &target, Consistency::Cached, reads)).await?;
        overlap_due = overlap::overlaps_rest(cx, at, &overlaps).is_err();
    }
    Ok(Observed { target, sources, overlaps, overlap_due })
}

/// Observes the sources again, by more than a list.
///
/// # Errors
/// What AWS refuses.
pub async fn confirm(
    cx: &Arc<Context>,
    at: &Subject<'_>,
    authorized: &AuthorizedBinding,
    history: &History,
    observed: Observed,
) -> Result<Observed, Error> {
    let question = SourcesQuestion { target: &observed.target, history, confirmed: true };
    let sources = observe_sources(cx, at, authorized, question).await?;
    Ok(Observed { sources, ..observed })
}
