//! What all reconciles share.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use crate::api::WorkloadReference;
use crate::aws::reader::Reader;
use crate::aws::writer::Writer;
use crate::domain::fingerprint::FingerprintKey;
use crate::domain::name::BindingName;
use crate::kubernetes::api_server::ApiServer;
use crate::kubernetes::report::Events;
use crate::metrics::Metrics;
use crate::reconcile::authorization::Authorization;
use crate::settings::Settings;
use crate::state::absent_kinds::AbsentKinds;
use crate::state::age_backfill::AgeBackfills;
use crate::state::bindings::Bindings;
use crate::state::groups::Groups;
use crate::state::history::Histories;
use crate::state::requeue::Requeue;
use crate::state::secret_names::SecretNames;
use crate::state::slots::Slots;
use crate::state::targets::Targets;
use crate::state::warmup::Warmup;

/// What all reconciles share.
pub struct Context {
    /// The ways out of the process.
    pub clients: Clients,
    /// The grants, and who may read what by them.
    pub authorization: Arc<Authorization>,
    /// What is remembered.
    pub state: State,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The key of the digests on targets.
    pub key: Arc<FingerprintKey>,
}

/// The ways out of the process.
pub struct Clients {
    /// The API server.
    pub kubernetes: ApiServer,
    /// What AWS holds.
    pub reader: Reader,
    /// Writes to AWS.
    pub writer: Writer,
    /// The Events that wait to be published.
    pub events: Events,
}

/// What is remembered, in memory only.
pub struct State {
    /// The bindings, as the watches show them.
    pub bindings: Bindings,
    /// The metadata of the Secrets that carry Bindery's label.
    pub targets: Targets,
    /// The names of Secrets, by namespace.
    pub secret_names: SecretNames,
    /// What is remembered of each binding.
    pub histories: Histories,
    /// The locks of the groups whose overlaps advance together.
    pub groups: Groups,
    /// The restarts under way.
    pub slots: Slots,
    /// The kinds of workloads that are not installed.
    pub absent_kinds: AbsentKinds,
    /// The age backfills under way.
    pub backfills: AgeBackfills,
    /// The bindings that were not reconciled since the start.
    pub warmup: Warmup,
    /// The bindings that are to be reconciled again.
    pub requeue: Requeue,
}

impl State {
    /// Records the restarts of a binding that are under way, and triggers the bindings that wait for a free slot. `waits`
    /// says that it has more to restart.
    pub fn occupy_slots(&self, binding: &BindingName, in_flight: BTreeSet<WorkloadReference>, waits: bool) {
        for waiting in self.slots.observe(binding, in_flight, waits, Instant::now().into_std()) {
            self.requeue.trigger(&waiting);
        }
    }

    /// Frees the slots of a binding that restarts nothing any more.
    pub fn release_slots(&self, binding: &BindingName) {
        self.occupy_slots(binding, BTreeSet::new(), false);
    }
}

impl Context {
    /// Forgets a deleted binding.
    pub fn forget(&self, binding: &BindingName) {
        self.state.histories.forget(binding);
        self.clients.reader.versions().forget(binding);
        self.state.backfills.forget(binding);
        self.state.warmup.reconciled(binding);
        self.state.release_slots(binding);
        self.metrics.forget(&binding.namespace, &binding.name);
    }
}
