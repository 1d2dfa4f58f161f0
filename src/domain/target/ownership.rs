//! Whether a Secret is a binding's own.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;

use crate::api::{ANNOTATION_ADOPT_BY, ANNOTATION_INPUTS, GROUP, SecretBinding};
use crate::domain::binding::Binding;
use crate::domain::target::mark::MarkPlace;
use crate::domain::target::observed::{ObservedSecret, ObservedTarget};

/// The longest name of a binding.
const MAX_NAME: usize = 253;

/// The Secret under the target's name.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetState {
    /// Nothing.
    Absent,
    /// A Secret that is this binding's.
    Owned(ObservedTarget),
    /// A Secret that consents to be adopted.
    Adoptable(ObservedTarget),
    /// Somebody else's Secret; the text names the owner.
    Foreign(String),
}

/// Decides whether the Secret under the target's name belongs to the binding. `published` says whether the status of the
/// binding names this Secret as published.
#[must_use]
pub fn judge(binding: &Binding, found: Option<&ObservedSecret>, published: bool) -> TargetState {
    let Some(found) = found else { return TargetState::Absent };
    let ObservedSecret { observed, owner, binding: named, .. } = found;
    let observed = observed.clone();
    match owner {
        owner if !published && is_copy(binding, found) => match owner {
            None if consents(binding, found) => TargetState::Adoptable(observed),
            _ => TargetState::Foreign(format!(
                "its annotation {ANNOTATION_INPUTS} was made for another Secret, from which it was copied; delete the copy, or remove that annotation to let this binding write over it"
            )),
        },
        Some(owner) if owner.uid == binding.uid => TargetState::Owned(observed),
        // The reference names an earlier binding of this name. That owner is gone, and this binding continues with its Secret.
        Some(owner) if is_binding(owner) && owner.name == binding.name && named.as_ref() == Some(&binding.name) => {
            TargetState::Owned(observed)
        }
        Some(owner) => TargetState::Foreign(format!("it belongs to the {} {:?}", owner.kind, owner.name)),
        None if named.as_ref() == Some(&binding.name) => TargetState::Owned(observed),
        // Somebody removed the annotation of a Secret that Bindery's field manager still owns.
        None if named.is_none() && published && (observed.owns_mark || observed.keys > 0) => {
            TargetState::Owned(observed)
        }
        None => match (consents(binding, found), named) {
            (true, _) => TargetState::Adoptable(observed),
            (false, Some(other)) => {
                // An annotation may hold anything.
                let other: String = other.chars().take(MAX_NAME).collect();
                TargetState::Foreign(format!("it was published by the SecretBinding {other:?}"))
            }
            (false, None) if binding.target.adopt => TargetState::Foreign(format!(
                "it does not consent to be adopted; annotate it with {ANNOTATION_ADOPT_BY}: {}",
                binding.name
            )),
            (false, None) => TargetState::Foreign("nothing on it says who made it".to_owned()),
        },
    }
}

/// Whether a Secret names the binding only because it was copied from another one, in this namespace or elsewhere. Whoever
/// copies a Secret copies all marks, and only this one says for which Secret it was made.
fn is_copy(binding: &Binding, found: &ObservedSecret) -> bool {
    let controlled = found.owner.as_ref();
    let mine = |owner: &OwnerReference| owner.uid == binding.uid || (is_binding(owner) && owner.name == binding.name);
    let named =
        found.binding.as_ref() == Some(&binding.name) || controlled.is_some_and(|owner| owner.uid == binding.uid);
    found.place == MarkPlace::Elsewhere && named && controlled.is_none_or(|owner| mine(owner))
}

/// Whether both sides consent to an adoption.
fn consents(binding: &Binding, found: &ObservedSecret) -> bool {
    binding.target.adopt && found.adopt_by.as_ref() == Some(&binding.name)
}

fn is_binding(owner: &OwnerReference) -> bool {
    owner.kind == SecretBinding::kind(&()) && owner.api_version.split('/').next() == Some(GROUP)
}
