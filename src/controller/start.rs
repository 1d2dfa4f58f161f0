//! The first looks after a start. Many bindings that share secrets are about to ask AWS: it is told beforehand which
//! secrets all of them depend on, and reads wait until those who share a value have asked for it, so that each is read
//! once. Passes begin in parts, since each that waits takes memory.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::controller::{Context, plan};
use crate::domain::binding::Binding;
use crate::domain::grant::wants;
use crate::domain::name::BindingName;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;

/// How many bindings a part has at least, the last one aside.
const PART: usize = 1500;
/// The next part begins when no more passes are left of those before.
const AHEAD: usize = 750;
/// Nor does a part wait longer for those before: they may be waiting for AWS.
const LONGEST_PART: Duration = Duration::from_secs(30);
/// How long reads gather.
const GATHERING: Duration = Duration::from_secs(10);
/// How long restarts under way are counted before others begin.
const FIRST_ROLLOUTS: Duration = Duration::from_secs(60);
/// After so many bindings others get a turn.
const AT_ONCE: usize = 64;

/// Something that every binding comes to once after a start.
#[derive(Debug)]
pub struct Gathering {
    left: Mutex<HashSet<BindingName>>,
    count: watch::Sender<usize>,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { left: Mutex::default(), count: watch::channel(0).0 }
    }
}

impl Gathering {
    /// Begins with these bindings.
    pub fn begin(&self, bindings: impl IntoIterator<Item = BindingName>) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = bindings.into_iter().collect();
        self.count.send_replace(left.len());
    }

    /// Notes that a binding came to it, or that it never will.
    pub fn arrived(&self, binding: &BindingName) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.remove(binding) {
            if left.is_empty() {
                *left = HashSet::new();
            }
            self.count.send_replace(left.len());
        }
    }

    /// How many of a namespace are still to come.
    #[must_use]
    pub fn left_in(&self, namespace: &str) -> usize {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.iter().filter(|binding| &*binding.namespace == namespace).count()
    }

    /// Ends it, whoever is still to come.
    pub fn end(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = HashSet::new();
        self.count.send_replace(0);
    }

    /// Whether all have arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.count.borrow() == 0
    }

    /// Waits until all have arrived.
    pub async fn all(&self) {
        self.all_but(0).await;
    }

    /// Waits until all but so many have arrived.
    pub async fn all_but(&self, few: usize) {
        // The sender lives as long as what is waited for here.
        let _ = self.count.subscribe().wait_for(|left| *left <= few).await;
    }
}

/// What bindings come to on their first looks.
#[derive(Debug, Default)]
pub struct FirstLooks {
    /// It was looked at what a binding's target is.
    pub targets: Gathering,
    /// It is known which values it needs.
    pub demands: Gathering,
    /// Its pass has ended.
    pub passes: Gathering,
    /// It is known which workloads it restarts at present.
    pub rollouts: Gathering,
}

impl FirstLooks {
    /// Notes that a pass over a binding has ended, or that there will be none.
    pub fn passed(&self, binding: &BindingName) {
        self.targets.arrived(binding);
        self.demands.arrived(binding);
        self.passes.arrived(binding);
        self.rollouts.arrived(binding);
    }
}

/// Lets all bindings be looked at for the first time.
pub async fn first_looks(context: &Context) {
    let FirstLooks { targets, demands, passes, rollouts } = &context.first_looks;
    let bindings: Vec<BindingName> = context.scopes.iter().flat_map(crate::controller::watch::Scope::names).collect();
    for gathering in [targets, passes, rollouts] {
        gathering.begin(bindings.iter().cloned());
    }
    let (mut concerned, mut asks) = (Vec::with_capacity(bindings.len()), true);
    for (number, binding) in bindings.into_iter().enumerate() {
        if number % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let secrets = context.declare(&binding, &mut asks).await;
        concerned.push((binding, secrets));
    }
    let mut left = concerned.len();
    for part in parts(concerned, PART) {
        // Who waits for AWS is not waited for without end.
        if timeout(LONGEST_PART, passes.all_but(left + AHEAD)).await.is_err() {
            tracing::debug!("many bindings are still being looked at; others are all the same");
        }
        left -= part.len();
        context.reader.gather();
        demands.begin(part.iter().cloned());
        for binding in &part {
            context.trigger(binding);
        }
        if timeout(GATHERING, demands.all()).await.is_err() {
            tracing::debug!("not every binding was looked at yet; AWS is asked all the same");
            demands.end();
        }
        context.reader.resume();
    }
    if timeout(FIRST_ROLLOUTS, rollouts.all()).await.is_err() {
        tracing::debug!("not every binding was looked at yet; restarts begin all the same");
        rollouts.end();
    }
}

impl Context {
    /// Tells which secrets a binding depends on before it is looked at, so that one list serves all. Answers them. Where
    /// it takes the operator's own account to know, AWS is asked for that, as long as it `asks`, and then no more.
    async fn declare(&self, name: &BindingName, asks: &mut bool) -> Vec<(Identity, SecretId)> {
        let watched = self.current(name);
        let Some(Ok(manifest)) = watched.as_ref().map(|watched| &watched.0) else { return Vec::new() };
        if manifest.metadata.deletion_timestamp.is_some() || manifest.spec.suspend.unwrap_or_default() {
            return Vec::new();
        }
        let Ok(binding) = Binding::parse(manifest, &self.settings.denied_metadata) else { return Vec::new() };
        let wants = wants(&binding.mapping);
        if wants.keys().any(|secret| matches!(secret, SecretId::Arn(_))) && std::mem::take(asks) {
            // The pass says what is wrong where this fails.
            let _ = timeout(GATHERING, Box::pin(self.access(&binding))).await;
        }
        let Ok(access) = self.decide(&binding, &wants) else { return Vec::new() };
        let fresh = plan::relied_on_for(self.interval(binding.refresh));
        let secrets = wants.into_keys().collect();
        self.reader.versions().interest(name, &access.identity, secrets, fresh);
        binding.mapping.sources().into_iter().map(|source| (access.identity.clone(), source.secret)).collect()
    }
}

/// Shares bindings out so that no two parts have a secret in common, and each has at least `size` of them, the last one
/// aside.
fn parts<K: Eq + Hash>(bindings: Vec<(BindingName, Vec<K>)>, size: usize) -> Vec<Vec<BindingName>> {
    // Of each binding one that it has something in common with, directly or not; one that stands for all is its own.
    let mut with: Vec<usize> = (0..bindings.len()).collect();
    let stands_for = |with: &mut Vec<usize>, mut binding: usize| {
        while with[binding] != binding {
            with[binding] = with[with[binding]];
            binding = with[binding];
        }
        binding
    };
    let mut first: HashMap<K, usize> = HashMap::new();
    let mut names = Vec::with_capacity(bindings.len());
    for (number, (name, secrets)) in bindings.into_iter().enumerate() {
        names.push(name);
        for secret in secrets {
            let other = *first.entry(secret).or_insert(number);
            let (one, other) = (stands_for(&mut with, number), stands_for(&mut with, other));
            with[one] = other;
        }
    }
    let mut groups: Vec<Vec<BindingName>> = Vec::new();
    let mut group_of: HashMap<usize, usize> = HashMap::new();
    for (number, name) in names.into_iter().enumerate() {
        let group = *group_of.entry(stands_for(&mut with, number)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(name);
    }
    let mut parts: Vec<Vec<BindingName>> = Vec::new();
    for group in groups {
        match parts.last_mut() {
            Some(part) if part.len() < size => part.extend(group),
            _ => parts.push(group),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_complete_with_the_last_to_arrive() {
        let gathering = Gathering::default();
        let complete = async || timeout(Duration::from_secs(1), gathering.all()).await.is_ok();
        assert!(complete().await, "without a start nobody is waited for");
        let (a, b) = (BindingName::new("n", "a"), BindingName::new("n", "b"));
        gathering.begin([a.clone(), b.clone()]);
        gathering.arrived(&a);
        gathering.arrived(&a);
        assert!(!complete().await);
        assert_eq!((gathering.left_in("n"), gathering.left_in("m")), (1, 0));
        gathering.all_but(1).await;
        gathering.arrived(&b);
        assert!(complete().await);
        gathering.begin([a]);
        gathering.end();
        assert!(complete().await);
        gathering.begin([]);
        assert!(complete().await);
    }

    fn names(parts: &[Vec<BindingName>]) -> Vec<Vec<&str>> {
        parts.iter().map(|part| part.iter().map(|binding| &*binding.name).collect()).collect()
    }

    #[test]
    fn who_shares_a_secret_begins_together() {
        let bindings = |list: &[(&str, &[u32])]| -> Vec<(BindingName, Vec<u32>)> {
            list.iter().map(|(name, secrets)| (BindingName::new("n", name), secrets.to_vec())).collect()
        };
        let apart = bindings(&[("a", &[1]), ("b", &[2]), ("c", &[1]), ("d", &[]), ("e", &[2]), ("f", &[3])]);
        assert_eq!(names(&parts(apart.clone(), 1)), [vec!["a", "c"], vec!["b", "e"], vec!["d"], vec!["f"]]);
        assert_eq!(names(&parts(apart.clone(), 3)), [vec!["a", "c", "b", "e"], vec!["d", "f"]]);
        assert_eq!(names(&parts(apart, 9)), [vec!["a", "c", "b", "e", "d", "f"]]);
        let chain = bindings(&[("a", &[1]), ("b", &[3]), ("c", &[1, 2]), ("d", &[2, 3]), ("e", &[4])]);
        assert_eq!(names(&parts(chain, 1)), [vec!["a", "b", "c", "d"], vec!["e"]]);
        assert!(parts::<u32>(Vec::new(), 1).is_empty());
    }
}
