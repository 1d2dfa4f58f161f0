//! The bindings of a world as a watch shows them, for tests that wait for many at once.

use std::time::{Duration, Instant};

use bindery::api::SecretBinding;
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::task::JoinHandle;

use super::world::World;

/// The bindings of one namespace, as they last were.
pub struct Board {
    namespace: String,
    store: Store<SecretBinding>,
    watching: JoinHandle<()>,
}

impl Board {
    /// Watches the bindings of a world.
    pub fn of(world: &World) -> Self {
        let (store, writer) = reflector::store();
        let events = watcher(world.bindings(), watcher::Config::default()).default_backoff().reflect(writer);
        let watching = tokio::spawn(events.for_each(|_| futures::future::ready(())));
        Self { namespace: world.namespace.clone(), store, watching }
    }

    /// Waits until a binding is as `accept` wants it, and answers it as it then is.
    ///
    /// # Panics
    /// After a minute and a half, with what was waited for.
    pub async fn wait(&self, name: &str, what: &str, accept: impl Fn(&SecretBinding) -> bool) -> SecretBinding {
        let limit = Duration::from_secs(90);
        let started = Instant::now();
        loop {
            let seen = self.store.get(&ObjectRef::new(name).within(&self.namespace));
            if let Some(binding) = seen.as_ref().filter(|binding| accept(binding)) {
                return SecretBinding::clone(binding);
            }
            let shown = || seen.as_ref().map(|binding| show(binding)).unwrap_or_default();
            assert!(started.elapsed() < limit, "{name}: waited {limit:?} in vain for {what}; it shows {:#?}", shown());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// A condition of a binding.
pub fn condition<'a>(binding: &'a SecretBinding, type_: &str) -> Option<&'a Condition> {
    binding.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// A condition of a binding as `status/reason`; empty where it has none of this type.
pub fn state(binding: &SecretBinding, type_: &str) -> String {
    condition(binding, type_).map(|c| format!("{}/{}", c.status, c.reason)).unwrap_or_default()
}

/// All conditions of a binding, each with its message.
pub fn show(binding: &SecretBinding) -> Vec<String> {
    let conditions = binding.status.iter().flat_map(|status| &status.conditions);
    conditions.map(|c| format!("{}={}/{}: {}", c.type_, c.status, c.reason, c.message)).collect()
}
