//! Failures at AWS, by their meaning for a binding.

use std::error::Error as StdError;
use std::fmt;

use crate::api::Reason;

/// The meaning of a failure at AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// There is no such secret (or, for AWS, none that this identity may know of).
    SecretNotFound,
    /// The secret is scheduled for deletion.
    SecretPendingDeletion,
    /// The secret has no such version or stage.
    VersionNotFound,
    /// IAM or the secret's policy refuses the call.
    AccessDenied,
    /// KMS refuses the key, or fails.
    DecryptionFailed,
    /// No valid credentials.
    CredentialsFailed,
    /// Too many calls.
    Throttled,
    /// The namespace has used up its budget of calls.
    TenantLimit,
    /// No answer, or a fault on the other side.
    Unavailable,
    /// AWS refuses the reference as malformed.
    InvalidReference,
    /// AWS answered for another secret than the one meant.
    WrongSecret,
    /// The grant does not allow the answer of AWS, or was withdrawn during the read.
    NotGranted,
    /// The audit record could not be written.
    AuditFailed,
    /// IAM or the secret's policy refuses a write.
    WriteDenied,
    /// A version with another value has the version id.
    TokenTaken,
    /// The label has left the version from which it should move.
    StageMoved,
    /// The secret has as many labels or versions as AWS allows.
    LimitExceeded,
    /// The secret is not set up to be rotated, or a rotation is under way.
    NotRotatable,
}

impl SourceErrorKind {
    /// The reason in the condition `Fetched`.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::SecretNotFound => Reason::SecretNotFound,
            Self::SecretPendingDeletion => Reason::SecretPendingDeletion,
            Self::VersionNotFound => Reason::VersionNotFound,
            Self::AccessDenied => Reason::AwsAccessDenied,
            Self::DecryptionFailed => Reason::DecryptionFailed,
            Self::CredentialsFailed => Reason::CredentialsFailed,
            Self::Throttled => Reason::Throttled,
            Self::TenantLimit => Reason::TenantLimit,
            Self::Unavailable => Reason::AwsUnavailable,
            Self::InvalidReference | Self::WrongSecret => Reason::InvalidReference,
            Self::NotGranted => Reason::AccessDenied,
            Self::AuditFailed => Reason::AuditFailed,
            Self::WriteDenied | Self::TokenTaken | Self::StageMoved | Self::LimitExceeded | Self::NotRotatable => {
                Reason::RotationFailed
            }
        }
    }

    const fn says(self) -> &'static str {
        match self {
            Self::SecretNotFound => {
                "Secrets Manager has no secret of this name there; create it there, correct the reference, or let the grant name the region and account that have it"
            }
            Self::SecretPendingDeletion => "the secret is scheduled for deletion; restore it or remove the reference",
            Self::VersionNotFound => {
                "the secret has no such version or version stage; correct the reference or write a value"
            }
            Self::AccessDenied => {
                "IAM refuses the read, or the secret does not exist; allow secretsmanager:GetSecretValue and secretsmanager:DescribeSecret on it"
            }
            Self::DecryptionFailed => {
                "KMS refuses to decrypt the secret; allow kms:Decrypt on its key and check that the key is enabled"
            }
            Self::CredentialsFailed => "no valid AWS credentials; check the operator's role, its token and its clock",
            Self::Throttled => "AWS asks to call less often; this passes by itself",
            Self::TenantLimit => {
                "this namespace has used up the AWS calls that --aws-tenant-rate gives each namespace, so AWS was not asked; this passes by itself once the namespace asks for less"
            }
            Self::Unavailable => "AWS did not answer or failed; this passes by itself",
            Self::InvalidReference => "AWS does not take the reference; correct it",
            Self::WrongSecret => {
                "AWS answered for another secret than the one that is meant, and the answer was dropped; name the secret by its name or its full ARN"
            }
            Self::NotGranted => {
                "the SecretGrant does not allow the name, region or account of the secret that AWS answered for this reference, or was changed during the read; correct the reference or the grant"
            }
            Self::AuditFailed => {
                "the read could not be recorded in the audit log, so the value was dropped; check the disk and path of --audit-log"
            }
            Self::WriteDenied => {
                "IAM refuses the write; allow secretsmanager:PutSecretValue, secretsmanager:UpdateSecretVersionStage and secretsmanager:RotateSecret on it, as far as the grant's rotation asks for them"
            }
            Self::TokenTaken => "a version of this id has another value; it is read and gone on with",
            Self::StageMoved => "somebody else moved the version stage meanwhile; it is looked at again",
            Self::LimitExceeded => {
                "the secret has as many labels or versions as AWS allows; remove version stages that nobody needs"
            }
            Self::NotRotatable => {
                "Secrets Manager does not rotate it: set up its rotation there, or wait until the rotation under way has ended"
            }
        }
    }
}

/// Who asked AWS, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Where AWS was asked, as whom, and through what.
    pub place: Option<String>,
    /// The principal that AWS refused.
    pub principal: Option<String>,
}

/// A failure at AWS. It has AWS's error code and request id, never AWS's text, which may name other tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// Its meaning.
    pub kind: SourceErrorKind,
    /// The secret concerned, as the binding names it.
    pub secret: String,
    /// AWS's error code.
    pub code: Option<String>,
    /// AWS's request id.
    pub request_id: Option<String>,
    /// Who asked, and where.
    pub asked: Option<Box<Asked>>,
    /// What is at fault, where this side can tell: a variable, a file, a link of the credential chain, the clock.
    pub fault: Option<String>,
    /// Attempts for which AWS may have sent a value that did not arrive, as in an answer cut short.
    pub lost_attempts: u32,
}

impl SourceError {
    /// A failure found on this side.
    #[must_use]
    pub fn new(kind: SourceErrorKind, secret: impl Into<String>) -> Self {
        Self { kind, secret: secret.into(), code: None, request_id: None, asked: None, fault: None, lost_attempts: 0 }
    }

    /// The same failure under another name of the secret.
    #[must_use]
    pub fn about(&self, secret: &str) -> Self {
        Self { secret: secret.to_owned(), lost_attempts: 0, ..self.clone() }
    }

    /// The principal that AWS refused, where its answer names one.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        self.asked.as_ref()?.principal.as_deref()
    }

    /// The same failure, and the principal that AWS refused.
    #[must_use]
    pub fn refused(self, principal: Option<String>) -> Self {
        match principal {
            Some(_) => Self { asked: Some(Box::new(Asked { place: None, principal })), ..self },
            None => self,
        }
    }

    /// The same failure, and where AWS was asked.
    #[must_use]
    pub fn asked(self, place: &str) -> Self {
        let principal = self.principal().map(str::to_owned);
        Self { asked: Some(Box::new(Asked { place: Some(place.to_owned()), principal })), ..self }
    }

    /// Whether its cause is outside the secret, so that time or new credentials cure it.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(
            self.kind,
            SourceErrorKind::Throttled
                | SourceErrorKind::TenantLimit
                | SourceErrorKind::Unavailable
                | SourceErrorKind::CredentialsFailed
        )
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {:?}: ", self.secret)?;
        match (&self.fault, self.kind) {
            (None, kind) => f.write_str(kind.says())?,
            // What is known to be at fault is neither a guess nor something that passes.
            (Some(fault), SourceErrorKind::CredentialsFailed) => write!(f, "no valid AWS credentials: {fault}")?,
            (Some(fault), SourceErrorKind::Unavailable) => write!(f, "AWS did not answer or failed: {fault}")?,
            (Some(fault), kind) => write!(f, "{}; {fault}", kind.says())?,
        }
        if let Some(suffix) = (self.kind == SourceErrorKind::SecretNotFound).then(|| suffix(&self.secret)).flatten() {
            write!(f, "; if {suffix:?} is the random suffix of its ARN, leave it out, since a name has none")?;
        }
        if let Some(place) = self.asked.as_ref().and_then(|asked| asked.place.as_ref()) {
            write!(f, "; asked {place}")?;
        }
        if let Some(principal) = self.principal() {
            write!(f, "; AWS refused {principal}")?;
        }
        if let Some(code) = &self.code {
            write!(f, "; AWS answered {code}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl StdError for SourceError {}

/// What ends a name as the random suffix ends an ARN: a dash and six letters and digits that are no word.
fn suffix(secret: &str) -> Option<&str> {
    let at = secret.len().checked_sub(7).filter(|_| !secret.starts_with("arn:"))?;
    let suffix = secret.get(at..)?;
    let random = suffix.strip_prefix('-')?;
    let no_word = random.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    (no_word && random.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_ends_as_an_arn_does_is_told() {
        let said = |secret: &str| SourceError::new(SourceErrorKind::SecretNotFound, secret).to_string();
        assert!(
            said("shop/app-AbCdEf")
                .ends_with("; if \"-AbCdEf\" is the random suffix of its ARN, leave it out, since a name has none")
        );
        for other in [
            "shop/app-worker",
            "shop/app",
            "-",
            "é-AbCdE",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf",
        ] {
            assert!(!said(other).contains("suffix"), "{other}");
        }
    }
}
