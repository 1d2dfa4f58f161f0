//! Which versions the secrets have, found without reading a value, once for all bindings that ask.
//!
//! Of each identity the cheapest way that IAM allows is taken: one [sweep](super::sweep) over all secrets, else
//! `DescribeSecret` of each, else only reading tells. What was found is kept, without values, and serves every binding
//! whose refresh interval it is young enough for. A change that is found, by whomever, is told to all bindings of the
//! secret.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{Instant, sleep_until};

use super::event::SecretEvent;
use super::quota::{QuotaClass, Quotas};
use super::sweep::{Finding, Wanted, compare};
use super::{Description, Identity, SecretVersion, SecretsApi, SourceError, SourceErrorKind, answers};
use crate::binding::name::BindingName;
use crate::binding::reference::{SecretId, Source, VersionSelector};

/// What IAM has refused is tried again after this time.
const PROBE_AGAIN: Duration = Duration::from_secs(3600);
/// Events ask for at most one `DescribeSecret` of a secret within this time.
const EVENT_PAUSE: Duration = Duration::from_secs(5);
/// The clocks of this machine and of AWS differ by less than this.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(30);
/// Secrets that are confirmed at once after a sweep.
const CONFIRMATIONS: usize = 16;
/// The secrets of one page of a list.
const PAGE: usize = 100;

/// How a version was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// By looking.
    Look,
    /// By an event.
    Event,
}

/// What was seen of a secret.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its versions.
    pub description: Arc<Description>,
    /// When AWS was asked.
    pub at: Instant,
    /// Whether it rests on more than a list, which may be five minutes old.
    pub confirmed: bool,
    /// How the present version was found.
    pub by: Discovery,
    /// Whether only the versions that were read are known.
    partial: bool,
}

/// What a binding wants to know of a secret.
#[derive(Clone, Debug)]
pub struct Want<'a> {
    /// How old the answer may be.
    pub fresh: Duration,
    /// How old a failure may be to be taken for the answer.
    pub failed: Duration,
    /// Whether a list is not enough.
    pub confirmed: bool,
    /// The versions asked about.
    pub versions: &'a [&'a VersionSelector],
}

/// One secret as one identity sees it.
#[derive(Debug, Default)]
struct Entry {
    seen: Option<Seen>,
    failed: Option<(SourceError, Instant)>,
    describe_refused: Option<Instant>,
    /// When the last `DescribeSecret` began, by both clocks.
    described: Option<(Instant, Timestamp)>,
    interested: HashSet<BindingName>,
    /// The shortest time for which one of them relies on what was seen.
    fresh: Option<Duration>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is known through one identity.
#[derive(Debug, Default)]
struct View {
    secrets: HashMap<SecretId, Entry>,
    list_refused: Option<Instant>,
    list_failed: Option<(SourceError, Instant)>,
    /// The pages of the last list.
    pages: Option<(usize, Instant)>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What a binding depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interest {
    identity: Identity,
    secrets: BTreeSet<SecretId>,
    fresh: Duration,
}

#[derive(Debug, Default)]
struct Index {
    views: HashMap<Identity, View>,
    interests: HashMap<BindingName, Interest>,
    /// The bindings that were told of a change and did not act on it yet.
    told: HashMap<BindingName, Instant>,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// What it tells is known.
    Known,
    /// Nobody asks about its secret.
    Nobody,
    /// It could not be found out, so it should be told again.
    Unknown,
}

/// The index of versions.
pub struct Versions {
    api: Arc<dyn SecretsApi>,
    quotas: Arc<Quotas>,
    /// The region of identities that name none.
    region: Option<String>,
    index: Mutex<Index>,
    changes: mpsc::UnboundedSender<BindingName>,
}

impl Versions {
    /// An empty index. The bindings of secrets that changed come out of the receiver.
    #[must_use]
    pub fn new(
        api: Arc<dyn SecretsApi>,
        quotas: Arc<Quotas>,
        region: Option<String>,
    ) -> (Self, mpsc::UnboundedReceiver<BindingName>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        (Self { api, quotas, region, index: Mutex::default(), changes }, receiver)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a binding depends on these secrets, and for how long it relies on what was seen of them.
    pub fn interest(&self, binding: &BindingName, identity: &Identity, secrets: BTreeSet<SecretId>, fresh: Duration) {
        self.index().interest(binding, Interest { identity: identity.clone(), secrets, fresh });
    }

    /// Forgets a binding, and what nobody asks about any more.
    pub fn forget(&self, binding: &BindingName) {
        self.index().forget(binding);
    }

    /// What is known of a secret, or what AWS tells of it. `None` where only reading tells.
    ///
    /// # Errors
    /// What AWS refuses, an answer for another secret, a secret pending deletion.
    pub async fn look(
        self: &Arc<Self>,
        identity: &Identity,
        secret: &SecretId,
        want: &Want<'_>,
    ) -> Result<Option<Seen>, SourceError> {
        let asked = Instant::now();
        if let Some(known) = self.index().known(identity, secret, want, asked) {
            return known.map(Some);
        }
        if !want.confirmed && self.index().prefers_sweep(identity, asked) {
            let turn = self.index().view(identity).turn.clone();
            let _turn = turn.lock().await;
            // Who was first has asked for all.
            if let Some(known) = self.index().known(identity, secret, want, asked) {
                return known.map(Some);
            }
            if self.index().prefers_sweep(identity, asked) {
                self.sweep(identity).await.map_err(|error| error.about(&secret.to_string()))?;
                if let Some(known) = self.index().known(identity, secret, want, asked) {
                    return known.map(Some);
                }
            }
        }
        let turn = self.index().entry(identity, secret).turn.clone();
        let turn = turn.lock_owned().await;
        // Who was first may have found out enough.
        if let Some(known) = self.index().known(identity, secret, want, asked) {
            return known.map(Some);
        }
        self.describe(identity, secret, asked, Discovery::Look, turn).await
    }

    /// Lists the secrets of an identity, and lets what differs from what is known be confirmed.
    async fn sweep(self: &Arc<Self>, identity: &Identity) -> Result<(), SourceError> {
        let started = Instant::now();
        let (wanted, limit) = self.index().sweeping(identity, started);
        let prefixes = wanted.prefixes();
        let mut listed: HashMap<SecretId, Description> = HashMap::new();
        let (mut page, mut pages) = (None, 0);
        let whole = loop {
            let answer = self
                .quotas
                .paced(identity, QuotaClass::List, || self.api.list(identity, &prefixes, page.clone()))
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) if error.kind == SourceErrorKind::AccessDenied => {
                    tracing::info!(identity = %identity.describe(), "secrets are described one by one, since IAM does not allow secretsmanager:ListSecrets");
                    self.index().view(identity).list_refused = Some(Instant::now());
                    return Ok(());
                }
                Err(error) => {
                    self.index().view(identity).list_failed = Some((error.clone(), Instant::now()));
                    return Err(error);
                }
            };
            pages += 1;
            for description in answer.secrets {
                for secret in wanted.meaning(&description) {
                    listed.insert(secret.clone(), description.clone());
                }
            }
            match answer.next {
                None => break true,
                // A list longer than the descriptions would be is not gone through again for a while.
                Some(_) if pages >= limit => break false,
                next => page = next,
            }
        };
        let suspects = self.index().swept(identity, listed, started, whole.then_some(pages));
        // Nobody waits for secrets of others that are slow to be confirmed.
        let (versions, identity) = (self.clone(), identity.clone());
        tokio::spawn(async move {
            let (versions, identity) = (&versions, &identity);
            futures::stream::iter(suspects)
                .for_each_concurrent(CONFIRMATIONS, |secret| async move {
                    // What fails is kept with the secret, for those who ask.
                    let _ = versions.find_out(identity, &secret, started, Discovery::Look).await;
                })
                .await;
        });
        Ok(())
    }

    /// Asks AWS about one secret, once for all who asked before the question is sent.
    async fn find_out(
        &self,
        identity: &Identity,
        secret: &SecretId,
        asked: Instant,
        by: Discovery,
    ) -> Result<Option<Seen>, SourceError> {
        let turn = self.index().entry(identity, secret).turn.clone();
        let turn = turn.lock_owned().await;
        self.describe(identity, secret, asked, by, turn).await
    }

    /// The same for who has the turn already.
    async fn describe(
        &self,
        identity: &Identity,
        secret: &SecretId,
        asked: Instant,
        by: Discovery,
        _turn: OwnedMutexGuard<()>,
    ) -> Result<Option<Seen>, SourceError> {
        {
            let mut index = self.index();
            let entry = index.entry(identity, secret);
            if entry.describe_refused.is_some_and(|at| at.elapsed() < PROBE_AGAIN) {
                return Ok(None);
            }
            if entry.described.is_some_and(|(described, _)| described >= asked) {
                return match (&entry.failed, &entry.seen) {
                    (Some((error, _)), _) => Err(error.clone()),
                    (None, seen) => Ok(seen.clone()),
                };
            }
        }
        let started = (Instant::now(), Timestamp::now());
        let described =
            self.quotas.paced(identity, QuotaClass::Read, || self.api.describe(identity, secret)).await.and_then(
                |description| {
                    let of = |kind| Err(SourceError::new(kind, secret.to_string()));
                    if !answers(secret, &description.arn, &description.name) {
                        return of(SourceErrorKind::WrongSecret);
                    }
                    if description.pending_deletion {
                        return of(SourceErrorKind::SecretPendingDeletion);
                    }
                    Ok(description)
                },
            );
        let told = self.index().described(identity, secret, described, started, by);
        self.tell(told.changed);
        told.outcome
    }

    /// Notes what a read tells.
    pub fn learned(&self, identity: &Identity, source: &Source, version: &SecretVersion) {
        let changed = self.index().learned(identity, source, version, Instant::now());
        self.tell(changed);
    }

    /// Looks at the secret that an event names, where anybody wants it.
    pub async fn noticed(&self, event: &SecretEvent) -> Noticed {
        let asked = Instant::now();
        let concerned = self.index().concerned(event, self.region.as_deref());
        if concerned.is_empty() {
            return Noticed::Nobody;
        }
        let looks = concerned.into_iter().map(|(identity, secret)| async move {
            let last = self.index().entry(&identity, &secret).described;
            if let Some((described, at)) = last {
                // What was asked well after the event knows of it, however often it is told.
                if event.time.is_some_and(|time| at.duration_since(time) > CLOCK_SKEW) {
                    return true;
                }
                if described + EVENT_PAUSE > asked {
                    sleep_until(described + EVENT_PAUSE).await;
                }
            }
            match self.find_out(&identity, &secret, asked, Discovery::Event).await {
                Ok(Some(_)) => true,
                Ok(None) => {
                    // Where IAM allows only to read, the bindings read.
                    let interested = self.index().mistrust(&identity, &secret);
                    self.tell(interested);
                    true
                }
                Err(error) => !error.is_passing(),
            }
        });
        let known = futures::future::join_all(looks).await.into_iter().all(|known| known);
        if known { Noticed::Known } else { Noticed::Unknown }
    }

    /// Notes that a binding has asked for what it needs.
    pub fn asks(&self, binding: &BindingName) {
        self.index().told.remove(binding);
    }

    /// Notes that a pass over a binding has ended. What it was told after the pass began is for the next one.
    pub fn passed(&self, binding: &BindingName, began: Instant) {
        let mut index = self.index();
        if index.told.get(binding).is_some_and(|told| *told <= began) {
            index.told.remove(binding);
        }
    }

    /// Whether bindings of this identity were told of a change and may be about to ask for values.
    pub fn awaits(&self, identity: &Identity) -> bool {
        let index = self.index();
        index.told.keys().any(|binding| index.interests.get(binding).is_some_and(|of| of.identity == *identity))
    }

    fn tell(&self, bindings: Vec<BindingName>) {
        let now = Instant::now();
        self.index().told.extend(bindings.iter().cloned().map(|binding| (binding, now)));
        for binding in bindings {
            // Without a receiver there is no controller, and its first pass will look.
            let _ = self.changes.send(binding);
        }
    }
}

/// What came of a description.
struct Told {
    outcome: Result<Option<Seen>, SourceError>,
    changed: Vec<BindingName>,
}

impl Index {
    fn view(&mut self, identity: &Identity) -> &mut View {
        self.views.entry(identity.clone()).or_default()
    }

    fn entry(&mut self, identity: &Identity, secret: &SecretId) -> &mut Entry {
        self.view(identity).secrets.entry(secret.clone()).or_default()
    }

    fn interest(&mut self, binding: &BindingName, interest: Interest) {
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

    fn forget(&mut self, binding: &BindingName) {
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
    fn known(
        &self,
        identity: &Identity,
        secret: &SecretId,
        want: &Want<'_>,
        asked: Instant,
    ) -> Option<Result<Seen, SourceError>> {
        let view = self.views.get(identity)?;
        let of_list = view.list_failed.as_ref().filter(|(_, at)| *at >= asked);
        let entry = view.secrets.get(secret);
        let of_secret = entry.and_then(|entry| entry.failed.as_ref());
        let failed = of_secret.filter(|(_, at)| *at >= asked || at.elapsed() <= want.failed).or(of_list);
        if let Some((error, _)) = failed {
            return Some(Err(error.about(&secret.to_string())));
        }
        let entry = entry.filter(|entry| entry.failed.is_none())?;
        let seen = entry.seen.as_ref().filter(|seen| {
            (seen.at >= asked || seen.at.elapsed() < want.fresh) && (seen.confirmed || !want.confirmed)
        })?;
        // A version that was not read may be there all the same.
        let complete = !seen.partial
            || want.versions.iter().all(|version| {
                matches!(version, VersionSelector::Id(_)) || seen.description.version_id(version).is_some()
            });
        complete.then(|| Ok(seen.clone()))
    }

    /// Whether one list costs fewer calls than the descriptions that are due.
    fn prefers_sweep(&self, identity: &Identity, now: Instant) -> bool {
        let Some(view) = self.views.get(identity) else { return false };
        if view.list_refused.is_some_and(|at| now.duration_since(at) < PROBE_AGAIN) {
            return false;
        }
        let estimate = view.secrets.len().div_ceil(PAGE);
        let pages = view.pages.filter(|(_, at)| now.duration_since(*at) < PROBE_AGAIN).map_or(estimate, |(p, _)| p);
        pages < view.due(now)
    }

    fn sweeping(&self, identity: &Identity, now: Instant) -> (Wanted, usize) {
        let Some(view) = self.views.get(identity) else { return (Wanted::default(), 1) };
        (Wanted::new(view.secrets.keys().cloned()), view.due(now).max(1))
    }

    /// Takes over a list that began at `started`; `pages` is its length where it is whole. Answers the secrets that
    /// are to be confirmed.
    fn swept(
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
                        if std::mem::take(&mut seen.partial) {
                            seen.description = Arc::new(listed);
                        }
                    }
                }
                (Finding::FirstSight, Some(listed)) if !listed.pending_deletion => {
                    let description = Arc::new(listed);
                    let (confirmed, partial, by) = (false, false, Discovery::Look);
                    entry.seen = Some(Seen { description, at: started, confirmed, by, partial });
                }
                (Finding::Missing, _) if entry.seen.is_none() || pages.is_none() => {}
                _ => suspects.push(secret.clone()),
            }
        }
        suspects
    }

    fn described(
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
                let by = entry.seen.as_ref().filter(|_| same).map_or(by, |seen| seen.by);
                let description = Arc::new(description);
                let seen = Seen { description, at: started, confirmed: true, by, partial: false };
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

    fn learned(
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
                let (by, description) = (Discovery::Look, Arc::new(description));
                // The other labels may have moved too: only those of versions that were read are sure.
                *seen = Seen { description, at: now, confirmed: true, by, partial: true };
                if known { entry.interested.iter().cloned().collect() } else { Vec::new() }
            }
            seen => {
                let versions = [(version.version_id.clone(), BTreeSet::from([stage.clone()]))].into();
                let description = Arc::new(Description {
                    arn: version.arn.clone(),
                    name: version.name.clone(),
                    versions,
                    pending_deletion: false,
                });
                *seen = Some(Seen { description, at: now, confirmed: true, by: Discovery::Look, partial: true });
                Vec::new()
            }
        }
    }

    /// The secrets that an event may be about and whose news is not known yet.
    fn concerned(&self, event: &SecretEvent, region: Option<&str>) -> Vec<(Identity, SecretId)> {
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
    fn mistrust(&mut self, identity: &Identity, secret: &SecretId) -> Vec<BindingName> {
        let entry = self.entry(identity, secret);
        entry.seen = None;
        entry.interested.iter().cloned().collect()
    }
}

/// Whether an event may be about a secret of which nothing is known but how a binding names it.
fn may_mean(event: &SecretEvent, secret: &SecretId) -> bool {
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
    fn due(&self, now: Instant) -> usize {
        let due = |entry: &&Entry| match (&entry.seen, entry.fresh) {
            _ if entry.failed.is_some() => false,
            (None, _) => true,
            (Some(seen), Some(fresh)) => now.duration_since(seen.at) >= fresh.mul_f64(0.8),
            (Some(_), None) => false,
        };
        self.secrets.values().filter(due).count()
    }
}

#[cfg(test)]
mod tests;
