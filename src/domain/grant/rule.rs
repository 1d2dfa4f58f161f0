//! The entries of a grant, parsed for one namespace.

use crate::api::{GrantedRotation, GrantedSecret, RotationAction, SecretGrant};
use crate::domain::grant::request::RequestedKeys;
use crate::domain::render::glob::Glob;
use crate::domain::target::metadata::MetadataPattern;

/// One entry of `spec.rotation`, for one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ActionRule {
    pub(super) action: RotationAction,
    pub(super) names: Vec<Glob>,
    pub(super) keys: Vec<Glob>,
}

/// One entry of `spec.secrets`, for one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretRule {
    pub(super) name: Glob,
    /// `None` allows every key, and whole payloads.
    pub(super) keys: Option<Vec<Glob>>,
}

/// Whether the rules allow a top-level key of the secret `name`.
pub(super) fn permits_key(rules: &[SecretRule], name: &str, key: &str) -> bool {
    rules.iter().filter(|rule| rule.name.matches(name)).any(|rule| match &rule.keys {
        None => true,
        Some(keys) => keys.iter().any(|glob| glob.matches(key)),
    })
}

/// The requested keys that the rules refuse for the secret `name`; the list is empty if they refuse the secret
/// itself.
pub(super) fn refused(rules: &[SecretRule], name: &str, requested: &RequestedKeys) -> Option<Vec<String>> {
    if !rules.iter().any(|rule| rule.name.matches(name)) {
        return Some(Vec::new());
    }
    let mut keys: Vec<String> = requested.keys.iter().filter(|key| !permits_key(rules, name, key)).cloned().collect();
    let whole = rules.iter().any(|rule| rule.name.matches(name) && rule.keys.is_none());
    if requested.whole && !whole {
        keys.push("(the whole payload)".to_owned());
    }
    (!keys.is_empty()).then_some(keys)
}

/// The entries of a grant for one namespace. A glob that does not parse allows nothing.
pub(super) fn secret_rules(grant: &SecretGrant, namespace: &str) -> Vec<SecretRule> {
    let rule = |secret: &GrantedSecret| {
        if has_open_placeholder(&secret.name) {
            return None;
        }
        let name = Glob::try_from(secret.name.replace("{namespace}", namespace).as_str()).ok()?;
        let keys = match &secret.keys {
            None => None,
            Some(keys) if keys.iter().any(|key| key == "*") => None,
            Some(keys) => Some(keys.iter().filter_map(|key| Glob::try_from(key.as_str()).ok()).collect()),
        };
        Some(SecretRule { name, keys })
    };
    grant.spec.secrets.iter().filter_map(rule).collect()
}

/// The actions that a grant allows for one namespace. A rule that violates the CRD allows nothing.
pub(super) fn action_rules(grant: &SecretGrant, namespace: &str) -> Vec<ActionRule> {
    let rule = |granted: &GrantedRotation| {
        let names = granted.secrets.iter().filter(|name| !has_open_placeholder(name));
        let names =
            names.filter_map(|name| Glob::try_from(name.replace("{namespace}", namespace).as_str()).ok()).collect();
        let keys: Vec<Glob> = granted.keys.iter().filter_map(|key| Glob::try_from(key.as_str()).ok()).collect();
        let sound = match granted.action {
            RotationAction::Generate => keys.iter().all(Glob::is_literal),
            RotationAction::RotateSecret => granted.keys == ["*"],
            RotationAction::RunJob => true,
        };
        sound.then_some(ActionRule { action: granted.action, names, keys })
    };
    grant.spec.rotation.iter().filter_map(rule).collect()
}

/// A fault of a grant that the CRD did not refuse, as a sentence. A faulty part allows nothing.
#[must_use]
pub fn fault(grant: &SecretGrant) -> Option<String> {
    for (index, secret) in grant.spec.secrets.iter().enumerate() {
        if has_open_placeholder(&secret.name) {
            return Some(format!(
                "spec.secrets[{index}].name: {{namespace}} must be followed by / or stand at the end"
            ));
        }
        let globs = std::iter::once(&secret.name).chain(secret.keys.iter().flatten());
        for glob in globs {
            if let Err(error) = Glob::try_from(glob.as_str()) {
                return Some(format!("spec.secrets[{index}]: {error}"));
            }
        }
    }
    for (index, text) in grant.spec.target_metadata.iter().enumerate() {
        if let Err(error) = MetadataPattern::try_from(text.as_str()) {
            return Some(format!("spec.targetMetadata[{index}]: {error}"));
        }
    }
    None
}

/// Whether text other than `/` follows `{namespace}`, which would give `team-a` the secrets of `team-ab`.
fn has_open_placeholder(name: &str) -> bool {
    name.split("{namespace}").skip(1).any(|rest| !rest.is_empty() && !rest.starts_with('/'))
}
