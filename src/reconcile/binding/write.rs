//! Writes the Secret on top of exactly what was observed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{ANNOTATION_CHANGED, ANNOTATION_ROTATION_STATE};
use crate::domain::inputs::inputs;
use crate::domain::render::mapping::Rendered;
use crate::domain::render::mapping::error::RenderError;
use crate::domain::render::rejection::Rejection;
use crate::domain::render::text::binary_keys;
use crate::domain::rollout::publication::{PublishedBefore, changes};
use crate::domain::secret::reference::Source;
use crate::domain::secret::version::VersionRef;
use crate::domain::target::record::is_forged;
use crate::domain::target::{Comparison, Desired, ObservedSecret, ObservedTarget, TargetState, compare, judge};
use crate::kubernetes::api_server::Permit;
use crate::kubernetes::read::PublishedSecret;
use crate::kubernetes::write::apply_secret;
use crate::kubernetes::write_error::WriteError;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::binding::observe_target::{observe_live, observe_with_values, refuse_foreign};
use crate::reconcile::binding::plan::records_text;
use crate::reconcile::binding::take_over::take_over;
use crate::reconcile::consistency::Consistency;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::rotation::overlap;
use crate::reconcile::rotation::overlap::observed::{OverlapMaterial, OverlapReport};
use crate::reconcile::subject::Subject;
use crate::state::history::RejectedInputs;

/// How often a write that lost a race observes again.
const RACES: usize = 4;

/// What the Secret is made from.
pub struct Material<'a> {
    /// The binding.
    pub authorized: &'a AuthorizedBinding,
    /// The versions that were read.
    pub versions: &'a BTreeMap<Source, VersionRef>,
    /// The keys that were selected of them.
    pub selected: &'a Rendered,
    /// Whether the sources and the spec are those of the last publication.
    pub same_sources: bool,
}

impl Material<'_> {
    fn inputs(&self, cx: &Context, records: Option<&str>) -> String {
        let AuthorizedBinding { binding, access, .. } = self.authorized;
        inputs(binding, access, self.versions, records, &cx.key)
    }
}

/// What came of a write.
pub struct Written {
    /// The target after the write.
    pub result: Result<ObservedTarget, Error>,
    /// Whether the values were rendered.
    pub rendered: bool,
    /// Inputs that give no Secret; `None` inside where these do give one.
    pub rejected: Option<Option<RejectedInputs>>,
    /// The overlaps, where there are any.
    pub overlaps: Option<Vec<OverlapReport>>,
    /// The keys whose values no container can take as environment, where the Secret was written.
    pub binary: Option<Vec<String>>,
    /// Whether the Secret was not as observed any more, so that it is to be observed again.
    raced: bool,
}

impl Written {
    fn stopped(error: impl Into<Error>) -> Self {
        Self { result: Err(error.into()), rendered: false, rejected: None, overlaps: None, binary: None, raced: false }
    }

    fn rejected(rejection: Rejection, inputs: String) -> Self {
        let rejected = Some(Some(RejectedInputs { inputs, rejection: rejection.clone() }));
        Self { rejected, ..Self::stopped(Error::Render(rejection)) }
    }
}

/// Writes the Secret, if it is not already as desired: on top of exactly what was `seen` before, or of what is observed
/// then where it has changed.
pub async fn write(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    material: &Material<'_>,
    seen: TargetState,
    permit: &Permit<'_>,
) -> Written {
    let overlapping = overlap::overlaps_any(subject, &seen);
    let _groups = if overlapping { overlap::lock_groups(cx, subject, &seen).await } else { Vec::new() };
    let mut seen = Some(seen);
    let mut written = Written::stopped(WriteError::Raced);
    for _ in 0..RACES {
        let mut next = match observe(cx, subject, seen.take(), overlapping, permit).await {
            Ok((target, old)) => {
                let content = Content::of(material.selected.clone(), target, old.as_ref());
                if overlapping {
                    Box::pin(write_overlapping(cx, subject, material, content, permit)).await
                } else {
                    Box::pin(write_content(cx, subject, material, content, permit)).await
                }
            }
            Err(error) => Written::stopped(error),
        };
        next.rendered |= written.rendered;
        next.rejected = next.rejected.or(written.rejected);
        next.overlaps = next.overlaps.or(written.overlaps);
        written = next;
        if !written.raced {
            break;
        }
    }
    written
}

/// The target that a write rests on, with its values where they decide what is written.
async fn observe(
    cx: &Context,
    subject: &Subject<'_>,
    seen: Option<TargetState>,
    overlapping: bool,
    permit: &Permit<'_>,
) -> Result<(TargetState, Option<PublishedSecret>), Error> {
    if overlapping || subject.binding.has_history() {
        return observe_with_values(cx, subject, permit.reads().await).await;
    }
    let seen = match seen {
        Some(seen) => seen,
        None => observe_live(cx, subject, permit.reads().await).await?,
    };
    match &seen {
        TargetState::Owned(observed) if observed.is_restored() => {
            observe_with_values(cx, subject, permit.reads().await).await
        }
        _ => Ok((seen, None)),
    }
}

/// What is to be written, and over what.
struct Content<'a> {
    selected: Rendered,
    /// The records of overlaps.
    records: Option<String>,
    /// Whether the Secret may hold the only copy of a value.
    alone: bool,
    /// Whether anything of the binding overlaps.
    overlapping: bool,
    target: TargetState,
    old: Option<&'a PublishedSecret>,
}

impl<'a> Content<'a> {
    const fn of(selected: Rendered, target: TargetState, old: Option<&'a PublishedSecret>) -> Self {
        Self { selected, records: None, alone: false, overlapping: false, target, old }
    }
}

/// Takes the steps of the overlaps, and writes what they ask for.
async fn write_overlapping(
    cx: &Arc<Context>,
    subject: &Subject<'_>,
    material: &Material<'_>,
    content: Content<'_>,
    permit: &Permit<'_>,
) -> Written {
    let mut content = Content { overlapping: true, ..content };
    let observed = overlap::look_at_overlaps(cx, subject, &content.target, Consistency::Live, permit.reads().await);
    let observed = match Box::pin(observed).await {
        Ok(observed) => Box::pin(overlap::start_jobs(subject, observed, permit)).await,
        Err(error) => return Written::stopped(error),
    };
    let steps = OverlapMaterial { access: &material.authorized.access, versions: material.versions };
    let stepped = Box::pin(overlap::overlap(cx, subject, observed, &steps, &mut content.selected, content.old)).await;
    let (next, reports) = match stepped {
        Ok(stepped) => stepped,
        Err(Error::Render(rejection)) => {
            return Written::rejected(rejection, material.inputs(cx, records_text(&content.target)));
        }
        Err(error) => return Written::stopped(error),
    };
    content.alone = next.0.values().filter_map(|record| record.flight.as_ref()).any(|flight| !flight.held);
    content.records = next.text();
    Written { overlaps: Some(reports), ..write_content(cx, subject, material, content, permit).await }
}

/// Writes the content, if the target is not already like that.
async fn write_content(
    cx: &Context,
    subject: &Subject<'_>,
    material: &Material<'_>,
    content: Content<'_>,
    permit: &Permit<'_>,
) -> Written {
    let binding = &subject.binding;
    if let Err(error) = refuse_foreign(binding, &content.target) {
        return Written::stopped(error);
    }
    let inputs = material.inputs(cx, content.records.as_deref());
    let rendered =
        |result| Written { rendered: true, rejected: Some(None), result, overlaps: None, binary: None, raced: false };
    if let TargetState::Owned(observed) = &content.target
        && compare(observed, &inputs) == Comparison::Current
        && observed.digest.is_some()
        && !is_forged(subject.before, &binding.target.name, observed, &cx.key)
    {
        return rendered(Ok(observed.clone()));
    }
    let (alone, overlapping) = (content.alone, content.overlapping);
    let restored = matches!(&content.target, TargetState::Owned(observed) if observed.is_restored());
    let read = content.old.filter(|_| restored);
    let inputs_now = material.inputs(cx, records_text(&content.target));
    let (mut desired, mut observed) = match compose(cx, subject, material, content, &inputs) {
        Ok(composed) => composed,
        Err(error) => return Written::rejected(error.into(), inputs_now),
    };
    if alone {
        // What may be the only copy of a value does not go with its binding.
        desired = desired.without_owner(&inputs, &cx.key);
    }
    match Box::pin(take_over(cx, subject, read, &desired, permit)).await {
        Ok(taken) => observed = taken.or(observed),
        Err(error) => return Written { raced: error == WriteError::Raced, ..rendered(Err(error.into())) },
    }
    let written = match apply_secret(permit.writes().await, &desired, observed.as_ref()).await {
        Ok(written) => ObservedSecret::new(&written, &cx.key),
        Err(error) => {
            let raced = error == WriteError::Raced;
            return Written { raced, ..rendered(Err(error.into())) };
        }
    };
    let TargetState::Owned(mut observed) = judge(binding, Some(&written), true) else {
        return rendered(Err(WriteError::Raced.into()));
    };
    observed.digest = Some(desired.digest(&cx.key).into());
    // What is as it should be needs no reconcile when the watch shows it. A new phase does, since it waits.
    if !overlapping && compare(&observed, &inputs) == Comparison::Current {
        cx.state.targets.wrote(&binding.namespace, &desired.name, &observed.resource_version);
    }
    tracing::info!(
        namespace = %binding.namespace, name = %binding.name, secret = %desired.name, keys = desired.data.len(),
        "published"
    );
    Written { binary: Some(binary_keys(&desired.data)), ..rendered(Ok(observed)) }
}

/// The desired Secret, from the selected keys and the record of earlier values. Returns the observed target with it.
fn compose(
    cx: &Context,
    subject: &Subject<'_>,
    material: &Material<'_>,
    content: Content<'_>,
    inputs: &str,
) -> Result<(Desired, Option<ObservedTarget>), RenderError> {
    let Content { selected, records, target, old, .. } = content;
    let observed = match target {
        TargetState::Owned(observed) | TargetState::Adoptable(observed) => Some(observed),
        TargetState::Absent | TargetState::Foreign(_) => None,
    };
    let binding = &subject.binding;
    let rendered = binding.mapping.complete(selected)?;
    let published = observed.as_ref().zip(old);
    let published = published.map(|(observed, old)| PublishedBefore { observed, meta: &old.meta, data: &old.data });
    let changes = changes(binding, subject.before, published, &rendered.data, material.same_sources);
    let changes = changes.and_then(|changes| changes.text()).map(|changes| (ANNOTATION_CHANGED.to_owned(), changes));
    let records = records.map(|records| (ANNOTATION_ROTATION_STATE.to_owned(), records));
    let history = changes.into_iter().chain(records).collect();
    Ok((Desired::new(binding, rendered.data, history, inputs, &cx.key), observed))
}
