//! Observes the versions of the sources, without their values.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::aws::versions::snapshot::{Discovery, Snapshot, SnapshotRequest};
use crate::domain::grant::requested_keys;
use crate::domain::inputs::source_text;
use crate::domain::rotation::due::AwsRotation;
use crate::domain::secret::description::Description;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::reference::{SecretId, Source, VersionSelector};
use crate::domain::secret::version::VersionRef;
use crate::domain::target::TargetState;
use crate::reconcile::authorization::AuthorizedBinding;
use crate::reconcile::context::Context;
use crate::reconcile::error::Error;
use crate::reconcile::refresh::{interval, relied_on_for};
use crate::reconcile::subject::Subject;
use crate::state::history::History;

/// How fresh an observation of AWS must be.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// How old what is known may be.
    pub fresh: Duration,
    /// How old a failure may be to count as the answer.
    pub failed: Duration,
    /// Whether a list is not enough.
    pub confirmed: bool,
}

/// The versions of all sources, observed without a value.
#[derive(Clone, Debug)]
pub struct ObservedSources {
    /// The versions.
    pub versions: BTreeMap<Source, VersionRef>,
    /// When the oldest of these observations was made.
    pub at: Instant,
    /// Whether all of it rests on more than a list.
    pub confirmed: bool,
    /// AWS's own rotation of each secret, where it is known of all.
    pub rotations: Option<BTreeMap<SecretId, AwsRotation>>,
    /// Whether an event led to it.
    pub by_event: bool,
}

/// Registers the secrets that a binding depends on, so that changes of them trigger it.
pub fn register(cx: &Context, authorized: &AuthorizedBinding) {
    let AuthorizedBinding { binding, name, access } = authorized;
    let fresh = relied_on_for(interval(&cx.settings, binding.refresh));
    let secrets = requested_keys(&binding.mapping).into_keys().collect();
    cx.clients.reader.versions().register(name, &access.identity, secrets, fresh);
}

/// What is asked of the sources.
#[derive(Clone, Copy)]
pub struct SourcesQuestion<'a> {
    /// The target as it was observed.
    pub target: &'a TargetState,
    /// What is remembered of the binding.
    pub history: &'a History,
    /// Whether what a list tells is not enough.
    pub confirmed: bool,
}

/// The versions of the sources. `None` where only a read tells: nothing is published yet, or IAM allows nothing else.
///
/// # Errors
/// What AWS refuses, and names that the grant does not allow.
pub async fn observe_sources(
    cx: &Context,
    subject: &Subject<'_>,
    authorized: &AuthorizedBinding,
    question: SourcesQuestion<'_>,
) -> Result<Option<ObservedSources>, Error> {
    let SourcesQuestion { target, history, confirmed } = question;
    let forced = subject.asks_for_sync();
    let must_ask = !authorized.access.unconfirmed.is_empty() || history.rejected.is_some();
    if !must_ask && (forced || matches!(target, TargetState::Absent | TargetState::Adoptable(_))) {
        return Ok(None);
    }
    let interval = interval(&cx.settings, authorized.binding.refresh);
    let fresh = if forced { Duration::ZERO } else { relied_on_for(interval) };
    let freshness = Freshness { fresh, failed: history.backoff.shares_failures_of(), confirmed };
    let Some(seen) = observe_secrets(cx, authorized, freshness).await? else { return Ok(None) };
    Ok(Some(of_sources(authorized, &seen)?))
}

/// The secrets of all sources. `None` where IAM does not allow to ask without reading.
async fn observe_secrets(
    cx: &Context,
    authorized: &AuthorizedBinding,
    freshness: Freshness,
) -> Result<Option<BTreeMap<SecretId, Snapshot>>, SourceError> {
    let AuthorizedBinding { binding, access, .. } = authorized;
    let sources = binding.mapping.sources();
    let mut seen = BTreeMap::new();
    for (secret, wants) in requested_keys(&binding.mapping) {
        let versions: Vec<&VersionSelector> =
            sources.iter().filter(|source| source.secret == secret).map(|source| &source.version).collect();
        let unconfirmed = access.unconfirmed.contains(&secret);
        let want = SnapshotRequest {
            namespace: &binding.namespace,
            max_age: freshness.fresh,
            max_failure_age: freshness.failed,
            confirmed: freshness.confirmed || unconfirmed,
            versions: &versions,
        };
        let Some(found) = cx.clients.reader.versions().snapshot(&access.identity, &secret, &want).await? else {
            if unconfirmed {
                return Err(SourceError::new(SourceErrorKind::AccessDenied, secret.to_string()));
            }
            return Ok(None);
        };
        let (arn, name) = (&found.description.arn, &found.description.name);
        if !access.permits(arn, name) || !access.permits_request(name, &wants) {
            return Err(SourceError::new(SourceErrorKind::NotGranted, secret.to_string()));
        }
        seen.insert(secret, found);
    }
    Ok(Some(seen))
}

/// The versions that the sources mean in these secrets.
fn of_sources(
    authorized: &AuthorizedBinding,
    seen: &BTreeMap<SecretId, Snapshot>,
) -> Result<ObservedSources, SourceError> {
    let rotations = seen.iter().map(|(secret, found)| {
        let Description { name, rotation, .. } = &*found.description;
        let pending = found.description.has_pending();
        let of = AwsRotation { name: name.clone(), rotation: rotation.clone(), pending };
        found.has_rotation_dates().then(|| (secret.clone(), of))
    });
    let rotations = rotations.collect();
    let mut versions = BTreeMap::new();
    for source in authorized.binding.mapping.sources() {
        let Some(found) = seen.get(&source.secret) else { continue };
        let description = &found.description;
        // A version without a label is not listed, yet it can be read by its id while AWS keeps it.
        let version_id = match &source.version {
            VersionSelector::Id(id) => id.clone(),
            VersionSelector::Stage(_) => description
                .version_id(&source.version)
                .ok_or_else(|| SourceError::new(SourceErrorKind::VersionNotFound, source_text(&source)))?
                .to_owned(),
        };
        let known =
            VersionRef { arn: description.arn.clone(), name: description.name.clone(), version_id, created: None };
        versions.insert(source, known);
    }
    Ok(ObservedSources {
        versions,
        at: seen.values().map(|found| found.at).min().unwrap_or_else(tokio::time::Instant::now).into_std(),
        confirmed: seen.values().all(|found| found.confirmed),
        rotations,
        by_event: seen.values().any(|found| found.discovery == Discovery::Event),
    })
}
