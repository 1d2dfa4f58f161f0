//! Places for what is under way at once, shared by the namespaces: no namespace has all of them.
//!
//! Whoever may make objects in a namespace can have many of its requests made, and can make each of them take long. So a
//! quarter of the places is left to the others, whatever one of them does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// A number of places.
#[derive(Debug)]
pub(super) struct RequestPlaces {
    all: Semaphore,
    /// The most that one namespace has.
    share: usize,
    /// The namespaces that have a place, or wait for one.
    namespaces: Mutex<HashMap<Box<str>, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct RequestPlace<'a> {
    _place: SemaphorePermit<'a>,
    _share: Option<OwnedSemaphorePermit>,
}

impl RequestPlaces {
    /// So many places. Three or fewer are not divided.
    pub(super) fn new(count: usize) -> Self {
        Self { all: Semaphore::new(count), share: count - count / 4, namespaces: Mutex::default() }
    }

    /// Waits for a place: first for one of the namespace's share, so that who waits for its own namespace is in the way of
    /// no other. What belongs to no namespace has no share. The semaphores are never closed.
    pub(super) async fn take(&self, namespace: Option<&str>) -> Option<RequestPlace<'_>> {
        let share = match namespace {
            Some(namespace) => Some(self.share_of(namespace).acquire_owned().await.ok()?),
            None => None,
        };
        Some(RequestPlace { _place: self.all.acquire().await.ok()?, _share: share })
    }

    /// Whether none is free.
    pub(super) fn are_taken(&self) -> bool {
        self.all.available_permits() == 0
    }

    fn share_of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = namespaces.get(namespace) {
            return share.clone();
        }
        // So namespaces that are gone leave nothing behind.
        namespaces.retain(|_, share| Arc::strong_count(share) > 1);
        let share = Arc::new(Semaphore::new(self.share));
        namespaces.insert(namespace.into(), share.clone());
        share
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn taken<'a>(places: &'a RequestPlaces, namespace: &str) -> Vec<RequestPlace<'a>> {
        let now = || places.take(Some(namespace)).now_or_never().flatten();
        std::iter::from_fn(now).collect()
    }

    #[test]
    fn one_namespace_leaves_a_quarter_of_the_places_to_the_others() {
        for (count, first, second) in [(1, 1, 0), (3, 3, 0), (4, 3, 1), (16, 12, 4), (1024, 768, 256)] {
            let places = RequestPlaces::new(count);
            let (noisy, quiet) = (taken(&places, "noisy"), taken(&places, "quiet"));
            assert_eq!((noisy.len(), quiet.len()), (first, second), "{count}");
            assert!(places.are_taken());
            drop((noisy, quiet));
            assert_eq!(taken(&places, "quiet").len(), first, "what was given back");
        }
    }

    #[test]
    fn who_waits_for_its_own_share_is_in_the_way_of_no_other() {
        let places = RequestPlaces::new(4);
        let _held = taken(&places, "noisy");
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(places.take(Some("noisy")))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        assert!(places.take(Some("quiet")).now_or_never().is_some());
        assert!(places.take(None).now_or_never().is_some());
    }

    #[test]
    fn namespaces_that_are_gone_leave_nothing_behind() {
        let places = RequestPlaces::new(16);
        for number in 0..1000 {
            drop(places.take(Some(&number.to_string())).now_or_never());
        }
        assert_eq!(places.namespaces.lock().unwrap().len(), 1);
    }
}
