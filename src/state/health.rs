//! When each watch was last heard of.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A watch that is heard of at all is heard of every half minute. Nothing that was revoked may be served for longer than
/// a minute, so who has not heard of a watch for this long must not go on.
const BLIND_AFTER: Duration = Duration::from_secs(55);
/// The time for the first list. Until it is complete nothing is served.
const FIRST_LIST: Duration = Duration::from_secs(300);
/// A watch that is not heard of for this long makes the process unhealthy.
pub const UNHEALTHY_AFTER: Duration = Duration::from_secs(600);

/// When each watch was last heard of, for `/healthz`, `/readyz`, the metrics and the leader.
#[derive(Debug, Default)]
pub struct WatchHealth(Mutex<Vec<WatchState>>);

#[derive(Debug)]
struct WatchState {
    kind: &'static str,
    namespace: Option<String>,
    /// Whether a list was complete.
    listed: bool,
    heard: Instant,
    failing_since: Option<Instant>,
}

/// The clock of one watch.
#[derive(Debug)]
pub struct WatchClock {
    health: Arc<WatchHealth>,
    index: usize,
}

impl WatchClock {
    /// A clock for the watch of a kind in a namespace (`None` = all).
    #[must_use]
    pub fn new(health: &Arc<WatchHealth>, kind: &'static str, namespace: Option<String>) -> Self {
        let mut watches = health.lock();
        watches.push(WatchState { kind, namespace, listed: false, heard: Instant::now(), failing_since: None });
        Self { health: health.clone(), index: watches.len() - 1 }
    }

    /// The kind that is watched.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.health.lock().get(self.index).map_or("", |watch| watch.kind)
    }

    /// The namespace that is watched; `None` = all.
    #[must_use]
    pub fn namespace(&self) -> Option<String> {
        self.health.lock().get(self.index).and_then(|watch| watch.namespace.clone())
    }

    fn update(&self, update: impl FnOnce(&mut WatchState)) {
        if let Some(watch) = self.health.lock().get_mut(self.index) {
            update(watch);
        }
    }

    /// The watch was heard of: its list is complete, or an event came, or it ended in its time.
    pub fn heard(&self) {
        self.update(|watch| {
            (watch.listed, watch.heard, watch.failing_since) = (true, Instant::now(), None);
        });
    }

    /// A list or a watch failed.
    pub fn failed(&self) {
        self.update(|watch| {
            watch.failing_since.get_or_insert_with(Instant::now);
        });
    }
}

impl WatchState {
    fn age(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Whether nothing can be decided without it. Without the right to watch namespaces, grants by name still work. One
    /// of several namespaces that was never listed is not served, and the others are.
    fn is_required(&self, all: &[Self]) -> bool {
        let spared = |other: &Self| other.listed && other.kind == self.kind;
        self.listed || (self.kind != "Namespace" && (self.namespace.is_none() || !all.iter().any(spared)))
    }

    /// Whether what it shows may have been revoked. Of published Secrets nothing is revoked.
    fn is_blind(&self, all: &[Self]) -> bool {
        let bound = if self.listed { BLIND_AFTER } else { FIRST_LIST };
        self.kind != "Secret" && self.is_required(all) && self.age() > bound
    }
}

impl fmt::Display for WatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the watch of {}", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, " in {namespace}")?;
        }
        match self.failing_since {
            Some(since) => write!(f, " fails since {} s", since.elapsed().as_secs())?,
            None => write!(f, " was last heard of {} s ago", self.age().as_secs())?,
        }
        let unserved = !self.listed && self.failing_since.is_some() && self.kind == "SecretBinding";
        f.write_str(if unserved { ", so what it would show is not served" } else { "" })
    }
}

impl WatchHealth {
    fn lock(&self) -> MutexGuard<'_, Vec<WatchState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to say of all watches.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.lock().iter().map(ToString::to_string).collect()
    }

    /// What to say of watches that fail or are silent at present.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let watches = self.lock();
        let told = watches.iter().filter(|watch| watch.failing_since.is_some() || watch.age() > BLIND_AFTER);
        told.map(ToString::to_string).collect()
    }

    /// How long ago each watch was last heard of, by kind and namespace; none = all namespaces.
    #[must_use]
    pub fn ages(&self) -> Vec<(&'static str, String, Duration)> {
        let watches = self.lock();
        watches.iter().map(|watch| (watch.kind, watch.namespace.clone().unwrap_or_default(), watch.age())).collect()
    }

    /// The watch of grants, bindings or namespaces that was not heard of for so long that this process may serve what
    /// was revoked.
    #[must_use]
    pub fn blind(&self) -> Option<String> {
        let watches = self.lock();
        watches.iter().find(|watch| watch.is_blind(&watches)).map(ToString::to_string)
    }

    /// Waits until this process is blind. Answers what it does not see.
    pub async fn until_blind(&self) -> String {
        loop {
            if let Some(blind) = self.blind() {
                return blind;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Whether a watch was not heard of for so long that a new process may do better.
    #[must_use]
    pub fn is_wedged(&self) -> bool {
        let watches = self.lock();
        watches.iter().any(|watch| watch.is_required(&watches) && watch.age() > UNHEALTHY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_again_and_again_is_told_and_at_last_unhealthy() {
        let health = Arc::new(WatchHealth::default());
        let (secrets, other) =
            (WatchClock::new(&health, "Secret", None), WatchClock::new(&health, "SecretGrant", None));
        secrets.heard();
        for _ in 0..21 {
            secrets.failed();
            pass(30).await;
            other.heard();
        }
        assert_eq!(health.lines(), ["the watch of Secret fails since 630 s"]);
        assert!(health.is_wedged() && health.blind().is_none(), "nothing of a Secret can be revoked");
        secrets.heard();
        assert!(health.lines().is_empty() && !health.is_wedged());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fell_silent_is_told_and_makes_the_leader_give_up_within_a_minute() {
        let health = Arc::new(WatchHealth::default());
        let clocks = ["a", "b"].map(|name| WatchClock::new(&health, "SecretGrant", Some(name.to_owned())));
        clocks.iter().for_each(WatchClock::heard);
        pass(50).await;
        clocks[0].heard();
        assert!(health.blind().is_none() && health.lines().is_empty());
        pass(6).await;
        clocks[0].heard();
        let line = "the watch of SecretGrant in b was last heard of 56 s ago";
        assert_eq!((health.blind(), health.lines()), (Some(line.to_owned()), vec![line.to_owned()]));
        let age = |namespace: &str, seconds| ("SecretGrant", namespace.to_owned(), Duration::from_secs(seconds));
        assert_eq!(health.ages(), [age("a", 0), age("b", 56)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_list_may_take_longer_and_namespaces_may_stay_unknown() {
        let health = Arc::new(WatchHealth::default());
        let clocks = ["SecretGrant", "Namespace"].map(|kind| WatchClock::new(&health, kind, None));
        pass(299).await;
        assert_eq!(health.blind(), None);
        pass(2).await;
        assert_eq!(health.blind().as_deref(), Some("the watch of SecretGrant was last heard of 301 s ago"));
        for _ in 0..30 {
            pass(30).await;
            clocks[0].heard();
            clocks[1].failed();
        }
        assert!(health.blind().is_none() && !health.is_wedged());
        clocks[1].heard();
        pass(56).await;
        clocks[0].heard();
        assert_eq!(health.blind().as_deref(), Some("the watch of Namespace was last heard of 56 s ago"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_several_namespaces_that_is_never_listed_is_told_and_ends_nothing() {
        let health = Arc::new(WatchHealth::default());
        let clocks = ["a", "b"].map(|name| WatchClock::new(&health, "SecretBinding", Some(name.to_owned())));
        for _ in 0..30 {
            pass(30).await;
            clocks[0].heard();
            clocks[1].failed();
        }
        assert!(health.blind().is_none() && !health.is_wedged());
        let line = "the watch of SecretBinding in b fails since 870 s, so what it would show is not served";
        pass(0).await;
        assert_eq!(health.lines(), [line]);
        clocks[1].heard();
        for _ in 0..30 {
            pass(30).await;
            clocks[0].heard();
            clocks[1].failed();
        }
        assert!(health.blind().is_some() && health.is_wedged(), "what was served may be revoked");
    }
}
