//! The index of snapshots by identity and secret, with the bindings that are registered for them. It makes no requests.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::events::message::SecretEvent;
use crate::aws::versions::listing::{ListRequest, Listing};
use crate::aws::versions::snapshot::{DescribeRequest, DescribeStart, Discovery, Snapshot, SnapshotRequest};
use crate::aws::versions::sweep::{SecretLookup, VersionComparison, compare};
use crate::domain::name::BindingName;
use crate::domain::secret::description::{Description, RotationDates};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, Source, VersionSelector};
use crate::domain::secret::version::SecretVersion;

/// Bindery repeats a request that IAM denied after this time.
pub(super) const DENIED_RETRY: Duration = Duration::from_secs(3600);
/// A list that failed for another cause is repeated after this time, which doubles with each failure.
const LIST_RETRY: Duration = Duration::from_secs(30);
/// That time is at most this long.
const LONGEST_LIST_RETRY: Duration = Duration::from_secs(600);
/// The secrets of one page of a list.
const PAGE_SIZE: usize = 100;

/// One secret as one identity knows it.
#[derive(Debug, Default)]
pub(super) struct SecretEntry {
    pub(super) snapshot: Option<Snapshot>,
    /// The last failure, with the time of its answer.
    pub(super) failure: Option<(SourceError, Instant)>,
    /// When IAM denied `DescribeSecret`.
    pub(super) describe_denied: Option<Instant>,
    pub(super) last_describe: Option<DescribeStart>,
    /// The bindings that are registered.
    pub(super) bindings: HashSet<BindingName>,
    /// The shortest maximum age of their registrations.
    pub(super) max_age: Option<Duration>,
    /// One description at a time.
    pub(super) lock: Arc<tokio::sync::Mutex<()>>,
}

/// The secrets of one identity.
#[derive(Debug, Default)]
pub(super) struct IdentityView {
    pub(super) secrets: HashMap<SecretId, SecretEntry>,
    /// Before this time no list is tried, since IAM denied the last one or it failed.
    pub(super) next_list: Option<Instant>,
    /// The lists that failed since the last one that did not.
    pub(super) failed_lists: u32,
    /// The last failure of all that was tried, with the time of its answer.
    pub(super) list_failure: Option<(SourceError, Instant)>,
    /// The pages of the last list, with its start.
    pub(super) pages: Option<(usize, Instant)>,
    /// One list at a time.
    pub(super) lock: Arc<tokio::sync::Mutex<()>>,
}

/// The secrets that a binding depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) identity: Identity,
    pub(super) secrets: BTreeSet<SecretId>,
    /// The age up to which the binding relies on a snapshot.
    pub(super) max_age: Duration,
}

#[derive(Debug, Default)]
pub(super) struct VersionIndex {
    pub(super) views: HashMap<Identity, IdentityView>,
    pub(super) registrations: HashMap<BindingName, Registration>,
    /// The bindings with a notification that they did not act on yet, with its time.
    pub(super) pending: HashMap<BindingName, Instant>,
}

/// The outcome of a description.
pub(super) struct DescribeOutcome {
    pub(super) result: Result<Option<Snapshot>, SourceError>,
    /// The bindings to notify of a change.
    pub(super) changed: Vec<BindingName>,
}

impl VersionIndex {
    pub(super) fn view(&mut self, identity: &Identity) -> &mut IdentityView {
        self.views.entry(identity.clone()).or_default()
    }

    pub(super) fn entry(&mut self, identity: &Identity, secret: &SecretId) -> &mut SecretEntry {
        self.view(identity).secrets.entry(secret.clone()).or_default()
    }

    pub(super) fn register(&mut self, binding: &BindingName, registration: Registration) {
        if self.registrations.get(binding) == Some(&registration) {
            return;
        }
        self.forget(binding);
        for secret in &registration.secrets {
            let entry = self.entry(&registration.identity, secret);
            entry.bindings.insert(binding.clone());
            entry.max_age = Some(entry.max_age.map_or(registration.max_age, |age| age.min(registration.max_age)));
        }
        self.registrations.insert(binding.clone(), registration);
    }

    pub(super) fn forget(&mut self, binding: &BindingName) {
        self.pending.remove(binding);
        let Some(registration) = self.registrations.remove(binding) else { return };
        let Some(view) = self.views.get_mut(&registration.identity) else { return };
        for secret in &registration.secrets {
            let Some(entry) = view.secrets.get_mut(secret) else { continue };
            entry.bindings.remove(binding);
            let others = entry.bindings.iter().filter_map(|other| self.registrations.get(other));
            entry.max_age = others.map(|other| other.max_age).min();
            if entry.bindings.is_empty() {
                view.secrets.remove(secret);
            }
        }
        if view.secrets.is_empty() {
            self.views.remove(&registration.identity);
        }
    }

    /// The answer to a request made at `requested`, where the index has it.
    pub(super) fn known(
        &self,
        identity: &Identity,
        secret: &SecretId,
        request: &SnapshotRequest<'_>,
        requested: Instant,
    ) -> Option<Result<Snapshot, SourceError>> {
        let view = self.views.get(identity)?;
        let of_list = view.list_failure.as_ref().filter(|(_, at)| *at >= requested);
        let entry = view.secrets.get(secret);
        let of_secret = entry.and_then(|entry| entry.failure.as_ref());
        let failure = of_secret.filter(|(_, at)| *at >= requested || at.elapsed() <= request.max_failure_age);
        if let Some((error, _)) = failure.or(of_list) {
            return Some(Err(error.about(&secret.to_string())));
        }
        let entry = entry.filter(|entry| entry.failure.is_none())?;
        let snapshot = entry.snapshot.as_ref().filter(|snapshot| {
            (snapshot.at >= requested || snapshot.at.elapsed() < request.max_age)
                && (snapshot.confirmed || !request.confirmed)
        })?;
        // A version that was not read can exist all the same.
        let complete = !snapshot.partial
            || request.versions.iter().all(|version| {
                matches!(version, VersionSelector::Id(_)) || snapshot.description.version_id(version).is_some()
            });
        complete.then(|| Ok(snapshot.clone()))
    }

    /// Whether one list costs fewer calls than the descriptions that are due.
    pub(super) fn prefers_list(&self, identity: &Identity, now: Instant) -> bool {
        let Some(view) = self.views.get(identity) else { return false };
        if view.next_list.is_some_and(|at| now < at) {
            return false;
        }
        let estimate = view.secrets.len().div_ceil(PAGE_SIZE);
        let pages = view.pages.filter(|(_, at)| now.duration_since(*at) < DENIED_RETRY).map_or(estimate, |(p, _)| p);
        pages < view.due(now)
    }

    pub(super) fn list_request(&self, identity: &Identity, now: Instant) -> ListRequest {
        let Some(view) = self.views.get(identity) else {
            return ListRequest { lookup: SecretLookup::default(), max_pages: 1 };
        };
        ListRequest { lookup: SecretLookup::new(view.secrets.keys().cloned()), max_pages: view.due(now).max(1) }
    }

    /// Records a list that failed. Until it is tried again, secrets are described one by one.
    pub(super) fn record_list_failure(&mut self, identity: &Identity, error: &SourceError, now: Instant) {
        let view = self.view(identity);
        let pause = if error.is_passing() {
            LIST_RETRY.saturating_mul(1 << view.failed_lists.min(10)).min(LONGEST_LIST_RETRY)
        } else {
            DENIED_RETRY
        };
        view.failed_lists = view.failed_lists.saturating_add(1);
        view.next_list = Some(now + pause);
    }

    /// Whether a binding is registered for a secret.
    pub(super) fn is_registered(&self, identity: &Identity, secret: &SecretId) -> bool {
        let entry = self.views.get(identity).and_then(|view| view.secrets.get(secret));
        entry.is_some_and(|entry| !entry.bindings.is_empty())
    }

    /// The bindings that are registered for a secret.
    pub(super) fn registered(&self, identity: &Identity, secret: &SecretId) -> Vec<BindingName> {
        let entry = self.views.get(identity).and_then(|view| view.secrets.get(secret));
        entry.map(SecretEntry::registered).unwrap_or_default()
    }

    /// Drops what a request left of a secret that no binding is registered for any more.
    pub(super) fn drop_unregistered(&mut self, identity: &Identity, secret: &SecretId) {
        let Some(view) = self.views.get_mut(identity) else { return };
        if view.secrets.get(secret).is_some_and(|entry| entry.bindings.is_empty()) {
            view.secrets.remove(secret);
        }
        if view.secrets.is_empty() {
            self.views.remove(identity);
        }
    }

    /// Records a list. Returns the secrets that a description has to confirm.
    pub(super) fn record_list(&mut self, identity: &Identity, mut listing: Listing) -> Vec<SecretId> {
        let started = listing.started;
        let view = self.view(identity);
        (view.list_failure, view.next_list, view.failed_lists) = (None, None, 0);
        view.pages = Some((if listing.complete { listing.pages } else { usize::MAX }, started));
        let mut unconfirmed = Vec::new();
        for (secret, entry) in &mut view.secrets {
            let listed = listing.secrets.remove(secret);
            let known = entry.snapshot.as_ref().map(|snapshot| (&*snapshot.description, snapshot.partial));
            match (compare(known, listed.as_ref()), listed) {
                (VersionComparison::Same, Some(listed)) => {
                    if let Some(snapshot) = entry.snapshot.as_mut().filter(|snapshot| snapshot.at < started) {
                        snapshot.at = started;
                        // The list names the other version stages too.
                        if std::mem::take(&mut snapshot.partial) || *snapshot.description != listed {
                            snapshot.description = Arc::new(listed);
                        }
                    }
                }
                (VersionComparison::New, Some(listed)) if !listed.pending_deletion => {
                    let description = Arc::new(listed);
                    let (confirmed, partial, discovery) = (false, false, Discovery::Request);
                    entry.snapshot = Some(Snapshot { description, at: started, confirmed, discovery, partial });
                }
                (VersionComparison::Missing, _) if entry.snapshot.is_none() || !listing.complete => {}
                _ => unconfirmed.push(secret.clone()),
            }
        }
        unconfirmed
    }

    /// The outcome of a description that serves `request` too. `None` where a request is needed.
    pub(super) fn known_description(
        &mut self,
        request: &DescribeRequest<'_>,
    ) -> Option<Result<Option<Snapshot>, SourceError>> {
        let entry = self.entry(request.identity, request.secret);
        if entry.describe_denied.is_some_and(|at| at.elapsed() < DENIED_RETRY) {
            return Some(Ok(None));
        }
        entry.last_describe.filter(|start| start.at >= request.requested)?;
        Some(match (&entry.failure, &entry.snapshot) {
            (Some((error, _)), _) => Err(error.clone()),
            (None, snapshot) => Ok(snapshot.clone()),
        })
    }

    /// Records the answer of a description.
    pub(super) fn record_description(
        &mut self,
        request: &DescribeRequest<'_>,
        start: DescribeStart,
        answer: Result<Description, SourceError>,
    ) -> DescribeOutcome {
        let entry = self.entry(request.identity, request.secret);
        entry.last_describe = Some(start);
        let mut changed = false;
        let result = match answer {
            Ok(description) => {
                let same = entry.snapshot.as_ref().filter(|snapshot| {
                    compare(Some((&snapshot.description, snapshot.partial)), Some(&description))
                        == VersionComparison::Same
                });
                let discovery = same.map_or(request.discovery, |snapshot| snapshot.discovery);
                let same = same.is_some();
                changed = entry.failure.take().is_some() || (entry.snapshot.is_some() && !same);
                let description = Arc::new(description);
                let snapshot = Snapshot { description, at: start.at, confirmed: true, discovery, partial: false };
                entry.snapshot = Some(snapshot.clone());
                Ok(Some(snapshot))
            }
            Err(error) if error.kind == SourceErrorKind::AccessDenied => {
                entry.describe_denied = Some(start.at);
                Ok(None)
            }
            Err(error) => {
                // A binding repeats a failed request by itself. The end of a secret concerns all of its bindings.
                changed = !error.is_passing() && entry.failure.is_none() && entry.snapshot.is_some();
                entry.failure = Some((error.clone(), Instant::now()));
                Err(error)
            }
        };
        DescribeOutcome { result, changed: if changed { entry.registered() } else { Vec::new() } }
    }

    /// Records the version that a read answered at `now`. Returns the bindings to notify of a change.
    pub(super) fn record_read(
        &mut self,
        identity: &Identity,
        source: &Source,
        version: &SecretVersion,
        now: Instant,
    ) -> Vec<BindingName> {
        let Some(entry) = self.views.get_mut(identity).and_then(|view| view.secrets.get_mut(&source.secret)) else {
            return Vec::new();
        };
        entry.failure = None;
        let VersionSelector::Stage(stage) = &source.version else { return Vec::new() };
        let known = entry.snapshot.as_mut().filter(|snapshot| snapshot.description.arn == version.arn);
        let (description, changed) = match known {
            Some(snapshot) => {
                let known = snapshot.description.version_id(&source.version);
                if known == Some(&version.version_id) {
                    snapshot.confirmed = true;
                    if snapshot.partial || entry.describe_denied.is_some() {
                        snapshot.at = now;
                    }
                    return Vec::new();
                }
                (with_stage(&snapshot.description, stage, &version.version_id), known.is_some())
            }
            None => (description_of(version, stage), false),
        };
        // Other version stages can have moved too. Only the versions that were read are certain.
        let (description, discovery) = (Arc::new(description), Discovery::Request);
        entry.snapshot = Some(Snapshot { description, at: now, confirmed: true, discovery, partial: true });
        if changed { entry.registered() } else { Vec::new() }
    }

    /// The registered secrets that an event can be about. `region` is the region of identities that name none.
    pub(super) fn affected(&self, event: &SecretEvent, region: Option<&str>) -> Vec<(Identity, SecretId)> {
        let mut affected = Vec::new();
        for (identity, view) in &self.views {
            if identity.region.as_deref().or(region).is_some_and(|region| region != event.region) {
                continue;
            }
            for (secret, entry) in &view.secrets {
                if !entry.bindings.is_empty() && entry.is_affected(secret, event) {
                    affected.push((identity.clone(), secret.clone()));
                }
            }
        }
        affected
    }

    /// Removes the snapshot of a secret. Returns the bindings to notify.
    pub(super) fn invalidate(&mut self, identity: &Identity, secret: &SecretId) -> Vec<BindingName> {
        let entry = self.entry(identity, secret);
        entry.snapshot = None;
        entry.registered()
    }

    /// The same, where the bindings were not notified already of a change that nobody has asked about since.
    pub(super) fn invalidate_once(&mut self, identity: &Identity, secret: &SecretId) -> Vec<BindingName> {
        if self.entry(identity, secret).snapshot.is_none() {
            return Vec::new();
        }
        self.invalidate(identity, secret)
    }
}

impl SecretEntry {
    fn registered(&self) -> Vec<BindingName> {
        self.bindings.iter().cloned().collect()
    }

    fn is_affected(&self, secret: &SecretId, event: &SecretEvent) -> bool {
        match &self.snapshot {
            // A secret that is created again has another ARN than the known one.
            Some(snapshot) if self.failure.is_some() || event.action == "CreateSecret" => {
                let account = snapshot.description.arn.split(':').nth(4);
                account == Some(event.account.as_str()) && may_name(event, secret)
            }
            Some(snapshot) => event.concerns(&snapshot.description.arn, &snapshot.description.name),
            None => may_name(event, secret),
        }
    }
}

impl IdentityView {
    /// The number of secrets whose snapshot is due for a refresh, or nearly so. The bindings retry failures.
    fn due(&self, now: Instant) -> usize {
        let due = |entry: &&SecretEntry| match (&entry.snapshot, entry.max_age) {
            _ if entry.failure.is_some() => false,
            (None, _) => true,
            (Some(snapshot), Some(max_age)) => now.duration_since(snapshot.at) >= max_age.mul_f64(0.8),
            (Some(_), None) => false,
        };
        self.secrets.values().filter(due).count()
    }
}

/// The known description after a version stage moved to `version_id`.
fn with_stage(known: &Description, stage: &str, version_id: &str) -> Description {
    let mut description = known.clone();
    for stages in description.versions.values_mut() {
        stages.remove(stage);
    }
    description.versions.entry(version_id.to_owned()).or_default().insert(stage.to_owned());
    description
}

/// The description of a secret of which one version was read.
fn description_of(version: &SecretVersion, stage: &str) -> Description {
    Description {
        arn: version.arn.clone(),
        name: version.name.clone(),
        versions: [(version.version_id.clone(), BTreeSet::from([stage.to_owned()]))].into(),
        pending_deletion: false,
        created: None,
        rotation: RotationDates::default(),
    }
}

/// Whether an event can be about a secret, by the name that a binding uses.
fn may_name(event: &SecretEvent, secret: &SecretId) -> bool {
    event.secret.ids.iter().any(|id| {
        let resource = id.splitn(7, ':').nth(6).unwrap_or(id);
        let name = resource.len().checked_sub(7).map_or(resource, |end| resource.get(..end).unwrap_or(resource));
        match secret {
            SecretId::Name(own) => own == resource || own == name,
            SecretId::Arn(arn) => arn.possible_names().any(|own| own == resource || own == name),
        }
    })
}
