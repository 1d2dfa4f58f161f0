//! What the events of a watch change. A list is read page by page, and the store shows none of it before the list is
//! complete, so what a list changes is told at its end and not before.

use std::collections::HashMap;
use std::hash::Hash;

use kube::runtime::watcher::Event;

/// An object that changed: what was known of it before, and what is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange<I, V> {
    /// The name of the object.
    pub of: I,
    /// What was known of it; `None` where it is new.
    pub before: Option<V>,
    /// What is known of it now; `None` where it is gone.
    pub now: Option<V>,
}

/// What is known of the objects of one watch.
#[derive(Debug)]
pub struct KnownObjects<I, V> {
    known: HashMap<I, V>,
    /// What the list that is under way has shown so far.
    listed: HashMap<I, V>,
}

impl<I, V> Default for KnownObjects<I, V> {
    fn default() -> Self {
        Self { known: HashMap::new(), listed: HashMap::new() }
    }
}

impl<I: Clone + Eq + Hash, V: Clone + PartialEq> KnownObjects<I, V> {
    /// Takes in an event, once the store has it. Answers what it changed. `of` tells an object's name, and what is to
    /// be known of it.
    pub fn observe<K>(&mut self, event: &Event<K>, of: impl Fn(&K) -> (I, V)) -> Vec<ObjectChange<I, V>> {
        match event {
            Event::Init => {
                self.listed = HashMap::new();
                Vec::new()
            }
            Event::InitApply(object) => {
                let (name, now) = of(object);
                self.listed.insert(name, now);
                Vec::new()
            }
            Event::InitDone => self.relist(),
            Event::Apply(object) => {
                let (of, now) = of(object);
                let before = self.known.insert(of.clone(), now.clone());
                if before.as_ref() == Some(&now) {
                    Vec::new()
                } else {
                    vec![ObjectChange { of, before, now: Some(now) }]
                }
            }
            Event::Delete(object) => {
                let (of, _) = of(object);
                let before = self.known.remove(&of);
                if before.is_none() { Vec::new() } else { vec![ObjectChange { of, before, now: None }] }
            }
        }
    }

    fn relist(&mut self) -> Vec<ObjectChange<I, V>> {
        let mut before = std::mem::replace(&mut self.known, std::mem::take(&mut self.listed));
        let mut changes = Vec::new();
        for (name, now) in &self.known {
            let before = before.remove(name);
            if before.as_ref() != Some(now) {
                changes.push(ObjectChange { of: name.clone(), before, now: Some(now.clone()) });
            }
        }
        changes.extend(before.into_iter().map(|(of, before)| ObjectChange { of, before: Some(before), now: None }));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;
    use kube::api::ObjectMeta;
    use kube::runtime::reflector::{ObjectRef, store};
    use proptest::prelude::*;

    fn object(name: u8, version: i64) -> ConfigMap {
        let metadata = ObjectMeta { name: Some(name.to_string()), generation: Some(version), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn known(object: &ConfigMap) -> (String, i64) {
        (object.name_any(), object.metadata.generation.unwrap_or_default())
    }

    /// What happens to a watch: an edit or a deletion that it shows, or a list of which this many pages arrive.
    #[derive(Clone, Debug)]
    enum Happening {
        Edit(u8, i64),
        Deletion(u8),
        List { objects: BTreeMap<u8, i64>, complete: bool },
    }

    fn happenings() -> impl Strategy<Value = Vec<Happening>> {
        let happening = prop_oneof![
            (0..6_u8, 0..4_i64).prop_map(|(name, version)| Happening::Edit(name, version)),
            (0..6_u8).prop_map(Happening::Deletion),
            (prop::collection::btree_map(0..6_u8, 0..4_i64, 0..6), any::<bool>())
                .prop_map(|(objects, complete)| Happening::List { objects, complete }),
        ];
        prop::collection::vec(happening, 1..30)
    }

    fn events(happenings: &[Happening]) -> Vec<Event<ConfigMap>> {
        let mut events = Vec::new();
        for happening in happenings {
            match happening {
                Happening::Edit(name, version) => events.push(Event::Apply(object(*name, *version))),
                Happening::Deletion(name) => events.push(Event::Delete(object(*name, 0))),
                Happening::List { objects, complete } => {
                    events.push(Event::Init);
                    events.extend(objects.iter().map(|(name, version)| Event::InitApply(object(*name, *version))));
                    events.extend(complete.then_some(Event::InitDone));
                }
            }
        }
        events
    }

    proptest! {
        #[test]
        fn who_looks_at_the_store_when_told_has_seen_the_last_state_of_every_object(happenings in happenings()) {
            let (store, mut writer) = store::<ConfigMap>();
            let mut changes = KnownObjects::default();
            let mut seen: BTreeMap<String, i64> = BTreeMap::new();
            for event in events(&happenings) {
                writer.apply_watcher_event(&event);
                for change in changes.observe(&event, known) {
                    match store.get(&ObjectRef::new(&change.of)) {
                        Some(object) => seen.insert(change.of, known(&object).1),
                        None => seen.remove(&change.of),
                    };
                }
                let stored: BTreeMap<String, i64> = store.state().iter().map(|object| known(object)).collect();
                prop_assert_eq!(&seen, &stored);
            }
        }

        #[test]
        fn a_list_that_shows_what_is_known_tells_nobody(objects in prop::collection::btree_map(0..6_u8, 0..4_i64, 0..6)) {
            let mut changes = KnownObjects::default();
            let list = [Happening::List { objects: objects.clone(), complete: true }];
            let told = |changes: &mut KnownObjects<String, i64>| {
                events(&list).iter().map(|event| changes.observe(event, known).len()).sum::<usize>()
            };
            prop_assert_eq!(told(&mut changes), objects.len());
            prop_assert_eq!(told(&mut changes), 0);
        }
    }
}
