//! The controller: from a trigger to a pass, and what all passes share.
//!
//! | file | what |
//! |---|---|
//! | [`queue`] | when which binding is looked at next, pure |
//! | [`reconcile`] | what is said of a pass, when the next comes |
//! | `pass` | one pass, from the grant to the Secret |
//! | [`observe`] | what a pass looks at |
//! | [`overlap`] | the overlaps of old and new values in a pass |
//! | `age` | the ages of keys in a pass |
//! | [`walk`] | since when keys have their values, from older versions |
//! | [`plan`] | what is to be done, pure |
//! | [`acting`], [`action`] | what is done when rules are due |
//! | [`rollout`] | how workloads come to run what was published |
//! | [`target`] | the target Secret from metadata alone, pure |
//! | [`status`] | the status a pass leads to, pure |
//! | [`rotation`] | what is told of rotation rules, pure |
//! | [`grant_status`] | what grants say of themselves |
//! | `hold` | the label that keeps an old version in Secrets Manager |
//! | [`leftover`] | what a renamed target leaves behind, pure |
//! | [`memory`] | what is remembered between passes |
//! | [`watch`] | the watches and their stores |
//! | [`watched`] | a binding as the watch delivers it |
//! | [`targets`] | the cache of published Secrets |
//! | [`taken`] | which names of Secrets are taken, for many bindings at once |
//! | [`trigger`] | which bindings a change concerns |
//! | [`start`] | the first looks after a start |
//! | [`error`] | every failure, its condition and its cure |

pub mod acting;
pub mod action;
mod age;
pub mod error;
pub mod grant_status;
mod hold;
pub mod memory;
pub mod observe;
pub mod overlap;
mod pass;
pub mod plan;
pub mod queue;
pub mod reconcile;
pub mod rollout;
pub mod rotation;
pub mod start;
pub mod status;
pub mod taken;
pub mod targets;
pub mod trigger;
pub mod walk;
pub mod watch;
pub mod watched;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::api::SecretGrant;
use crate::controller::memory::Memories;
use crate::controller::queue::Queue;
use crate::controller::start::FirstLooks;
use crate::controller::taken::Taken;
use crate::controller::targets::Targets;
use crate::controller::watch::{Scope, WatchHealth, Writers};
use crate::controller::watched::Watched;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::name::BindingName;
use crate::domain::rollout::slots::Slots;
use crate::kubernetes::report::Events;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::source::reader::Reader;
use crate::source::writer::Writer;

/// How long the labels of namespaces are waited for.
const NAMESPACES_TIMEOUT: Duration = Duration::from_secs(10);
/// No binding is left alone for longer; a point in time may not be any distance away.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// How many triggers are taken at once.
const AT_ONCE: usize = 1024;

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
    pub groups: overlap::Groups,
    /// The Events that wait to be published.
    pub events: Events,
    /// The bindings that were not looked at since the start.
    pub first_looks: FirstLooks,
    /// How many workloads are restarted at a time.
    pub slots: Slots,
    /// The kinds of workloads that are not installed.
    pub absent_kinds: rollout::AbsentKinds,
    /// Those who wait to be told since when keys have their values.
    pub walks: walk::Walks,
    /// Whether the watches work.
    pub health: Arc<WatchHealth>,
    /// Where the bindings to be looked at go.
    triggers: mpsc::UnboundedSender<BindingName>,
    /// Whether passes are made here.
    leads: AtomicBool,
}

/// The ways to AWS.
pub struct AwsAccess {
    /// To what it holds.
    pub reader: Reader,
    /// To change it.
    pub writer: Writer,
}

/// The receiving end of the triggers.
pub struct Triggers(mpsc::UnboundedReceiver<BindingName>);

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
        groups: overlap::Groups::default(),
        first_looks: FirstLooks::default(),
        slots: Slots::new(settings.max_rollouts),
        absent_kinds: rollout::AbsentKinds::default(),
        walks: walk::Walks::default(),
        health,
        triggers,
        leads: AtomicBool::new(false),
        settings,
    });
    let writers = Writers { bindings: bindings_writers, grants: grants_writer, namespaces: namespaces_writer };
    (context, writers, Triggers(receiver))
}

/// Makes passes until `shutdown`, then lets those under way end.
pub async fn lead(
    context: Arc<Context>,
    triggers: Triggers,
    mut changes: mpsc::UnboundedReceiver<BindingName>,
    shutdown: impl Future<Output = ()>,
) {
    if !context.is_complete().await {
        return;
    }
    let running = passes(context.clone(), triggers, shutdown);
    // What changes from here on is triggered by the watches, and what was there before, from now on.
    context.leads.store(true, Ordering::SeqCst);
    let first_looks = async {
        start::first_looks(&context).await;
        std::future::pending::<()>().await;
    };
    let changes = async {
        while let Some(binding) = changes.recv().await {
            context.trigger(&binding);
        }
    };
    tokio::select! {
        () = running => {}
        () = first_looks => {}
        () = changes => {}
        () = grant_status::tell(&context) => {}
        () = context.events.publish(|| context.requests.available_permits() == 0) => {}
    }
    context.walks.stop().await;
    context.events.flush().await;
}

/// Makes the passes that are asked for, each as a task of its own: one that waits for AWS takes no place from those that
/// need nothing of it.
async fn passes(context: Arc<Context>, mut triggers: Triggers, shutdown: impl Future<Output = ()>) {
    let (mut queue, mut under_way) = (Queue::default(), JoinSet::new());
    let mut asked = Vec::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        while let Some(binding) = queue.next(Instant::now()) {
            let context = context.clone();
            under_way.spawn(async move {
                let next = reconcile::reconcile(&binding, &context).await;
                (binding, next)
            });
        }
        let wakes = queue.wakes();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = under_way.join_next() => match ended {
                Ok((binding, next)) => {
                    queue.ended(&binding, next.map(|pause| Instant::now() + pause.min(LONGEST_PAUSE)));
                }
                // What a pass left undone nobody knows, so the process ends and begins anew.
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            },
            _ = triggers.0.recv_many(&mut asked, AT_ONCE) => {
                let now = Instant::now();
                for binding in asked.drain(..) {
                    queue.ask(&binding, now);
                }
            }
            () = sleep_until(wakes.unwrap_or_else(Instant::now)), if wakes.is_some() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

impl Context {
    /// Waits until what a pass judges by is known. False where it never will be.
    async fn is_complete(&self) -> bool {
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
    fn current(&self, binding: &BindingName) -> Option<Arc<Watched>> {
        let reference = binding_ref(&binding.namespace, &binding.name);
        self.scopes.iter().find_map(|scope| scope.bindings.get(&reference))
    }

    /// Whether a binding is still the one, and as it was, that a pass began with.
    fn is_current(&self, binding: &BindingName, uid: &str, generation: i64) -> bool {
        let current = self.current(binding);
        let metadata = current.as_ref().and_then(|current| current.0.as_ref().ok()).map(|current| &current.metadata);
        metadata.is_some_and(|metadata| {
            metadata.uid.as_deref() == Some(uid)
                && metadata.generation.unwrap_or_default() == generation
                && metadata.deletion_timestamp.is_none()
        })
    }

    fn forget(&self, binding: &BindingName) {
        self.memories.forget(binding);
        self.reader.versions().forget(binding);
        self.walks.forget(binding);
        self.first_looks.passed(binding);
        self.release(binding);
        self.metrics.forget(&binding.namespace, &binding.name);
    }

    /// Gives back the places of a binding whose restarts are not looked at any more.
    fn release(&self, binding: &BindingName) {
        for waiting in self.slots.observe(binding, BTreeSet::new()) {
            self.trigger(&waiting);
        }
    }

    /// Forgets what was deleted while the watch was interrupted.
    fn forget_absent(&self, scope: Option<&str>) {
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
