//! The controller: from a trigger to a pass, and what all passes share.
//!
//! | file | what |
//! |---|---|
//! | [`reconcile`] | one pass, as a table of contents |
//! | [`observe`] | what a pass looks at |
//! | [`plan`] | what is to be done, pure |
//! | [`target`] | the target Secret from metadata alone, pure |
//! | [`status`] | the status a pass leads to, pure |
//! | [`grant_status`] | what grants say of themselves |
//! | [`leftover`] | what a renamed target leaves behind, pure |
//! | [`memory`] | what is remembered between passes |
//! | [`trigger`] | which bindings a change concerns |
//! | [`error`] | every failure, its condition and its cure |

pub mod error;
pub mod grant_status;
pub mod leftover;
pub mod memory;
pub mod observe;
pub mod plan;
pub mod reconcile;
pub mod status;
pub mod target;
pub mod trigger;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, Semaphore, broadcast};
use tokio::time::timeout;

use crate::api::{FIELD_MANAGER, LABEL_MANAGED, SecretBinding, SecretGrant};
use crate::fingerprint::FingerprintKey;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::source::reader::Reader;
use memory::Memories;
use target::SecretMeta;
use trigger::{Concern, Grants, Namespaces};

/// A binding as the watch delivers it: one that no longer parses must not stop the others.
pub type Watched = DeserializeGuard<SecretBinding>;

/// How long the labels of namespaces are waited for.
const NAMESPACES_TIMEOUT: Duration = Duration::from_secs(10);

/// What all passes share.
pub struct Context {
    /// The client of the API server.
    pub client: Client,
    /// The way to AWS.
    pub reader: Reader,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The key of the digests on targets.
    pub key: FingerprintKey,
    /// The grants of the cluster.
    pub grants: Store<SecretGrant>,
    /// The labels of the namespaces, for grants by selector.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// The metadata of the Secrets that carry Bindery's label, one store for each watched namespace.
    pub targets: Vec<Store<SecretMeta>>,
    /// The bindings, one store for each watched namespace.
    pub bindings: Vec<Store<Watched>>,
    /// What is remembered of each binding.
    pub memories: Memories,
    /// The account of the operator's own identity, once it was asked for.
    pub account: OnceCell<String>,
    /// Bounds the passes under way.
    pub passes: Semaphore,
}

/// The part of the cluster that one set of watches covers.
struct Scope {
    namespace: Option<String>,
    bindings: Store<Watched>,
    bindings_writer: Writer<Watched>,
    targets: Store<SecretMeta>,
    targets_writer: Writer<SecretMeta>,
}

impl Scope {
    fn new(namespace: Option<String>) -> Self {
        let (bindings, bindings_writer) = reflector::store();
        let (targets, targets_writer) = reflector::store();
        Self { namespace, bindings, bindings_writer, targets, targets_writer }
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

/// Runs until `shutdown`, then lets the passes under way end.
pub async fn run(
    client: Client,
    reader: Reader,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    key: FingerprintKey,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let shutdown = shutdown.boxed().shared();
    let scopes: Vec<Scope> = if settings.watch_namespaces.is_empty() {
        vec![Scope::new(None)]
    } else {
        settings.watch_namespaces.iter().cloned().map(Some).map(Scope::new).collect()
    };
    let (grants, grants_writer) = reflector::store();
    let (namespaces, namespaces_writer) = reflector::store();
    let (concerns, _) = broadcast::channel(256);
    let context = Arc::new(Context {
        client: client.clone(),
        reader,
        metrics: metrics.clone(),
        key,
        grants: grants.clone(),
        namespaces: namespaces.clone(),
        targets: scopes.iter().map(|scope| scope.targets.clone()).collect(),
        bindings: scopes.iter().map(|scope| scope.bindings.clone()).collect(),
        memories: Memories::default(),
        account: OnceCell::new(),
        passes: Semaphore::new(settings.concurrency),
        settings,
    });
    let (mut known_grants, mut known_namespaces) = (Grants::default(), Namespaces::default());
    let tell = || (concerns.clone(), metrics.clone());
    let watching_grants =
        watch(Api::all(client.clone()), grants_writer, "SecretGrant", tell(), |event| known_grants.observe(event));
    let watching_namespaces =
        watch(Api::all(client), namespaces_writer, "Namespace", tell(), |event| known_namespaces.observe(event));
    let controllers = async {
        // A binding judged before the grants are known would be refused for a moment.
        let known = async {
            // Without the right to watch namespaces, grants by name still work.
            if timeout(NAMESPACES_TIMEOUT, namespaces.wait_until_ready()).await.is_err() {
                tracing::warn!("the labels of namespaces cannot be watched, so grants by selector allow nothing");
            }
            grants.wait_until_ready().await
        };
        if known.await.is_ok() {
            let telling = grant_status::tell(&context);
            let running = scopes.into_iter().map(|scope| control(scope, &context, &concerns, shutdown.clone()));
            tokio::select! {
                _ = futures::future::join_all(running) => {}
                () = telling => {}
            }
        }
    };
    tokio::select! {
        () = watching_grants => {}
        () = watching_namespaces => {}
        () = controllers => {}
    }
}

/// Keeps a store of a cluster-wide kind, and tells whom each change concerns.
async fn watch<K>(
    api: Api<K>,
    writer: Writer<K>,
    kind: &'static str,
    (concerns, metrics): (broadcast::Sender<Concern>, Arc<Metrics>),
    mut observe: impl FnMut(&watcher::Event<K>) -> Option<Concern>,
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
                    if let Some(concern) = observe(&event) {
                        // Without a receiver there is no controller yet, and its first pass sees what is new.
                        let _ = concerns.send(concern);
                    }
                }
                Err(error) => watch_failed(&metrics, kind, &error),
            }
            futures::future::ready(())
        })
        .await;
}

async fn control(
    scope: Scope,
    context: &Arc<Context>,
    concerns: &broadcast::Sender<Concern>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = &context.client;
    let (bindings, targets) = (scope.api::<Watched>(client), scope.api::<SecretMeta>(client));
    let managed = watcher::Config::default().labels(&format!("{LABEL_MANAGED}=true"));
    let (forgetting, scope_namespace) = (context.clone(), scope.namespace.clone());
    let (for_bindings, for_targets) = (context.metrics.clone(), context.metrics.clone());

    let bindings = watcher(bindings, watcher::Config::default())
        .inspect_err(move |error| watch_failed(&for_bindings, "SecretBinding", error))
        .default_backoff()
        .modify(|binding| binding.managed_fields_mut().clear())
        .reflect(scope.bindings_writer)
        // After `reflect`, so that the store no longer has what is forgotten.
        .inspect_ok(move |event| match event {
            watcher::Event::Delete(binding) => {
                forgetting.forget(&binding.namespace().unwrap_or_default(), &binding.name_any());
            }
            watcher::Event::InitDone => forgetting.forget_absent(scope_namespace.as_deref()),
            watcher::Event::Apply(_) | watcher::Event::Init | watcher::Event::InitApply(_) => {}
        })
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::annotations), PredicateConfig::default());
    let targets = watcher(targets, managed)
        .inspect_err(move |error| watch_failed(&for_targets, "Secret", error))
        .default_backoff()
        .modify(trim)
        .reflect(scope.targets_writer)
        .touched_objects()
        .predicate_filter(predicates::resource_version, PredicateConfig::default());
    let aiming = scope.bindings.clone();
    let of_grants = trigger::bindings_of_concerns(concerns.subscribe(), scope.bindings.clone());

    Controller::for_stream(bindings, scope.bindings)
        .watches_stream(targets, move |secret: SecretMeta| {
            trigger::bindings_of_target(&secret, |namespace, name| {
                trigger::bindings_aiming_at(&aiming, namespace, name)
            })
        })
        .reconcile_on(of_grants)
        .with_config(
            controller::Config::default().concurrency(u16::try_from(context.settings.concurrency).unwrap_or(u16::MAX)),
        )
        .graceful_shutdown_on(shutdown)
        .run(reconcile::reconcile, |_, error: &std::convert::Infallible, _| match *error {}, context.clone())
        .for_each(|result| {
            if let Err(error) = result {
                // The binding was deleted while it waited, or a watch failed, which its stream has reported.
                tracing::debug!(%error, "a pass did not take place");
            }
            futures::future::ready(())
        })
        .await;
}

impl Context {
    /// Whether a binding is there, as far as the watch tells.
    fn exists(&self, namespace: &str, name: &str) -> bool {
        let reference = binding_ref(namespace, name);
        self.bindings.iter().any(|store| store.get(&reference).is_some())
    }

    fn forget(&self, namespace: &str, name: &str) {
        self.memories.forget(namespace, name);
        self.metrics.forget(namespace, name);
    }

    /// Forgets what was deleted while the watch was interrupted.
    fn forget_absent(&self, scope: Option<&str>) {
        for (namespace, name) in self.memories.names() {
            if scope.is_none_or(|scope| scope == namespace) && !self.exists(&namespace, &name) {
                self.forget(&namespace, &name);
            }
        }
    }
}

/// Keeps of a Secret's metadata only what passes look at. The annotation of `kubectl apply` would hold the values.
fn trim(secret: &mut SecretMeta) {
    secret.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    for entry in secret.managed_fields_mut() {
        if entry.manager.as_deref() != Some(FIELD_MANAGER) {
            entry.fields_v1 = None;
        }
    }
}

fn watch_failed(metrics: &Metrics, kind: &'static str, error: &watcher::Error) {
    metrics.watch_error(kind);
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

/// The reference of a binding in the stores of the controller.
#[must_use]
pub fn binding_ref(namespace: &str, name: &str) -> ObjectRef<Watched> {
    ObjectRef::new(name).within(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stored_binding_that_no_longer_parses_does_not_stop_the_others() {
        let good = json!({"metadata": {"name": "good", "namespace": "n"}, "spec": {"dataFrom": [{"secret": "a"}]}});
        let bad = json!({"metadata": {"name": "bad", "namespace": "n"}, "spec": {"dataFrom": "a"}});
        let list: Vec<Watched> = serde_json::from_value(json!([good, bad])).unwrap();
        assert!(list[0].0.is_ok());
        let invalid = list[1].0.as_ref().unwrap_err();
        assert_eq!(invalid.metadata.name.as_deref(), Some("bad"));
    }

    #[test]
    fn the_cache_of_secrets_holds_no_copy_of_values() {
        let mut secret: SecretMeta = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\": {\"A\": \"aHVudGVyMg==\"}}", "a": "b"},
                "managedFields": [
                    {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {}}},
                    {"manager": "bindery", "operation": "Apply", "fieldsV1": {"f:data": {"f:A": {}}}},
                ],
            },
        }))
        .unwrap();
        trim(&mut secret);
        let text = serde_json::to_string(&secret.metadata).unwrap();
        assert!(!text.contains("aHVudGVyMg"), "{text}");
        assert_eq!(secret.annotations().len(), 1);
        assert!(secret.managed_fields()[0].fields_v1.is_none() && secret.managed_fields()[1].fields_v1.is_some());
    }
}
