//! Who may read what: the decision, as a pure function of the grants.
//!
//! A namespace reads nothing until a [`SecretGrant`] allows it. The decision is taken before any call to AWS, and
//! again after the read, before the value is used.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{AwsAccess, GrantedNamespaces, GrantedRotation, OnExpiry, Reason, RotationAction, SecretGrant};
use crate::domain::payload::pointer::pointer_root;
use crate::domain::render::glob::Glob;
use crate::domain::render::mapping::Mapping;
use crate::domain::secret::identity::{Identity, Role, ServiceAccountIdentity};
use crate::domain::secret::reference::{SecretArn, SecretId};

/// A grant that serves a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The name of the grant.
    pub grant: String,
    /// The generation of the grant that was judged.
    pub generation: i64,
    /// As whom the secrets are read.
    pub identity: Identity,
    /// The account that the secrets must be in, where it is known.
    pub account: Option<String>,
    /// The secrets that are named by an ARN which may stand for two names: the name that AWS answers must be judged
    /// by [`Access::permits`] before any value is read.
    pub unconfirmed: BTreeSet<SecretId>,
    /// When the grant ends.
    pub expires: Option<Timestamp>,
    rules: Vec<Rule>,
    rotation: Vec<RotationRule>,
}

/// One entry of `spec.rotation`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RotationRule {
    action: RotationAction,
    names: Vec<Glob>,
    keys: Vec<Glob>,
}

/// One entry of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    name: Glob,
    /// `None` allows every key, and whole payloads.
    keys: Option<Vec<Glob>>,
}

impl Access {
    /// Whether the grant allows the secret of this ARN and name, as AWS answered them.
    #[must_use]
    pub fn permits(&self, arn: &str, name: &str) -> bool {
        let part = |index: usize| arn.split(':').nth(index);
        let account_agrees = self.account.as_deref().is_none_or(|account| part(4) == Some(account));
        let region_agrees = self.identity.region.as_deref().is_none_or(|region| part(3) == Some(region));
        account_agrees && region_agrees && self.rules.iter().any(|rule| rule.name.matches(name))
    }

    /// Whether the grant allows a top-level key of the secret `name`.
    #[must_use]
    pub fn permits_key(&self, name: &str, key: &str) -> bool {
        permits_key(&self.rules, name, key)
    }

    /// Whether the grant allows what `wants` asks of the secret `name`.
    #[must_use]
    pub fn permits_request(&self, name: &str, wants: &RequestedKeys) -> bool {
        refused(&self.rules, name, wants).is_none()
    }

    /// Whether the grant allows an action on a key of the secret `name` when it is due. What may not be read may not
    /// be rotated.
    #[must_use]
    pub fn permits_rotation(&self, action: RotationAction, name: &str, key: &str) -> bool {
        self.permits_key(name, key)
            && self.rotation.iter().any(|rule| {
                rule.action == action
                    && rule.names.iter().any(|glob| glob.matches(name))
                    && rule.keys.iter().any(|glob| glob.matches(key))
            })
    }

    /// The keys that the grant allows of the secret `name`, as text to digest.
    #[must_use]
    pub fn keys_text(&self, name: &str) -> String {
        let rules = self.rules.iter().filter(|rule| rule.name.matches(name));
        let mut texts: Vec<String> = rules
            .map(|rule| match &rule.keys {
                None => "*".to_owned(),
                Some(keys) => keys.iter().map(Glob::as_str).collect::<Vec<_>>().join("\n"),
            })
            .collect();
        texts.sort();
        texts.dedup();
        texts.join("\n\n")
    }
}

fn permits_key(rules: &[Rule], name: &str, key: &str) -> bool {
    rules.iter().filter(|rule| rule.name.matches(name)).any(|rule| match &rule.keys {
        None => true,
        Some(keys) => keys.iter().any(|glob| glob.matches(key)),
    })
}

/// What a binding asks of one secret, as far as it is known before the payload is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedKeys {
    /// JSON keys, a JSON Pointer by its first token.
    pub keys: BTreeSet<String>,
    /// Whether the whole payload is published.
    pub whole: bool,
}

/// What a mapping asks of each secret.
#[must_use]
pub fn requested_keys(mapping: &Mapping) -> BTreeMap<SecretId, RequestedKeys> {
    let mut wants: BTreeMap<SecretId, RequestedKeys> = BTreeMap::new();
    for extract in &mapping.data_from {
        wants.entry(extract.source.secret.clone()).or_default();
    }
    for entry in &mapping.data {
        let of_secret = wants.entry(entry.source.secret.clone()).or_default();
        match &entry.json_key {
            Some(key) => {
                of_secret.keys.insert(pointer_root(key).unwrap_or_else(|| key.clone()));
            }
            None => of_secret.whole = true,
        }
    }
    wants
}

/// What of `wants` the rules refuse for the secret `name`; the empty list stands for the secret itself.
fn refused(rules: &[Rule], name: &str, wants: &RequestedKeys) -> Option<Vec<String>> {
    if !rules.iter().any(|rule| rule.name.matches(name)) {
        return Some(Vec::new());
    }
    let mut keys: Vec<String> = wants.keys.iter().filter(|key| !permits_key(rules, name, key)).cloned().collect();
    let whole = rules.iter().any(|rule| rule.name.matches(name) && rule.keys.is_none());
    if wants.whole && !whole {
        keys.push("(the whole payload)".to_owned());
    }
    (!keys.is_empty()).then_some(keys)
}

/// Why no grant serves a binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No grant allows the secret, or not these keys of it.
    #[error("{}", denied(namespace, secret, keys, grant.as_deref()))]
    AccessDenied {
        /// The namespace of the binding.
        namespace: String,
        /// The first secret that is refused.
        secret: String,
        /// The keys that are refused, where the secret itself is allowed.
        keys: Vec<String>,
        /// The one grant that was asked.
        grant: Option<String>,
    },
    /// Several grants allow all the secrets.
    #[error("the grants {} all allow these secrets; name one of them in spec.grant", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// Neither the grant nor the operator says in which region the secrets are.
    #[error(
        "the SecretGrant {0:?} names no region and the operator has none; set spec.aws.region in the grant, or --aws-region"
    )]
    NoRegion(String),
    /// The named grant does not exist.
    #[error("spec.grant names {0:?}, but there is no SecretGrant of this name")]
    NotFound(String),
    /// The named grant has ended.
    #[error("the SecretGrant {grant:?} ended at {at}; ask for a new one, or name another in spec.grant")]
    Expired {
        /// The grant.
        grant: String,
        /// When it ended.
        at: Timestamp,
        /// Whether what was published through it is to be deleted.
        delete: bool,
    },
}

impl GrantError {
    /// The reason in the condition `Granted`.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AccessDenied { .. } | Self::NoRegion(_) => Reason::AccessDenied,
            Self::Ambiguous(_) => Reason::AmbiguousGrant,
            Self::NotFound(_) => Reason::GrantNotFound,
            Self::Expired { .. } => Reason::GrantExpired,
        }
    }
}

fn denied(namespace: &str, secret: &str, keys: &[String], grant: Option<&str>) -> String {
    let who = grant.map_or_else(
        || "no SecretGrant allows".to_owned(),
        |grant| format!("the SecretGrant {grant:?} does not allow"),
    );
    let what = if keys.is_empty() { String::new() } else { format!("{} of ", keys.join(", ")) };
    format!(
        "{who} the namespace {namespace:?} to read {what}the secret {secret:?}; ask whoever manages the SecretGrants of the cluster"
    )
}

/// Where the operator itself is.
#[derive(Clone, Debug, Default)]
pub struct Home {
    /// The region of the operator's own configuration.
    pub region: Option<String>,
    /// The account of the operator's own identity, where it is known.
    pub account: Option<String>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The namespace of the binding.
    pub namespace: &'a str,
    /// The labels of that namespace; `None` where they are not known, so that no selector matches.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The grant that the binding names.
    pub grant: Option<&'a str>,
}

/// Finds the grant through which a binding may read all that it wants.
///
/// # Errors
/// Where there is none, or several and the binding names none of them.
pub fn decide<'a>(
    grants: impl IntoIterator<Item = &'a SecretGrant>,
    asker: Requester<'_>,
    wants: &BTreeMap<SecretId, RequestedKeys>,
    home: &Home,
    now: Timestamp,
) -> Result<Access, GrantError> {
    let mut known = false;
    let mut refusal: Option<(String, Vec<String>)> = None;
    let mut serving = Vec::new();
    for grant in grants {
        let name = grant.name_any();
        match asker.grant {
            Some(named) if name != named => continue,
            Some(_) => known = true,
            // A grant with an end serves only those who name it.
            None if grant.spec.expires_at.is_some() => continue,
            None => {}
        }
        if !covers(&grant.spec.namespaces, asker) {
            continue;
        }
        if let Some(end) = grant.spec.expires_at.as_ref().map(|time| time.0).filter(|end| *end <= now) {
            let delete = grant.spec.on_expiry == Some(OnExpiry::Delete);
            return Err(GrantError::Expired { grant: name, at: end, delete });
        }
        match judge(grant, asker.namespace, wants, home) {
            Ok(access) => serving.push(access),
            // The refusal of keys tells more than the refusal of the secret.
            Err(refused) if refusal.as_ref().is_none_or(|(_, keys)| keys.is_empty()) => refusal = Some(refused),
            Err(_) => {}
        }
    }
    if let (Some(named), false) = (asker.grant, known) {
        return Err(GrantError::NotFound(named.to_owned()));
    }
    serving.sort_by(|a, b| a.grant.cmp(&b.grant));
    let mut serving = serving.into_iter();
    match (serving.next(), serving.next()) {
        (Some(access), None) if access.identity.region.is_none() => Err(GrantError::NoRegion(access.grant)),
        (Some(access), None) => Ok(access),
        (Some(first), Some(second)) => {
            let mut names = vec![first.grant, second.grant];
            names.extend(serving.map(|access| access.grant));
            Err(GrantError::Ambiguous(names))
        }
        (None, _) => {
            let first = || (wants.keys().next().map(ToString::to_string).unwrap_or_default(), Vec::new());
            let (secret, keys) = refusal.unwrap_or_else(first);
            Err(GrantError::AccessDenied {
                namespace: asker.namespace.to_owned(),
                secret,
                keys,
                grant: asker.grant.map(str::to_owned),
            })
        }
    }
}

/// Whether a grant is for the asker's namespace.
fn covers(namespaces: &GrantedNamespaces, asker: Requester<'_>) -> bool {
    match (&namespaces.names, &namespaces.selector) {
        (Some(names), None) => names.iter().any(|name| name == asker.namespace),
        (None, Some(selector)) => asker.labels.is_some_and(|labels| selects(selector, labels)),
        // The CRD refuses both and neither; what it does not know allows nothing.
        _ => false,
    }
}

/// The semantics of a [label selector][selector], but that an empty one selects nothing.
///
/// [selector]: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#resources-that-support-set-based-requirements
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    let mut requirements = exact.clone().count() + expressions.clone().count();
    let exact = exact.into_iter().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = expressions.into_iter().all(|expression| {
        let value = labels.get(&expression.key);
        let listed = || value.is_some_and(|value| expression.values.iter().flatten().any(|listed| listed == value));
        match expression.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => {
                requirements = 0;
                false
            }
        }
    });
    requirements > 0 && exact && expressions
}

/// Judges one grant; the error is the first secret that it refuses, and which keys of it.
fn judge(
    grant: &SecretGrant,
    namespace: &str,
    wants: &BTreeMap<SecretId, RequestedKeys>,
    home: &Home,
) -> Result<Access, (String, Vec<String>)> {
    let rules = rules(grant, namespace);
    let aws = grant.spec.aws.clone().unwrap_or_default();
    let region = aws.region.clone().or_else(|| home.region.clone());
    let of_role = aws.role_arn.as_deref().and_then(|arn| arn.split(':').nth(4)).map(str::to_owned);
    let account = aws.account_id.clone().or(of_role).or_else(|| home.account.clone());
    let mut unconfirmed = BTreeSet::new();
    for (secret, wanted) in wants {
        let refusal = |name: &str| refused(&rules, name, wanted);
        match secret {
            SecretId::Name(name) => {
                if let Some(keys) = refusal(name) {
                    return Err((secret.to_string(), keys));
                }
            }
            SecretId::Arn(arn) if !lives_in(arn, region.as_deref(), account.as_deref()) => {
                return Err((secret.to_string(), Vec::new()));
            }
            // `app-worker` may be the secret `app-worker` or the secret `app`, for all that the ARN tells.
            SecretId::Arn(arn) => {
                let refusals: Vec<Option<Vec<String>>> = arn.possible_names().map(refusal).collect();
                if refusals.iter().all(Option::is_some) {
                    let keys = refusals.into_iter().flatten().find(|keys| !keys.is_empty()).unwrap_or_default();
                    return Err((secret.to_string(), keys));
                }
                if refusals.iter().any(Option::is_some) {
                    unconfirmed.insert(secret.clone());
                }
            }
        }
    }
    Ok(Access {
        grant: grant.name_any(),
        generation: grant.metadata.generation.unwrap_or_default(),
        identity: identity(&aws, region, namespace, &grant.name_any()),
        account,
        unconfirmed,
        expires: grant.spec.expires_at.as_ref().map(|time| time.0),
        rules,
        rotation: rotation(grant, namespace),
    })
}

/// The entries of a grant for one namespace. A glob that does not parse allows nothing.
fn rules(grant: &SecretGrant, namespace: &str) -> Vec<Rule> {
    let rule = |secret: &crate::api::GrantedSecret| {
        if has_open_placeholder(&secret.name) {
            return None;
        }
        let name = Glob::try_from(secret.name.replace("{namespace}", namespace).as_str()).ok()?;
        let keys = match &secret.keys {
            None => None,
            Some(keys) if keys.iter().any(|key| key == "*") => None,
            Some(keys) => Some(keys.iter().filter_map(|key| Glob::try_from(key.as_str()).ok()).collect()),
        };
        Some(Rule { name, keys })
    };
    grant.spec.secrets.iter().filter_map(rule).collect()
}

/// What a grant allows to be done for one namespace. A rule that is not as the CRD demands allows nothing.
fn rotation(grant: &SecretGrant, namespace: &str) -> Vec<RotationRule> {
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
        sound.then_some(RotationRule { action: granted.action, names, keys })
    };
    grant.spec.rotation.iter().filter_map(rule).collect()
}

/// What is wrong with a grant that the CRD did not refuse, in a sentence. A part that is wrong allows nothing.
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
    None
}

/// Whether `{namespace}` stands before anything but `/` or the end, so that the secrets of `team-ab` would be those of
/// `team-a` as well.
fn has_open_placeholder(name: &str) -> bool {
    name.split("{namespace}").skip(1).any(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

fn lives_in(arn: &SecretArn, region: Option<&str>, account: Option<&str>) -> bool {
    region == Some(arn.region.as_str()) && account == Some(arn.account.as_str())
}

fn identity(aws: &AwsAccess, region: Option<String>, namespace: &str, grant: &str) -> Identity {
    let role = aws.role_arn.clone();
    match (&aws.service_account_name, role) {
        (Some(name), role_arn) => Identity {
            region,
            role: None,
            service_account: Some(ServiceAccountIdentity {
                namespace: namespace.to_owned(),
                name: name.clone(),
                role_arn,
            }),
        },
        (None, Some(arn)) => Identity {
            region,
            role: Some(Role {
                arn,
                external_id: aws.external_id.clone(),
                namespace: namespace.to_owned(),
                grant: grant.to_owned(),
                tags: aws.session_tags.unwrap_or_default(),
            }),
            service_account: None,
        },
        (None, None) => Identity { region, role: None, service_account: None },
    }
}

#[cfg(test)]
mod tests;
