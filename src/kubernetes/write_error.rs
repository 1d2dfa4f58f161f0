//! Why Kubernetes did not take a write.

use std::fmt;

use kube::core::Status;

use crate::api::Reason;

/// Why Kubernetes did not take a write. The API server's own text stays out of it, since it can quote a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object is not as it was observed: it is observed again.
    #[error("the Secret changed while it was being written; it is tried again")]
    Raced,
    /// RBAC.
    #[error(
        "Kubernetes does not allow {} to write the Secret {name:?}; give it the verbs get, create and patch on secrets in this namespace",
        .user.as_deref().unwrap_or("the operator's ServiceAccount")
    )]
    Forbidden {
        /// The Secret.
        name: String,
        /// Who was refused.
        user: Option<String>,
    },
    /// The type, or an immutable Secret.
    #[error(
        "the Secret {name:?} cannot be changed ({field} is immutable); delete it and it is published anew, or correct spec.target"
    )]
    Immutable {
        /// The Secret.
        name: String,
        /// The field that Kubernetes refuses to change.
        field: String,
    },
    /// Validation.
    #[error(
        "Kubernetes refuses the Secret {name:?} as invalid in {field}; correct spec.target or the keys that its type needs"
    )]
    Invalid {
        /// The Secret.
        name: String,
        /// The fields that Kubernetes names.
        field: String,
    },
    /// A resource quota.
    #[error(
        "the ResourceQuota{} of the namespace leaves no room for the Secret {name:?}; raise the quota or delete other Secrets",
        Name(.quota.as_deref())
    )]
    Quota {
        /// The Secret.
        name: String,
        /// The quota.
        quota: Option<String>,
    },
    /// An admission policy or webhook.
    #[error(
        "the admission policy or webhook{} refuses the Secret {name:?}; ask whoever manages the policies of the cluster",
        Name(.by.as_deref())
    )]
    Admission {
        /// The Secret.
        name: String,
        /// The policy or webhook.
        by: Option<String>,
    },
    /// The namespace goes away.
    #[error("the namespace is being deleted, so the Secret {0:?} is not written any more")]
    Terminating(String),
    /// The request is larger than the API server takes.
    #[error(
        "the Secret {0:?} is larger than the API server takes; publish fewer keys or split it over several bindings"
    )]
    TooLarge(String),
    /// Anything else.
    #[error("the Secret {name:?} could not be written: {what}; it is tried again")]
    Failed {
        /// The Secret.
        name: String,
        /// The kind of failure.
        what: String,
    },
}

impl WriteError {
    /// The reason in the condition `Applied`.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Raced | Self::Failed { .. } => Reason::ApplyFailed,
            Self::Forbidden { .. } => Reason::TargetForbidden,
            Self::Immutable { .. } => Reason::TargetImmutable,
            Self::Invalid { .. } => Reason::TargetInvalid,
            Self::Quota { .. } => Reason::QuotaExceeded,
            Self::Admission { .. } => Reason::AdmissionDenied,
            Self::Terminating(_) => Reason::NamespaceTerminating,
            Self::TooLarge(_) => Reason::TooLarge,
        }
    }

    /// What the answer of the API server to a write of the Secret `name` means.
    #[must_use]
    pub fn of(name: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(name, status),
            _ => Self::Failed { name: name.to_owned(), what: "the API server did not answer".to_owned() },
        }
    }

    fn of_status(name: &str, status: &Status) -> Self {
        let name = name.to_owned();
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        let terminating = causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
        // First of all, since a policy or webhook chooses both the code and the words of its refusal.
        if status.message.contains(" denied request: ") || status.message.contains(" denied the request") {
            return Self::Admission { name, by: refuser(&status.message) };
        }
        match status.code {
            409 => Self::Raced,
            404 => Self::Terminating(name),
            403 if terminating => Self::Terminating(name),
            403 if status.message.contains(" is forbidden: exceeded quota: ") => {
                Self::Quota { name, quota: name_behind(&status.message, "exceeded quota: ", ',') }
            }
            // The words of RBAC; anything else that forbids came later, from admission.
            403 if status.message.contains(" is forbidden: User \"") => {
                Self::Forbidden { name, user: name_behind(&status.message, " is forbidden: User \"", '"') }
            }
            403 => Self::Admission { name, by: None },
            413 => Self::TooLarge(name),
            422 => {
                let immutable = causes.iter().find(|cause| cause.message.contains("immutable"));
                let field = |text: &str| bounded_path(text);
                if let Some(cause) = immutable {
                    return Self::Immutable { name, field: field(&cause.field) };
                }
                let mut fields: Vec<String> = causes.iter().map(|cause| field(&cause.field)).collect();
                fields.dedup();
                Self::Invalid { name, field: fields.join(", ") }
            }
            code => Self::Failed { name, what: format!("the API server answered {code}") },
        }
    }
}

/// The policy or webhook that a refusal names at its begin.
fn refuser(message: &str) -> Option<String> {
    name_behind(message, "admission webhook \"", '"')
        .or_else(|| name_behind(message, "ValidatingAdmissionPolicy '", '\''))
}

/// The name between two marks of the API server's own text, if it is the name of an object or user: their characters
/// cannot carry what else the text says.
fn name_behind(message: &str, before: &str, after: char) -> Option<String> {
    let (name, _) = message.split_once(before)?.1.split_once(after)?;
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':');
    (!name.is_empty() && name.len() <= 253 && name.chars().all(sound)).then(|| name.to_owned())
}

/// A name in a message, if it is known.
struct Name<'a>(Option<&'a str>);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " {name:?}"))
    }
}

/// A field path holds names of fields and keys; it is cut so that it cannot carry more.
fn bounded_path(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::response::{StatusCause, StatusDetails};

    fn status(code: u16, message: &str, causes: &[(&str, &str, &str)]) -> Status {
        let causes = causes
            .iter()
            .map(|(reason, message, field)| StatusCause {
                reason: (*reason).to_owned(),
                message: (*message).to_owned(),
                field: (*field).to_owned(),
            })
            .collect();
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes,
            retry_after_seconds: 0,
        };
        Status { code, message: message.to_owned(), details: Some(details), ..Status::default() }
    }

    #[test]
    fn a_refusal_names_who_refused_and_who_was_refused() {
        for (code, text, named) in [
            (
                403,
                "secrets \"s\" is forbidden: User \"system:serviceaccount:b:bindery\" cannot patch",
                "system:serviceaccount:b:bindery",
            ),
            (403, "secrets \"s\" is forbidden: exceeded quota: small, requested: secrets=1", "\"small\""),
            (400, "admission webhook \"check.example.com\" denied the request: hunter2", "\"check.example.com\""),
            (
                422,
                "secrets \"s\" is forbidden: ValidatingAdmissionPolicy 'no-x' with binding 'b' denied request: hunter2",
                "\"no-x\"",
            ),
            (400, "admission webhook \"Hunter2 x\" denied the request: ", "webhook refuses"),
        ] {
            let error = WriteError::of_status("worker", &status(code, text, &[])).to_string();
            assert!(error.contains(named) && !error.to_lowercase().contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn each_refusal_of_the_api_server_has_its_reason_and_none_of_its_text() {
        for (answer, reason) in [
            (status(409, "hunter2", &[]), Reason::ApplyFailed),
            (
                status(403, "secrets \"s\" is forbidden: User \"x\" cannot patch resource \"secrets\" hunter2", &[]),
                Reason::TargetForbidden,
            ),
            (status(403, "secrets \"s\" is forbidden: exceeded quota: q, hunter2", &[]), Reason::QuotaExceeded),
            (
                status(403, "hunter2", &[("NamespaceTerminating", "", "metadata.namespace")]),
                Reason::NamespaceTerminating,
            ),
            (status(403, "policy says hunter2", &[]), Reason::AdmissionDenied),
            (status(422, "ValidatingAdmissionPolicy 'p' denied request: hunter2", &[]), Reason::AdmissionDenied),
            (status(404, "namespaces \"n\" not found hunter2", &[]), Reason::NamespaceTerminating),
            (status(413, "hunter2", &[]), Reason::TooLarge),
            (
                status(
                    422,
                    "hunter2",
                    &[("FieldValueInvalid", "Invalid value: \"hunter2\": field is immutable", "type")],
                ),
                Reason::TargetImmutable,
            ),
            (
                status(422, "hunter2", &[("FieldValueRequired", "Required value hunter2", "data[tls.crt]")]),
                Reason::TargetInvalid,
            ),
            (status(500, "hunter2", &[]), Reason::ApplyFailed),
        ] {
            let error = WriteError::of_status("worker", &answer);
            assert_eq!(error.reason(), reason, "{answer:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
