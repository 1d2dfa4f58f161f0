//! The bindings as the watches show them, one store for each watched namespace.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::domain::name::BindingName;
use crate::kubernetes::binding_object::BindingObject;

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

    /// Waits until all watches have listed their bindings. False where one never will.
    pub async fn wait_until_ready(&self) -> bool {
        let mut ready = true;
        for scope in &self.0 {
            ready &= scope.bindings.wait_until_ready().await.is_ok();
        }
        ready
    }
}

/// The name of a binding.
#[must_use]
pub fn name_of(binding: &BindingObject) -> BindingName {
    BindingName::new(&binding.namespace().unwrap_or_default(), &binding.name_any())
}
