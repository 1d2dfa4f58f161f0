//! The Secrets that carry Bindery's label, as the watch shows them, reduced to what a reconcile needs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use crate::domain::target::ObservedSecret;
use crate::kubernetes::watched_secret::WatchedSecret;

/// A Secret that an event of the watch is about.
#[derive(Clone, Debug)]
pub struct ChangedSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// As it is, or was when it was deleted.
    pub secret: Arc<ObservedSecret>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: HashMap<String, BTreeMap<String, Arc<ObservedSecret>>>,
    /// The resource versions that writes of this process gave, until the watch shows them.
    written: HashMap<(String, String), String>,
    /// By watch, what the list that is under way has shown so far.
    listed: HashMap<Option<String>, HashSet<(String, String)>>,
    /// The watches that have listed all at least once.
    complete: HashSet<Option<String>>,
}

/// The cache of targets.
#[derive(Debug)]
pub struct Targets {
    state: Mutex<State>,
    complete: watch::Sender<usize>,
}

impl Default for Targets {
    fn default() -> Self {
        Self { state: Mutex::default(), complete: watch::channel(0).0 }
    }
}

impl Targets {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A target, if it is there.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<ObservedSecret>> {
        self.state().namespaces.get(namespace)?.get(name).cloned()
    }

    /// Calls `see` with the targets of a namespace.
    pub fn of<R>(&self, namespace: &str, see: impl FnOnce(&BTreeMap<String, Arc<ObservedSecret>>) -> R) -> R {
        match self.state().namespaces.get(namespace) {
            Some(targets) => see(targets),
            None => see(&BTreeMap::new()),
        }
    }

    /// Waits until this many watches have listed all.
    pub async fn wait_until_complete(&self, watches: usize) {
        // The sender lives as long as what is waited for here.
        let _ = self.complete.subscribe().wait_for(|complete| *complete >= watches).await;
    }

    /// Records an own write that left the Secret as desired, so that its event triggers no reconcile.
    pub fn wrote(&self, namespace: &str, name: &str, resource_version: &str) {
        let mut state = self.state();
        let known = state.namespaces.get(namespace).and_then(|targets| targets.get(name));
        let number = |version: &str| version.parse::<u64>().ok();
        // The watch may have been faster.
        if known.is_none_or(|known| number(&known.observed.resource_version) < number(resource_version)) {
            state.written.insert((namespace.to_owned(), name.to_owned()), resource_version.to_owned());
        }
    }

    /// Notes an event of the watch of one namespace (`None` = all); answers the Secrets that changed.
    pub fn observe(&self, scope: Option<&str>, event: &Event<WatchedSecret>) -> Vec<ChangedSecret> {
        let mut state = self.state();
        let scope = scope.map(str::to_owned);
        match event {
            Event::Init => {
                state.listed.insert(scope, HashSet::new());
                Vec::new()
            }
            Event::InitApply(seen) => {
                let id = (seen.namespace().unwrap_or_default(), seen.name_any());
                state.listed.entry(scope).or_default().insert(id);
                state.apply(seen)
            }
            Event::Apply(seen) => state.apply(seen),
            Event::Delete(seen) => {
                state.remove(seen.namespace().unwrap_or_default(), seen.name_any()).into_iter().collect()
            }
            Event::InitDone => {
                let listed = state.listed.remove(&scope).unwrap_or_default();
                let gone = state.absent(scope.as_deref(), &listed);
                let touched = gone.into_iter().filter_map(|(namespace, name)| state.remove(namespace, name)).collect();
                state.complete.insert(scope);
                self.complete.send_replace(state.complete.len());
                touched
            }
        }
    }
}

impl State {
    fn apply(&mut self, seen: &WatchedSecret) -> Vec<ChangedSecret> {
        let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
        let version = seen.resource_version().unwrap_or_default();
        let own = self.written.remove(&(namespace.clone(), name.clone())).is_some_and(|written| written == version);
        let targets = self.namespaces.entry(namespace.clone()).or_default();
        // A list shows again what is known.
        if targets.get(&name).is_some_and(|known| known.observed.resource_version == version) {
            return Vec::new();
        }
        let secret = seen.secret.clone();
        targets.insert(name.clone(), secret.clone());
        if own { Vec::new() } else { vec![ChangedSecret { namespace, name, secret }] }
    }

    fn remove(&mut self, namespace: String, name: String) -> Option<ChangedSecret> {
        self.written.remove(&(namespace.clone(), name.clone()));
        let targets = self.namespaces.get_mut(&namespace)?;
        let secret = targets.remove(&name)?;
        if targets.is_empty() {
            self.namespaces.remove(&namespace);
        }
        Some(ChangedSecret { namespace, name, secret })
    }

    /// What is known within a scope and not among `listed`.
    fn absent(&self, scope: Option<&str>, listed: &HashSet<(String, String)>) -> Vec<(String, String)> {
        let within = self.namespaces.iter().filter(|(namespace, _)| scope.is_none_or(|scope| scope == **namespace));
        within
            .flat_map(|(namespace, targets)| targets.keys().map(|name| (namespace.clone(), name.clone())))
            .filter(|id| !listed.contains(id))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fingerprint::FingerprintKey;
    use serde_json::json;
    use zeroize::Zeroizing;

    fn secret(namespace: &str, name: &str, version: &str) -> WatchedSecret {
        let metadata = json!({"namespace": namespace, "name": name, "resourceVersion": version});
        let secret =
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).unwrap();
        WatchedSecret::new(&secret, &FingerprintKey::new(Zeroizing::new([1; 32])))
    }

    fn names(touched: &[ChangedSecret]) -> Vec<String> {
        touched.iter().map(|touched| format!("{}/{}", touched.namespace, touched.name)).collect()
    }

    #[tokio::test]
    async fn a_list_shows_what_changed_and_what_went_while_nobody_watched() {
        let targets = Targets::default();
        let observe = |scope: Option<&str>, event| names(&targets.observe(scope, &event));
        assert!(observe(None, Event::Init).is_empty());
        assert_eq!(observe(None, Event::InitApply(secret("n", "a", "1"))), ["n/a"]);
        assert_eq!(observe(None, Event::InitApply(secret("n", "b", "1"))), ["n/b"]);
        assert!(observe(None, Event::InitDone).is_empty());
        targets.wait_until_complete(1).await;
        assert_eq!(observe(None, Event::Apply(secret("n", "a", "2"))), ["n/a"]);
        observe(None, Event::Init);
        assert!(observe(None, Event::InitApply(secret("n", "a", "2"))).is_empty(), "it is known");
        assert_eq!(observe(None, Event::InitDone), ["n/b"]);
        assert!(targets.get("n", "b").is_none() && targets.get("n", "a").is_some());
        assert_eq!(observe(None, Event::Delete(secret("n", "a", "2"))), ["n/a"]);
        assert!(targets.of("n", BTreeMap::is_empty));
    }

    #[test]
    fn who_wrote_a_secret_need_not_be_told_of_it() {
        let targets = Targets::default();
        let apply = |version| names(&targets.observe(None, &Event::Apply(secret("n", "a", version))));
        targets.wrote("n", "a", "9");
        assert!(apply("9").is_empty() && targets.get("n", "a").is_some());
        targets.wrote("n", "a", "10");
        assert_eq!(apply("11"), ["n/a"], "somebody wrote after that");
        targets.wrote("n", "a", "11");
        assert_eq!(apply("12"), ["n/a"], "the watch was faster");
        targets.wrote("n", "a", "13");
        targets.observe(None, &Event::Delete(secret("n", "a", "14")));
        assert_eq!(apply("13"), ["n/a"]);
    }

    #[tokio::test]
    async fn a_list_of_one_namespace_says_nothing_of_another() {
        let targets = Targets::default();
        for scope in ["n", "m"] {
            targets.observe(Some(scope), &Event::Init);
            targets.observe(Some(scope), &Event::InitApply(secret(scope, "a", "1")));
            targets.observe(Some(scope), &Event::InitDone);
        }
        targets.wait_until_complete(2).await;
        targets.observe(Some("n"), &Event::Init);
        assert_eq!(names(&targets.observe(Some("n"), &Event::InitDone)), ["n/a"]);
        assert!(targets.get("m", "a").is_some());
    }
}
