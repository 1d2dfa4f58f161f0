//! What a publication says about changes: the text of the annotation `bindery.dev/changed` that a write gives the target.

use std::collections::BTreeMap;

use crate::api::{ConditionType, SecretBindingStatus, SourceStatus, condition};
use crate::domain::binding::Binding;
use crate::domain::render::key::TargetKey;
use crate::domain::rollout::changed::{Before, Changes};
use crate::domain::target::{ObservedTarget, SecretMeta, owned_keys};
use crate::domain::value::Value;

/// The Secret that a publication replaces.
#[derive(Clone, Copy)]
pub struct PublishedBefore<'a> {
    /// Its metadata, reduced.
    pub observed: &'a ObservedTarget,
    /// Its metadata.
    pub meta: &'a SecretMeta,
    /// Its values.
    pub data: &'a BTreeMap<String, Value>,
}

/// The changes with a write of `data` over `published`; `None` if the binding restarts nothing. `same_sources` says that
/// the sources and the spec are those of the last publication.
#[must_use]
pub fn changes(
    binding: &Binding,
    before: &SecretBindingStatus,
    published: Option<PublishedBefore<'_>>,
    data: &BTreeMap<TargetKey, Value>,
    same_sources: bool,
) -> Option<Changes> {
    if !binding.restart.restarts_any() {
        return None;
    }
    let rolled_out = condition::find(&before.conditions, ConditionType::RolledOut);
    let unfinished = rolled_out.is_some_and(|condition| condition.status == "False");
    let Some(PublishedBefore { observed, meta, data: old }) = published else {
        // Pods may have other values than those of a new Secret only if there was a Secret before.
        let was_published = before.binding.as_ref().is_some_and(|published| published.name == binding.target.name);
        return Some(if was_published && (unfinished || !same_sources) { Changes::all() } else { Changes::default() });
    };
    if !observed.owns_mark && observed.keys == 0 {
        // Another writer owned it until now.
        return Some(Changes::default());
    }
    let changes = observed.changed.as_deref().and_then(Changes::parse);
    if changes.is_none() && unfinished {
        return Some(Changes::all());
    }
    let before = Before {
        data: old,
        owned: &owned_keys(meta),
        changes: changes.unwrap_or_default(),
        written: observed.written.as_ref().map(|time| time.0),
    };
    Some(Changes::by_write(before, data))
}

/// Whether these are the sources, at the versions, of the last publication, under the same spec.
#[must_use]
pub fn same_sources(binding: &Binding, before: &SecretBindingStatus, sources: &[SourceStatus]) -> bool {
    before.observed_generation == Some(binding.generation)
        && before.sources.len() == sources.len()
        && sources.iter().all(|source| {
            let same = |s: &SourceStatus| {
                s.secret == source.secret && s.arn == source.arn && s.version_id == source.version_id
            };
            before.sources.iter().any(same)
        })
}

#[cfg(test)]
mod tests;
