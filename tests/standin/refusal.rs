//! An error as Secrets Manager answers it.

use std::borrow::Cow;

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: Cow<'static, str>,
    pub message: String,
}

impl Refusal {
    /// An error of any code, as a fault of a test has it. What lies with AWS itself is a 500.
    pub fn of(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let code = code.into();
        let status = match code.as_ref() {
            "InternalServiceError" | "InternalFailure" => 500,
            "ServiceUnavailable" | "ServiceUnavailableException" => 503,
            _ => 400,
        };
        Self { status, code, message: message.into() }
    }

    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::of("InvalidRequestException", message)
    }

    pub fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::of("InvalidParameterException", message)
    }

    /// What the front of every AWS service refuses by the bounds of the API's model, before the service sees it.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::of("ValidationException", message)
    }

    /// A bound of the API's model that a member does not keep.
    pub fn constraint(member: &str, constraint: &str) -> Self {
        let mut letters = member.chars();
        let first = letters.next().map(|letter| letter.to_ascii_lowercase());
        let member: String = first.into_iter().chain(letters).collect();
        Self::validation(format!(
            "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must {constraint}"
        ))
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::of("ResourceNotFoundException", message)
    }

    pub fn no_secret() -> Self {
        Self::not_found("Secrets Manager can't find the specified secret.")
    }

    pub fn exists(message: impl Into<String>) -> Self {
        Self::of("ResourceExistsException", message)
    }

    pub fn marked_for_deletion() -> Self {
        Self::invalid_request("You can't perform this operation on the secret because it was marked for deletion.")
    }

    pub fn throttled() -> Self {
        Self::of("ThrottlingException", "Rate exceeded")
    }

    /// What IAM says where a policy is missing; `resource` is none for operations that know no resource.
    pub fn denied(account: &str, operation: &str, resource: Option<&str>, policy: &str) -> Self {
        let on = resource.map(|resource| format!(" on resource: {resource}")).unwrap_or_default();
        Self::of(
            "AccessDeniedException",
            format!(
                "User: arn:aws:sts::{account}:assumed-role/standin/session is not authorized to perform: \
                 secretsmanager:{operation}{on} because no {policy} policy allows the secretsmanager:{operation} action"
            ),
        )
    }

    /// What the stand-in does not model fails loudly, so that no test passes on a guess.
    pub fn not_modelled(what: &str) -> Self {
        Self { status: 501, code: "NotModelled".into(), message: format!("the stand-in does not model {what}") }
    }
}
