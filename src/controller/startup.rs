//! The first reconciles after a start. All bindings register their secrets first, so that one list serves all. Reads
//! wait until the bindings that share a value have requested it, so that each value is read once. Reconciles begin in
//! parts, since each that waits takes memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::timeout;

use crate::domain::binding::Binding;
use crate::domain::grant::requested_keys;
use crate::domain::name::BindingName;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;
use crate::reconcile::context::Context;
use crate::reconcile::refresh::{interval, relied_on_for};
use crate::state::bindings::name_of;
use crate::state::warmup::Warmup;

/// How many bindings a part has at least, the last one aside.
const PART: usize = 1500;
/// The next part begins when no more reconciles than this are left of the parts before.
const AHEAD: usize = 750;
/// A part waits no longer for the parts before: they may wait for AWS.
const LONGEST_PART: Duration = Duration::from_secs(30);
/// How long reads gather.
const GATHERING: Duration = Duration::from_secs(10);
/// How long restarts under way are counted before others begin.
const FIRST_ROLLOUTS: Duration = Duration::from_secs(60);
/// After so many bindings others get a turn.
const AT_ONCE: usize = 64;

/// Triggers the first reconcile of every binding.
pub async fn warm_up(context: &Context) {
    let Warmup { targets, reads, reconciles, rollouts } = &context.state.warmup;
    let bindings: Vec<BindingName> = context.state.bindings.all().map(|binding| name_of(&binding)).collect();
    for barrier in [targets, reconciles, rollouts] {
        barrier.begin(bindings.iter().cloned());
    }
    let (mut affected, mut asks) = (Vec::with_capacity(bindings.len()), true);
    for (number, binding) in bindings.into_iter().enumerate() {
        if number % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let secrets = register(context, &binding, &mut asks).await;
        affected.push((binding, secrets));
    }
    let mut left = affected.len();
    for part in parts(affected, PART) {
        // Who waits for AWS is not waited for without end.
        if timeout(LONGEST_PART, reconciles.all_but(left + AHEAD)).await.is_err() {
            tracing::debug!("many bindings are still being reconciled; the next part begins all the same");
        }
        left -= part.len();
        context.clients.reader.pause();
        reads.begin(part.iter().cloned());
        for binding in &part {
            context.state.requeue.trigger(binding);
        }
        if timeout(GATHERING, reads.all()).await.is_err() {
            tracing::debug!("not every binding has requested its reads; AWS is asked all the same");
            reads.end();
        }
        context.clients.reader.resume();
    }
    if timeout(FIRST_ROLLOUTS, rollouts.all()).await.is_err() {
        tracing::debug!("not every binding was observed; restarts begin all the same");
        rollouts.end();
    }
}

/// Registers the secrets of a binding before its first reconcile, and returns them. Where the account of the operator
/// is needed, AWS is asked for it once, while `asks` is true.
async fn register(context: &Context, name: &BindingName, asks: &mut bool) -> Vec<(Identity, SecretId)> {
    let watched = context.state.bindings.get(name);
    let Some(Ok(manifest)) = watched.as_ref().map(|watched| &watched.0) else { return Vec::new() };
    if manifest.metadata.deletion_timestamp.is_some() || manifest.spec.suspend.unwrap_or_default() {
        return Vec::new();
    }
    let Ok(binding) = Binding::parse(manifest) else { return Vec::new() };
    let wants = requested_keys(&binding.mapping);
    if *asks && context.authorization.needs_account(&binding, &wants) {
        *asks = false;
        // The reconcile reports a failure.
        let _ = Box::pin(context.authorization.access(&binding)).await;
    }
    let Ok(access) = context.authorization.decide(&binding, &wants) else { return Vec::new() };
    let fresh = relied_on_for(interval(&context.settings, binding.refresh));
    let secrets = wants.into_keys().collect();
    context.clients.reader.versions().register(name, &access.identity, secrets, fresh);
    binding.mapping.sources().into_iter().map(|source| (access.identity.clone(), source.secret)).collect()
}

/// Shares bindings out so that no two parts have a secret in common, and each has at least `size` of them, the last one
/// aside.
fn parts<K: Eq + Hash>(bindings: Vec<(BindingName, Vec<K>)>, size: usize) -> Vec<Vec<BindingName>> {
    // For each binding another one that it shares a secret with, directly or not; the root of a set is its own.
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
