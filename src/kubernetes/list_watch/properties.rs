//! Whatever happens to lists and watches, each object's last state is told in the end, and no older one after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{ObjectList, WatchEvent};
use kube::core::Status;
use kube::runtime::watcher::Event;
use proptest::prelude::*;
use serde_json::json;
use tokio::time::Duration;

use super::{Heard, ListWatch, WatchEvents, WatchSource};

/// What happens to a request, or beside it.
#[derive(Clone, Debug)]
enum Happening {
    /// Objects are edited or deleted before it is answered.
    Edits(Vec<(u8, bool)>),
    Refused(u16),
    Hang,
    /// The watch breaks after so many events.
    Break(usize),
    /// The watch keeps back its events.
    Drops,
    /// The watch tells each event twice, and the one before it again.
    Repeats,
}

#[derive(Default)]
struct Server {
    version: u64,
    objects: BTreeMap<u8, u64>,
    /// By version, which object was edited (true) or deleted.
    history: Vec<(u64, u8, bool)>,
    /// The list that is under way.
    snapshot: (u64, Vec<(u8, u64)>),
    happenings: Vec<Happening>,
}

impl Server {
    fn change(&mut self, (name, edit): (u8, bool)) {
        self.version += 1;
        let known = self.objects.remove(&name).is_some();
        if edit {
            self.objects.insert(name, self.version);
        }
        if edit || known {
            self.history.push((self.version, name, edit));
        }
    }
}

#[derive(Clone, Default)]
struct Stormy(Arc<Mutex<Server>>);

fn object(name: u8, version: u64) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name.to_string(), "resourceVersion": version.to_string(), "annotations": {}}})
}

impl Stormy {
    fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap()
    }

    /// What happens to the next request.
    async fn happens(&self) -> Result<Option<Happening>, kube::Error> {
        let next = self.lock().happenings.pop();
        match next {
            Some(Happening::Edits(edits)) => {
                for edit in edits {
                    self.lock().change(edit);
                }
                Ok(None)
            }
            Some(Happening::Refused(code)) => {
                Err(kube::Error::Api(Box::new(Status { code, reason: "No".to_owned(), ..Status::default() })))
            }
            Some(Happening::Hang) => std::future::pending().await,
            other => Ok(other),
        }
    }
}

impl WatchSource<ConfigMap> for Stormy {
    async fn list(&self, page: Option<String>) -> Result<ObjectList<ConfigMap>, kube::Error> {
        self.happens().await?;
        let mut server = self.lock();
        if page.is_none() {
            server.snapshot =
                (server.version, server.objects.iter().map(|(name, version)| (*name, *version)).collect());
        }
        let from: usize = page.and_then(|page| page.parse().ok()).unwrap_or_default();
        let (version, objects) = &server.snapshot;
        let items: Vec<_> = objects.iter().skip(from).take(2).map(|(name, version)| object(*name, *version)).collect();
        let more = (from + 2 < objects.len()).then(|| (from + 2).to_string());
        let metadata = json!({"resourceVersion": version.to_string(), "continue": more.unwrap_or_default()});
        let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items});
        Ok(serde_json::from_value(list).unwrap())
    }

    async fn watch(&self, version: &str) -> Result<WatchEvents<ConfigMap>, kube::Error> {
        let happens = self.happens().await?;
        let after: u64 = version.parse().unwrap();
        let history: Vec<_> = self.lock().history.iter().filter(|(version, ..)| *version > after).copied().collect();
        let mut events: Vec<WatchEvent<ConfigMap>> = history
            .into_iter()
            .map(|(version, name, edit)| {
                let kind = if edit { "MODIFIED" } else { "DELETED" };
                serde_json::from_value(json!({"type": kind, "object": object(name, version)})).unwrap()
            })
            .collect();
        let mut breaks = Duration::from_secs(25);
        match happens {
            Some(Happening::Break(number)) => {
                events.truncate(number);
                breaks = Duration::ZERO;
            }
            Some(Happening::Drops) => {
                let last = self.lock().version;
                let bookmark = json!({"type": "BOOKMARK", "object": object(0, last)});
                events = vec![serde_json::from_value(bookmark).unwrap()];
            }
            Some(Happening::Repeats) => {
                let before = std::iter::once(None).chain(events.iter().cloned().map(Some));
                let told = events.iter().cloned().zip(before);
                events =
                    told.flat_map(|(event, before)| [Some(event.clone()), before, Some(event)]).flatten().collect();
            }
            _ => {}
        }
        let end = stream::once(tokio::time::sleep(breaks)).filter_map(|()| std::future::ready(None));
        Ok(stream::iter(events.into_iter().map(Ok)).chain(end).boxed())
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => prop::collection::vec((0..6_u8, any::<bool>()), 0..5).prop_map(Happening::Edits),
        1 => prop_oneof![Just(410), Just(429), Just(500)].prop_map(Happening::Refused),
        1 => Just(Happening::Hang),
        1 => (0..3_usize).prop_map(Happening::Break),
        1 => Just(Happening::Drops),
        1 => Just(Happening::Repeats),
    ]
}

/// What is known after the events so far: what a list showed counts from its end.
#[derive(Default)]
struct Told {
    known: BTreeMap<u8, u64>,
    listed: BTreeMap<u8, u64>,
}

impl Told {
    /// Takes in an event. Answers whether it is older than what was known of its object.
    fn take(&mut self, event: &Event<ConfigMap>) -> bool {
        let of = |object: &ConfigMap| {
            let version = object.resource_version().and_then(|version| version.parse().ok());
            (object.name_any().parse::<u8>().unwrap(), version.unwrap_or_default())
        };
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                let (name, version) = of(object);
                self.listed.insert(name, version);
            }
            Event::InitDone => self.known = std::mem::take(&mut self.listed),
            Event::Apply(object) => {
                let (name, version) = of(object);
                return self.known.insert(name, version).is_some_and(|known| known > version);
            }
            Event::Delete(object) => {
                let (name, version) = of(object);
                return self.known.remove(&name).is_some_and(|known| known > version);
            }
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_objects_last_state_is_told_in_the_end_and_no_older_one_after_it(
        happenings in prop::collection::vec(happening(), 0..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let source = Stormy::default();
            source.lock().happenings = happenings;
            let (mut watch, mut told) = (ListWatch::new(source.clone()), Told::default());
            let mut quiet_since = None;
            loop {
                if let Ok(Heard::Event(event)) = watch.next().await {
                    prop_assert!(!told.take(&event), "an older state was told");
                }
                let now = tokio::time::Instant::now();
                if source.lock().happenings.is_empty() {
                    // A pause, a request that hangs, and the next list, which is rare where it takes several pages.
                    if now.duration_since(*quiet_since.get_or_insert(now)) > Duration::from_secs(750) {
                        break;
                    }
                }
            }
            prop_assert_eq!(&told.known, &source.lock().objects);
            Ok(())
        })?;
    }
}
