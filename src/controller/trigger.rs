//! Which bindings a change concerns.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::Stream;
use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::target::SecretMeta;
use super::{Watched, binding_ref};
use crate::api::{ANNOTATION_BINDING, SecretGrant};

/// The namespaces whose bindings a change of a grant concerns.
pub type Concern = Arc<BTreeSet<String>>;

/// The bindings that a published Secret may belong to: that of its annotation, which is there also without an owner
/// reference, and that of its owner reference, which is there also where somebody edited the annotation. Where both are
/// gone, `aiming` tells which bindings aim at the Secret, by namespace and name.
#[must_use]
pub fn bindings_of_target(
    secret: &SecretMeta,
    aiming: impl FnOnce(&str, &str) -> Vec<ObjectRef<Watched>>,
) -> Vec<ObjectRef<Watched>> {
    let namespace = secret.namespace().unwrap_or_default();
    let owner = secret.owner_references().iter().find(|owner| owner.controller == Some(true)).map(|owner| &owner.name);
    let named = secret.annotations().get(ANNOTATION_BINDING);
    let names: BTreeSet<&String> = owner.into_iter().chain(named).collect();
    if names.is_empty() {
        return aiming(&namespace, &secret.name_any());
    }
    names.into_iter().map(|name| binding_ref(&namespace, name)).collect()
}

/// The bindings whose target is the Secret `name`.
#[must_use]
pub fn bindings_aiming_at(bindings: &Store<Watched>, namespace: &str, name: &str) -> Vec<ObjectRef<Watched>> {
    let aims = |binding: &&Arc<Watched>| {
        let Ok(manifest) = &binding.0 else { return false };
        let target = manifest.spec.target.as_ref().and_then(|target| target.name.clone());
        manifest.namespace().as_deref() == Some(namespace) && target.unwrap_or_else(|| manifest.name_any()) == name
    };
    bindings.state().iter().filter(aims).map(|binding| binding_ref(namespace, &binding.name_any())).collect()
}

/// What was last seen of the grants, to tell whom a change concerns: those who gain and those who lose.
#[derive(Debug, Default)]
pub struct Grants {
    known: HashMap<String, (Option<i64>, BTreeSet<String>)>,
    listed: HashSet<String>,
}

impl Grants {
    /// Notes an event of the watch. `None` where it concerns nobody, as a change of status does.
    pub fn observe(&mut self, event: &Event<SecretGrant>) -> Option<Concern> {
        let concerned = match event {
            Event::Init => {
                self.listed.clear();
                BTreeSet::new()
            }
            Event::InitApply(grant) => {
                self.listed.insert(grant.name_any());
                self.applied(grant)
            }
            Event::Apply(grant) => self.applied(grant),
            Event::Delete(grant) => self.known.remove(&grant.name_any()).map(|(_, names)| names).unwrap_or_default(),
            // What was deleted while the watch was interrupted is missing from the new list.
            Event::InitDone => {
                let listed = &self.listed;
                self.known.extract_if(|name, _| !listed.contains(name)).flat_map(|(_, (_, names))| names).collect()
            }
        };
        (!concerned.is_empty()).then(|| Arc::new(concerned))
    }

    fn applied(&mut self, grant: &SecretGrant) -> BTreeSet<String> {
        let generation = grant.metadata.generation;
        let names: BTreeSet<String> = grant.spec.namespaces.names.iter().cloned().collect();
        match self.known.insert(grant.name_any(), (generation, names.clone())) {
            Some((before, _)) if before == generation => BTreeSet::new(),
            Some((_, before)) => before.into_iter().chain(names).collect(),
            None => names,
        }
    }
}

/// The bindings that changes of grants concern, as they happen.
pub fn bindings_of_concerns(
    concerns: broadcast::Receiver<Concern>,
    bindings: Store<Watched>,
) -> impl Stream<Item = ObjectRef<Watched>> + Send + 'static {
    let changes = futures::stream::unfold((concerns, bindings), |(mut concerns, bindings)| async move {
        let concern = match concerns.recv().await {
            Ok(concern) => Some(concern),
            // Too many changes to tell one by one: all bindings are looked at.
            Err(RecvError::Lagged(_)) => None,
            Err(RecvError::Closed) => return None,
        };
        let concerned: Vec<ObjectRef<Watched>> = bindings
            .state()
            .iter()
            .map(|binding| (binding.namespace().unwrap_or_default(), binding.name_any()))
            .filter(|(namespace, _)| concern.as_ref().is_none_or(|concern| concern.contains(namespace)))
            .map(|(namespace, name)| binding_ref(&namespace, &name))
            .collect();
        Some((futures::stream::iter(concerned), (concerns, bindings)))
    });
    futures::StreamExt::flatten(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GrantedNamespaces, SecretGrantSpec};

    fn grant(name: &str, generation: i64, namespaces: &[&str]) -> SecretGrant {
        let names = namespaces.iter().map(ToString::to_string).collect();
        let mut grant = SecretGrant::new(
            name,
            SecretGrantSpec { namespaces: GrantedNamespaces { names }, ..SecretGrantSpec::default() },
        );
        grant.metadata.generation = Some(generation);
        grant
    }

    fn observe(grants: &mut Grants, event: &Event<SecretGrant>) -> Vec<String> {
        grants.observe(event).map(|concern| concern.iter().cloned().collect()).unwrap_or_default()
    }

    #[test]
    fn a_change_concerns_those_who_gain_and_those_who_lose() {
        let mut grants = Grants::default();
        assert_eq!(observe(&mut grants, &Event::Apply(grant("g", 1, &["a", "b"]))), ["a", "b"]);
        assert!(observe(&mut grants, &Event::Apply(grant("g", 1, &["a", "b"]))).is_empty(), "only the status moved");
        assert_eq!(observe(&mut grants, &Event::Apply(grant("g", 2, &["b", "c"]))), ["a", "b", "c"]);
        assert_eq!(observe(&mut grants, &Event::Delete(grant("g", 2, &["b", "c"]))), ["b", "c"]);
    }

    #[test]
    fn a_grant_deleted_while_nobody_watched_concerns_its_namespaces() {
        let mut grants = Grants::default();
        grants.observe(&Event::Apply(grant("g", 1, &["a"])));
        grants.observe(&Event::Apply(grant("h", 1, &["b"])));
        assert!(observe(&mut grants, &Event::Init).is_empty());
        assert!(observe(&mut grants, &Event::InitApply(grant("h", 1, &["b"]))).is_empty());
        assert_eq!(observe(&mut grants, &Event::InitDone), ["a"]);
    }

    #[test]
    fn a_secret_leads_to_its_binding_by_annotation_or_owner() {
        let nobody = |_: &str, _: &str| -> Vec<ObjectRef<Watched>> { panic!("the Secret names its binding") };
        let secret = |metadata: serde_json::Value| -> SecretMeta {
            serde_json::from_value(serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).unwrap()
        };
        let by_annotation = secret(serde_json::json!({"namespace": "n", "annotations": {"bindery.dev/binding": "b"}}));
        assert_eq!(bindings_of_target(&by_annotation, nobody), [binding_ref("n", "b")]);
        let owners = serde_json::json!([{"apiVersion": "bindery.dev/v1alpha1", "kind": "SecretBinding", "name": "c", "uid": "u", "controller": true}]);
        let by_owner = secret(serde_json::json!({"namespace": "n", "ownerReferences": owners.clone()}));
        assert_eq!(bindings_of_target(&by_owner, nobody), [binding_ref("n", "c")]);
        let both = serde_json::json!({"namespace": "n", "ownerReferences": owners, "annotations": {"bindery.dev/binding": "b"}});
        assert_eq!(bindings_of_target(&secret(both), nobody), [binding_ref("n", "b"), binding_ref("n", "c")]);
        let bare = secret(serde_json::json!({"namespace": "n", "name": "s"}));
        let aiming = |namespace: &str, name: &str| vec![binding_ref(namespace, &format!("aims-at-{name}"))];
        assert_eq!(bindings_of_target(&bare, aiming), [binding_ref("n", "aims-at-s")]);
    }
}
