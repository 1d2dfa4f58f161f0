//! The watches: they keep the stores, and tell which bindings each change affects. They run in every replica, so that
//! one that takes over has seen all; only where passes are made do their triggers go anywhere.

use std::fmt::Debug;
use std::future::{Future, ready};
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::LABEL_MANAGED;
use crate::controller::prepare::Watches;
use crate::controller::trigger;
use crate::controller::trigger::{Affected, KnownGrants, KnownNamespaces};
use crate::domain::target::SecretMeta;
use crate::kubernetes::binding_object::BindingObject;
use crate::reconcile::context::Context;
use crate::state::bindings::{Scope, name_of};
use crate::state::health::WatchHealth;

fn api<K>(scope: &Scope, client: &Client) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match &scope.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Watches until dropped.
pub async fn watch(context: Arc<Context>, watches: Watches) {
    let (mut grants, mut namespaces) = (KnownGrants::default(), KnownNamespaces::default());
    let affects = |affected: Option<Affected>| {
        if let Some(affected) = affected {
            trigger::trigger_affected(&context, &affected);
        }
    };
    let health = watches.health.clone();
    let mut running: Vec<BoxFuture<'_, ()>> = vec![
        keep(
            Api::all(context.clients.kubernetes.watch_client().clone()),
            watches.grants,
            ("SecretGrant", &context, &health),
            |event| {
                affects(grants.observe(event));
            },
        )
        .boxed(),
        keep(
            Api::all(context.clients.kubernetes.watch_client().clone()),
            watches.namespaces,
            ("Namespace", &context, &health),
            |event| {
                affects(namespaces.observe(event));
            },
        )
        .boxed(),
    ];
    for (scope, writer) in context.state.bindings.scopes().iter().zip(watches.bindings) {
        running.push(bindings(&context, &health, scope, writer).boxed());
        running.push(targets(&context, &health, scope).boxed());
    }
    join_all(running).await;
}

/// Keeps a store of a cluster-wide kind.
async fn keep<K>(
    api: Api<K>,
    writer: Writer<K>,
    (kind, context, health): (&'static str, &Context, &WatchHealth),
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
                    health.works(kind);
                    observe(&event);
                }
                Err(error) => failed(context, health, kind, &error),
            }
            ready(())
        })
        .await;
}

fn bindings(
    context: &Arc<Context>,
    health: &Arc<WatchHealth>,
    scope: &Scope,
    writer: Writer<BindingObject>,
) -> impl Future<Output = ()> + use<> {
    let (of_event, of_error, of_trigger) = (context.clone(), context.clone(), context.clone());
    let (namespace, health_of) = (scope.namespace.clone(), health.clone());
    watcher(api::<BindingObject>(scope, context.clients.kubernetes.watch_client()), watcher::Config::default())
        .inspect(move |event| match event {
            Ok(_) => health_of.works("SecretBinding"),
            Err(error) => failed(&of_error, &health_of, "SecretBinding", error),
        })
        .default_backoff()
        .reflect(writer)
        // After `reflect`, so that the store has what is noted.
        .inspect(move |event| match event {
            Ok(Event::Delete(binding)) => of_event.forget(&name_of(binding)),
            Ok(Event::Apply(binding) | Event::InitApply(binding)) => {
                let version = binding.resource_version().and_then(|version| version.parse().ok());
                of_event.state.histories.shown(&name_of(binding), version);
            }
            Ok(Event::InitDone) => of_event.forget_absent(namespace.as_deref()),
            Ok(Event::Init) | Err(_) => {}
        })
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::annotations), PredicateConfig::default())
        .for_each(move |binding| {
            if let Ok(binding) = binding {
                of_trigger.state.requeue.trigger(&name_of(&binding));
                trigger::trigger_group_members(&of_trigger, &name_of(&binding));
            }
            ready(())
        })
}

async fn targets(context: &Arc<Context>, health: &WatchHealth, scope: &Scope) {
    let managed = watcher::Config::default().labels(&format!("{LABEL_MANAGED}=true"));
    watcher(api::<SecretMeta>(scope, context.clients.kubernetes.watch_client()), managed)
        .default_backoff()
        .for_each(|event| {
            match event {
                Ok(event) => {
                    health.works("Secret");
                    let touched = context.state.targets.observe(scope.namespace.as_deref(), &event, &context.key);
                    for touched in touched {
                        let affected = trigger::bindings_of_target(&touched, |namespace, name| {
                            trigger::bindings_aiming_at(&scope.bindings, namespace, name)
                        });
                        for binding in &affected {
                            trigger::search_anew(context, binding, &touched);
                            context.state.requeue.trigger(binding);
                            if touched.secret.observed.rotation_state.is_some() {
                                trigger::trigger_group_members(context, binding);
                            }
                        }
                    }
                }
                Err(error) => failed(context, health, "Secret", &error),
            }
            ready(())
        })
        .await;
}

fn failed(context: &Context, health: &WatchHealth, kind: &'static str, error: &watcher::Error) {
    context.metrics.watch_error(kind);
    health.fails(kind);
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
