//! Renders what was read, drops the values, and writes the Secret.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::api::SourceStatus;
use crate::aws::audit::ReadReason;
use crate::domain::inputs::{inputs, source_text};
use crate::domain::render::mapping::Rendered;
use crate::domain::render::mapping::error::RenderError;
use crate::domain::rollout::publication::same_sources;
use crate::domain::rotation::age::AgeUpdate;
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::domain::target::{ObservedTarget, TargetState};
use crate::kubernetes::api_server::Permit;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::binding::ages::{observe_keys, update_ages};
use crate::reconcile::binding::fetch::Fetched;
use crate::reconcile::binding::plan::{is_repair, records_text};
use crate::reconcile::binding::write::{Material, Written, write};
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::rotation::overlap::observed::OverlapReport;
use crate::reconcile::subject::Subject;
use crate::state::history::{AgeHistory, RejectedInputs};

/// What is published, and why.
pub struct Publication<'a> {
    /// The binding.
    pub authorized: &'a AuthorizedBinding,
    /// Why its values were read.
    pub reason: ReadReason,
    /// The target as it was observed before.
    pub seen: TargetState,
    /// What is remembered of the ages of its keys.
    pub ages: &'a AgeHistory,
}

/// What came of a publication.
#[derive(Debug)]
pub struct Applied {
    /// The target after the write.
    pub result: Result<ObservedTarget, Error>,
    /// Whether the values were rendered.
    pub rendered: bool,
    /// Inputs that give no Secret; `None` inside where these do give one.
    pub rejected: Option<Option<RejectedInputs>>,
    /// The overlaps, where there are any.
    pub overlaps: Option<Vec<OverlapReport>>,
    /// The versions that are published.
    pub sources: Vec<SourceStatus>,
    /// The ages of the keys.
    pub aged: Option<AgeUpdate>,
    /// The keys whose values no container can take as environment, where the Secret was written.
    pub binary: Option<Vec<String>>,
    /// When the target was repaired, if it was.
    pub repaired: Option<Instant>,
}

/// What was read, without the values.
struct Summary {
    versions: BTreeMap<Source, VersionRef>,
    sources: Vec<SourceStatus>,
    created: Option<Timestamp>,
}

impl Summary {
    fn of(fetched: &Fetched) -> Self {
        let versions = fetched.iter().map(|(source, version)| (source.clone(), version.reference()));
        let sources = fetched.iter().map(|(source, version)| SourceStatus {
            secret: source_text(source),
            arn: version.arn.clone(),
            version_id: version.version_id.clone(),
            created_time: version.created.map(Time),
        });
        Self {
            versions: versions.collect(),
            sources: sources.collect(),
            created: fetched.values().filter_map(|version| version.created).max(),
        }
    }
}

/// Renders what was fetched, drops it, and writes the Secret, if it is not already as desired.
pub async fn apply(
    cx: &std::sync::Arc<Context>,
    subject: &Subject<'_>,
    publication: Publication<'_>,
    fetched: Fetched,
    permit: &Permit<'_>,
) -> Applied {
    let Publication { authorized, reason, seen, ages } = publication;
    let summary = Summary::of(&fetched);
    let selected = match select(authorized, &summary, &fetched) {
        Ok(selected) => selected,
        Err(error) => return refused(cx, authorized, summary, &seen, error),
    };
    drop(fetched);
    let keys = Box::pin(observe_keys(cx, subject, &selected, &summary.versions, permit.reads().await)).await;
    let material = Material {
        authorized,
        versions: &summary.versions,
        selected: &selected,
        same_sources: same_sources(&subject.binding, subject.before, &summary.sources),
    };
    let Written { result, rendered, rejected, overlaps, binary, .. } =
        Box::pin(write(cx, subject, &material, seen, permit)).await;
    let mut applied =
        Applied { result, rendered, rejected, overlaps, sources: summary.sources, aged: None, binary, repaired: None };
    if applied.result.is_ok() {
        applied.aged = Some(update_ages(cx, subject.before, ages, keys));
        applied.repaired = is_repair(reason).then(Instant::now);
        if let (ReadReason::Changed | ReadReason::Event, Some(created)) = (reason, summary.created) {
            cx.metrics.propagated(Timestamp::now().duration_since(created));
        }
    }
    applied
}

/// The keys that the mapping takes of the payloads, as far as the grant allows them.
fn select(authorized: &AuthorizedBinding, summary: &Summary, fetched: &Fetched) -> Result<Rendered, RenderError> {
    let AuthorizedBinding { binding, access, .. } = authorized;
    let allowed = |source: &Source, key: &str| {
        summary.versions.get(source).is_some_and(|known| access.permits_key(&known.name, key))
    };
    binding.mapping.select(|source| fetched.get(source).map(|version| &version.payload), &allowed)
}

/// Payloads that give no Secret. Their inputs are remembered, so that they are not read again.
fn refused(
    cx: &Context,
    authorized: &AuthorizedBinding,
    summary: Summary,
    seen: &TargetState,
    error: RenderError,
) -> Applied {
    let AuthorizedBinding { binding, access, .. } = authorized;
    let inputs = inputs(binding, access, &summary.versions, records_text(seen), &cx.key);
    let rejected = RejectedInputs { inputs, rejection: error.into() };
    Applied {
        result: Err(Error::Render(rejected.rejection.clone())),
        rendered: false,
        rejected: Some(Some(rejected)),
        overlaps: None,
        sources: summary.sources,
        aged: None,
        binary: None,
        repaired: None,
    }
}
