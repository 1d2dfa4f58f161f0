//! What all reconciles share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::time::timeout;

use crate::api::SecretGrant;
use crate::aws::reader::Reader;
use crate::aws::writer::Writer;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::name::BindingName;
use crate::kubernetes::binding_object::Watched;
use crate::kubernetes::report::Events;
use crate::metrics::Metrics;
use crate::reconcile::binding::taken::Taken;
use crate::reconcile::binding::walk;
use crate::settings::Settings;
use crate::state::absent_kinds::AbsentKinds;
use crate::state::bindings::Scope;
use crate::state::bindings::Writers;
use crate::state::groups::Groups;
use crate::state::health::WatchHealth;
use crate::state::history::Memories;
use crate::state::slots::Slots;
use crate::state::targets::Targets;
use crate::state::warmup::FirstLooks;

/// How long the labels of namespaces are waited for.
const NAMESPACES_TIMEOUT: Duration = Duration::from_secs(10);

/// What all passes share.
pub struct Context {
    /// The client of the API server.
    pub client: Client,
    /// The way to what AWS holds.
    pub reader: Reader,
    /// The way to change it.
    pub writer: Writer,
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
    /// The metadata of the Secrets that carry Bindery's label.
    pub targets: Targets,
    /// The names of Secrets that were taken a moment ago.
    pub taken: Taken,
    /// The bindings, one store for each watched namespace.
    pub scopes: Vec<Scope>,
    /// What is remembered of each binding.
    pub memories: Memories,
    /// The account of the operator's own identity, once it was asked for.
    pub account: OnceCell<String>,
    /// Bounds the requests to the API server under way. Passes that only look, or wait for AWS, need no permit.
    pub requests: Semaphore,
    /// The locks of the groups whose overlaps advance together.
    pub groups: Groups,
    /// The Events that wait to be published.
    pub events: Events,
    /// The bindings that were not looked at since the start.
    pub first_looks: FirstLooks,
    /// How many workloads are restarted at a time.
    pub slots: Slots,
    /// The kinds of workloads that are not installed.
    pub absent_kinds: AbsentKinds,
    /// Those who wait to be told since when keys have their values.
    pub walks: walk::Walks,
    /// Whether the watches work.
    pub health: Arc<WatchHealth>,
    /// Where the bindings to be looked at go.
    triggers: mpsc::UnboundedSender<BindingName>,
    /// Whether passes are made here.
    pub(crate) leads: AtomicBool,
}

/// The ways to AWS.
pub struct AwsAccess {
    /// To what it holds.
    pub reader: Reader,
    /// To change it.
    pub writer: Writer,
}

/// The receiving end of the triggers.
pub struct Triggers(pub(crate) mpsc::UnboundedReceiver<BindingName>);

/// Puts together what passes share, what watches write, and where triggers come out.
#[must_use]
pub fn prepare(
    client: Client,
    aws: AwsAccess,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    key: FingerprintKey,
    health: Arc<WatchHealth>,
) -> (Arc<Context>, Writers, Triggers) {
    let namespaces = if settings.watch_namespaces.is_empty() {
        vec![None]
    } else {
        settings.watch_namespaces.iter().cloned().map(Some).collect()
    };
    let (mut scopes, mut bindings_writers) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        let (bindings, writer) = reflector::store();
        scopes.push(Scope { namespace, bindings });
        bindings_writers.push(writer);
    }
    let (triggers, receiver) = mpsc::unbounded_channel();
    let (grants, grants_writer) = reflector::store();
    let (namespaces, namespaces_writer) = reflector::store();
    let context = Arc::new(Context {
        events: Events::new(client.clone(), settings.identity.clone()),
        client,
        reader: aws.reader,
        writer: aws.writer,
        metrics,
        key,
        grants,
        namespaces,
        targets: Targets::default(),
        taken: Taken::default(),
        scopes,
        memories: Memories::default(),
        account: OnceCell::new(),
        requests: Semaphore::new(settings.concurrency),
        groups: Groups::default(),
        first_looks: FirstLooks::default(),
        slots: Slots::new(settings.max_rollouts),
        absent_kinds: AbsentKinds::default(),
        walks: walk::Walks::default(),
        health,
        triggers,
        leads: AtomicBool::new(false),
        settings,
    });
    let writers = Writers { bindings: bindings_writers, grants: grants_writer, namespaces: namespaces_writer };
    (context, writers, Triggers(receiver))
}

impl Context {
    /// Waits until what a pass judges by is known. False where it never will be.
    pub(crate) async fn is_complete(&self) -> bool {
        // Without the right to watch namespaces, grants by name still work.
        if timeout(NAMESPACES_TIMEOUT, self.namespaces.wait_until_ready()).await.is_err() {
            tracing::warn!("the labels of namespaces cannot be watched, so grants by selector allow nothing");
        }
        // A binding judged before the grants are known would be refused for a moment.
        let mut known = self.grants.wait_until_ready().await.is_ok();
        for scope in &self.scopes {
            known &= scope.bindings.wait_until_ready().await.is_ok();
        }
        // A target that is not known yet would be looked for by itself.
        let complete = self.targets.wait_until_complete(self.scopes.len());
        if timeout(NAMESPACES_TIMEOUT, complete).await.is_err() {
            tracing::warn!("published Secrets cannot be watched, so edits of them are not seen");
        }
        known
    }

    /// Lets a binding be looked at, where passes are made here.
    pub fn trigger(&self, binding: &BindingName) {
        if !self.leads.load(Ordering::SeqCst) {
            return;
        }
        // Without a receiver the process is ending.
        let _ = self.triggers.send(binding.clone());
    }

    /// A binding as the watch last told of it.
    pub(crate) fn current(&self, binding: &BindingName) -> Option<Arc<Watched>> {
        let reference = binding_ref(&binding.namespace, &binding.name);
        self.scopes.iter().find_map(|scope| scope.bindings.get(&reference))
    }

    /// Whether a binding is still the one, and as it was, that a pass began with.
    pub(crate) fn is_current(&self, binding: &BindingName, uid: &str, generation: i64) -> bool {
        let current = self.current(binding);
        let metadata = current.as_ref().and_then(|current| current.0.as_ref().ok()).map(|current| &current.metadata);
        metadata.is_some_and(|metadata| {
            metadata.uid.as_deref() == Some(uid)
                && metadata.generation.unwrap_or_default() == generation
                && metadata.deletion_timestamp.is_none()
        })
    }

    pub(crate) fn forget(&self, binding: &BindingName) {
        self.memories.forget(binding);
        self.reader.versions().forget(binding);
        self.walks.forget(binding);
        self.first_looks.passed(binding);
        self.release(binding);
        self.metrics.forget(&binding.namespace, &binding.name);
    }

    /// Gives back the places of a binding whose restarts are not looked at any more.
    pub(crate) fn release(&self, binding: &BindingName) {
        for waiting in self.slots.observe(binding, BTreeSet::new()) {
            self.trigger(&waiting);
        }
    }

    /// Forgets what was deleted while the watch was interrupted.
    pub(crate) fn forget_absent(&self, scope: Option<&str>) {
        for binding in self.memories.names() {
            if scope.is_none_or(|scope| scope == &*binding.namespace) && self.current(&binding).is_none() {
                self.forget(&binding);
            }
        }
    }
}

/// The reference of a binding in the stores of the controller.
#[must_use]
pub fn binding_ref(namespace: &str, name: &str) -> ObjectRef<Watched> {
    ObjectRef::new(name).within(namespace)
}
