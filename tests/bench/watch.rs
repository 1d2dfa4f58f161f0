//! What is seen of bindings and Secrets, by a watch: asking for ten thousand objects again and again would disturb what
//! is measured.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use bindery::api::SecretBinding;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{ApiResource, NotUsed, Object};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::{LABEL, SECOND};
use super::world::ROUND;

#[derive(Clone, Debug, Default, Deserialize)]
struct LeanStatus {
    #[serde(default)]
    conditions: Vec<LeanCondition>,
}

#[derive(Clone, Debug, Deserialize)]
struct LeanCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// A binding of which nothing is parsed but what is looked at.
type LeanBinding = Object<NotUsed, LeanStatus>;

type Name = (String, String);

fn name_of(object: &impl Resource) -> Name {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn selected(world: &str) -> watcher::Config {
    watcher::Config::default().labels(&format!("{LABEL}={world}"))
}

async fn follow<K>(stream: impl Stream<Item = watcher::Result<Event<K>>>, mut see: impl FnMut(K)) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        // The watcher tries again by itself what failed.
        if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
            see(object);
        }
    }
}

/// How many bindings of a world are Ready.
pub struct Board {
    ready: watch::Receiver<usize>,
    _task: JoinSet<()>,
}

impl Board {
    /// Begins to watch.
    pub fn start(client: &Client, world: &str) -> Self {
        let resource = ApiResource::erase::<SecretBinding>(&());
        let api: Api<LeanBinding> = Api::all_with(client.clone(), &resource);
        let (sender, ready) = watch::channel(0);
        let config = selected(world);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut seen = std::collections::HashSet::new();
            follow(watcher(api, config), |binding: LeanBinding| {
                let conditions = binding.status.iter().flat_map(|status| &status.conditions);
                let is_ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
                let name = name_of_lean(&binding);
                if is_ready {
                    seen.insert(name)
                } else {
                    seen.remove(&name)
                };
                sender.send_if_modified(|count| std::mem::replace(count, seen.len()) != seen.len());
            })
            .await;
        });
        Self { ready, _task: task }
    }

    /// Waits until so many are Ready, and prints once a second how many. Answers when it was so; `None` after `limit`.
    pub async fn until(&mut self, count: usize, limit: Duration) -> Option<Instant> {
        let mut ready = self.ready.clone();
        let reached = async { ready.wait_for(|ready| *ready >= count).await.is_ok().then(Instant::now) };
        let now = self.ready.clone();
        progress(limit, reached, || format!("Ready: {} of {count}", *now.borrow())).await.flatten()
    }
}

fn name_of_lean(binding: &LeanBinding) -> Name {
    (binding.metadata.namespace.clone().unwrap_or_default(), binding.metadata.name.clone().unwrap_or_default())
}

/// When the Secrets of a world came to hold which version.
pub struct Versions {
    seen: watch::Receiver<HashMap<Name, (usize, Instant)>>,
    _task: JoinSet<()>,
}

impl Versions {
    /// Begins to watch.
    pub fn start(client: &Client, world: &str) -> Self {
        let api: Api<Secret> = Api::all(client.clone());
        let (sender, seen) = watch::channel(HashMap::new());
        let config = selected(world);
        let mut task = JoinSet::new();
        task.spawn(async move {
            follow(watcher(api, config), |secret: Secret| {
                let round = secret.data.as_ref().and_then(|data| data.get(ROUND));
                let round = round.and_then(|round| std::str::from_utf8(&round.0).ok()?.parse().ok());
                if let Some(round) = round {
                    let now = Instant::now();
                    sender.send_modify(|seen: &mut HashMap<Name, (usize, Instant)>| {
                        let entry = seen.entry(name_of(&secret)).or_insert((round, now));
                        if entry.0 != round {
                            *entry = (round, now);
                        }
                    });
                }
            })
            .await;
        });
        Self { seen, _task: task }
    }

    /// Waits until `count` Secrets hold this version. Answers when each did, in order; fewer after `limit`.
    pub async fn until(&self, round: usize, count: usize, limit: Duration) -> Vec<Instant> {
        let holding = |seen: &HashMap<Name, (usize, Instant)>| seen.values().filter(|seen| seen.0 == round).count();
        let mut waiting = self.seen.clone();
        let reached = async { waiting.wait_for(|seen| holding(seen) >= count).await.is_ok() };
        progress(limit, reached, || format!("written: {} of {count}", holding(&self.seen.borrow()))).await;
        let seen = self.seen.borrow();
        let mut times: Vec<Instant> = seen.values().filter(|seen| seen.0 == round).map(|seen| seen.1).collect();
        times.sort();
        times
    }
}

/// Waits for something, at most for `limit`, and prints once a second how far it is.
pub async fn progress<T>(limit: Duration, wait: impl Future<Output = T>, line: impl Fn() -> String) -> Option<T> {
    let started = Instant::now();
    let mut wait = std::pin::pin!(wait);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SECOND, SECOND);
    loop {
        tokio::select! {
            done = &mut wait => return Some(done),
            _ = ticks.tick() => {
                println!("     {:>5.0} s  {}", started.elapsed().as_secs_f64(), line());
                if started.elapsed() > limit {
                    return None;
                }
            }
        }
    }
}
