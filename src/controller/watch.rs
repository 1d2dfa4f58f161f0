//! The watches: they keep the stores, and tell which bindings each change concerns. They run in every replica, so that
//! one that takes over has seen all; only where passes are made do their triggers go anywhere.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::{Future, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{Store, store::Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::api::{LABEL_MANAGED, SecretGrant};
use crate::controller::trigger::{Concern, Grants, Namespaces};
use crate::controller::watched::Watched;
use crate::controller::{Context, trigger};
use crate::domain::name::BindingName;
use crate::domain::target::SecretMeta;

/// A watch that fails for this long makes the process unhealthy.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(600);
/// A watch that failed and then was quiet for this long works again: each failed attempt would show.
const QUIET: Duration = Duration::from_secs(120);

/// The part of the cluster that one set of watches covers.
pub struct Scope {
    /// The namespace; `None` = all.
    pub namespace: Option<String>,
    /// Its bindings.
    pub bindings: Store<Watched>,
}

impl Scope {
    /// The names of its bindings.
    #[must_use]
    pub fn names(&self) -> Vec<BindingName> {
        self.bindings.state().iter().map(|binding| name_of(binding)).collect()
    }

    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
}

/// The writing ends of the stores.
pub struct Writers {
    /// Of the bindings of each scope.
    pub bindings: Vec<Writer<Watched>>,
    /// Of the grants.
    pub grants: Writer<SecretGrant>,
    /// Of the namespaces.
    pub namespaces: Writer<PartialObjectMeta<Namespace>>,
}

/// Watches until dropped.
pub async fn watch(context: Arc<Context>, writers: Writers) {
    let (mut grants, mut namespaces) = (Grants::default(), Namespaces::default());
    let concerns = |concern: Option<Concern>| {
        if let Some(concern) = concern {
            trigger::bindings_of(&context, &concern);
        }
    };
    let mut watches: Vec<BoxFuture<'_, ()>> = vec![
        keep(Api::all(context.client.clone()), writers.grants, "SecretGrant", &context, |event| {
            concerns(grants.observe(event));
        })
        .boxed(),
        keep(Api::all(context.client.clone()), writers.namespaces, "Namespace", &context, |event| {
            concerns(namespaces.observe(event));
        })
        .boxed(),
    ];
    for (scope, writer) in context.scopes.iter().zip(writers.bindings) {
        watches.push(bindings(&context, scope, writer).boxed());
        watches.push(targets(&context, scope).boxed());
    }
    join_all(watches).await;
}

/// Keeps a store of a cluster-wide kind.
async fn keep<K>(
    api: Api<K>,
    writer: Writer<K>,
    kind: &'static str,
    context: &Context,
    mut observe: impl FnMut(&Event<K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| {
            object.managed_fields_mut().clear();
            object.annotations_mut().clear();
        })
        .reflect(writer)
        .for_each(|event| {
            match event {
                Ok(event) => {
                    context.health.works(kind);
                    observe(&event);
                }
                Err(error) => failed(context, kind, &error),
            }
            ready(())
        })
        .await;
}

fn bindings(context: &Arc<Context>, scope: &Scope, writer: Writer<Watched>) -> impl Future<Output = ()> + use<> {
    let (of_event, of_error, of_trigger) = (context.clone(), context.clone(), context.clone());
    let namespace = scope.namespace.clone();
    watcher(scope.api::<Watched>(&context.client), watcher::Config::default())
        .inspect(move |event| match event {
            Ok(_) => of_error.health.works("SecretBinding"),
            Err(error) => failed(&of_error, "SecretBinding", error),
        })
        .default_backoff()
        .reflect(writer)
        // After `reflect`, so that the store has what is noted.
        .inspect(move |event| match event {
            Ok(Event::Delete(binding)) => of_event.forget(&name_of(binding)),
            Ok(Event::Apply(binding) | Event::InitApply(binding)) => {
                let version = binding.resource_version().and_then(|version| version.parse().ok());
                of_event.memories.shown(&name_of(binding), version);
            }
            Ok(Event::InitDone) => of_event.forget_absent(namespace.as_deref()),
            Ok(Event::Init) | Err(_) => {}
        })
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::annotations), PredicateConfig::default())
        .for_each(move |binding| {
            if let Ok(binding) = binding {
                of_trigger.trigger(&name_of(&binding));
                trigger::fellows_of(&of_trigger, &name_of(&binding));
            }
            ready(())
        })
}

async fn targets(context: &Arc<Context>, scope: &Scope) {
    let managed = watcher::Config::default().labels(&format!("{LABEL_MANAGED}=true"));
    watcher(scope.api::<SecretMeta>(&context.client), managed)
        .default_backoff()
        .for_each(|event| {
            match event {
                Ok(event) => {
                    context.health.works("Secret");
                    let touched = context.targets.observe(scope.namespace.as_deref(), &event, &context.key);
                    for touched in touched {
                        let concerned = trigger::bindings_of_target(&touched, |namespace, name| {
                            trigger::bindings_aiming_at(&scope.bindings, namespace, name)
                        });
                        for binding in &concerned {
                            context.trigger(binding);
                            if touched.sighting.observed.rotation_state.is_some() {
                                trigger::fellows_of(context, binding);
                            }
                        }
                    }
                }
                Err(error) => failed(context, "Secret", &error),
            }
            ready(())
        })
        .await;
}

/// The name of a watched binding.
#[must_use]
pub fn name_of(binding: &Watched) -> BindingName {
    BindingName::new(&binding.namespace().unwrap_or_default(), &binding.name_any())
}

fn failed(context: &Context, kind: &'static str, error: &watcher::Error) {
    context.metrics.watch_error(kind);
    context.health.fails(kind);
    tracing::warn!(kind, error = %describe(error), "a watch failed and is taken up again");
}

/// The kind of a watch failure without the API server's own text.
fn describe(error: &watcher::Error) -> String {
    let status = |status: &kube::core::Status| format!("the API server answered {} {}", status.code, status.reason);
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(answer))
        | watcher::Error::WatchStartFailed(kube::Error::Api(answer))
        | watcher::Error::WatchFailed(kube::Error::Api(answer))
        | watcher::Error::WatchError(answer) => status(answer),
        watcher::Error::InitialListFailed(_) => "the list could not be read".to_owned(),
        watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_) => "the connection failed".to_owned(),
        watcher::Error::NoResourceVersion => "the list has no resource version".to_owned(),
    }
}

/// Whether the watches work, for `/healthz` and `/readyz`.
#[derive(Debug, Default)]
pub struct WatchHealth(Mutex<HashMap<&'static str, Failing>>);

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

impl WatchHealth {
    fn works(&self, kind: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
    }

    fn fails(&self, kind: &'static str) {
        let now = Instant::now();
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failing.entry(kind).or_insert(Failing { since: now, last: now }).last = now;
    }

    fn failing(&self) -> Vec<(&'static str, Duration)> {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failing.retain(|_, failing| failing.last.elapsed() < QUIET);
        let mut kinds: Vec<_> = failing.iter().map(|(kind, failing)| (*kind, failing.since.elapsed())).collect();
        kinds.sort_unstable();
        kinds
    }

    /// What to say of watches that fail at present.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |(kind, time): (&str, Duration)| format!("the watch of {kind} fails since {} s", time.as_secs());
        self.failing().into_iter().map(line).collect()
    }

    /// Whether a watch fails for so long that a new process may do better.
    #[must_use]
    pub fn is_wedged(&self) -> bool {
        self.failing().iter().any(|(_, time)| *time > UNHEALTHY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_again_and_again_is_told_and_at_last_unhealthy() {
        let health = WatchHealth::default();
        for _ in 0..21 {
            health.fails("Secret");
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        assert_eq!(health.lines(), ["the watch of Secret fails since 630 s"]);
        assert!(health.is_wedged());
        health.works("Secret");
        assert!(health.lines().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_quiet_after_a_failure_works() {
        let health = WatchHealth::default();
        health.fails("Secret");
        assert_eq!(health.lines().len(), 1);
        tokio::time::advance(Duration::from_secs(700)).await;
        assert!(!health.is_wedged() && health.lines().is_empty());
    }
}
