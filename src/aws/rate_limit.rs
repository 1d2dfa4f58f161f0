//! Rate limits of the calls to AWS: one for each account, and one for each identity that AWS throttles.
//!
//! AWS [counts calls per account and region][quotas], so all identities of an account share one token bucket. They
//! take turns: an identity with a thousand calls delays an identity with a single call by one call. AWS can throttle
//! all the same, since other clients use the account. Then the throttled identity slows down to the rate that AWS
//! accepted, and raises it after a quiet minute.
//!
//! [quotas]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::aws::tenant_limit::TenantLimits;
use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;

/// The calls that one identity has in flight, in each class.
const CONCURRENCY: usize = 64;
/// The time over which answers and refusals are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// A lowered rate stays for this long before it rises.
const QUIET: Duration = Duration::from_secs(60);
/// The rate then rises once in this time.
const RAISE_INTERVAL: Duration = Duration::from_secs(10);
/// A lowered rate of an identity without calls is forgotten after this time.
const FORGET_LIMIT: Duration = Duration::from_secs(600);
/// A throttled call is repeated for this long before it fails.
const THROTTLED_RETRY: Duration = Duration::from_secs(5);
/// The pause before a throttled call is repeated. Jitter shortens it by up to a half.
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);
/// The lowest rate, in calls a second: a tenth of the smallest quota of AWS.
const MIN_RATE: f64 = 5.0;
/// The ratio of refusals to answers up to which the rate stays. The account is at its limit where it is higher.
const TOLERATED_REFUSALS: f64 = 0.1;

/// A class of calls that AWS counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RateClass {
    /// `GetSecretValue` and `DescribeSecret`.
    Read,
    /// `BatchGetSecretValue`.
    Batch,
    /// `ListSecrets` and `ListSecretVersionIds`.
    List,
    /// `PutSecretValue`, `UpdateSecretVersionStage` and `RotateSecret`.
    Write,
}

/// The rate of each class, in calls a second for each account and region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Of [`RateClass::Read`].
    pub read: f64,
    /// Of [`RateClass::Batch`].
    pub batch: f64,
    /// Of [`RateClass::List`].
    pub list: f64,
    /// Of [`RateClass::Write`].
    pub write: f64,
    /// Of all classes together, for each namespace.
    pub tenant: f64,
}

impl Default for Rates {
    /// A small part of the quotas of an account: 10,000 reads, 100 batches, 100 lists and 50 writes a second.
    fn default() -> Self {
        Self { read: 500.0, batch: 30.0, list: 10.0, write: 5.0, tenant: 10.0 }
    }
}

impl Rates {
    const fn of(self, class: RateClass) -> f64 {
        match class {
            RateClass::Read => self.read,
            RateClass::Batch => self.batch,
            RateClass::List => self.list,
            RateClass::Write => self.write,
        }
    }
}

/// A token bucket that holds the tokens of at most a second.
#[derive(Debug)]
struct Bucket {
    /// Tokens a second.
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Self {
        Self { rate, tokens: rate.max(1.0), at: now }
    }

    /// Whether it has gathered all that it holds, as a new one has.
    fn is_full(&self, now: Instant) -> bool {
        self.tokens + now.duration_since(self.at).as_secs_f64() * self.rate >= self.rate.max(1.0)
    }

    /// Takes one token. Returns the time until it is available.
    fn take(&mut self, now: Instant) -> Duration {
        let gathered = now.duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gathered).min(self.rate.max(1.0)) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }
}

/// The rate of one identity. It has no limit until AWS throttles it.
#[derive(Debug, Default)]
struct Pace {
    /// The times of answers and of refusals within the window.
    answered: VecDeque<Instant>,
    refused: VecDeque<Instant>,
    limit: Option<PaceLimit>,
}

/// The rate to which AWS throttled an identity.
#[derive(Debug)]
struct PaceLimit {
    /// Calls a second.
    rate: f64,
    /// When the next call may start.
    next: Instant,
    throttled: Instant,
    raised: Instant,
}

impl Pace {
    fn record_answer(&mut self, now: Instant) {
        self.answered.push_back(now);
        self.forget(now);
        // The window is a second, and no rate limit exceeds this number.
        if self.answered.len() > 4096 {
            self.answered.pop_front();
        }
    }

    /// Whether nothing is known of it that counts any more.
    fn is_idle(&mut self, now: Instant) -> bool {
        self.forget(now);
        let is_old = |limit: &PaceLimit| now.duration_since(limit.throttled) > FORGET_LIMIT;
        self.answered.is_empty() && self.refused.is_empty() && self.limit.as_ref().is_none_or(is_old)
    }

    fn forget(&mut self, now: Instant) {
        for times in [&mut self.answered, &mut self.refused] {
            while times.front().is_some_and(|first| now.duration_since(*first) > WINDOW) {
                times.pop_front();
            }
        }
    }

    /// Lowers the rate to nine tenths of the answers of the last second. The refusals of one second lower it once. A
    /// few refusals among many answers do not lower it.
    fn record_refusal(&mut self, now: Instant) {
        self.refused.push_back(now);
        self.forget(now);
        let count = |times: &VecDeque<Instant>| u32::try_from(times.len()).map_or(f64::MAX, f64::from);
        let (answered, refused) = (count(&self.answered), count(&self.refused));
        if self.limit.as_ref().is_some_and(|limit| now.duration_since(limit.throttled) < WINDOW)
            || refused <= TOLERATED_REFUSALS * answered
        {
            return;
        }
        let accepted = answered * 0.9;
        let rate = self.limit.as_ref().map_or(accepted, |limit| accepted.min(limit.rate * 0.9)).max(MIN_RATE);
        // A second without calls refills the bucket that a first burst emptied at AWS.
        self.limit = Some(PaceLimit { rate, next: now + WINDOW, throttled: now, raised: now });
    }

    /// Reserves the next call. Returns the time until it may start. A rate of `ceiling` or more needs no limit.
    fn take(&mut self, ceiling: f64, now: Instant) -> Duration {
        let Some(limit) = &mut self.limit else { return Duration::ZERO };
        if now.duration_since(limit.throttled) > QUIET && now.duration_since(limit.raised) > RAISE_INTERVAL {
            limit.rate *= 1.1;
            limit.raised = now;
            if limit.rate >= ceiling {
                self.limit = None;
                return Duration::ZERO;
            }
        }
        let start = limit.next.max(now);
        limit.next = start + Duration::from_secs_f64(1.0 / limit.rate);
        start.duration_since(now)
    }
}

/// The state of one identity in one class.
#[derive(Debug)]
struct Lane {
    /// One call of the identity at a time waits for the shared bucket.
    queue: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
    calls: Arc<Semaphore>,
}

/// Account, region and class: what AWS counts together.
type BucketKey = (Option<String>, Option<String>, RateClass);

/// The buckets of all accounts and the lanes of all identities.
#[derive(Debug)]
pub struct RateLimits {
    rates: Rates,
    /// The budgets of namespaces, which are asked before a call is made.
    pub tenants: TenantLimits,
    accounts: Mutex<HashMap<BucketKey, Bucket>>,
    lanes: Mutex<HashMap<(Identity, RateClass), Arc<Lane>>>,
}

/// The permit of one call, from its start to its end.
#[derive(Debug)]
pub struct CallPermit {
    lane: Arc<Lane>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::new(Rates::default())
    }
}

impl RateLimits {
    /// Rate limits with these rates.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        let (accounts, lanes) = (Mutex::default(), Mutex::default());
        Self { rates, tenants: TenantLimits::new(rates.tenant), accounts, lanes }
    }

    /// Waits until `identity` may make one call.
    pub async fn acquire(&self, identity: &Identity, class: RateClass) -> CallPermit {
        let lane = self.lane(identity, class);
        // The semaphore is never closed.
        let permit = lane.calls.clone().acquire_owned().await.ok();
        let queue = lane.queue.lock().await;
        let rate = self.rates.of(class);
        let own = lock(&lane.pace).take(rate, Instant::now());
        sleep_for(own).await;
        let shared = {
            let now = Instant::now();
            let key = (identity.account().map(str::to_owned), identity.region.clone(), class);
            let mut accounts = lock(&self.accounts);
            if !accounts.contains_key(&key) {
                accounts.retain(|_, bucket| !bucket.is_full(now));
            }
            accounts.entry(key).or_insert_with(|| Bucket::new(rate, now)).take(now)
        };
        sleep_for(shared).await;
        drop(queue);
        CallPermit { lane, _permit: permit }
    }

    /// Makes a call within the limits, and repeats it for five seconds while AWS throttles it.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn send<T, F>(
        &self,
        identity: &Identity,
        class: RateClass,
        attempt: impl Fn() -> F,
    ) -> Result<T, SourceError>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        let mut throttled: Option<Instant> = None;
        let mut lost_attempts = 0;
        loop {
            let permit = self.acquire(identity, class).await;
            match attempt().await {
                Err(error) if error.kind == SourceErrorKind::Throttled => {
                    permit.record_refusal();
                    drop(permit);
                    lost_attempts += error.lost_attempts;
                    if throttled.get_or_insert_with(Instant::now).elapsed() > THROTTLED_RETRY {
                        return Err(SourceError { lost_attempts, ..error });
                    }
                    sleep(THROTTLED_PAUSE.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
                }
                outcome => {
                    permit.record_answer();
                    return outcome
                        .map_err(|error| SourceError { lost_attempts: error.lost_attempts + lost_attempts, ..error });
                }
            }
        }
    }

    fn lane(&self, identity: &Identity, class: RateClass) -> Arc<Lane> {
        let mut lanes = lock(&self.lanes);
        if let Some(lane) = lanes.get(&(identity.clone(), class)) {
            return lane.clone();
        }
        // So identities that are gone leave nothing behind.
        let now = Instant::now();
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1 || !lock(&lane.pace).is_idle(now));
        let lane = Arc::new(Lane {
            queue: tokio::sync::Mutex::default(),
            pace: Mutex::default(),
            calls: Arc::new(Semaphore::new(CONCURRENCY)),
        });
        lanes.insert((identity.clone(), class), lane.clone());
        lane
    }
}

impl CallPermit {
    /// Records that AWS answered the call.
    pub fn record_answer(&self) {
        lock(&self.lane.pace).record_answer(Instant::now());
    }

    /// Records that AWS throttled the call.
    pub fn record_refusal(&self) {
        lock(&self.lane.pace).record_refusal(Instant::now());
    }
}

async fn sleep_for(pause: Duration) {
    if !pause.is_zero() {
        sleep(pause).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
