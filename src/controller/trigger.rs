//! Which bindings a change affects.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use kube::runtime::reflector::Store;
use kube::runtime::watcher::Event;
use kube::{Resource as _, ResourceExt as _};

use crate::domain::name::BindingName;
use crate::kubernetes::binding_object::BindingObject;
use crate::kubernetes::grant_object::GrantObject;
use crate::kubernetes::namespace_object::NamespaceObject;
use crate::reconcile::context::Context;
use crate::state::bindings::name_of;
use crate::state::known_objects::{KnownObjects, ObjectChange};
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
#[must_use]
pub fn groups(binding: &BindingObject) -> BTreeSet<String> {
    let rules = binding.0.iter().flat_map(|manifest| &manifest.spec.rotation);
    rules.filter_map(|rule| Some(rule.overlap.as_ref()?.group.as_ref().unwrap_or(&rule.name).clone())).collect()
}

/// Triggers the other bindings of these groups of a binding. Their overlaps may wait for it.
pub fn trigger_group_members(context: &Context, name: &BindingName, of_groups: &BTreeSet<String>) {
    if of_groups.is_empty() {
        return;
    }
    for member in context.state.bindings.in_namespace(&name.namespace) {
        let of = name_of(&member);
        if of != *name && !groups(&member).is_disjoint(of_groups) {
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
pub struct KnownGrants(KnownObjects<String, GrantVersion>);

/// What tells whether a grant changed, and whom that affects.
#[derive(Clone, Debug, PartialEq)]
struct GrantVersion {
    uid: Option<String>,
    generation: Option<i64>,
    affected: Affected,
}

impl KnownGrants {
    /// Takes in an event of the watch, once the store has it. `None` where it affects no binding, as a change of status
    /// does.
    pub fn observe(&mut self, event: &Event<GrantObject>) -> Option<Affected> {
        let changes = self.0.observe(event, |grant| (grant.name_any(), GrantVersion::new(grant)));
        let affected = changes.into_iter().flat_map(|change| [change.before, change.now]).flatten();
        affected.map(|version| version.affected).reduce(Affected::and)
    }
}

impl GrantVersion {
    fn new(grant: &GrantObject) -> Self {
        let affected = match grant.0.as_ref().ok().and_then(|grant| grant.spec.namespaces.names.as_ref()) {
            Some(names) => Affected::Namespaces(Arc::new(names.iter().cloned().collect())),
            None => Affected::All,
        };
        Self { uid: grant.meta().uid.clone(), generation: grant.meta().generation, affected }
    }
}

/// The labels of namespaces as last observed, and whether they consent to Jobs.
#[derive(Debug, Default)]
pub struct KnownNamespaces(KnownObjects<String, (BTreeMap<String, String>, bool)>);

impl KnownNamespaces {
    /// Takes in an event of the watch, once the store has it. Answers the namespaces whose labels or consent
    /// changed.
    pub fn observe(&mut self, event: &Event<NamespaceObject>) -> Option<Affected> {
        let changes = self
            .0
            .observe(event, |namespace| (namespace.name_any(), (namespace.labels().clone(), namespace.permits_jobs())));
        changes.into_iter().map(|change| Affected::of(change.of)).reduce(Affected::and)
    }
}

/// The bindings of one watch as last observed.
#[derive(Debug, Default)]
pub struct KnownBindings(KnownObjects<BindingName, BindingVersion>);

/// What tells whether a binding changed in a way that asks for a reconcile: not its status.
#[derive(Clone, Debug, PartialEq)]
struct BindingVersion {
    digest: u64,
    groups: BTreeSet<String>,
}

/// A binding that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedBinding {
    /// Its name.
    pub name: BindingName,
    /// Whether it is gone.
    pub gone: bool,
    /// The groups of overlaps that it belongs to or belonged to.
    pub groups: BTreeSet<String>,
}

impl KnownBindings {
    /// Takes in an event of the watch, once the store has it. Answers the bindings that changed.
    pub fn observe(&mut self, event: &Event<BindingObject>) -> Vec<ChangedBinding> {
        let changes = self.0.observe(event, |binding| (name_of(binding), BindingVersion::new(binding)));
        let changed = changes.into_iter().map(|ObjectChange { of, before, now }| {
            let gone = now.is_none();
            let groups = [before, now].into_iter().flatten().flat_map(|version| version.groups).collect();
            ChangedBinding { name: of, gone, groups }
        });
        changed.collect()
    }
}

impl BindingVersion {
    fn new(binding: &BindingObject) -> Self {
        let mut digest = DefaultHasher::new();
        (binding.meta().uid.as_ref(), binding.meta().generation, binding.annotations()).hash(&mut digest);
        Self { digest: digest.finish(), groups: groups(binding) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GrantedNamespaces, SecretGrant, SecretGrantSpec};
    use crate::domain::fingerprint::FingerprintKey;
    use crate::domain::target::ObservedSecret;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
    use zeroize::Zeroizing;

    fn object(grant: SecretGrant) -> GrantObject {
        GrantObject(Ok(Arc::new(grant)))
    }

    fn spec(name: &str, generation: i64, namespaces: &[&str]) -> SecretGrant {
        let names = namespaces.iter().map(ToString::to_string).collect();
        let namespaces = GrantedNamespaces { names: Some(names), selector: None };
        let mut grant = SecretGrant::new(name, SecretGrantSpec { namespaces, ..SecretGrantSpec::default() });
        grant.metadata.generation = Some(generation);
        grant
    }

    fn grant(name: &str, generation: i64, namespaces: &[&str]) -> GrantObject {
        object(spec(name, generation, namespaces))
    }

    fn observe(grants: &mut KnownGrants, event: &Event<GrantObject>) -> Vec<String> {
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
        let mut by_label = spec("g", 1, &[]);
        by_label.spec.namespaces = GrantedNamespaces { names: None, selector: Some(LabelSelector::default()) };
        assert_eq!(observe(&mut grants, &Event::Apply(object(by_label))), ["*"]);
        assert_eq!(observe(&mut grants, &Event::Apply(grant("g", 2, &["a"]))), ["*"]);
        assert_eq!(observe(&mut grants, &Event::Apply(grant("g", 3, &["b"]))), ["a", "b"]);
    }

    #[test]
    fn only_a_change_of_labels_or_consent_of_a_namespace_concerns_its_bindings() {
        let namespace = |label: &str, annotation: &str| -> NamespaceObject {
            let metadata =
                serde_json::json!({"name": "n", "labels": {"team": label}, "annotations": {"a": annotation}});
            serde_json::from_value(serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
                .unwrap()
        };
        let mut namespaces = KnownNamespaces::default();
        assert_eq!(namespaces.observe(&Event::InitApply(namespace("x", "1"))), None, "the store does not show it yet");
        assert_eq!(namespaces.observe(&Event::InitDone), Some(Affected::of("n".to_owned())));
        assert_eq!(namespaces.observe(&Event::Apply(namespace("x", "2"))), None);
        assert_eq!(namespaces.observe(&Event::Apply(namespace("y", "2"))), Some(Affected::of("n".to_owned())));
        let metadata =
            serde_json::json!({"name": "n", "labels": {"team": "y"}, "annotations": {"bindery.dev/run": "allowed"}});
        let consents = serde_json::from_value(serde_json::json!({"metadata": metadata})).unwrap();
        assert_eq!(namespaces.observe(&Event::Apply(consents)), Some(Affected::of("n".to_owned())));
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
    fn a_grant_made_anew_while_nobody_watched_concerns_its_namespaces() {
        let mut grants = KnownGrants::default();
        let with_uid = |uid: &str, namespaces| {
            let mut grant = spec("g", 1, namespaces);
            grant.metadata.uid = Some(uid.to_owned());
            object(grant)
        };
        grants.observe(&Event::Apply(with_uid("1", &["a"])));
        assert!(observe(&mut grants, &Event::Init).is_empty());
        assert!(observe(&mut grants, &Event::InitApply(with_uid("2", &["b"]))).is_empty());
        assert_eq!(observe(&mut grants, &Event::InitDone), ["a", "b"]);
    }

    #[test]
    fn a_binding_made_or_edited_while_a_list_is_read_is_told_once_the_list_is_complete() {
        let binding = |name: &str, generation: i64, status: i64| -> BindingObject {
            let metadata = serde_json::json!({"name": name, "namespace": "n", "generation": generation});
            let spec = serde_json::json!({"dataFrom": [{"secret": "a"}]});
            serde_json::from_value(serde_json::json!({"metadata": metadata, "spec": spec, "status": {"keys": status}}))
                .unwrap()
        };
        let mut known = KnownBindings::default();
        let mut told = |event: Event<BindingObject>| -> Vec<String> {
            let mut told: Vec<_> =
                known.observe(&event).into_iter().map(|c| format!("{} {}", c.name, c.gone)).collect();
            told.sort_unstable();
            told
        };
        assert_eq!(told(Event::Apply(binding("edited", 1, 0))), ["n/edited false"]);
        assert_eq!(told(Event::Apply(binding("gone", 1, 0))), ["n/gone false"]);
        assert!(told(Event::Apply(binding("edited", 1, 1))).is_empty(), "only the status moved");
        assert!(told(Event::Init).is_empty());
        assert!(told(Event::InitApply(binding("edited", 2, 1))).is_empty());
        assert!(told(Event::InitApply(binding("new", 1, 0))).is_empty());
        assert_eq!(told(Event::InitDone), ["n/edited false", "n/gone true", "n/new false"]);
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
