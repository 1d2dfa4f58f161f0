//! The one way to a value: gather all who ask for it, read it once, check the answer, record the read, hand the value
//! on. The value is dropped when the last of them has rendered it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::aws::api::{BATCH_LIMIT, Batch, SecretsApi};
use crate::aws::audit::{AuditLog, ReadOutcome, ReadRecord, Served};
use crate::aws::batch::{Answer, Group, PendingRead, ReadQueue};
use crate::aws::rate_limit::{RateClass, RateLimits};
use crate::aws::read_request::ReadRequest;
use crate::aws::shared_version::SharedVersion;
use crate::aws::versions::Versions;
use crate::domain::secret::description::answers;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::{SecretId, Source, VersionSelector};
use crate::domain::secret::version::SecretVersion;

/// ReadQueue gather until none came for this long.
const LINGER: Duration = Duration::from_millis(20);
/// ReadQueue gather for at most this long.
const LONGEST_LINGER: Duration = Duration::from_millis(250);
/// Calls that one identity has under way at once for values.
const WORKERS: usize = 64;
/// An identity that may not read batches is tried again after this time.
const PROBE_AGAIN: Duration = Duration::from_secs(3600);
/// The most bytes of values that are held at once, in KiB.
const ROOM: u32 = 64 * 1024;
/// What a value can be at most, in KiB (AWS: 65,536 bytes).
const LARGEST: u32 = 64;
/// How long a read waits for room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads through a [`SecretsApi`] and keeps the audit log.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

struct Shared {
    api: Arc<dyn SecretsApi>,
    audit: Arc<AuditLog>,
    quotas: Arc<RateLimits>,
    versions: Arc<Versions>,
    queues: Mutex<HashMap<Identity, Queue>>,
    room: Arc<Semaphore>,
    /// Whether calls are made at present; where not, demands gather.
    open: watch::Sender<bool>,
}

/// The demands of one identity and those who work on them.
#[derive(Default)]
struct Queue {
    demands: ReadQueue,
    workers: usize,
    /// When the last demand came.
    asked: Option<Instant>,
    batch_refused: Option<Instant>,
}

impl Queue {
    fn batches(&self) -> bool {
        self.batch_refused.is_none_or(|refused| refused.elapsed() > PROBE_AGAIN)
    }
}

/// Takes a worker off its queue, also where it panics.
struct Working {
    shared: Arc<Shared>,
    identity: Identity,
    /// Whether it is off already.
    ended: bool,
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.queues().entry(self.identity.clone()).or_default().workers -= 1;
        }
    }
}

impl Working {
    /// What is to be read next. Where there is nothing, the worker is taken off under the same lock: a demand that
    /// comes right after finds that it needs a new one.
    fn next(&mut self) -> Vec<Group> {
        let mut queues = self.shared.queues();
        let Some(queue) = queues.get_mut(&self.identity) else { return Vec::new() };
        let batches = queue.batches();
        let groups = queue.demands.next(batches);
        if groups.is_empty() {
            self.ended = true;
            queue.workers -= 1;
            if queue.workers == 0 && queue.demands.is_idle() && queue.batch_refused.is_none() {
                queues.remove(&self.identity);
            }
        }
        groups
    }
}

impl Reader {
    /// A reader that records in `audit`.
    #[must_use]
    pub fn new(
        api: Arc<dyn SecretsApi>,
        audit: Arc<AuditLog>,
        quotas: Arc<RateLimits>,
        versions: Arc<Versions>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(ROOM as usize));
        let (open, _) = watch::channel(true);
        Self(Arc::new(Shared { api, audit, quotas, versions, queues: Mutex::default(), room, open }))
    }

    /// The versions of the secrets, as far as they are known without a read.
    #[must_use]
    pub fn versions(&self) -> &Arc<Versions> {
        &self.0.versions
    }

    /// Lets demands gather, until [`Reader::resume`]: at the start, when many bindings that share secrets are about to
    /// ask, so that each secret is read once.
    pub fn pause(&self) {
        self.0.open.send_replace(false);
    }

    /// Serves what has gathered.
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

    /// Reads a value, together with all who ask for it at about the same time.
    ///
    /// # Errors
    /// What AWS refuses, an answer that the asker may not have, a read that could not be recorded.
    pub async fn read(&self, identity: &Identity, source: &Source, asker: ReadRequest) -> Answer {
        let (answer, answered) = oneshot::channel();
        {
            let mut queues = self.0.queues();
            let queue = queues.entry(identity.clone()).or_default();
            queue.demands.ask(source, PendingRead { asker, answer });
            queue.asked = Some(Instant::now());
            if queue.workers < queue.demands.calls(queue.batches()).min(WORKERS) {
                queue.workers += 1;
                let working = Working { shared: self.0.clone(), identity: identity.clone(), ended: false };
                tokio::spawn(work(working));
            }
        }
        // Without an answer the worker has panicked, and the next pass asks again.
        answered
            .await
            .unwrap_or_else(|_| Err(SourceError::new(SourceErrorKind::Unavailable, source.secret.to_string())))
    }
}

/// Serves the demands of one identity until there are none.
async fn work(mut working: Working) {
    let shared = working.shared.clone();
    // The sender lives as long as what is waited for here.
    let _ = shared.open.subscribe().wait_for(|open| *open).await;
    loop {
        shared.gathered(&working.identity).await;
        let groups = working.next();
        if groups.is_empty() {
            return;
        }
        shared.serve(&working.identity, groups).await;
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, HashMap<Identity, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until demands have gathered: none came for a moment, and nobody who was told of a change is yet to ask.
    async fn gathered(&self, identity: &Identity) {
        let started = Instant::now();
        while started.elapsed() < LONGEST_LINGER {
            let asked = self.queues().get(identity).and_then(|queue| queue.asked);
            let quiet = asked.map_or(LINGER, |asked| asked.elapsed());
            if quiet >= LINGER && !self.versions.has_pending(identity) {
                return;
            }
            sleep(LINGER.saturating_sub(quiet).max(LINGER / 4)).await;
        }
    }

    async fn serve(&self, identity: &Identity, mut groups: Vec<Group>) {
        if groups.len() > 1 {
            return self.serve_batch(identity, groups).await;
        }
        if let Some((source, demands)) = groups.pop() {
            let outcome = self.read(identity, &source).await;
            self.settle(identity, &source, demands, outcome);
        }
    }

    async fn serve_batch(&self, identity: &Identity, groups: Vec<Group>) {
        let ids: Vec<SecretId> = groups.iter().map(|(source, _)| source.secret.clone()).collect();
        match self.read_batch(identity, &ids).await {
            Ok((batch, room)) => {
                let left = self.settle_batch(identity, groups, batch, room);
                // What the answer left out is asked for by itself, which tells why.
                for group in left {
                    Box::pin(self.serve(identity, vec![group])).await;
                }
            }
            Err(error) if error.is_passing() => {
                for (source, demands) in groups {
                    let error =
                        SourceError { lost_attempts: error.lost_attempts, ..error.about(&source.secret.to_string()) };
                    self.settle(identity, &source, demands, Err(error));
                }
            }
            Err(error) if error.kind == SourceErrorKind::AccessDenied => {
                tracing::info!(identity = %identity.describe(), "secrets are read one by one, since IAM does not allow secretsmanager:BatchGetSecretValue");
                if let Some(queue) = self.queues().get_mut(identity) {
                    queue.batch_refused = Some(Instant::now());
                }
                futures::future::join_all(groups.into_iter().map(|group| self.serve(identity, vec![group]))).await;
            }
            // One id spoils the batch: it is halved until that one stands alone.
            Err(_) => {
                let mut first = groups;
                let second = first.split_off(first.len() / 2);
                Box::pin(self.serve(identity, first)).await;
                Box::pin(self.serve(identity, second)).await;
            }
        }
    }

    /// Settles what a batch answered; what it did not is given back. Answers are matched by ARN and name, never by
    /// their order.
    fn settle_batch(
        &self,
        identity: &Identity,
        groups: Vec<Group>,
        mut batch: Batch,
        mut room: Option<OwnedSemaphorePermit>,
    ) -> Vec<Group> {
        let mut left = Vec::new();
        let lost_attempts = batch.lost_attempts;
        for (source, demands) in groups {
            let id = source.secret.to_string();
            let version = batch.versions.iter().position(|v| answers(&source.secret, &v.arn, &v.name));
            let failure = batch.failures.iter().position(|(failed, _)| *failed == id);
            let outcome = match (version, failure) {
                (Some(index), _) => {
                    let version = SecretVersion { lost_attempts, ..batch.versions.swap_remove(index) };
                    let room = room.as_mut().and_then(|room| room.split(kibibytes(&version)));
                    Ok(SharedVersion::new(version, room))
                }
                (None, Some(index)) => Err(SourceError { lost_attempts, ..batch.failures.swap_remove(index).1 }),
                (None, None) => {
                    left.push((source, demands));
                    continue;
                }
            };
            self.settle(identity, &source, demands, outcome);
        }
        left
    }

    async fn read_batch(
        &self,
        identity: &Identity,
        ids: &[SecretId],
    ) -> Result<(Batch, Option<OwnedSemaphorePermit>), SourceError> {
        let room = self.room(u32::try_from(ids.len().min(BATCH_LIMIT)).unwrap_or_default()).await?;
        let batch = self.quotas.paced(identity, RateClass::Batch, || self.api.read_batch(identity, ids)).await?;
        Ok((batch, Some(room)))
    }

    async fn read(&self, identity: &Identity, source: &Source) -> Result<SharedVersion, SourceError> {
        let mut room = self.room(1).await.map_err(|error| error.about(&source.secret.to_string()))?;
        let version = self
            .quotas
            .paced(identity, RateClass::Read, || self.api.read(identity, &source.secret, &source.version))
            .await?;
        let room = room.split(kibibytes(&version));
        Ok(SharedVersion::new(version, room))
    }

    async fn room(&self, values: u32) -> Result<OwnedSemaphorePermit, SourceError> {
        match timeout(ROOM_TIMEOUT, self.room.clone().acquire_many_owned(values * LARGEST)).await {
            Ok(Ok(room)) => Ok(room),
            // Those who hold values wait for others: they are told to let go and come back.
            _ => Err(SourceError {
                code: Some("MemoryLimit".to_owned()),
                ..SourceError::new(SourceErrorKind::Unavailable, String::new())
            }),
        }
    }

    /// Records what was read, and hands it to those who may have it.
    fn settle(
        &self,
        identity: &Identity,
        source: &Source,
        mut demands: Vec<PendingRead>,
        outcome: Result<SharedVersion, SourceError>,
    ) {
        let version_id = outcome.as_ref().ok().map(|version| version.version_id.clone());
        if let Some(queue) = self.queues().get_mut(identity) {
            demands.extend(queue.demands.settle(source, version_id.as_deref()));
        }
        if let Some(version) = outcome.as_ref().ok().filter(|v| answers(&source.secret, &v.arn, &v.name)) {
            self.versions.record_read(identity, source, version);
        }
        match self.recorded(identity, source, &demands, outcome) {
            Ok((version, refused)) => {
                let version = Arc::new(version);
                for (demand, refused) in demands.into_iter().zip(refused) {
                    let answer = match refused {
                        None => Ok(version.clone()),
                        Some(kind) => Err(SourceError::new(kind, source.secret.to_string())),
                    };
                    // Who does not wait any more, asks again when it wants.
                    let _ = demand.answer.send(answer);
                }
            }
            Err(error) => {
                for demand in demands {
                    let _ = demand.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Writes the audit record of a read. Answers the version, and of each demand why it is refused.
    fn recorded(
        &self,
        identity: &Identity,
        source: &Source,
        demands: &[PendingRead],
        outcome: Result<SharedVersion, SourceError>,
    ) -> Result<(SharedVersion, Vec<Option<SourceErrorKind>>), SourceError> {
        let reference = source.secret.to_string();
        let described = identity.describe();
        let stage = match &source.version {
            VersionSelector::Stage(stage) => Some(stage.as_str()),
            VersionSelector::Id(_) => None,
        };
        let served = demands.iter().map(|demand| Served::by(&demand.asker)).collect();
        let mut record = ReadRecord {
            time: Timestamp::UNIX_EPOCH,
            kind: "read",
            outcome: ReadOutcome::Unknown,
            secret: &reference,
            version_id: None,
            version_stage: stage,
            region: identity.region.as_deref(),
            identity: &described,
            request_id: None,
            served,
        };
        let lost = outcome.as_ref().map_or_else(|error| error.lost_attempts, |version| version.lost_attempts);
        for _ in 0..lost {
            self.write(&mut record, &reference)?;
        }
        match outcome {
            Ok(version) => {
                let mut refused = Vec::with_capacity(demands.len());
                for (demand, served) in demands.iter().zip(&mut record.served) {
                    let verdict = if answers(&source.secret, &version.arn, &version.name) {
                        (demand.asker.check)(&version)
                    } else {
                        Err(SourceErrorKind::WrongSecret)
                    };
                    refused.push(served.judged(verdict));
                }
                record.outcome =
                    if refused.iter().any(Option::is_none) { ReadOutcome::Read } else { ReadOutcome::Denied };
                record.secret = &version.arn;
                record.version_id = Some(&version.version_id);
                record.request_id = version.request_id.as_deref();
                self.write(&mut record, &reference)?;
                Ok((version, refused))
            }
            Err(error) => {
                if matches!(error.kind, SourceErrorKind::AccessDenied | SourceErrorKind::DecryptionFailed) {
                    record.outcome = ReadOutcome::Denied;
                    record.request_id = error.request_id.as_deref();
                    self.write(&mut record, &reference)?;
                }
                Err(error)
            }
        }
    }

    fn write(&self, record: &mut ReadRecord<'_>, reference: &str) -> Result<(), SourceError> {
        record.time = Timestamp::now();
        self.audit.write(record).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written; values are dropped until it can");
            SourceError::new(SourceErrorKind::AuditFailed, reference)
        })
    }
}

fn kibibytes(version: &SecretVersion) -> usize {
    version.payload.len().div_ceil(1024).clamp(1, LARGEST as usize)
}
