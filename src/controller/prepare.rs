//! Puts together what reconciles share, what watches write, and where triggers come out.

use std::sync::Arc;

use kube::Client;
use kube::runtime::reflector::{self, store::Writer};
use tokio::sync::mpsc;

use crate::aws::reader::Reader;
use crate::aws::writer::Writer as SecretWriter;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::name::BindingName;
use crate::kubernetes::api_server::ApiServer;
use crate::kubernetes::binding_object::BindingObject;
use crate::kubernetes::grant_object::GrantObject;
use crate::kubernetes::namespace_object::NamespaceObject;
use crate::kubernetes::report::Events;
use crate::metrics::Metrics;
use crate::reconcile::authorization::Authorization;
use crate::reconcile::context::{Clients, Context, State};
use crate::settings::Settings;
use crate::state::absent_kinds::AbsentKinds;
use crate::state::age_backfill::AgeBackfills;
use crate::state::bindings::{Bindings, Scope};
use crate::state::groups::Groups;
use crate::state::health::WatchHealth;
use crate::state::history::Histories;
use crate::state::requeue::Requeue;
use crate::state::secret_names::SecretNames;
use crate::state::slots::Slots;
use crate::state::targets::Targets;
use crate::state::warmup::Warmup;

/// The ways to AWS.
pub struct AwsClients {
    /// To what it holds.
    pub reader: Reader,
    /// To change it.
    pub writer: SecretWriter,
}

/// What the process brings along, besides its clients.
pub struct Surroundings {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The key of the digests on targets.
    pub key: FingerprintKey,
    /// Whether the watches work.
    pub health: Arc<WatchHealth>,
}

/// The writing ends of the stores, and what else the watches need.
pub struct Watches {
    /// Of the bindings of each scope.
    pub bindings: Vec<Writer<BindingObject>>,
    /// Of the grants.
    pub grants: Writer<GrantObject>,
    /// Of the namespaces.
    pub namespaces: Writer<NamespaceObject>,
    /// Whether the watches work.
    pub health: Arc<WatchHealth>,
}

/// The receiving end of the triggers.
pub type Triggers = mpsc::UnboundedReceiver<BindingName>;

/// Puts together what reconciles share, what watches write, and where triggers come out.
#[must_use]
pub fn prepare(client: Client, aws: AwsClients, surroundings: Surroundings) -> (Arc<Context>, Watches, Triggers) {
    let Surroundings { settings, metrics, key, health } = surroundings;
    let namespaces = if settings.watch_namespaces.is_empty() {
        vec![None]
    } else {
        settings.watch_namespaces.iter().cloned().map(Some).collect()
    };
    let (mut scopes, mut bindings) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        let (store, writer) = reflector::store();
        scopes.push(Scope { namespace, bindings: store });
        bindings.push(writer);
    }
    let (requeue, triggers) = Requeue::new();
    let (grants_store, grants) = reflector::store();
    let (namespaces_store, namespaces) = reflector::store();
    let authorization = Authorization::new(grants_store, namespaces_store, settings.clone(), aws.reader.clone());
    let context = Arc::new(Context {
        clients: Clients {
            events: Events::new(client.clone(), settings.identity.clone()),
            kubernetes: ApiServer::new(client, settings.concurrency),
            reader: aws.reader,
            writer: aws.writer,
        },
        authorization: Arc::new(authorization),
        state: State {
            bindings: Bindings::new(scopes),
            targets: Targets::default(),
            secret_names: SecretNames::default(),
            histories: Histories::default(),
            groups: Groups::default(),
            slots: Slots::new(settings.max_rollouts),
            absent_kinds: AbsentKinds::default(),
            backfills: AgeBackfills::default(),
            warmup: Warmup::default(),
            requeue,
        },
        settings,
        metrics,
        key: Arc::new(key),
    });
    (context, Watches { bindings, grants, namespaces, health }, triggers)
}
