//! What is known of a request, by the keys that policies may name.

use std::collections::BTreeMap;
use std::fmt;

use super::policy::PolicyError;

/// Keys that may have several values. AWS wants `ForAnyValue` or `ForAllValues` with them.
const MANY: [&str; 3] = ["aws:tagkeys", "aws:calledvia", "sts:transitivetagkeys"];

const SINGLE: [&str; 27] = [
    "aws:federatedprovider",
    "aws:multifactorauthage",
    "aws:multifactorauthpresent",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principaltype",
    "aws:requestedregion",
    "aws:resourceaccount",
    "aws:securetransport",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceidentity",
    "aws:userid",
    "aws:username",
    "aws:viaawsservice",
    "kms:calleraccount",
    "kms:viaservice",
    "secretsmanager:name",
    "secretsmanager:rotateimmediately",
    "secretsmanager:rotationlambdaarn",
    "secretsmanager:secretid",
    "secretsmanager:versionid",
    "secretsmanager:versionstage",
    "sts:durationseconds",
    "sts:externalid",
    "sts:rolesessionname",
    "sts:sourceidentity",
];

/// Keys with a name of the user's choice after the slash, or colon.
const PREFIXES: [&str; 5] = [
    "aws:principaltag/",
    "aws:requesttag/",
    "aws:resourcetag/",
    "secretsmanager:resourcetag/",
    "kms:encryptioncontext:",
];

/// The name of something that is known of a request. Names are the same in upper and lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// Reads a name.
    ///
    /// # Errors
    /// Where it is not one that this evaluator fills in. A condition on it would never hold, or always.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let name = text.trim().to_lowercase();
        let prefixed = |prefix: &&str| name.strip_prefix(*prefix).is_some_and(|rest| !rest.is_empty());
        let known = MANY.contains(&name.as_str())
            || SINGLE.contains(&name.as_str())
            || PREFIXES.iter().any(prefixed)
            || is_claim(&name);
        if known {
            Ok(Self(name))
        } else {
            Err(PolicyError::new(format!("the condition key {text} is not known here")))
        }
    }

    /// Whether it may have several values at once.
    pub fn is_many(&self) -> bool {
        MANY.contains(&self.0.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A claim of a web identity, such as `oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE:sub`. A host has a dot in it, and no
/// prefix of a service has one.
fn is_claim(name: &str) -> bool {
    let Some((issuer, claim)) = name.rsplit_once(':') else {
        return false;
    };
    let host = issuer.split('/').next().unwrap_or_default();
    ["sub", "aud"].contains(&claim) && host.contains('.') && !issuer.contains(':')
}

/// What is known of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<Key, Vec<String>>);

impl Context {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key with one value, in the place of an earlier one.
    ///
    /// # Panics
    /// Where the key is not known.
    #[must_use]
    pub fn with(self, key: &str, value: impl Into<String>) -> Self {
        self.with_all(key, [value.into()])
    }

    /// Adds a key, if there is a value for it.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds a key with any number of values. Without any it stays absent, as at AWS.
    ///
    /// # Panics
    /// Where the key is not known.
    #[must_use]
    pub fn with_all(mut self, key: &str, values: impl IntoIterator<Item = String>) -> Self {
        let key = Key::parse(key).expect("the context is filled with keys that policies may name");
        let values: Vec<String> = values.into_iter().collect();
        if !values.is_empty() {
            self.0.insert(key, values);
        }
        self
    }

    /// The values of a key; none where it is absent.
    pub fn get(&self, key: &Key) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}
