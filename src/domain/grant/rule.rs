//! The entries of a grant, parsed for one namespace.

use std::sync::Arc;

use crate::api::{GrantedRotation, GrantedSecret, RotationAction, SecretGrant};
use crate::domain::grant::request::RequestedKeys;
use crate::domain::render::glob::Glob;
use crate::domain::target::metadata::MetadataPattern;

/// What stands for the namespace in a name.
const PLACEHOLDER: &str = "{namespace}";

/// The entries of a grant, for one namespace. A glob that does not parse allows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(super) secrets: Vec<SecretRule>,
    pub(super) actions: Vec<ActionRule>,
}

/// The keys of the entries of a grant, which are the same for all namespaces.
#[derive(Clone, Debug)]
pub struct GrantedKeys {
    /// By entry of `spec.secrets`; `None` allows every key, and whole payloads.
    secrets: Vec<Option<Arc<[Glob]>>>,
    /// By entry of `spec.rotation`.
    actions: Vec<Arc<[Glob]>>,
}

impl GrantedKeys {
    /// The keys of a grant.
    #[must_use]
    pub fn new(grant: &SecretGrant) -> Self {
        let globs = |keys: &[String]| keys.iter().filter_map(|key| Glob::try_from(key.as_str()).ok()).collect();
        let of_secret = |secret: &GrantedSecret| match &secret.keys {
            None => None,
            Some(keys) if keys.iter().any(|key| key == "*") => None,
            Some(keys) => Some(globs(keys)),
        };
        Self {
            secrets: grant.spec.secrets.iter().map(of_secret).collect(),
            actions: grant.spec.rotation.iter().map(|granted| globs(&granted.keys)).collect(),
        }
    }
}

impl Rules {
    /// The entries of a grant for one namespace.
    #[must_use]
    pub fn new(grant: &SecretGrant, keys: &GrantedKeys, namespace: &str) -> Self {
        Self { secrets: secret_rules(grant, keys, namespace), actions: action_rules(grant, keys, namespace) }
    }

    /// How many names they have, by which their size is judged.
    #[must_use]
    pub fn names(&self) -> usize {
        self.secrets.len() + self.actions.iter().map(|rule| rule.names.len()).sum::<usize>()
    }
}

/// Whether the entries of a grant differ between namespaces.
#[must_use]
pub fn names_namespace(grant: &SecretGrant) -> bool {
    let names = grant.spec.secrets.iter().map(|secret| &secret.name);
    names.chain(grant.spec.rotation.iter().flat_map(|granted| &granted.secrets)).any(|name| name.contains(PLACEHOLDER))
}

/// One entry of `spec.rotation`, for one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ActionRule {
    pub(super) action: RotationAction,
    pub(super) names: Vec<Glob>,
    pub(super) keys: Arc<[Glob]>,
}

/// One entry of `spec.secrets`, for one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretRule {
    pub(super) name: Glob,
    /// `None` allows every key, and whole payloads.
    pub(super) keys: Option<Arc<[Glob]>>,
}

/// The names of the secrets that a grant allows for one namespace.
pub(super) fn secret_names(grant: &SecretGrant, namespace: &str) -> Vec<Glob> {
    grant.spec.secrets.iter().filter_map(|secret| name_in(&secret.name, namespace)).collect()
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

fn secret_rules(grant: &SecretGrant, keys: &GrantedKeys, namespace: &str) -> Vec<SecretRule> {
    let rule = |(secret, keys): (&GrantedSecret, &Option<Arc<[Glob]>>)| {
        let name = name_in(&secret.name, namespace)?;
        Some(SecretRule { name, keys: keys.clone() })
    };
    grant.spec.secrets.iter().zip(&keys.secrets).filter_map(rule).collect()
}

/// The actions that a grant allows for one namespace. A rule that violates the CRD allows nothing.
fn action_rules(grant: &SecretGrant, keys: &GrantedKeys, namespace: &str) -> Vec<ActionRule> {
    let rule = |(granted, keys): (&GrantedRotation, &Arc<[Glob]>)| {
        let names = granted.secrets.iter().filter_map(|name| name_in(name, namespace)).collect();
        let sound = match granted.action {
            RotationAction::Generate => keys.iter().all(Glob::is_literal),
            RotationAction::RotateSecret => granted.keys == ["*"],
            RotationAction::RunJob => true,
        };
        sound.then(|| ActionRule { action: granted.action, names, keys: keys.clone() })
    };
    grant.spec.rotation.iter().zip(&keys.actions).filter_map(rule).collect()
}

/// The glob of a name of a grant, for one namespace.
fn name_in(name: &str, namespace: &str) -> Option<Glob> {
    if has_open_placeholder(name) {
        return None;
    }
    Glob::try_from(name.replace(PLACEHOLDER, namespace).as_str()).ok()
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
    name.split(PLACEHOLDER).skip(1).any(|rest| !rest.is_empty() && !rest.starts_with('/'))
}
