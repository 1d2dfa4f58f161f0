//! The watches: they keep the stores, and tell which bindings each change affects. They run in every replica, so that
//! one that takes over has seen all; their triggers count only in the process that leads.

use std::fmt::Debug;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::LABEL_MANAGED;
use crate::controller::prepare::Watches;
use crate::controller::trigger;
use crate::controller::trigger::{Affected, ChangedBinding, KnownBindings, KnownGrants, KnownNamespaces};
use crate::domain::target::SecretMeta;
use crate::kubernetes::binding_object::BindingObject;
use crate::kubernetes::list_watch::{Heard, ListWatch, SecretSource, WatchSource, WatchedKind};
use crate::kubernetes::watched_secret::WatchedSecret;
use crate::reconcile::context::Context;
use crate::state::bindings::{Scope, name_of};
use crate::state::health::WatchClock;

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
    let context = &context;
    let affects = |affected: Option<Affected>| {
        if let Some(affected) = affected {
            trigger::trigger_affected(context, &affected);
        }
    };
    let client = context.clients.kubernetes.watch_client();
    let clock = |kind, namespace: Option<&String>| WatchClock::new(&watches.health, kind, namespace.cloned());
    let every_grant = WatchedKind::new(Api::all(client.clone()), None);
    let grants_clock = clock("SecretGrant", None);
    let every_namespace = WatchedKind::new(Api::all(client.clone()), None);
    let namespaces_clock = clock("Namespace", None);
    let mut running: Vec<BoxFuture<'_, ()>> = vec![
        keep(every_grant, watches.grants, context, grants_clock, move |event| affects(grants.observe(event))).boxed(),
        keep(every_namespace, watches.namespaces, context, namespaces_clock, move |event| {
            affects(namespaces.observe(event));
        })
        .boxed(),
    ];
    for (scope, writer) in context.state.bindings.scopes().iter().zip(watches.bindings) {
        let all = WatchedKind::new(api::<BindingObject>(scope, client), None);
        let mut known = KnownBindings::default();
        let bindings_clock = clock("SecretBinding", scope.namespace.as_ref());
        let bindings = keep(all, writer, context, bindings_clock, move |event| {
            observe_bindings(context, event, &scope.bindings, &mut known);
        });
        running.push(bindings.boxed());
        let labels = Some(format!("{LABEL_MANAGED}=true"));
        let kind = WatchedKind::new(api::<SecretMeta>(scope, client), labels);
        let managed = SecretSource { kind, key: context.key.clone() };
        let targets_clock = clock("Secret", scope.namespace.as_ref());
        running
            .push(hear(managed, context, targets_clock, move |event| observe_targets(context, scope, event)).boxed());
    }
    join_all(running).await;
}

/// Keeps a store. Who observes an event finds it in the store.
async fn keep<K>(
    kind: WatchedKind<K>,
    mut writer: Writer<K>,
    context: &Context,
    clock: WatchClock,
    mut observe: impl FnMut(&Event<K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    hear(kind, context, clock, move |event| {
        writer.apply_watcher_event(event);
        observe(event);
    })
    .await;
}

/// Hands on the events of a watch, for ever, and keeps its clock.
async fn hear<K, S>(source: S, context: &Context, clock: WatchClock, mut observe: impl FnMut(&Event<K>))
where
    K: Resource<DynamicType = ()> + Clone,
    S: WatchSource<K>,
{
    let name = K::kind(&());
    let mut events = ListWatch::new(source);
    loop {
        match events.next().await {
            Ok(heard) => {
                let is_current = heard.is_current();
                if let Heard::Event(event) = heard {
                    observe(&event);
                }
                if is_current {
                    clock.heard();
                }
            }
            Err(error) => {
                context.metrics.watch_error(clock.kind());
                clock.failed();
                let namespace = clock.namespace().unwrap_or_default();
                tracing::warn!(kind = %name, %namespace, %error, "a watch failed and is taken up again");
            }
        }
    }
}

/// Acts on an event of a watch of bindings, once the store has it.
fn observe_bindings(
    context: &Context,
    event: &Event<BindingObject>,
    store: &Store<BindingObject>,
    known: &mut KnownBindings,
) {
    let shown = |binding: &BindingObject| {
        let version = binding.resource_version().and_then(|version| version.parse().ok());
        context.state.histories.shown(&name_of(binding), version);
    };
    match event {
        Event::Apply(binding) => shown(binding),
        Event::InitDone => store.state().iter().for_each(|binding| shown(binding)),
        Event::Init | Event::InitApply(_) | Event::Delete(_) => {}
    }
    for ChangedBinding { name, gone, groups } in known.observe(event) {
        if gone {
            context.forget(&name);
        } else {
            context.state.requeue.trigger(&name);
        }
        trigger::trigger_group_members(context, &name, &groups);
    }
}

/// Acts on an event of a watch of published Secrets.
fn observe_targets(context: &Context, scope: &Scope, event: &Event<WatchedSecret>) {
    for touched in context.state.targets.observe(scope.namespace.as_deref(), event) {
        let affected = trigger::bindings_of_target(&touched, |namespace, name| {
            trigger::bindings_aiming_at(&scope.bindings, namespace, name)
        });
        for binding in &affected {
            trigger::search_anew(context, binding, &touched);
            context.state.requeue.trigger(binding);
            if touched.secret.observed.rotation_state.is_some()
                && let Some(object) = context.state.bindings.get(binding)
            {
                trigger::trigger_group_members(context, binding, &trigger::groups(&object));
            }
        }
    }
}
