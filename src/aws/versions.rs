//! The versions of the secrets, found without reading a value, once for all bindings.
//!
//! Each identity uses the cheapest request that IAM allows: one list of all secrets, compared by the [`sweep`]; else
//! `DescribeSecret` for each secret; else only reads find versions. The index keeps the answers as snapshots without
//! values. A snapshot serves every binding whose refresh interval allows its age. A change notifies all bindings of the
//! secret, whichever request found it.

mod history;
mod index;
mod listing;
pub mod snapshot;
pub mod sweep;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::aws::api::SecretsApi;
use crate::aws::events::message::SecretEvent;
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::aws::versions::history::version_history;
use crate::aws::versions::index::{Registration, VersionIndex};
use crate::aws::versions::listing::list_secrets;
use crate::aws::versions::snapshot::{DescribeRequest, DescribeStart, Discovery, Snapshot, SnapshotRequest};
use crate::domain::name::BindingName;
use crate::domain::secret::description::{Description, answers};
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, Source};
use crate::domain::secret::version::{ListedVersion, SecretVersion};

/// Events request at most one `DescribeSecret` of a secret within this time.
const EVENT_PAUSE: Duration = Duration::from_secs(5);
/// The clocks of the services of AWS differ by less than this, the second included to which events are cut.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(5);
/// The descriptions that run at once after a list.
const CONFIRMATIONS: usize = 16;

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// The index has the change that the event reports.
    Known,
    /// No binding is registered for the secret.
    Unregistered,
    /// AWS did not answer, so the event has to be delivered again.
    Unknown,
}

/// The index of versions, with the requests that fill it.
pub struct Versions {
    api: Arc<dyn SecretsApi>,
    limits: Arc<RateLimits>,
    /// The region of identities that name none.
    region: Option<String>,
    index: Mutex<VersionIndex>,
    /// The time of AWS, as far as messages tell it: the clock of this machine may be any distance away.
    aws_time: Mutex<Option<Timestamp>>,
    changes: mpsc::UnboundedSender<BindingName>,
}

impl Versions {
    /// An empty index. The receiver yields the bindings of secrets that changed. `region` is the region of identities
    /// that name none.
    #[must_use]
    pub fn new(
        api: Arc<dyn SecretsApi>,
        limits: Arc<RateLimits>,
        region: Option<String>,
    ) -> (Self, mpsc::UnboundedReceiver<BindingName>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        (Self { api, limits, region, index: Mutex::default(), aws_time: Mutex::default(), changes }, receiver)
    }

    fn index(&self) -> MutexGuard<'_, VersionIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the secrets that a binding depends on, and the age up to which it relies on a snapshot.
    pub fn register(&self, binding: &BindingName, identity: &Identity, secrets: BTreeSet<SecretId>, max_age: Duration) {
        self.index().register(binding, Registration { identity: identity.clone(), secrets, max_age });
    }

    /// Removes a binding, and the secrets that no other binding is registered for.
    pub fn forget(&self, binding: &BindingName) {
        self.index().forget(binding);
    }

    /// A snapshot of a secret, from the index or from AWS. `None` where IAM allows only reads.
    ///
    /// # Errors
    /// What AWS refuses, an answer for another secret, a secret pending deletion.
    pub async fn snapshot(
        self: &Arc<Self>,
        identity: &Identity,
        secret: &SecretId,
        request: &SnapshotRequest<'_>,
    ) -> Result<Option<Snapshot>, SourceError> {
        let requested = Instant::now();
        if let Some(known) = self.index().known(identity, secret, request, requested) {
            return known.map(Some);
        }
        if !request.confirmed && self.index().prefers_list(identity, requested) {
            let lock = self.index().view(identity).lock.clone();
            let _lock = lock.lock().await;
            // The list of an earlier request can have the answer.
            if let Some(known) = self.index().known(identity, secret, request, requested) {
                return known.map(Some);
            }
            if self.index().prefers_list(identity, requested) {
                if !self.limits.tenants.pay([request.namespace]) {
                    return Err(SourceError::new(SourceErrorKind::TenantLimit, secret.to_string()));
                }
                if let Err(failure) = self.sweep(identity).await {
                    let payer = Some(request.namespace);
                    let request = DescribeRequest { identity, secret, requested, discovery: Discovery::Request, payer };
                    return self.without_list(&request, &failure).await;
                }
                if let Some(known) = self.index().known(identity, secret, request, requested) {
                    return known.map(Some);
                }
            }
        }
        let lock = self.lock(identity, secret).await;
        // The description of an earlier request can have the answer.
        if let Some(known) = self.index().known(identity, secret, request, requested) {
            return known.map(Some);
        }
        let payer = Some(request.namespace);
        let request = DescribeRequest { identity, secret, requested, discovery: Discovery::Request, payer };
        self.describe_locked(&request, lock).await
    }

    /// All versions of a secret, with and without a version stage, the newest first. The answer carries no ARN: it is
    /// the history of the intended secret where it contains a version that was read. One of the namespaces pays for it.
    ///
    /// # Errors
    /// What AWS refuses, and where none of the namespaces has a call left.
    pub async fn history(
        &self,
        identity: &Identity,
        secret: &SecretId,
        payers: &BTreeSet<&str>,
    ) -> Result<Vec<ListedVersion>, SourceError> {
        version_history(&*self.api, &self.limits, identity, secret, payers).await
    }

    /// Describes one secret after the list of all failed, while the others wait. If AWS answers that, each of them is
    /// described as well; if not, they share the failure, since AWS is away.
    async fn without_list(
        &self,
        request: &DescribeRequest<'_>,
        failure: &SourceError,
    ) -> Result<Option<Snapshot>, SourceError> {
        // Without credentials no other call succeeds.
        let answer = match failure.kind {
            SourceErrorKind::CredentialsFailed => Err(failure.about(&request.secret.to_string())),
            _ => self.describe(request).await,
        };
        if let Err(error) = &answer
            && error.is_passing()
            && error.kind != SourceErrorKind::TenantLimit
        {
            self.index().view(request.identity).list_failure = Some((error.clone(), Instant::now()));
        }
        answer
    }

    /// Lists the secrets of an identity, and describes those whose versions differ from the index.
    async fn sweep(self: &Arc<Self>, identity: &Identity) -> Result<(), SourceError> {
        let request = self.index().list_request(identity, Instant::now());
        let listing = match list_secrets(&*self.api, &self.limits, identity, &request).await {
            Ok(listing) => listing,
            Err(error) => {
                self.index().record_list_failure(identity, &error, Instant::now());
                if error.kind == SourceErrorKind::AccessDenied {
                    tracing::info!(identity = %identity.describe(), "secrets are described one by one, since IAM does not allow secretsmanager:ListSecrets");
                    return Ok(());
                }
                tracing::warn!(identity = %identity.describe(), region = identity.region.as_deref(), code = error.code.as_deref(), "secretsmanager:ListSecrets failed; until it works again secrets are described one by one");
                return Err(error);
            }
        };
        let requested = listing.started;
        let unconfirmed = self.index().record_list(identity, listing);
        // A slow description of one secret must not delay the bindings of others.
        let (versions, identity) = (self.clone(), identity.clone());
        tokio::spawn(async move {
            let (versions, identity) = (&versions, &identity);
            futures::stream::iter(unconfirmed)
                .for_each_concurrent(CONFIRMATIONS, |secret| async move {
                    if !versions.index().is_registered(identity, &secret) {
                        return;
                    }
                    let (secret, discovery) = (&secret, Discovery::Request);
                    let request = DescribeRequest { identity, secret, requested, discovery, payer: None };
                    // The index keeps a failure for the bindings of the secret.
                    let _ = versions.describe(&request).await;
                })
                .await;
        });
        Ok(())
    }

    async fn lock(&self, identity: &Identity, secret: &SecretId) -> OwnedMutexGuard<()> {
        let lock = self.index().entry(identity, secret).lock.clone();
        lock.lock_owned().await
    }

    /// Describes one secret, once for all requests that came before the description began.
    async fn describe(&self, request: &DescribeRequest<'_>) -> Result<Option<Snapshot>, SourceError> {
        let lock = self.lock(request.identity, request.secret).await;
        self.describe_locked(request, lock).await
    }

    /// As [`Versions::describe`], for a caller that has the lock of the secret.
    async fn describe_locked(
        &self,
        request: &DescribeRequest<'_>,
        _lock: OwnedMutexGuard<()>,
    ) -> Result<Option<Snapshot>, SourceError> {
        let known = self.index().known_description(request);
        let answer = match known {
            Some(known) => known,
            None if self.is_paid(request) => self.describe_now(request).await,
            None => Err(SourceError::new(SourceErrorKind::TenantLimit, request.secret.to_string())),
        };
        self.index().drop_unregistered(request.identity, request.secret);
        answer
    }

    fn is_paid(&self, request: &DescribeRequest<'_>) -> bool {
        if let Some(payer) = request.payer {
            return self.limits.tenants.pay([payer]);
        }
        let registered = self.index().registered(request.identity, request.secret);
        self.limits.tenants.pay(registered.iter().map(|binding| &*binding.namespace))
    }

    async fn describe_now(&self, request: &DescribeRequest<'_>) -> Result<Option<Snapshot>, SourceError> {
        let start = DescribeStart { at: Instant::now(), time: *self.aws_time() };
        let describe = || self.api.describe(request.identity, request.secret);
        let answer = self.limits.send(request.identity, RateClass::Read, describe).await;
        let answer = answer.and_then(|description| checked(request.secret, description));
        let outcome = self.index().record_description(request, start, answer);
        self.notify(outcome.changed);
        outcome.result
    }

    /// Records the version that a read answered.
    pub fn record_read(&self, identity: &Identity, source: &Source, version: &SecretVersion) {
        let changed = self.index().record_read(identity, source, version, Instant::now());
        self.notify(changed);
    }

    fn aws_time(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.aws_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Describes the secret that an event names, where a binding is registered for it.
    pub async fn handle_event(&self, event: &SecretEvent) -> EventOutcome {
        let requested = Instant::now();
        {
            let mut known = self.aws_time();
            *known = (*known).max(event.sent);
        }
        let affected = self.index().affected(event, self.region.as_deref());
        if affected.is_empty() {
            return EventOutcome::Unregistered;
        }
        let affected = affected.iter().map(|(identity, secret)| self.refresh_after(event, identity, secret, requested));
        let known = futures::future::join_all(affected).await.into_iter().all(|known| known);
        if known { EventOutcome::Known } else { EventOutcome::Unknown }
    }

    /// Describes one secret after an event that arrived at `requested`. Returns whether the index has the change.
    async fn refresh_after(
        &self,
        event: &SecretEvent,
        identity: &Identity,
        secret: &SecretId,
        requested: Instant,
    ) -> bool {
        let last = self.index().entry(identity, secret).last_describe;
        if let Some(last) = last {
            // A description that began well after the event has the change, however often the event is delivered. AWS
            // tells both times.
            if let (Some(event), Some(described)) = (event.time, last.time)
                && described.duration_since(event) > CLOCK_SKEW
            {
                return true;
            }
            if last.at + EVENT_PAUSE > requested {
                sleep_until(last.at + EVENT_PAUSE).await;
            }
        }
        // Meanwhile the last of the bindings may be gone or suspended.
        if !self.index().is_registered(identity, secret) {
            self.index().drop_unregistered(identity, secret);
            return true;
        }
        let request = DescribeRequest { identity, secret, requested, discovery: Discovery::Event, payer: None };
        match self.describe(&request).await {
            Ok(Some(_)) => true,
            Err(error) if error.kind == SourceErrorKind::TenantLimit => {
                // The bindings ask as their namespaces can pay, and the message is in nobody's way.
                let bindings = self.index().invalidate_once(identity, secret);
                self.notify(bindings);
                true
            }
            Ok(None) => {
                // IAM allows only reads, so the bindings read.
                let bindings = self.index().invalidate(identity, secret);
                self.notify(bindings);
                true
            }
            Err(error) => !error.is_passing(),
        }
    }

    /// Records that a binding sent the reads that it needs.
    pub fn record_request(&self, binding: &BindingName) {
        self.index().pending.remove(binding);
    }

    /// Records the end of a reconcile that began at `began`. A later notification stays pending for the next one.
    pub fn record_reconcile(&self, binding: &BindingName, began: Instant) {
        let mut index = self.index();
        if index.pending.get(binding).is_some_and(|notified| *notified <= began) {
            index.pending.remove(binding);
        }
    }

    /// Whether a binding of this identity has a pending notification, so that it may be about to request values.
    pub fn has_pending(&self, identity: &Identity) -> bool {
        let index = self.index();
        let of_identity = |binding| index.registrations.get(binding).is_some_and(|of| of.identity == *identity);
        index.pending.keys().any(of_identity)
    }

    /// Notifies bindings of a change.
    fn notify(&self, bindings: Vec<BindingName>) {
        let now = Instant::now();
        self.index().pending.extend(bindings.iter().cloned().map(|binding| (binding, now)));
        for binding in bindings {
            // Without a receiver there is no controller. The first reconcile then requests a snapshot.
            let _ = self.changes.send(binding);
        }
    }
}

/// The description, where it is of the requested secret and the secret is not pending deletion.
fn checked(secret: &SecretId, description: Description) -> Result<Description, SourceError> {
    if !answers(secret, &description.arn, &description.name) {
        return Err(SourceError::new(SourceErrorKind::WrongSecret, secret.to_string()));
    }
    if description.pending_deletion {
        return Err(SourceError::new(SourceErrorKind::SecretPendingDeletion, secret.to_string()));
    }
    Ok(description)
}

#[cfg(test)]
mod tenant_tests;
#[cfg(test)]
mod tests;
