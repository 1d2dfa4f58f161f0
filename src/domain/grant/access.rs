//! A grant that serves a binding.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::api::RotationAction;
use crate::domain::grant::request::RequestedKeys;
use crate::domain::grant::rule::{Rules, permits_key, refused};
use crate::domain::render::glob::Glob;
use crate::domain::secret::identity::Identity;
use crate::domain::secret::reference::SecretId;
use crate::domain::target::metadata::MetadataPattern;

/// A grant that serves a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The labels and annotations that the grant allows on Secrets.
    pub metadata: Vec<MetadataPattern>,
    /// The name of the grant.
    pub grant: String,
    /// The generation of the grant.
    pub generation: i64,
    /// The identity that reads the secrets.
    pub identity: Identity,
    /// The account of the secrets, if it is known.
    pub account: Option<String>,
    /// The secrets whose ARN fits two names. [`Access::permits`] must allow the name that AWS answers before any value is
    /// read.
    pub unconfirmed: BTreeSet<SecretId>,
    /// When the grant ends.
    pub expires: Option<Timestamp>,
    pub(super) rules: Arc<Rules>,
}

impl Access {
    /// Where AWS is asked, as whom, and through which grant, as a message says it.
    #[must_use]
    pub fn place(&self) -> String {
        let region = self.identity.region.as_deref().unwrap_or("the operator's own region");
        let account = self.account.as_ref().map(|account| format!(" of account {account}")).unwrap_or_default();
        format!("in {region}{account}, through the SecretGrant {:?}, as {}", self.grant, self.identity.described())
    }

    /// Whether the grant allows the secret of this ARN and name, as AWS answered them.
    #[must_use]
    pub fn permits(&self, arn: &str, name: &str) -> bool {
        let part = |index: usize| arn.split(':').nth(index);
        let account_agrees = self.account.as_deref().is_none_or(|account| part(4) == Some(account));
        let region_agrees = self.identity.region.as_deref().is_none_or(|region| part(3) == Some(region));
        account_agrees && region_agrees && self.rules.secrets.iter().any(|rule| rule.name.matches(name))
    }

    /// Whether the grant allows a top-level key of the secret `name`.
    #[must_use]
    pub fn permits_key(&self, name: &str, key: &str) -> bool {
        permits_key(&self.rules.secrets, name, key)
    }

    /// Whether the grant allows the requested keys of the secret `name`.
    #[must_use]
    pub fn permits_request(&self, name: &str, requested: &RequestedKeys) -> bool {
        refused(&self.rules.secrets, name, requested).is_none()
    }

    /// Whether the grant allows an action on a due key of the secret `name`. Rotation needs the right to read.
    #[must_use]
    pub fn permits_rotation(&self, action: RotationAction, name: &str, key: &str) -> bool {
        self.permits_key(name, key)
            && self.rules.actions.iter().any(|rule| {
                rule.action == action
                    && rule.names.iter().any(|glob| glob.matches(name))
                    && rule.keys.iter().any(|glob| glob.matches(key))
            })
    }

    /// The keys that the grant allows of the secret `name`, as text to digest.
    #[must_use]
    pub fn keys_text(&self, name: &str) -> String {
        let rules = self.rules.secrets.iter().filter(|rule| rule.name.matches(name));
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
