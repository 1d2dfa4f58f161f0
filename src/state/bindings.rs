//! The bindings as the watches show them, one store for each watched namespace.

use std::sync::Arc;
use std::time::Duration;

use futures::future::ready;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::timeout;

use crate::domain::name::BindingName;
use crate::kubernetes::binding_object::BindingObject;

/// So long the other namespaces are waited for once one is listed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The part of the cluster that one set of watches covers.
pub struct Scope {
    /// The namespace; `None` = all.
    pub namespace: Option<String>,
    /// Its bindings.
    pub bindings: Store<BindingObject>,
}

/// All bindings.
pub struct Bindings(Vec<Scope>);

impl Bindings {
    /// The bindings of these scopes.
    #[must_use]
    pub const fn new(scopes: Vec<Scope>) -> Self {
        Self(scopes)
    }

    /// The scopes.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.0
    }

    /// All bindings, as the watches last showed them.
    pub fn all(&self) -> impl Iterator<Item = Arc<BindingObject>> {
        self.0.iter().flat_map(|scope| scope.bindings.state())
    }

    /// The bindings of a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<BindingObject>> {
        self.all().filter(|binding| binding.namespace().as_deref() == Some(namespace)).collect()
    }

    /// A binding, as the watch last showed it.
    #[must_use]
    pub fn get(&self, binding: &BindingName) -> Option<Arc<BindingObject>> {
        let reference = ObjectRef::new(&binding.name).within(&binding.namespace);
        self.0.iter().find_map(|scope| scope.bindings.get(&reference))
    }

    /// Whether a binding still has this uid and generation, and is not being deleted.
    #[must_use]
    pub fn is_current(&self, binding: &BindingName, uid: &str, generation: i64) -> bool {
        let current = self.get(binding);
        let metadata = current.as_ref().and_then(|current| current.0.as_ref().ok()).map(|current| &current.metadata);
        metadata.is_some_and(|metadata| {
            metadata.uid.as_deref() == Some(uid)
                && metadata.generation.unwrap_or_default() == generation
                && metadata.deletion_timestamp.is_none()
        })
    }

    /// Whether a binding of this uid is there, is not being deleted and is not suspended.
    #[must_use]
    pub fn is_active(&self, binding: &BindingName, uid: &str) -> bool {
        let current = self.get(binding);
        current.as_ref().and_then(|current| current.0.as_ref().ok()).is_some_and(|manifest| {
            manifest.metadata.uid.as_deref() == Some(uid)
                && manifest.metadata.deletion_timestamp.is_none()
                && !manifest.spec.suspend.unwrap_or_default()
        })
    }

    /// Waits until all watches have listed their bindings, or for `PATIENCE` once one has: a namespace that cannot be
    /// listed keeps no other from being served. Answers the namespaces that are left; `None` where no watch ever lists.
    pub async fn wait_until_ready(&self) -> Option<Vec<&str>> {
        let stores = self.0.iter().map(|scope| &scope.bindings);
        let mut waiting: FuturesUnordered<_> =
            stores.map(|store| store.wait_until_ready().map(|ready| ready.is_ok())).collect();
        let first = waiting.by_ref().any(ready).await;
        if !first {
            return None;
        }
        // Who is late joins when it is listed.
        let _ = timeout(PATIENCE, waiting.collect::<Vec<bool>>()).await;
        let left = self.0.iter().filter(|scope| !scope.is_listed());
        Some(left.filter_map(|scope| scope.namespace.as_deref()).collect())
    }
}

impl Scope {
    /// Whether its bindings were listed.
    fn is_listed(&self) -> bool {
        self.bindings.wait_until_ready().now_or_never().is_some()
    }
}

/// The name of a binding.
#[must_use]
pub fn name_of(binding: &BindingObject) -> BindingName {
    BindingName::new(&binding.namespace().unwrap_or_default(), &binding.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_is_not_listed_is_named_and_keeps_no_other_waiting() {
        let (mut writers, mut scopes) = (Vec::new(), Vec::new());
        for name in ["a", "b", "c"] {
            let (bindings, writer) = store();
            writers.push(writer);
            scopes.push(Scope { namespace: Some(name.to_owned()), bindings });
        }
        let bindings = Bindings::new(scopes);
        assert!(timeout(PATIENCE * 10, bindings.wait_until_ready()).await.is_err(), "nothing is known");
        for (writer, left) in [(1, vec!["a", "c"]), (0, vec!["c"]), (2, vec![])] {
            writers[writer].apply_watcher_event(&Event::Init);
            writers[writer].apply_watcher_event(&Event::InitDone);
            assert_eq!(bindings.wait_until_ready().await, Some(left));
        }
    }
}
