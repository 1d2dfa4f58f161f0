//! A grant that is asked whether it serves a binding.

use std::sync::Arc;

use crate::api::SecretGrant;
use crate::domain::grant::rule::{GrantedKeys, Rules};

/// A grant, with its rules for the namespace of the binding where they are known already.
#[derive(Clone, Debug)]
pub struct GrantCandidate<'a> {
    /// The grant.
    pub grant: &'a SecretGrant,
    /// Its rules.
    pub rules: Option<Arc<Rules>>,
}

impl<'a> From<&'a SecretGrant> for GrantCandidate<'a> {
    fn from(grant: &'a SecretGrant) -> Self {
        Self { grant, rules: None }
    }
}

impl GrantCandidate<'_> {
    /// Its rules for a namespace.
    pub(super) fn rules_for(&self, namespace: &str) -> Arc<Rules> {
        let compile = || Arc::new(Rules::new(self.grant, &GrantedKeys::new(self.grant), namespace));
        self.rules.clone().unwrap_or_else(compile)
    }
}
