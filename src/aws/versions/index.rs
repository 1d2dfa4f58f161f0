//! What is known of the secrets, by identity, and who asks about them. Nothing here calls AWS.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::aws::events::message::SecretEvent;
use crate::aws::versions::snapshot::{Discovery, Snapshot, SnapshotRequest};
use crate::aws::versions::sweep::{Finding, Wanted, compare};
use crate::aws::versions::{PAGE, PROBE_AGAIN};
use crate::domain::name::BindingName;
use crate::domain::secret::description::{Description, RotationDates};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, Source, VersionSelector};
use crate::domain::secret::version::SecretVersion;

/// One secret as one identity sees it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) seen: Option<Snapshot>,
    pub(super) failed: Option<(SourceError, Instant)>,
    pub(super) describe_refused: Option<Instant>,
    /// When the last `DescribeSecret` began, by both clocks.
    pub(super) described: Option<(Instant, Timestamp)>,
    pub(super) interested: HashSet<BindingName>,
    /// The shortest time for which one of them relies on what was seen.
    pub(super) fresh: Option<Duration>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is known through one identity.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) secrets: HashMap<SecretId, Entry>,
    pub(super) list_refused: Option<Instant>,
    pub(super) list_failed: Option<(SourceError, Instant)>,
    /// The pages of the last list.
    pub(super) pages: Option<(usize, Instant)>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// What a binding depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) identity: Identity,
    pub(super) secrets: BTreeSet<SecretId>,
    pub(super) fresh: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) views: HashMap<Identity, View>,
    pub(super) interests: HashMap<BindingName, Interest>,
    /// The bindings that were told of a change and did not act on it yet.
    pub(super) told: HashMap<BindingName, Instant>,
}

/// What came of a description.
pub(super) struct Told {
    pub(super) outcome: Result<Option<Snapshot>, SourceError>,
    pub(super) changed: Vec<BindingName>,
}

impl Index {
    pub(super) fn view(&mut self, identity: &Identity) -> &mut View {
        self.views.entry(identity.clone()).or_default()
    }

    pub(super) fn entry(&mut self, identity: &Identity, secret: &SecretId) -> &mut Entry {
        self.view(identity).secrets.entry(secret.clone()).or_default()
    }

    pub(super) fn interest(&mut self, binding: &BindingName, interest: Interest) {
        if self.interests.get(binding) == Some(&interest) {
            return;
        }
        self.forget(binding);
        for secret in &interest.secrets {
            let entry = self.entry(&interest.identity, secret);
            entry.interested.insert(binding.clone());
            entry.fresh = Some(entry.fresh.map_or(interest.fresh, |fresh| fresh.min(interest.fresh)));
        }
        self.interests.insert(binding.clone(), interest);
    }

    pub(super) fn forget(&mut self, binding: &BindingName) {
        self.told.remove(binding);
        let Some(interest) = self.interests.remove(binding) else { return };
        let Some(view) = self.views.get_mut(&interest.identity) else { return };
        for secret in &interest.secrets {
            let Some(entry) = view.secrets.get_mut(secret) else { continue };
            entry.interested.remove(binding);
            let others = entry.interested.iter().filter_map(|other| self.interests.get(other));
            entry.fresh = others.map(|other| other.fresh).min();
            if entry.interested.is_empty() {
                view.secrets.remove(secret);
            }
        }
        if view.secrets.is_empty() {
            self.views.remove(&interest.identity);
        }
    }

    /// The answer to a want, where it is known.
    pub(super) fn known(
        &self,
        identity: &Identity,
        secret: &SecretId,
        want: &SnapshotRequest<'_>,
        asked: Instant,
    ) -> Option<Result<Snapshot, SourceError>> {
        let view = self.views.get(identity)?;
        let of_list = view.list_failed.as_ref().filter(|(_, at)| *at >= asked);
        let entry = view.secrets.get(secret);
        let of_secret = entry.and_then(|entry| entry.failed.as_ref());
        let failed = of_secret.filter(|(_, at)| *at >= asked || at.elapsed() <= want.max_failure_age).or(of_list);
        if let Some((error, _)) = failed {
            return Some(Err(error.about(&secret.to_string())));
        }
        let entry = entry.filter(|entry| entry.failed.is_none())?;
        let seen = entry.seen.as_ref().filter(|seen| {
            (seen.at >= asked || seen.at.elapsed() < want.max_age) && (seen.confirmed || !want.confirmed)
        })?;
        // A version that was not read may be there all the same.
        let complete = !seen.partial
            || want.versions.iter().all(|version| {
                matches!(version, VersionSelector::Id(_)) || seen.description.version_id(version).is_some()
            });
        complete.then(|| Ok(seen.clone()))
    }

    /// Whether one list costs fewer calls than the descriptions that are due.
    pub(super) fn prefers_sweep(&self, identity: &Identity, now: Instant) -> bool {
        let Some(view) = self.views.get(identity) else { return false };
        if view.list_refused.is_some_and(|at| now.duration_since(at) < PROBE_AGAIN) {
            return false;
        }
        let estimate = view.secrets.len().div_ceil(PAGE);
        let pages = view.pages.filter(|(_, at)| now.duration_since(*at) < PROBE_AGAIN).map_or(estimate, |(p, _)| p);
        pages < view.due(now)
    }

    pub(super) fn sweeping(&self, identity: &Identity, now: Instant) -> (Wanted, usize) {
        let Some(view) = self.views.get(identity) else { return (Wanted::default(), 1) };
        (Wanted::new(view.secrets.keys().cloned()), view.due(now).max(1))
    }

    /// Takes over a list that began at `started`; `pages` is its length where it is whole. Answers the secrets that
    /// are to be confirmed.
    pub(super) fn swept(
        &mut self,
        identity: &Identity,
        mut listed: HashMap<SecretId, Description>,
        started: Instant,
        pages: Option<usize>,
    ) -> Vec<SecretId> {
        let view = self.view(identity);
        view.list_failed = None;
        view.pages = Some((pages.unwrap_or(usize::MAX), started));
        let mut suspects = Vec::new();
        for (secret, entry) in &mut view.secrets {
            let listed = listed.remove(secret);
            let known = entry.seen.as_ref().map(|seen| (&*seen.description, seen.partial));
            match (compare(known, listed.as_ref()), listed) {
                (Finding::Same, Some(listed)) => {
                    if let Some(seen) = entry.seen.as_mut().filter(|seen| seen.at < started) {
                        seen.at = started;
                        // What the versions are called besides is known from now on.
                        if std::mem::take(&mut seen.partial) || *seen.description != listed {
                            seen.description = Arc::new(listed);
                        }
                    }
                }
                (Finding::FirstSight, Some(listed)) if !listed.pending_deletion => {
                    let description = Arc::new(listed);
                    let (confirmed, partial, discovery) = (false, false, Discovery::Request);
                    entry.seen = Some(Snapshot { description, at: started, confirmed, discovery, partial });
                }
                (Finding::Missing, _) if entry.seen.is_none() || pages.is_none() => {}
                _ => suspects.push(secret.clone()),
            }
        }
        suspects
    }

    pub(super) fn described(
        &mut self,
        identity: &Identity,
        secret: &SecretId,
        described: Result<Description, SourceError>,
        began: (Instant, Timestamp),
        by: Discovery,
    ) -> Told {
        let entry = self.entry(identity, secret);
        let (started, _) = began;
        entry.described = Some(began);
        let mut changed = false;
        let outcome = match described {
            Ok(description) => {
                let same = entry.seen.as_ref().is_some_and(|seen| {
                    compare(Some((&seen.description, seen.partial)), Some(&description)) == Finding::Same
                });
                changed = entry.failed.take().is_some() || (entry.seen.is_some() && !same);
                let discovery = entry.seen.as_ref().filter(|_| same).map_or(by, |seen| seen.discovery);
                let description = Arc::new(description);
                let seen = Snapshot { description, at: started, confirmed: true, discovery, partial: false };
                entry.seen = Some(seen.clone());
                Ok(Some(seen))
            }
            Err(error) if error.kind == SourceErrorKind::AccessDenied => {
                entry.describe_refused = Some(started);
                Ok(None)
            }
            Err(error) => {
                // Whoever asks when a call fails tries again by itself; of the end of a secret all must know.
                changed = !error.is_passing() && entry.failed.is_none() && entry.seen.is_some();
                entry.failed = Some((error.clone(), Instant::now()));
                Err(error)
            }
        };
        let interested = || entry.interested.iter().cloned().collect();
        Told { outcome, changed: if changed { interested() } else { Vec::new() } }
    }

    pub(super) fn learned(
        &mut self,
        identity: &Identity,
        source: &Source,
        version: &SecretVersion,
        now: Instant,
    ) -> Vec<BindingName> {
        let Some(entry) = self.views.get_mut(identity).and_then(|view| view.secrets.get_mut(&source.secret)) else {
            return Vec::new();
        };
        entry.failed = None;
        let VersionSelector::Stage(stage) = &source.version else { return Vec::new() };
        match &mut entry.seen {
            Some(seen) if seen.description.arn == version.arn => {
                if seen.description.version_id(&source.version) == Some(&version.version_id) {
                    seen.confirmed = true;
                    if seen.partial || entry.describe_refused.is_some() {
                        seen.at = now;
                    }
                    return Vec::new();
                }
                let known = seen.description.version_id(&source.version).is_some();
                let mut description = (*seen.description).clone();
                for stages in description.versions.values_mut() {
                    stages.remove(stage);
                }
                description.versions.entry(version.version_id.clone()).or_default().insert(stage.clone());
                let (discovery, description) = (Discovery::Request, Arc::new(description));
                // The other labels may have moved too: only those of versions that were read are sure.
                *seen = Snapshot { description, at: now, confirmed: true, discovery, partial: true };
                if known { entry.interested.iter().cloned().collect() } else { Vec::new() }
            }
            seen => {
                let versions = [(version.version_id.clone(), BTreeSet::from([stage.clone()]))].into();
                let description = Arc::new(Description {
                    arn: version.arn.clone(),
                    name: version.name.clone(),
                    versions,
                    pending_deletion: false,
                    created: None,
                    rotation: RotationDates::default(),
                });
                let discovery = Discovery::Request;
                *seen = Some(Snapshot { description, at: now, confirmed: true, discovery, partial: true });
                Vec::new()
            }
        }
    }

    /// The secrets that an event may be about and whose news is not known yet.
    pub(super) fn concerned(&self, event: &SecretEvent, region: Option<&str>) -> Vec<(Identity, SecretId)> {
        let mut concerned = Vec::new();
        for (identity, view) in &self.views {
            if identity.region.as_deref().or(region).is_some_and(|region| region != event.region) {
                continue;
            }
            for (secret, entry) in &view.secrets {
                let means = match &entry.seen {
                    // A secret that is made anew has another ARN than the one that is known.
                    Some(seen) if entry.failed.is_some() || event.action == "CreateSecret" => {
                        let account = seen.description.arn.split(':').nth(4);
                        account == Some(event.account.as_str()) && may_mean(event, secret)
                    }
                    Some(seen) => event.concerns(&seen.description.arn, &seen.description.name),
                    None => may_mean(event, secret),
                };
                if means && !entry.interested.is_empty() {
                    concerned.push((identity.clone(), secret.clone()));
                }
            }
        }
        concerned
    }

    /// Forgets what was seen of a secret; answers who asks about it.
    pub(super) fn mistrust(&mut self, identity: &Identity, secret: &SecretId) -> Vec<BindingName> {
        let entry = self.entry(identity, secret);
        entry.seen = None;
        entry.interested.iter().cloned().collect()
    }
}

/// Whether an event may be about a secret of which nothing is known but how a binding names it.
pub(super) fn may_mean(event: &SecretEvent, secret: &SecretId) -> bool {
    event.secret.ids.iter().any(|id| {
        let resource = id.splitn(7, ':').nth(6).unwrap_or(id);
        let name = resource.len().checked_sub(7).map_or(resource, |end| resource.get(..end).unwrap_or(resource));
        match secret {
            SecretId::Name(wanted) => wanted == resource || wanted == name,
            SecretId::Arn(arn) => arn.possible_names().any(|wanted| wanted == resource || wanted == name),
        }
    })
}

impl View {
    /// How many secrets are due to be looked at, or nearly so. What fails is looked at by itself.
    pub(super) fn due(&self, now: Instant) -> usize {
        let due = |entry: &&Entry| match (&entry.seen, entry.fresh) {
            _ if entry.failed.is_some() => false,
            (None, _) => true,
            (Some(seen), Some(fresh)) => now.duration_since(seen.at) >= fresh.mul_f64(0.8),
            (Some(_), None) => false,
        };
        self.secrets.values().filter(due).count()
    }
}
