//! The identity under which Bindery calls AWS.

use sha2::{Digest as _, Sha256};

use crate::domain::fingerprint::hex;

/// The longest name of a session that STS takes.
const MAX_SESSION_NAME: usize = 64;

/// The identity and region of calls to AWS. Each identity has its own clients, credentials and retry budgets. A value that
/// one identity has read is never used for another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The AWS region; `None` is the region of the operator's own configuration.
    pub region: Option<String>,
    /// A role to assume from the operator's own identity.
    pub role: Option<Role>,
    /// A ServiceAccount whose token is exchanged for the credentials of a role.
    pub service_account: Option<ServiceAccountIdentity>,
}

/// A role to assume. Namespace and grant are part of the identity, so that CloudTrail and conditions in IAM can
/// distinguish readers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role {
    /// The ARN of the role.
    pub arn: String,
    /// The external id that its trust policy asks for.
    pub external_id: Option<String>,
    /// The namespace that is served.
    pub namespace: String,
    /// The grant that allows it.
    pub grant: String,
    /// Whether namespace and grant are put on the session as tags.
    pub tags: bool,
}

/// A ServiceAccount as AWS's web identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccountIdentity {
    /// The namespace of the ServiceAccount, which is that of the binding.
    pub namespace: String,
    /// The name of the ServiceAccount.
    pub name: String,
    /// The role; where it is absent, that of the annotation `eks.amazonaws.com/role-arn`.
    pub role_arn: Option<String>,
}

impl Identity {
    /// The account in which AWS counts the calls of this identity; `None` is the operator's own.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        let of_account = self.service_account.as_ref().and_then(|account| account.role_arn.as_deref());
        let role = self.role.as_ref().map(|role| role.arn.as_str()).or(of_account)?;
        role.split(':').nth(4).filter(|account| !account.is_empty())
    }

    /// The identity as a message names it.
    #[must_use]
    pub fn described(&self) -> String {
        match (&self.role, &self.service_account) {
            (None, None) => "the operator's own identity".to_owned(),
            _ => self.describe(),
        }
    }

    /// The identity as an audit record and a log line show it.
    #[must_use]
    pub fn describe(&self) -> String {
        match (&self.role, &self.service_account) {
            (Some(role), _) => format!("{} as {}", role.arn, session_name(&role.namespace)),
            (None, Some(account)) => {
                let role = account.role_arn.as_deref().unwrap_or("the role of its annotation");
                format!(
                    "ServiceAccount {}/{} with {role}, as {}",
                    account.namespace,
                    account.name,
                    session_name(&account.namespace)
                )
            }
            (None, None) => "operator".to_owned(),
        }
    }
}

/// The name of the session in which a namespace is served: `bindery-<namespace>`. What is longer than STS takes is cut
/// and ends in `-` and 8 hex digits of its hash, so that two namespaces never share a name.
#[must_use]
pub fn session_name(namespace: &str) -> String {
    let name = format!("bindery-{namespace}");
    if name.len() <= MAX_SESSION_NAME {
        return name;
    }
    let hash = hex(&Sha256::digest(name.as_bytes())[..4]);
    format!("{}-{hash}", &name[..MAX_SESSION_NAME - 9])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_names_fit_and_stay_apart() {
        assert_eq!(session_name("autorepost-production"), "bindery-autorepost-production");
        let long = |last: char| format!("{}{last}", "n".repeat(62));
        let (a, b) = (session_name(&long('a')), session_name(&long('b')));
        assert_eq!((a.len(), b.len()), (64, 64));
        assert_ne!(a, b);
        assert!(a.starts_with("bindery-nnn"));
        assert_eq!(session_name(&"n".repeat(56)).len(), 64);
    }
}
