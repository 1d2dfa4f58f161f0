//! Why no grant serves a binding.

use k8s_openapi::jiff::Timestamp;

use crate::api::Reason;
use crate::settings::FeatureOff;

/// Why no grant serves a binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No grant allows the secret, or not these keys of it.
    #[error(
        "{}; {}ask whoever manages the SecretGrants of the cluster{}",
        denied(namespace, secret, keys, grant.as_deref()), .hint.near, .hint.proposal
    )]
    AccessDenied {
        /// The namespace of the binding.
        namespace: String,
        /// The first refused secret.
        secret: String,
        /// The refused keys, if the secret itself is allowed.
        keys: Vec<String>,
        /// The grant that the binding names.
        grant: Option<String>,
        /// What leads on.
        hint: Box<DenialHint>,
    },
    /// Several grants allow all the secrets.
    #[error("the grants {} all allow these secrets; name one of them in spec.grant", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// Neither the grant nor the operator says in which region the secrets are.
    #[error(
        "the SecretGrant {0:?} names no region and the operator has none; set spec.aws.region in the grant, or --aws-region or the variable AWS_REGION of the operator"
    )]
    NoRegion(String),
    /// The named grant does not exist.
    #[error(
        "spec.grant names {0:?}, but there is no SecretGrant of this name; correct it, remove it, or ask whoever manages the SecretGrants of the cluster"
    )]
    NotFound(String),
    /// The named grant cannot be read.
    #[error(
        "the SecretGrant {0:?} cannot be read by this version of Bindery, so it allows nothing; its status tells why"
    )]
    Unreadable(String),
    /// The named grant has ended.
    #[error("the SecretGrant {grant:?} ended at {at}; ask for a new one, or name another in spec.grant")]
    Expired {
        /// The grant.
        grant: String,
        /// When it ended.
        at: Timestamp,
        /// Whether Secrets published through it are deleted.
        delete: bool,
    },
    /// The binding puts a label or annotation on its Secret that nobody allows.
    #[error("{}{}", refused_metadata(.grant, .field, .key, *.needs_flag), also_refused(.others))]
    Metadata {
        /// The grant.
        grant: String,
        /// The field of the binding.
        field: &'static str,
        /// The label or annotation.
        key: String,
        /// Whether only the flag can allow it.
        needs_flag: bool,
        /// The others that nobody allows, each with its field.
        others: Vec<String>,
    },
    /// The grant needs what the installation has switched off.
    #[error("the SecretGrant {grant:?} has secrets read as the ServiceAccount {account:?}, but {off}")]
    Off {
        /// The grant.
        grant: String,
        /// The ServiceAccount that it names.
        account: String,
        /// What is off.
        off: FeatureOff,
    },
}

/// What leads on from a denial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenialHint {
    /// Which grant nearly allows the secret, as a clause with `; ` behind; empty where none is known to.
    pub near: String,
    /// What to ask for, as the end of the sentence.
    pub proposal: String,
}

impl GrantError {
    /// The reason in the condition `Granted`.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AccessDenied { .. } | Self::NoRegion(_) | Self::Unreadable(_) | Self::Metadata { .. } => {
                Reason::AccessDenied
            }
            Self::Ambiguous(_) => Reason::AmbiguousGrant,
            Self::NotFound(_) => Reason::GrantNotFound,
            Self::Expired { .. } => Reason::GrantExpired,
            Self::Off { .. } => Reason::FeatureOff,
        }
    }
}

fn denied(namespace: &str, secret: &str, keys: &[String], grant: Option<&str>) -> String {
    let who = grant.map_or_else(
        || "no SecretGrant allows".to_owned(),
        |grant| format!("the SecretGrant {grant:?} does not allow"),
    );
    let what = if keys.is_empty() { String::new() } else { format!("{} of ", keys.join(", ")) };
    format!("{who} the namespace {namespace:?} to read {what}the secret {secret:?}")
}

fn refused_metadata(grant: &str, field: &str, key: &str, needs_flag: bool) -> String {
    let flag = "the operator's flag --allow-target-metadata (chart value allowTargetMetadata)";
    if needs_flag {
        return format!(
            "{field}: by {key:?} Argo CD or Helm takes the Secret for its own, so only {flag} allows it, by its whole name; remove it, or ask whoever manages Bindery"
        );
    }
    format!(
        "{field}: {key:?} is allowed neither by spec.targetMetadata of the SecretGrant {grant:?} nor by {flag}; remove it, or ask whoever manages the SecretGrants of the cluster"
    )
}

fn also_refused(others: &[String]) -> String {
    if others.is_empty() { String::new() } else { format!("; the same holds for {}", others.join(", ")) }
}
