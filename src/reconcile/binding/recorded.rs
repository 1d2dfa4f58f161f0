//! Which Secrets a status has on record, and what is said of those that were deleted or left alone.

use std::fmt::Write as _;

use crate::api::{ConditionType, Reason, SecretBindingStatus, condition};
use crate::domain::binding::Binding;
use crate::domain::note::Note;
use crate::domain::target::ObservedTarget;
use crate::domain::target::record::{former_targets, is_on_record, record};
use crate::domain::target::withdrawal::Withdrawal;
use crate::reconcile::binding::attempt::{Attempt, Published};
use crate::reconcile::binding::cleanup::RemainingSecret;

/// More keys than this are not in the status.
const MAX_BINARY_KEYS: usize = 20;

/// Puts into a status which Secrets are the binding's. What was only looked at is recorded where it was on record before.
pub fn record_targets(status: &mut SecretBindingStatus, attempt: &Attempt, target: Option<&str>) {
    match (&attempt.published, attempt.integrity.target()) {
        (Some(published), _) => {
            let mut former = former_targets(status, &published.name);
            if published.cleaned.is_some() {
                former.retain(|former| published.remaining().iter().any(|remaining| remaining.name == former.name));
            }
            status.former_targets = former;
            let known = status.target.take().filter(|known| known.name == published.name);
            status.target = record(&published.name, &published.observed).or(known);
        }
        (None, Some(intact)) => {
            if let Some(name) = target.filter(|name| is_on_record(status, name, "")) {
                status.target = record(name, intact);
            }
        }
        (None, None) => {}
    }
}

/// Puts into a status which keys no container can take as environment, where that was found out.
pub fn record_binary_keys(status: &mut SecretBindingStatus, published: &Published) {
    if let Some(binary) = &published.binary {
        status.binary_keys = binary.iter().take(MAX_BINARY_KEYS).cloned().collect();
    }
}

/// What is said of keys whose values no container can take as environment.
#[must_use]
pub fn no_environment(keys: &[String]) -> String {
    if keys.is_empty() {
        return String::new();
    }
    let more = if keys.len() == MAX_BINARY_KEYS { " and maybe more" } else { "" };
    format!(
        "; the value of {}{more} has a NUL byte or is not UTF-8, so a container that takes it by env or envFrom does not start: mount it as a file, or publish it through a binding of its own; spec.target.textOnly refuses such values",
        keys.join(", ")
    )
}

/// The Events about Secrets that were deleted, released, or left alone.
#[must_use]
pub fn deletions(before: &SecretBindingStatus, attempt: &Attempt, changed: bool) -> Vec<Note> {
    let note = |warning, reason, text| Note { warning, reason, text };
    let cleaned = attempt.published.as_ref().and_then(|published| published.cleaned.as_ref());
    let earlier = cleaned.into_iter().flat_map(|cleaned| &cleaned.deleted);
    let mut notes: Vec<Note> = earlier
        .map(|name| {
            let text = format!("deleted the Secret {name:?} of an earlier spec.target.name: nothing refers to it");
            note(false, Reason::SecretDeleted, text)
        })
        .collect();
    let Some(name) = before.binding.as_ref().map(|binding| &binding.name) else { return notes };
    match attempt.withdrawal {
        Withdrawal::Delete => {
            let text = format!("deleted the Secret {name:?}: its SecretGrant ended and has onExpiry: Delete");
            notes.push(note(true, Reason::SecretDeleted, text));
        }
        Withdrawal::Release => {
            let text = format!(
                "took Bindery's keys and marks from the Secret {name:?}: its SecretGrant ended and has onExpiry: Delete; the keys of others stay"
            );
            notes.push(note(true, Reason::SecretReleased, text));
        }
        Withdrawal::Keep if changed => {
            let text = format!(
                "left the Secret {name:?} alone: its SecretGrant ended and has onExpiry: Delete, but nothing proves that Bindery published it (its managedFields or the status of the binding were lost); delete it by hand"
            );
            notes.push(note(true, Reason::SecretKept, text));
        }
        Withdrawal::Keep | Withdrawal::None => {}
    }
    notes
}

/// What is said of a published Secret.
#[must_use]
pub fn published_message(binding: Option<&Binding>, attempt: &Attempt) -> String {
    attempt.published.as_ref().map_or_else(String::new, |published| {
        let mut message = format!("the Secret {:?} holds {} keys", published.name, published.observed.keys);
        if let Some(risky) = binding.and_then(|binding| risky_keys(binding, &published.observed)) {
            message.push_str("; ");
            message.push_str(&risky);
        }
        for RemainingSecret { name, why } in published.remaining() {
            let _ = write!(message, "; the Secret of the earlier name, {name}, stays {why}");
        }
        message.push_str(&foreign_keys(&published.observed));
        message.push_str(&unproven(published));
        message
    })
}

/// The Event for risky keys that were not told of before.
#[must_use]
pub fn risky_note(before: &SecretBindingStatus, binding: Option<&Binding>, attempt: &Attempt) -> Option<Note> {
    let text = risky_keys(binding?, &attempt.published.as_ref()?.observed)?;
    let applied = condition::find(&before.conditions, ConditionType::Applied);
    let told = applied.is_some_and(|applied| applied.message.contains(&text));
    (!told).then_some(Note { warning: true, reason: Reason::RiskyKey, text })
}

/// What is said of keys in the target that Bindery did not publish.
fn foreign_keys(observed: &ObservedTarget) -> String {
    let names = &observed.foreign;
    if names.is_empty() {
        return String::new();
    }
    let shown: Vec<&str> = names.iter().take(5).map(|name| &**name).collect();
    let more = if names.len() > shown.len() { " and more" } else { "" };
    format!("; it also holds {}{more}, which Bindery did not publish and leaves alone", shown.join(", "))
}

/// The most keys that are named as risky.
const MAX_RISKY: usize = 6;

/// What is said of published keys that change how programs run and that the binding does not name.
fn risky_keys(binding: &Binding, observed: &ObservedTarget) -> Option<String> {
    let meant = |key: &str| binding.target.allow_keys.contains(key) || binding.mapping.names(key);
    let keys: Vec<&str> = observed.risky.iter().map(|key| &**key).filter(|key| !meant(key)).collect();
    if keys.is_empty() {
        return None;
    }
    let shown = keys.iter().take(MAX_RISKY).copied().collect::<Vec<_>>().join(", ");
    let more = if keys.len() > MAX_RISKY { " and more" } else { "" };
    Some(format!(
        "{shown}{more} came by a pattern of dataFrom and would change what a program runs or trusts that takes it as an environment variable; exclude it, or name it in spec.target.allowKeys if it is meant"
    ))
}

/// What is said of Secrets that carry the owner reference of the binding without being its own.
fn unproven(published: &Published) -> String {
    let names = published.cleaned.as_ref().map_or(&[][..], |cleaned| &cleaned.unproven);
    let Some((first, more)) = names.split_first() else { return String::new() };
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!(
        "; the Secret {first:?}{more} carries the owner reference of this binding, but Bindery did not publish it: it is left alone, and Kubernetes deletes it with the binding unless that reference is removed"
    )
}
