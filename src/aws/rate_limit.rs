//! How often AWS is called: within the quotas of the account, and at the pace that AWS has asked of an identity.
//!
//! AWS [counts calls per account and region][quotas], whoever makes them, so one token bucket stands above all
//! identities of an account. Within it they take turns: an identity with a thousand calls to make delays one with a
//! single call by one call. When AWS throttles nevertheless, since others use the account too, the identity that was
//! refused slows down to what was let through, and after a quiet minute tries a little more.
//!
//! [quotas]: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::domain::secret::error::{SourceError, SourceErrorKind};
use crate::domain::secret::identity::Identity;

/// Calls that one identity has under way at once, of each class.
const CONCURRENCY: usize = 64;
/// What was let through is counted over this time.
const WINDOW: Duration = Duration::from_secs(1);
/// The pace that was learned stands for this long before more is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often more is tried then.
const STEP: Duration = Duration::from_secs(10);
/// How long a throttled call is made again before those who wait for it are told.
const THROTTLED: Duration = Duration::from_secs(5);
/// The pause before a throttled call is made again, shortened by up to a half.
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);
/// The slowest pace, in calls a second: a tenth of the smallest quota that AWS gives.
const SLOWEST: f64 = 5.0;
/// The share of refused calls that teaches nothing: the account is at its limit where more are refused.
const NOISE: f64 = 0.1;

/// Calls that AWS counts together.
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

/// Calls a second, for each account and region.
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
}

impl Default for Rates {
    /// A small part of what AWS grants an account: 10,000 reads, 100 batches, 100 lists and 50 writes a second.
    fn default() -> Self {
        Self { read: 500.0, batch: 30.0, list: 10.0, write: 5.0 }
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

/// Tokens that flow at a rate and gather for at most a second.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Self {
        Self { rate, tokens: rate.max(1.0), at: now }
    }

    /// Takes one token and answers how long it is until that token is there.
    fn take(&mut self, now: Instant) -> Duration {
        let gathered = now.duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gathered).min(self.rate.max(1.0)) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }
}

/// The pace that AWS has taught one identity; none until it is throttled.
#[derive(Debug, Default)]
struct Pace {
    /// When calls were answered, and when they were refused, within the window.
    answered: VecDeque<Instant>,
    refused: VecDeque<Instant>,
    learned: Option<Learned>,
}

#[derive(Debug)]
struct Learned {
    /// Calls a second.
    rate: f64,
    next: Instant,
    throttled: Instant,
    raised: Instant,
}

impl Pace {
    fn answered(&mut self, now: Instant) {
        self.answered.push_back(now);
        self.forget(now);
        // What counts is at most a second's worth, and more than this is never paced.
        if self.answered.len() > 4096 {
            self.answered.pop_front();
        }
    }

    fn forget(&mut self, now: Instant) {
        for times in [&mut self.answered, &mut self.refused] {
            while times.front().is_some_and(|first| now.duration_since(*first) > WINDOW) {
                times.pop_front();
            }
        }
    }

    /// Slows down to nine tenths of what was let through within the last second. Several refusals in one second are
    /// one lesson, and a few among many answers are none.
    fn throttled(&mut self, now: Instant) {
        self.refused.push_back(now);
        self.forget(now);
        let count = |times: &VecDeque<Instant>| u32::try_from(times.len()).map_or(f64::MAX, f64::from);
        let (answered, refused) = (count(&self.answered), count(&self.refused));
        if self.learned.as_ref().is_some_and(|learned| now.duration_since(learned.throttled) < WINDOW)
            || refused <= NOISE * answered
        {
            return;
        }
        let through = answered * 0.9;
        let rate = self.learned.as_ref().map_or(through, |learned| through.min(learned.rate * 0.9)).max(SLOWEST);
        // A second in which nothing is asked lets the other side recover what a first burst took.
        self.learned = Some(Learned { rate, next: now + WINDOW, throttled: now, raised: now });
    }

    /// How long to wait before the next call; `ceiling` is the rate above which no pace is needed.
    fn take(&mut self, ceiling: f64, now: Instant) -> Duration {
        let Some(learned) = &mut self.learned else { return Duration::ZERO };
        if now.duration_since(learned.throttled) > PATIENCE && now.duration_since(learned.raised) > STEP {
            learned.rate *= 1.1;
            learned.raised = now;
            if learned.rate >= ceiling {
                self.learned = None;
                return Duration::ZERO;
            }
        }
        let start = learned.next.max(now);
        learned.next = start + Duration::from_secs_f64(1.0 / learned.rate);
        start.duration_since(now)
    }
}

/// What one identity has to itself: its turn, its pace, its calls under way.
#[derive(Debug)]
struct Lane {
    turn: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
    calls: Arc<Semaphore>,
}

type Account = (Option<String>, Option<String>, RateClass);

/// The buckets of all accounts and the lanes of all identities.
#[derive(Debug, Default)]
pub struct RateLimits {
    rates: Rates,
    accounts: Mutex<HashMap<Account, Bucket>>,
    lanes: Mutex<HashMap<(Identity, RateClass), Arc<Lane>>>,
}

/// One call that may be made now; it is over when this is dropped.
#[derive(Debug)]
pub struct Call {
    lane: Arc<Lane>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl RateLimits {
    /// RateLimits of these rates.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates, ..Self::default() }
    }

    /// Waits until `identity` may make one call.
    pub async fn call(&self, identity: &Identity, class: RateClass) -> Call {
        let lane = self.lane(identity, class);
        // The semaphore is never closed.
        let permit = lane.calls.clone().acquire_owned().await.ok();
        let turn = lane.turn.lock().await;
        let rate = self.rates.of(class);
        let own = lock(&lane.pace).take(rate, Instant::now());
        sleep_some(own).await;
        let shared = {
            let now = Instant::now();
            let key = (identity.account().map(str::to_owned), identity.region.clone(), class);
            lock(&self.accounts).entry(key).or_insert_with(|| Bucket::new(rate, now)).take(now)
        };
        sleep_some(shared).await;
        drop(turn);
        Call { lane, _permit: permit }
    }

    /// Makes a call, and again where AWS throttles it, for a while.
    ///
    /// # Errors
    /// What the call ends with.
    pub async fn paced<T, F>(
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
            let call = self.call(identity, class).await;
            match attempt().await {
                Err(error) if error.kind == SourceErrorKind::Throttled => {
                    call.throttled();
                    drop(call);
                    lost_attempts += error.lost_attempts;
                    if throttled.get_or_insert_with(Instant::now).elapsed() > THROTTLED {
                        return Err(SourceError { lost_attempts, ..error });
                    }
                    sleep(THROTTLED_PAUSE.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
                }
                outcome => {
                    call.answered();
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
        let lane = Arc::new(Lane {
            turn: tokio::sync::Mutex::default(),
            pace: Mutex::default(),
            calls: Arc::new(Semaphore::new(CONCURRENCY)),
        });
        lanes.insert((identity.clone(), class), lane.clone());
        lane
    }

    /// Forgets the lanes that nobody uses and that have learned nothing.
    pub fn forget_idle(&self) {
        lock(&self.lanes).retain(|_, lane| Arc::strong_count(lane) > 1 || lock(&lane.pace).learned.is_some());
    }
}

impl Call {
    /// Notes that AWS took the call.
    pub fn answered(&self) {
        lock(&self.lane.pace).answered(Instant::now());
    }

    /// Notes that AWS refused the call as one too many.
    pub fn throttled(&self) {
        lock(&self.lane.pace).throttled(Instant::now());
    }
}

async fn sleep_some(pause: Duration) {
    if !pause.is_zero() {
        sleep(pause).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(region: &str) -> Identity {
        Identity { region: Some(region.to_owned()), ..Identity::default() }
    }

    fn of_role(name: &str) -> Identity {
        let arn = format!("arn:aws:iam::123456789012:role/{name}");
        let (namespace, grant) = (name.to_owned(), name.to_owned());
        let role = crate::domain::secret::identity::Role { arn, external_id: None, namespace, grant, tags: true };
        Identity { region: Some("eu-west-1".to_owned()), role: Some(role), service_account: None }
    }

    fn quotas(read: f64) -> Arc<RateLimits> {
        Arc::new(RateLimits::new(Rates { read, ..Rates::default() }))
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_one_account_keep_to_its_rate_after_the_first_burst() {
        let quotas = quotas(10.0);
        let started = Instant::now();
        for _ in 0..30 {
            quotas.call(&identity("eu-west-1"), RateClass::Read).await.answered();
        }
        let took = started.elapsed().as_secs_f64();
        assert!((1.9..2.1).contains(&took), "{took}");
        quotas.call(&identity("eu-central-1"), RateClass::Read).await.answered();
        quotas.call(&identity("eu-west-1"), RateClass::Batch).await.answered();
        assert!(started.elapsed().as_secs_f64() < took + 0.01, "another region and another class count apart");
    }

    #[tokio::test(start_paused = true)]
    async fn an_identity_with_many_calls_delays_one_with_a_single_call_by_one_call() {
        let quotas = quotas(10.0);
        let busy: Vec<_> = (0..200)
            .map(|_| {
                let quotas = quotas.clone();
                tokio::spawn(async move { drop(quotas.call(&of_role("busy"), RateClass::Read).await) })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let started = Instant::now();
        drop(quotas.call(&of_role("quiet"), RateClass::Read).await);
        assert!(started.elapsed() <= Duration::from_millis(210), "{:?}", started.elapsed());
        assert!(busy.iter().any(|call| !call.is_finished()), "the busy one still had calls to make");
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_identity_slows_down_alone_and_stays_below_what_was_let_through() {
        let quotas = quotas(500.0);
        // The other side lets 10 calls a second through, after a burst of 10.
        let mut allowed = Bucket::new(10.0, Instant::now());
        let (mut refused, mut served) = (Vec::new(), 0);
        let started = Instant::now();
        while served < 100 {
            let call = quotas.call(&of_role("busy"), RateClass::Read).await;
            if allowed.take(Instant::now()).is_zero() {
                call.answered();
                served += 1;
            } else {
                allowed.tokens += 1.0;
                call.throttled();
                refused.push(started.elapsed());
            }
        }
        assert!(refused.iter().all(|at| *at < Duration::from_secs(1)), "{refused:?}");
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        let others = Instant::now();
        quotas.call(&of_role("quiet"), RateClass::Read).await.answered();
        assert!(others.elapsed() < Duration::from_millis(10), "another identity is not slowed down");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_quiet_minute_more_is_tried_until_no_pace_is_needed() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            pace.answered(Instant::now());
        }
        pace.throttled(Instant::now());
        assert!(pace.learned.is_none(), "one refusal among ten answers teaches nothing");
        pace.throttled(Instant::now());
        assert!((pace.learned.as_ref().unwrap().rate - 9.0).abs() < 0.01);
        for _ in 0..59 {
            pace.take(500.0, Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((pace.learned.as_ref().unwrap().rate - 9.0).abs() < 0.01);
        for _ in 0..600 {
            pace.take(500.0, Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(pace.learned.is_none());
    }

    #[test]
    fn idle_lanes_are_forgotten() {
        let quotas = RateLimits::default();
        drop(quotas.lane(&identity("a"), RateClass::Read));
        quotas.forget_idle();
        assert!(lock(&quotas.lanes).is_empty());
    }
}
