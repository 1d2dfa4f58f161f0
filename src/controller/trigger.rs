//! Which bindings a change affects.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::Event;

use crate::api::SecretGrant;
use crate::domain::name::BindingName;
use crate::kubernetes::binding_object::BindingObject;
use crate::reconcile::context::Context;
use crate::state::bindings::name_of;
use crate::state::targets::ChangedSecret;

/// The bindings that a change of a grant or of a namespace affects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affected {
    /// The bindings of these namespaces.
    Namespaces(Arc<BTreeSet<String>>),
    /// All bindings: each decides whether a selector means its namespace.
    All,
}

impl Affected {
    fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Namespaces(names) => names.contains(namespace),
            Self::All => true,
        }
    }

    /// The bindings of one namespace.
    #[must_use]
    pub fn of(namespace: String) -> Self {
        Self::Namespaces(Arc::new(BTreeSet::from([namespace])))
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Namespaces(a), Self::Namespaces(b)) => Self::Namespaces(Arc::new(a.union(&b).cloned().collect())),
            _ => Self::All,
        }
    }

    fn none() -> Self {
        Self::Namespaces(Arc::default())
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::Namespaces(names) if names.is_empty())
    }
}

/// The bindings that a published Secret may belong to: the one that its annotation names, and the one that its owner
/// reference names. Where both are gone, `aiming` finds the bindings with this target, by namespace and name.
#[must_use]
pub fn bindings_of_target(
    touched: &ChangedSecret,
    aiming: impl FnOnce(&str, &str) -> Vec<BindingName>,
) -> Vec<BindingName> {
    let ChangedSecret { namespace, name, secret } = touched;
    let owner = secret.owner.as_ref().map(|owner| &owner.name);
    let names: BTreeSet<&String> = owner.into_iter().chain(&secret.binding).collect();
    if names.is_empty() {
        return aiming(namespace, name);
    }
    names.into_iter().map(|name| BindingName::new(namespace, name)).collect()
}

/// The bindings whose target is the Secret `name`.
#[must_use]
pub fn bindings_aiming_at(bindings: &Store<BindingObject>, namespace: &str, name: &str) -> Vec<BindingName> {
    let aims =
        |binding: &&Arc<BindingObject>| binding.namespace().as_deref() == Some(namespace) && aims_at(binding, name);
    bindings.state().iter().filter(aims).map(|binding| name_of(binding)).collect()
}

/// Whether the target of a binding has this name.
fn aims_at(binding: &BindingObject, name: &str) -> bool {
    let Ok(manifest) = &binding.0 else { return false };
    let target = manifest.spec.target.as_ref().and_then(|target| target.name.clone());
    target.unwrap_or_else(|| manifest.name_any()) == name
}

/// Has a binding search anew where another Secret than its target carries its owner reference.
pub fn search_anew(context: &Context, name: &BindingName, touched: &ChangedSecret) {
    let binding = context.state.bindings.get(name);
    let elsewhere = binding.is_some_and(|binding| !aims_at(&binding, &touched.name));
    if elsewhere && touched.secret.owner.is_some() {
        context.state.histories.search_anew(name);
    }
}

/// The groups of overlaps that a binding belongs to.
fn groups(binding: &BindingObject) -> BTreeSet<&str> {
    let rules = binding.0.iter().flat_map(|manifest| &manifest.spec.rotation);
    rules.filter_map(|rule| Some(rule.overlap.as_ref()?.group.as_ref().unwrap_or(&rule.name).as_str())).collect()
}

/// Triggers the other bindings of the groups of a binding. Their overlaps may wait for it.
pub fn trigger_group_members(context: &Context, name: &BindingName) {
    let Some(binding) = context.state.bindings.get(name) else { return };
    let own = groups(&binding);
    if own.is_empty() {
        return;
    }
    for member in context.state.bindings.in_namespace(&name.namespace) {
        let of = name_of(&member);
        if of != *name && !groups(&member).is_disjoint(&own) {
            context.state.requeue.trigger(&of);
        }
    }
}

/// Triggers the bindings that a change of grants or namespaces affects.
pub fn trigger_affected(context: &Context, affected: &Affected) {
    for scope in context.state.bindings.scopes() {
        for binding in scope.bindings.state() {
            let name = name_of(&binding);
            if affected.includes(&name.namespace) {
                context.state.requeue.trigger(&name);
            }
        }
    }
}

/// The grants as last observed. A change affects the namespaces that gain access and those that lose it.
#[derive(Debug, Default)]
pub struct KnownGrants {
    known: HashMap<String, (Option<i64>, Affected)>,
    listed: HashSet<String>,
}

impl KnownGrants {
    /// Takes in an event of the watch. `None` where it affects no binding, as a change of status does.
    pub fn observe(&mut self, event: &Event<SecretGrant>) -> Option<Affected> {
        let affected = match event {
            Event::Init => {
                self.listed.clear();
                Affected::none()
            }
            Event::InitApply(grant) => {
                self.listed.insert(grant.name_any());
                self.applied(grant)
            }
            Event::Apply(grant) => self.applied(grant),
            Event::Delete(grant) => {
                self.known.remove(&grant.name_any()).map_or_else(Affected::none, |(_, affected)| affected)
            }
            // What was deleted while the watch was interrupted is missing from the new list.
            Event::InitDone => {
                let listed = &self.listed;
                let gone = self.known.extract_if(|name, _| !listed.contains(name));
                gone.map(|(_, (_, affected))| affected).fold(Affected::none(), Affected::and)
            }
        };
        (!affected.is_none()).then_some(affected)
    }

    fn applied(&mut self, grant: &SecretGrant) -> Affected {
        let generation = grant.metadata.generation;
        let affected = match &grant.spec.namespaces.names {
            Some(names) => Affected::Namespaces(Arc::new(names.iter().cloned().collect())),
            None => Affected::All,
        };
        match self.known.insert(grant.name_any(), (generation, affected.clone())) {
            Some((before, _)) if before == generation => Affected::none(),
            Some((_, before)) => before.and(affected),
            None => affected,
        }
    }
}

/// The labels of namespaces as last observed.
#[derive(Debug, Default)]
pub struct KnownNamespaces {
    known: HashMap<String, BTreeMap<String, String>>,
}

impl KnownNamespaces {
    /// Takes in an event of the watch. Returns the namespace whose labels changed.
    pub fn observe(&mut self, event: &Event<PartialObjectMeta<Namespace>>) -> Option<Affected> {
        match event {
            Event::Apply(namespace) | Event::InitApply(namespace) => {
                let (name, labels) = (namespace.name_any(), namespace.labels().clone());
                let before = self.known.insert(name.clone(), labels.clone());
                (before.as_ref() != Some(&labels)).then(|| Affected::of(name))
            }
            Event::Delete(namespace) => {
                self.known.remove(&namespace.name_any());
                None
            }
            Event::Init | Event::InitDone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GrantedNamespaces, SecretGrantSpec};
    use crate::domain::fingerprint::FingerprintKey;
    use crate::domain::target::ObservedSecret;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
    use zeroize::Zeroizing;

    fn grant(name: &str, generation: i64, namespaces: &[&str]) -> SecretGrant {
        let names = namespaces.iter().map(ToString::to_string).collect();
        let namespaces = GrantedNamespaces { names: Some(names), selector: None };
        let mut grant = SecretGrant::new(name, SecretGrantSpec { namespaces, ..SecretGrantSpec::default() });
        grant.metadata.generation = Some(generation);
        grant
    }

    fn observe(grants: &mut KnownGrants, event: &Event<SecretGrant>) -> Vec<String> {
        match grants.observe(event) {
            Some(Affected::Namespaces(names)) => names.iter().cloned().collect(),
            Some(Affected::All) => vec!["*".to_owned()],
            None => vec![],
        }
    }

    #[test]
    fn a_change_concerns_those_who_gain_and_those_who_lose() {
        let mut grants = KnownGrants::default();
        assert_eq!(observe(&mut grants, &Event::Apply(grant("g", 1, &["a", "b"]))), ["a", "b"]);
        assert!(observe(&mut grants, &Event::Apply(grant("g", 1, &["a", "b"]))).is_empty(), "only the status moved");
        assert_eq!(observe(&mut grants, &Event::Apply(grant("g", 2, &["b", "c"]))), ["a", "b", "c"]);
        assert_eq!(observe(&mut grants, &Event::Delete(grant("g", 2, &["b", "c"]))), ["b", "c"]);
    }

    #[test]
    fn a_grant_by_label_concerns_all_and_so_does_its_end() {
        let mut grants = KnownGrants::default();
        let mut by_label = grant("g", 1, &[]);
        by_label.spec.namespaces = GrantedNamespaces { names: None, selector: Some(LabelSelector::default()) };
        assert_eq!(observe(&mut grants, &Event::Apply(by_label.clone())), ["*"]);
        assert_eq!(observe(&mut grants, &Event::Apply(grant("g", 2, &["a"]))), ["*"]);
        assert_eq!(observe(&mut grants, &Event::Apply(grant("g", 3, &["b"]))), ["a", "b"]);
    }

    #[test]
    fn only_a_change_of_labels_of_a_namespace_concerns_its_bindings() {
        let namespace = |label: &str, annotation: &str| -> PartialObjectMeta<Namespace> {
            let metadata =
                serde_json::json!({"name": "n", "labels": {"team": label}, "annotations": {"a": annotation}});
            serde_json::from_value(serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
                .unwrap()
        };
        let mut namespaces = KnownNamespaces::default();
        assert_eq!(namespaces.observe(&Event::InitApply(namespace("x", "1"))), Some(Affected::of("n".to_owned())));
        assert_eq!(namespaces.observe(&Event::Apply(namespace("x", "2"))), None);
        assert_eq!(namespaces.observe(&Event::Apply(namespace("y", "2"))), Some(Affected::of("n".to_owned())));
    }

    #[test]
    fn a_grant_deleted_while_nobody_watched_concerns_its_namespaces() {
        let mut grants = KnownGrants::default();
        grants.observe(&Event::Apply(grant("g", 1, &["a"])));
        grants.observe(&Event::Apply(grant("h", 1, &["b"])));
        assert!(observe(&mut grants, &Event::Init).is_empty());
        assert!(observe(&mut grants, &Event::InitApply(grant("h", 1, &["b"]))).is_empty());
        assert_eq!(observe(&mut grants, &Event::InitDone), ["a"]);
    }

    #[test]
    fn a_secret_leads_to_its_binding_by_annotation_or_owner() {
        let key = FingerprintKey::new(Zeroizing::new([7; 32]));
        let leads_to = |metadata: serde_json::Value| -> Vec<String> {
            let meta =
                serde_json::from_value(serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}));
            let secret = Arc::new(ObservedSecret::new(&meta.unwrap(), &key));
            let touched = ChangedSecret { namespace: "n".to_owned(), name: "s".to_owned(), secret };
            let aiming = |namespace: &str, name: &str| vec![BindingName::new(namespace, &format!("aims-at-{name}"))];
            bindings_of_target(&touched, aiming).iter().map(ToString::to_string).collect()
        };
        let named = serde_json::json!({"bindery.dev/binding": "b"});
        let owners = serde_json::json!([{"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "name": "c", "uid": "u", "controller": true}]);
        assert_eq!(leads_to(serde_json::json!({"annotations": named})), ["n/b"]);
        assert_eq!(leads_to(serde_json::json!({"ownerReferences": owners})), ["n/c"]);
        assert_eq!(leads_to(serde_json::json!({"ownerReferences": owners, "annotations": named})), ["n/b", "n/c"]);
        assert_eq!(leads_to(serde_json::json!({})), ["n/aims-at-s"]);
    }
}
