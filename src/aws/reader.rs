//! The one way to read a value: collect the requests, read the value once, record the read, check the answer for each
//! binding, and share the value. The last binding that drops the value frees its memory.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use crate::aws::api::{BATCH_LIMIT, Batch, SecretsApi};
use crate::aws::audit::AuditLog;
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::aws::read_queue::{PendingRead, ReadAnswer, ReadGroup, ReadQueue};
use crate::aws::read_record::{RecordedVersion, record_read};
use crate::aws::read_request::ReadRequest;
use crate::aws::shared_version::SharedVersion;
use crate::aws::value_memory::{MemoryPermit, ValueMemory, split};
use crate::aws::versions::Versions;
use crate::domain::inputs::source_text;
use crate::domain::secret::description::answers;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, Source};
use crate::domain::secret::version::SecretVersion;

/// A read begins when no request came for this long.
const QUIET_PERIOD: Duration = Duration::from_millis(20);
/// A read begins after this time at the latest.
const MAX_DELAY: Duration = Duration::from_millis(250);
/// The read calls that one identity has in flight.
const WORKERS: usize = 64;
/// Bindery repeats a batch that IAM denied after this time.
const DENIED_RETRY: Duration = Duration::from_secs(3600);

/// Reads values through a [`SecretsApi`] and writes the audit log.
#[derive(Clone)]
pub struct Reader(Arc<ReaderInner>);

struct ReaderInner {
    api: Arc<dyn SecretsApi>,
    audit: Arc<AuditLog>,
    limits: Arc<RateLimits>,
    versions: Arc<Versions>,
    queues: Mutex<HashMap<Identity, IdentityQueue>>,
    memory: ValueMemory,
    /// Whether reads may begin. Where not, requests collect.
    open: watch::Sender<bool>,
}

/// The pending reads of one identity, and the workers that serve them.
#[derive(Default)]
struct IdentityQueue {
    reads: ReadQueue,
    workers: usize,
    /// When the last request came.
    last_request: Option<Instant>,
    /// When IAM denied a batch.
    batch_denied: Option<Instant>,
}

impl IdentityQueue {
    /// Whether it has something to do or to remember.
    fn is_of_use(&self) -> bool {
        self.workers > 0 || !self.reads.is_idle() || !self.allows_batches()
    }

    fn allows_batches(&self) -> bool {
        self.batch_denied.is_none_or(|denied| denied.elapsed() > DENIED_RETRY)
    }
}

/// One worker of a queue. The drop removes it from its queue, also after a panic.
struct Worker {
    reader: Arc<ReaderInner>,
    identity: Identity,
    /// Whether the worker is removed already.
    ended: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.ended {
            self.reader.queues().entry(self.identity.clone()).or_default().workers -= 1;
        }
    }
}

impl Worker {
    /// Serves the pending reads of the identity until there are none.
    async fn run(mut self) {
        let reader = self.reader.clone();
        // The sender lives as long as this subscription.
        let _ = reader.open.subscribe().wait_for(|open| *open).await;
        loop {
            reader.wait_until_quiet(&self.identity).await;
            let groups = self.next();
            if groups.is_empty() {
                return;
            }
            let (now, later): (Vec<_>, Vec<_>) =
                groups.into_iter().map(|group| reader.with_share(group)).partition(|group| group.share.is_some());
            for group in later {
                tokio::spawn(serve_later(reader.clone(), self.identity.clone(), group));
            }
            if !now.is_empty() {
                serve_or_abandon(&reader, &self.identity, now).await;
            }
        }
    }

    /// The reads of the next call. Where there are none, the worker is removed under the same lock, so that the next
    /// request starts a new one.
    fn next(&mut self) -> Vec<ReadGroup> {
        let mut queues = self.reader.queues();
        let Some(queue) = queues.get_mut(&self.identity) else { return Vec::new() };
        let batches = queue.allows_batches();
        let groups = queue.reads.next(batches);
        if groups.is_empty() {
            self.ended = true;
            queue.workers -= 1;
            if !queue.is_of_use() {
                queues.remove(&self.identity);
            }
        }
        groups
    }
}

/// Serves reads, and ends them where that panics.
async fn serve_or_abandon(reader: &ReaderInner, identity: &Identity, groups: Vec<ReadGroup>) {
    let begun: Vec<(Source, u64)> = groups.iter().map(|group| (group.source.clone(), group.number)).collect();
    let served = AssertUnwindSafe(reader.serve(identity, groups)).catch_unwind().await;
    if served.is_err() {
        // Nobody else would end these reads, and later requests would join them for ever.
        tracing::error!(identity = %identity.describe(), "a read ended by a fault of Bindery; its bindings ask again");
        let mut queues = reader.queues();
        let queue = queues.entry(identity.clone()).or_default();
        for (source, number) in &begun {
            queue.reads.abandon(source, *number);
        }
    }
}

/// Serves a read once its namespace has memory for it. No other read waits for that.
async fn serve_later(reader: Arc<ReaderInner>, identity: Identity, group: ReadGroup) {
    let namespace = group.reads.first().map(|read| read.request.binding.namespace.clone()).unwrap_or_default();
    if let Some(share) = reader.memory.wait_for_share(&namespace).await {
        serve_or_abandon(&reader, &identity, vec![ReadGroup { share: Some(share), ..group }]).await;
    } else {
        let error = no_memory().about(&group.source.secret.to_string());
        reader.finish(&identity, group, Err(error));
    }
}

/// Bindings that have values wait for more of them: an error lets them drop theirs and retry.
fn no_memory() -> SourceError {
    SourceError {
        code: Some("MemoryLimit".to_owned()),
        ..SourceError::new(SourceErrorKind::Unavailable, String::new())
    }
}

impl Reader {
    /// A reader that records in `audit`.
    #[must_use]
    pub fn new(
        api: Arc<dyn SecretsApi>,
        audit: Arc<AuditLog>,
        limits: Arc<RateLimits>,
        versions: Arc<Versions>,
    ) -> Self {
        let memory = ValueMemory::default();
        let (open, _) = watch::channel(true);
        Self(Arc::new(ReaderInner { api, audit, limits, versions, queues: Mutex::default(), memory, open }))
    }

    /// The index of versions.
    #[must_use]
    pub fn versions(&self) -> &Arc<Versions> {
        &self.0.versions
    }

    /// Delays new reads until [`Reader::resume`]. At the start, many bindings that share secrets send their requests at
    /// about the same time, and one read of each secret then serves all of them.
    pub fn pause(&self) {
        self.0.open.send_replace(false);
    }

    /// Begins the delayed reads.
    pub fn resume(&self) {
        self.0.open.send_replace(true);
    }

    /// The account of an identity.
    ///
    /// # Errors
    /// Where credentials fail.
    pub async fn account(&self, identity: &Identity) -> Result<String, SourceError> {
        self.0.api.account(identity).await
    }

    /// Reads a value, together with the requests of other bindings at about the same time.
    ///
    /// # Errors
    /// What AWS refuses, an answer that the check refuses, a read that could not be recorded.
    pub async fn read(&self, identity: &Identity, source: &Source, request: ReadRequest) -> ReadAnswer {
        let (answer, receiver) = oneshot::channel();
        {
            let mut queues = self.0.queues();
            if !queues.contains_key(identity) {
                queues.retain(|_, queue| queue.is_of_use());
            }
            let queue = queues.entry(identity.clone()).or_default();
            let namespace = &*request.binding.namespace;
            if queue.reads.needs_call(source, &request) && !self.0.limits.tenants.pay([namespace]) {
                return Err(SourceError::new(SourceErrorKind::TenantLimit, source.secret.to_string()));
            }
            queue.reads.push(source, PendingRead { request, answer });
            queue.last_request = Some(Instant::now());
            if queue.workers < queue.reads.calls(queue.allows_batches()).min(WORKERS) {
                queue.workers += 1;
                let worker = Worker { reader: self.0.clone(), identity: identity.clone(), ended: false };
                tokio::spawn(worker.run());
            }
        }
        // Without an answer the worker panicked, and the next reconcile repeats the request.
        receiver
            .await
            .unwrap_or_else(|_| Err(SourceError::new(SourceErrorKind::Unavailable, source.secret.to_string())))
    }
}

impl ReaderInner {
    fn queues(&self) -> MutexGuard<'_, HashMap<Identity, IdentityQueue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no request came for a moment and no notified binding is about to send one.
    async fn wait_until_quiet(&self, identity: &Identity) {
        let started = Instant::now();
        while started.elapsed() < MAX_DELAY {
            let last_request = self.queues().get(identity).and_then(|queue| queue.last_request);
            let quiet = last_request.map_or(QUIET_PERIOD, |at| at.elapsed());
            if quiet >= QUIET_PERIOD && !self.versions.has_pending(identity) {
                return;
            }
            sleep(QUIET_PERIOD.saturating_sub(quiet).max(QUIET_PERIOD / 4)).await;
        }
    }

    async fn serve(&self, identity: &Identity, mut groups: Vec<ReadGroup>) {
        if groups.len() > 1 {
            return self.serve_batch(identity, groups).await;
        }
        if let Some(mut group) = groups.pop() {
            let result = self.read(identity, &group.source, group.share.take()).await;
            self.finish(identity, group, result);
        }
    }

    async fn serve_batch(&self, identity: &Identity, groups: Vec<ReadGroup>) {
        let ids: Vec<SecretId> = groups.iter().map(|group| group.source.secret.clone()).collect();
        match self.read_batch(identity, &ids).await {
            Ok((batch, memory)) => {
                let unanswered = self.finish_batch(identity, groups, batch, memory);
                // A single read explains why the batch left a secret out.
                for group in unanswered {
                    Box::pin(self.serve(identity, vec![group])).await;
                }
            }
            Err(error) if error.is_passing() => {
                for group in groups {
                    let about = error.about(&group.source.secret.to_string());
                    let error = SourceError { lost_attempts: error.lost_attempts, ..about };
                    self.finish(identity, group, Err(error));
                }
            }
            Err(error) if error.kind == SourceErrorKind::AccessDenied => {
                tracing::info!(identity = %identity.describe(), "secrets are read one by one, since IAM does not allow secretsmanager:BatchGetSecretValue");
                if let Some(queue) = self.queues().get_mut(identity) {
                    queue.batch_denied = Some(Instant::now());
                }
                futures::future::join_all(groups.into_iter().map(|group| self.serve(identity, vec![group]))).await;
            }
            // One id fails the whole batch: bisection isolates it.
            Err(_) => {
                let mut first = groups;
                let second = first.split_off(first.len() / 2);
                Box::pin(self.serve(identity, first)).await;
                Box::pin(self.serve(identity, second)).await;
            }
        }
    }

    /// Finishes the reads that a batch answered, and returns the others. ARN and name match an answer to its read,
    /// never the order of the answers.
    fn finish_batch(
        &self,
        identity: &Identity,
        groups: Vec<ReadGroup>,
        mut batch: Batch,
        mut memory: MemoryPermit,
    ) -> Vec<ReadGroup> {
        let mut unanswered = Vec::new();
        let lost_attempts = batch.lost_attempts;
        for mut group in groups {
            let secret = &group.source.secret;
            let id = secret.to_string();
            let version = batch.versions.iter().position(|v| answers(secret, &v.arn, &v.name));
            let failure = batch.failures.iter().position(|(failed, _)| *failed == id);
            let result = match (version, failure) {
                (Some(index), _) => {
                    let version = SecretVersion { lost_attempts, ..batch.versions.swap_remove(index) };
                    let bytes = version.payload.len();
                    let share = group.share.as_mut().and_then(|share| split(share, bytes));
                    Ok(SharedVersion::new(version, [split(&mut memory, bytes), share]))
                }
                (None, Some(index)) => Err(SourceError { lost_attempts, ..batch.failures.swap_remove(index).1 }),
                (None, None) => {
                    unanswered.push(group);
                    continue;
                }
            };
            self.finish(identity, group, result);
        }
        unanswered
    }

    async fn read_batch(&self, identity: &Identity, ids: &[SecretId]) -> Result<(Batch, MemoryPermit), SourceError> {
        let values = u32::try_from(ids.len().min(BATCH_LIMIT)).unwrap_or_default();
        let memory = self.memory.take(values).await.ok_or_else(no_memory)?;
        let batch = self.limits.send(identity, RateClass::Batch, || self.api.read_batch(identity, ids)).await?;
        Ok((batch, memory))
    }

    async fn read(
        &self,
        identity: &Identity,
        source: &Source,
        mut share: Option<MemoryPermit>,
    ) -> Result<SharedVersion, SourceError> {
        let memory = self.memory.take(1).await;
        let mut memory = memory.ok_or_else(|| no_memory().about(&source.secret.to_string()))?;
        let read = || self.api.read(identity, &source.secret, &source.version);
        let named = |error: SourceError| match error.kind {
            SourceErrorKind::VersionNotFound => SourceError { secret: source_text(source), ..error },
            _ => error,
        };
        let version = self.limits.send(identity, RateClass::Read, read).await.map_err(named)?;
        let bytes = version.payload.len();
        let share = share.as_mut().and_then(|share| split(share, bytes));
        Ok(SharedVersion::new(version, [split(&mut memory, bytes), share]))
    }

    /// A read with memory of the share of a namespace that asks for it, where one of them has it now.
    fn with_share(&self, group: ReadGroup) -> ReadGroup {
        let share = self.memory.share(group.reads.iter().map(|read| &*read.request.binding.namespace));
        ReadGroup { share, ..group }
    }

    /// Records a read and answers its requests.
    fn finish(&self, identity: &Identity, group: ReadGroup, result: Result<SharedVersion, SourceError>) {
        let ReadGroup { source, mut reads, .. } = group;
        let version_id = result.as_ref().ok().map(|version| version.version_id.clone());
        if let Some(queue) = self.queues().get_mut(identity) {
            reads.extend(queue.reads.finish(&source, version_id.as_deref()));
        }
        if let Some(version) = result.as_ref().ok().filter(|v| answers(&source.secret, &v.arn, &v.name)) {
            self.versions.record_read(identity, &source, version);
        }
        // A receiver that is gone repeats its request when it needs the value.
        match record_read(&self.audit, identity, &source, &reads, result) {
            Ok(RecordedVersion { version, refusals }) => {
                let version = Arc::new(version);
                for (read, refusal) in reads.into_iter().zip(refusals) {
                    let answer = match refusal {
                        None => Ok(version.clone()),
                        Some(kind) => Err(SourceError::new(kind, source.secret.to_string())),
                    };
                    let _ = read.answer.send(answer);
                }
            }
            Err(error) => {
                for read in reads {
                    let _ = read.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
