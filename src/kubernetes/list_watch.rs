//! A list, then a watch, for ever, told as events. In contrast to kube's watcher it tells each time that the API server
//! was heard of, so that a watch that fell silent is known; each request has a deadline; and the pauses between retries
//! grow until a list is complete or the watch is heard of.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::api::{ListParams, ObjectList, WatchEvent, WatchParams};
use kube::core::{Request, Status, TypeMeta};
use kube::runtime::watcher::Event;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use crate::domain::fingerprint::FingerprintKey;
use crate::domain::target::SecretMeta;
use crate::kubernetes::deadline::timed_out;
use crate::kubernetes::object_stream::{next_limit, read_list};
use crate::kubernetes::watched_secret::WatchedSecret;

/// The API server ends a watch after this time. So it is heard of that often, however idle the watch is.
const WATCH_DURATION: Duration = Duration::from_secs(25);
/// A watch that is silent for longer is dead: the API server would have ended it.
const SILENCE: Duration = Duration::from_secs(30);
/// The time in which a watch must begin.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for one page of a list.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The objects of the first page, when nobody knows how large they are.
const FIRST_PAGE: u32 = 25;
/// The most objects of a page.
const PAGE: u32 = 500;
/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so many failures one after the other a watch begins with a list again, unless it is forbidden.
const RELIST_AFTER: u32 = 3;
/// A list of so many pages is short: of the objects of the first, whose size nobody knows, and one page by their size.
const SHORT_LIST: u32 = 2;
/// A short list is made again after this time, at the next end of a request, so that what a watch kept back is known
/// within a minute.
const RELIST_SHORT: Duration = Duration::from_secs(40);
/// The same for a longer list.
const RELIST_LONG: Duration = Duration::from_secs(600);

/// What was heard of a watch.
#[derive(Clone, Debug)]
pub enum Heard<K> {
    /// An event.
    Event(Event<K>),
    /// The watch works, and nothing happened.
    Alive,
}

impl<K> Heard<K> {
    /// Whether this shows that all is known up to now: a list that began, and a part of one, do not.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        !matches!(self, Self::Event(Event::Init | Event::InitApply(_)))
    }
}

/// Why a list or a watch failed, without the API server's own text.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The API server refused.
    #[error("the API server answered {} {}", .0.code, .0.reason)]
    Refused(Box<Status>),
    /// The list gave nothing.
    #[error("the list could not be read")]
    List,
    /// The watch broke.
    #[error("the connection failed")]
    Connection,
    /// Nothing was heard.
    #[error("the API server fell silent")]
    Silent,
    /// The list cannot be gone on from.
    #[error("the list has no resource version")]
    NoVersion,
}

/// The events of a watch, as the API server sends them.
pub type WatchEvents<K> = BoxStream<'static, Result<WatchEvent<K>, kube::Error>>;

/// Where lists and watches come from.
pub trait WatchSource<K: Clone> {
    /// One page of a list.
    fn list(&self, page: Option<String>) -> impl Future<Output = Result<ObjectList<K>, kube::Error>> + Send;

    /// The events after a resource version.
    fn watch(&self, version: &str) -> impl Future<Output = Result<WatchEvents<K>, kube::Error>> + Send;
}

/// The objects of a kind that carry certain labels.
pub struct WatchedKind<K> {
    api: Api<K>,
    labels: Option<String>,
    /// The objects of the next page.
    limit: AtomicU32,
}

impl<K> WatchedKind<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// The objects of a kind, in all namespaces or in one, that carry these labels (`None` = all objects).
    #[must_use]
    pub const fn new(api: Api<K>, labels: Option<String>) -> Self {
        Self { api, labels, limit: AtomicU32::new(FIRST_PAGE) }
    }

    /// One page of a list, of each object what `reduce` makes of it. One that has not even a name is left out.
    async fn list_reduced<R: Clone + Send>(
        &self,
        page: Option<String>,
        reduce: impl Fn(K) -> R + Send + Sync,
    ) -> Result<ObjectList<R>, kube::Error> {
        let limit = if page.is_some() { self.limit.load(Ordering::Relaxed) } else { FIRST_PAGE };
        let label_selector = self.labels.clone();
        let params = ListParams { label_selector, limit: Some(limit), continue_token: page, ..ListParams::default() };
        let list = Request::new(self.api.resource_url());
        let request = if K::metadata_api() { list.list_metadata(&params) } else { list.list(&params) };
        let client = self.api.clone().into_client();
        let mut items = Vec::new();
        let read = read_list(&client, request.map_err(kube::Error::BuildRequest)?, |object| {
            if let Ok(object) = serde_json::from_slice(object) {
                items.push(reduce(object));
            } else {
                tracing::warn!(kind = %K::kind(&()), "an object that has no name is left out");
            }
        });
        let read = read.await?;
        self.limit.store(next_limit(&read, PAGE), Ordering::Relaxed);
        Ok(ObjectList { types: TypeMeta::default(), metadata: read.metadata, items })
    }
}

impl<K> WatchSource<K> for WatchedKind<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    async fn list(&self, page: Option<String>) -> Result<ObjectList<K>, kube::Error> {
        self.list_reduced(page, |object| object).await
    }

    async fn watch(&self, version: &str) -> Result<WatchEvents<K>, kube::Error> {
        let seconds = u32::try_from(WATCH_DURATION.as_secs()).ok();
        let params = WatchParams { label_selector: self.labels.clone(), timeout: seconds, ..WatchParams::default() };
        Ok(self.api.watch(&params, version).await?.boxed())
    }
}

/// Secrets, each reduced as it arrives.
pub struct SecretSource {
    /// The Secrets.
    pub kind: WatchedKind<SecretMeta>,
    /// The key of the digests on targets.
    pub key: Arc<FingerprintKey>,
}

impl WatchSource<WatchedSecret> for SecretSource {
    async fn list(&self, page: Option<String>) -> Result<ObjectList<WatchedSecret>, kube::Error> {
        self.kind.list_reduced(page, |secret| WatchedSecret::new(&secret, &self.key)).await
    }

    async fn watch(&self, version: &str) -> Result<WatchEvents<WatchedSecret>, kube::Error> {
        let (events, key) = (self.kind.watch(version).await?, self.key.clone());
        let seen = move |event: WatchEvent<SecretMeta>| match event {
            WatchEvent::Added(secret) => WatchEvent::Added(WatchedSecret::new(&secret, &key)),
            WatchEvent::Modified(secret) => WatchEvent::Modified(WatchedSecret::new(&secret, &key)),
            WatchEvent::Deleted(secret) => WatchEvent::Deleted(WatchedSecret::new(&secret, &key)),
            WatchEvent::Bookmark(bookmark) => WatchEvent::Bookmark(bookmark),
            WatchEvent::Error(status) => WatchEvent::Error(status),
        };
        Ok(events.map(move |event| event.map(&seen)).boxed())
    }
}

enum Phase<K> {
    Begin,
    /// The token of the page that comes next, and how many were before it.
    Page(Option<String>, u32),
    Objects {
        left: VecDeque<K>,
        pages: u32,
        page: Option<String>,
        version: Option<String>,
    },
    Start {
        version: String,
    },
    Watch {
        version: String,
        events: WatchEvents<K>,
        began: Instant,
    },
}

/// A list, then a watch, for ever.
pub struct ListWatch<K, S> {
    source: S,
    phase: Phase<K>,
    /// The failures since it was last heard of.
    failures: u32,
    pause: Option<Duration>,
    /// When a list is to be made again.
    relist: Option<Instant>,
}

impl<K, S> ListWatch<K, S>
where
    K: Resource + Clone,
    S: WatchSource<K>,
{
    /// Begins with a list.
    pub const fn new(source: S) -> Self {
        Self { source, phase: Phase::Begin, failures: 0, pause: None, relist: None }
    }

    /// What is heard of next. After a failure there is a pause first.
    ///
    /// # Errors
    /// What failed. It is tried again at the next call.
    pub async fn next(&mut self) -> Result<Heard<K>, WatchError> {
        if let Some(pause) = self.pause.take() {
            sleep(pause).await;
        }
        let next = self.step().await;
        match &next {
            Ok(heard) if heard.is_current() => self.failures = 0,
            Ok(_) => {}
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.pause = Some(pause_after(self.failures, fastrand::f64()));
                if self.failures >= RELIST_AFTER && !is_forbidden(error) {
                    self.phase = Phase::Begin;
                }
            }
        }
        next
    }

    async fn step(&mut self) -> Result<Heard<K>, WatchError> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Begin) {
                Phase::Begin => {
                    self.phase = Phase::Page(None, 0);
                    return Ok(Heard::Event(Event::Init));
                }
                Phase::Page(page, before) => {
                    let listed = timeout(PAGE_TIMEOUT, self.source.list(page)).await.map_err(|_| timed_out());
                    let list = listed.and_then(|listed| listed).map_err(|error| refusal(error, WatchError::List))?;
                    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
                    let (page, version) = (some(list.metadata.continue_), some(list.metadata.resource_version));
                    self.phase = Phase::Objects { left: list.items.into(), pages: before + 1, page, version };
                }
                Phase::Objects { mut left, pages, page, version } => match (left.pop_front(), page, version) {
                    (Some(object), page, version) => {
                        self.phase = Phase::Objects { left, pages, page, version };
                        return Ok(Heard::Event(Event::InitApply(object)));
                    }
                    (None, Some(page), _) => self.phase = Phase::Page(Some(page), pages),
                    (None, None, Some(version)) => {
                        self.relist =
                            Some(Instant::now() + if pages > SHORT_LIST { RELIST_LONG } else { RELIST_SHORT });
                        self.phase = Phase::Start { version };
                        return Ok(Heard::Event(Event::InitDone));
                    }
                    (None, None, None) => return Err(WatchError::NoVersion),
                },
                Phase::Start { version } => self.phase = self.start(version).await?,
                Phase::Watch { version, events, began } => return self.hear(version, events, began).await,
            }
        }
    }

    /// Begins a watch.
    async fn start(&mut self, version: String) -> Result<Phase<K>, WatchError> {
        let begun = timeout(START_TIMEOUT, self.source.watch(&version)).await.map_err(|_| timed_out());
        match begun.and_then(|begun| begun) {
            Ok(events) => Ok(Phase::Watch { version, events, began: Instant::now() }),
            Err(error) => {
                let error = refusal(error, WatchError::Connection);
                if !is_expired(&error) {
                    self.phase = Phase::Start { version };
                }
                Err(error)
            }
        }
    }

    /// Waits for the next event of a watch.
    async fn hear(
        &mut self,
        version: String,
        mut events: WatchEvents<K>,
        began: Instant,
    ) -> Result<Heard<K>, WatchError> {
        let next = timeout(SILENCE, events.next()).await;
        let (heard, version) = match next {
            Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                self.changed(object, version, Event::Apply)?
            }
            Ok(Some(Ok(WatchEvent::Deleted(object)))) => self.changed(object, version, Event::Delete)?,
            Ok(Some(Ok(WatchEvent::Bookmark(bookmark)))) => (Heard::Alive, bookmark.metadata.resource_version),
            Ok(Some(Ok(WatchEvent::Error(status)))) => {
                let error = WatchError::Refused(status);
                if !is_expired(&error) {
                    self.phase = Phase::Start { version };
                }
                return Err(error);
            }
            // An end that comes too early is none of the API server's.
            Ok(None) if began.elapsed() >= WATCH_DURATION / 2 => {
                self.phase = self.resumed(version);
                return Ok(Heard::Alive);
            }
            Ok(Some(Err(_)) | None) => {
                self.phase = self.resumed(version);
                return Err(WatchError::Connection);
            }
            Err(_) => {
                self.phase = self.resumed(version);
                return Err(WatchError::Silent);
            }
        };
        self.phase = Phase::Watch { version, events, began };
        Ok(heard)
    }

    /// How a watch goes on that ended.
    fn resumed(&self, version: String) -> Phase<K> {
        let due = self.relist.is_some_and(|relist| relist <= Instant::now());
        if due { Phase::Begin } else { Phase::Start { version } }
    }

    /// An object that changed. The API server tells of changes in the order of their versions, so one that is not newer
    /// than the last is an old state told again: it is passed over, and a list tells what is true.
    fn changed(
        &mut self,
        object: K,
        last: String,
        event: impl FnOnce(K) -> Event<K>,
    ) -> Result<(Heard<K>, String), WatchError> {
        let version = object.resource_version().ok_or(WatchError::NoVersion)?;
        let number = |version: &str| version.parse::<u64>().ok();
        if number(&version).zip(number(&last)).is_some_and(|(version, last)| version <= last) {
            self.relist = Some(Instant::now());
            return Ok((Heard::Alive, last));
        }
        Ok((Heard::Event(event(object)), version))
    }
}

fn refusal(error: kube::Error, other: WatchError) -> WatchError {
    match error {
        kube::Error::Api(status) => WatchError::Refused(status),
        _ => other,
    }
}

/// Whether the API server no longer knows what came after the version.
fn is_expired(error: &WatchError) -> bool {
    matches!(error, WatchError::Refused(status) if status.code == 410)
}

/// Whether a right is missing. A list would hide that, and polling is no watch.
fn is_forbidden(error: &WatchError) -> bool {
    matches!(error, WatchError::Refused(status) if status.code == 403)
}

/// The pause after so many failures; `random` is between 0 and 1.
fn pause_after(failures: u32, random: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << (failures.saturating_sub(1)).min(10));
    doubled.min(LONGEST_PAUSE).mul_f64(1.0 - random / 4.0)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
