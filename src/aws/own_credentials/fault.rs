//! Why there are no credentials, as far as this side can tell.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;

/// Why there are no credentials. No text here holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsFault {
    /// A variable is wrong.
    #[error("the variable {name} {what}; correct it and restart the operator, which reads its variables once")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A variable that another one needs.
    #[error(
        "the variable {missing} is missing or empty, though {given} is set; set both and restart the operator, which reads its variables once"
    )]
    Half {
        /// The variable that is set.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// A part holds a sign that no credential has.
    #[error("{from} holds {sign}, which no credential has; write it anew without that")]
    Malformed {
        /// Where it is from.
        from: String,
        /// The sign.
        sign: &'static str,
    },
    /// A file that gives nothing.
    #[error("the file {path:?} of the variable {variable} {what}")]
    File {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// No link gave any.
    #[error(
        "no link of the credential chain gave any: neither the variable AWS_ACCESS_KEY_ID nor a profile file nor the variable AWS_WEB_IDENTITY_TOKEN_FILE nor a container endpoint (EKS Pod Identity) nor the instance metadata{instance}; give the operator's pod one of them and restart the operator, which reads its variables once"
    )]
    Nothing {
        /// What the metadata lacks, where it was asked.
        instance: String,
    },
    /// A link failed.
    #[error("{link} {what}")]
    Link {
        /// The link.
        link: String,
        /// What is wrong.
        what: String,
    },
    /// Something that a link needs besides.
    #[error("{0}")]
    Setting(String),
}

/// A failure of a link, with the failure that the SDK reports.
#[derive(Clone, Debug)]
pub struct FailedLink(Arc<Failure>);

#[derive(Debug)]
struct Failure {
    fault: CredentialsFault,
    error: Option<CredentialsError>,
}

impl FailedLink {
    /// A failure that the SDK reported.
    #[must_use]
    pub fn new(fault: CredentialsFault, error: Option<CredentialsError>) -> Self {
        Self(Arc::new(Failure { fault, error }))
    }
}

impl From<CredentialsFault> for FailedLink {
    fn from(fault: CredentialsFault) -> Self {
        Self::new(fault, None)
    }
}

impl From<FailedLink> for CredentialsError {
    fn from(failed: FailedLink) -> Self {
        Self::provider_error(failed)
    }
}

impl fmt::Display for FailedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fault.fmt(f)
    }
}

impl StdError for FailedLink {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.error.as_ref().map(|error| error as _)
    }
}

/// The first fault that an error or one of its causes names.
#[must_use]
pub fn named_fault<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsFault> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(failed) = error.downcast_ref::<FailedLink>() {
            return Some(&failed.0.fault);
        }
        current = error.source();
    }
    None
}
