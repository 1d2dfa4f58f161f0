//! The bindings as the watches show them, one store for each watched namespace.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{Store, store::Writer};

use crate::api::SecretGrant;
use crate::domain::name::BindingName;
use crate::kubernetes::binding_object::Watched;

/// The part of the cluster that one set of watches covers.
pub struct Scope {
    /// The namespace; `None` = all.
    pub namespace: Option<String>,
    /// Its bindings.
    pub bindings: Store<Watched>,
}

impl Scope {
    /// The names of its bindings.
    #[must_use]
    pub fn names(&self) -> Vec<BindingName> {
        self.bindings.state().iter().map(|binding| name_of(binding)).collect()
    }
}

/// The writing ends of the stores.
pub struct Writers {
    /// Of the bindings of each scope.
    pub bindings: Vec<Writer<Watched>>,
    /// Of the grants.
    pub grants: Writer<SecretGrant>,
    /// Of the namespaces.
    pub namespaces: Writer<PartialObjectMeta<Namespace>>,
}

/// The name of a watched binding.
#[must_use]
pub fn name_of(binding: &Watched) -> BindingName {
    BindingName::new(&binding.namespace().unwrap_or_default(), &binding.name_any())
}
