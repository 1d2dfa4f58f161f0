//! Which versions the secrets have, found without reading a value, once for all bindings that ask.
//!
//! Of each identity the cheapest way that IAM allows is taken: one [sweep](crate::aws::versions::sweep) over all secrets, else
//! `DescribeSecret` of each, else only reading tells. What was found is kept, without values, and serves every binding
//! whose refresh interval it is young enough for. A change that is found, by whomever, is told to all bindings of the
//! secret.

mod history;
mod index;
pub mod snapshot;
pub mod sweep;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::aws::api::SecretsApi;
use crate::aws::events::message::SecretEvent;
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::aws::versions::index::{Index, Interest};
use crate::aws::versions::snapshot::{Discovery, Snapshot, SnapshotRequest};
use crate::domain::name::BindingName;
use crate::domain::secret::description::{Description, answers};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, Source};
use crate::domain::secret::version::SecretVersion;

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

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// What it tells is known.
    Known,
    /// Nobody asks about its secret.
    Unregistered,
    /// It could not be found out, so it should be told again.
    Unknown,
}

/// The index of versions.
pub struct Versions {
    api: Arc<dyn SecretsApi>,
    quotas: Arc<RateLimits>,
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
        quotas: Arc<RateLimits>,
        region: Option<String>,
    ) -> (Self, mpsc::UnboundedReceiver<BindingName>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        (Self { api, quotas, region, index: Mutex::default(), changes }, receiver)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a binding depends on these secrets, and for how long it relies on what was seen of them.
    pub fn register(&self, binding: &BindingName, identity: &Identity, secrets: BTreeSet<SecretId>, fresh: Duration) {
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
    pub async fn snapshot(
        self: &Arc<Self>,
        identity: &Identity,
        secret: &SecretId,
        want: &SnapshotRequest<'_>,
    ) -> Result<Option<Snapshot>, SourceError> {
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
        self.describe(identity, secret, asked, Discovery::Request, turn).await
    }

    /// Lists the secrets of an identity, and lets what differs from what is known be confirmed.
    async fn sweep(self: &Arc<Self>, identity: &Identity) -> Result<(), SourceError> {
        let started = Instant::now();
        let (wanted, limit) = self.index().sweeping(identity, started);
        let prefixes = wanted.prefixes();
        let mut listed: HashMap<SecretId, Description> = HashMap::new();
        let (mut page, mut pages) = (None, 0);
        let whole = loop {
            let answer =
                self.quotas.paced(identity, RateClass::List, || self.api.list(identity, &prefixes, page.clone())).await;
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
                    let _ = versions.find_out(identity, &secret, started, Discovery::Request).await;
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
    ) -> Result<Option<Snapshot>, SourceError> {
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
    ) -> Result<Option<Snapshot>, SourceError> {
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
            self.quotas.paced(identity, RateClass::Read, || self.api.describe(identity, secret)).await.and_then(
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
    pub fn record_read(&self, identity: &Identity, source: &Source, version: &SecretVersion) {
        let changed = self.index().learned(identity, source, version, Instant::now());
        self.tell(changed);
    }

    /// Looks at the secret that an event names, where anybody wants it.
    pub async fn handle_event(&self, event: &SecretEvent) -> EventOutcome {
        let asked = Instant::now();
        let concerned = self.index().concerned(event, self.region.as_deref());
        if concerned.is_empty() {
            return EventOutcome::Unregistered;
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
        if known { EventOutcome::Known } else { EventOutcome::Unknown }
    }

    /// Notes that a binding has asked for what it needs.
    pub fn record_request(&self, binding: &BindingName) {
        self.index().told.remove(binding);
    }

    /// Notes that a pass over a binding has ended. What it was told after the pass began is for the next one.
    pub fn record_reconcile(&self, binding: &BindingName, began: Instant) {
        let mut index = self.index();
        if index.told.get(binding).is_some_and(|told| *told <= began) {
            index.told.remove(binding);
        }
    }

    /// Whether bindings of this identity were told of a change and may be about to ask for values.
    pub fn has_pending(&self, identity: &Identity) -> bool {
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

#[cfg(test)]
mod tests;
