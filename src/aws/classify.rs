//! The classification of AWS errors: a code becomes a [`SourceErrorKind`].

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use k8s_openapi::jiff::Timestamp;

use crate::aws::credentials::CredentialsCause;
use crate::aws::own_credentials::named_fault;
use crate::domain::secret::error::{SourceError, SourceErrorKind};

/// AWS takes requests whose time is off by less than five minutes, in seconds.
const MOST_SKEW: u64 = 240;

/// An operation that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOperation {
    /// `PutSecretValue`.
    Put,
    /// `UpdateSecretVersionStage`.
    MoveStage,
    /// `RotateSecret`.
    Rotate,
}

impl WriteOperation {
    /// AWS's name of the operation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "PutSecretValue",
            Self::MoveStage => "UpdateSecretVersionStage",
            Self::Rotate => "RotateSecret",
        }
    }
}

/// Classifies the error of a call of the SDK.
#[must_use]
pub fn from_sdk<E>(secret: &str, error: &SdkError<E, HttpResponse>) -> SourceError
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let (of_credentials, credentials_request) = credentials_failure(error);
    let code = error.code().or(of_credentials.as_deref()).map(bounded_code);
    let request_id = error.request_id().or(credentials_request.as_deref()).map(bounded_code);
    let fault = credentials_fault(error);
    let kind = match error {
        _ if fault.is_some() => SourceErrorKind::CredentialsFailed,
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            classify(error.code(), error.message().unwrap_or_default(), status)
        }
        SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) if has_credentials_error(error) => {
            SourceErrorKind::CredentialsFailed
        }
        SdkError::ConstructionFailure(_) => SourceErrorKind::InvalidReference,
        _ => SourceErrorKind::Unavailable,
    };
    let fault = fault.or_else(|| (kind == SourceErrorKind::CredentialsFailed).then(|| clock_fault(error)).flatten());
    let fault = fault.or_else(|| (kind == SourceErrorKind::Unavailable && code.is_none()).then(unanswered));
    let principal = error.message().and_then(principal).or_else(|| refused_by_sts(error));
    SourceError { code, request_id, fault, ..SourceError::new(kind, secret) }.refused(principal)
}

/// What is said where nothing came back.
fn unanswered() -> String {
    let endpoint = ["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"].into_iter().find_map(|name| {
        let url = std::env::var(name).ok().filter(|url| !url.is_empty() && !url.contains('@') && url.len() <= 200)?;
        Some(format!("the endpoint {} of {name}", url.escape_default()))
    });
    let endpoint = endpoint.unwrap_or_else(|| "the endpoint of Secrets Manager".to_owned());
    format!(
        "no answer came from {endpoint}: if it lasts, look at the name of the region, DNS, route, proxy, TLS and the VPC endpoint"
    )
}

/// The principal that STS refused to let assume a role, from deep in the chain of causes.
fn refused_by_sts(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut current = Some(error);
    while let Some(error) = current {
        let message = match error.downcast_ref::<AssumeRoleError>() {
            Some(error) => error.message(),
            None => error.downcast_ref::<AssumeRoleWithWebIdentityError>().and_then(ProvideErrorMetadata::message),
        };
        if let Some(principal) = message.and_then(principal) {
            return Some(principal);
        }
        current = error.source();
    }
    None
}

/// The principal that a denial of AWS names. Nothing else of AWS's text is used.
fn principal(message: &str) -> Option<String> {
    const LONGEST: usize = 2048;
    let arn = message.strip_prefix("User: ")?.split(' ').next()?;
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [arn_word, partition, service, region, account, resource] = parts[..] else { return None };
    let sound = arn_word == "arn"
        && partition.starts_with("aws")
        && matches!(service, "sts" | "iam")
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && resource.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+=,.@_-:".contains(&b));
    (sound && arn.len() <= LONGEST && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        .then(|| arn.to_owned())
}

/// What is wrong with the credentials, from deep in the chain of causes.
fn credentials_fault(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(fault) = named_fault(error) {
            return Some(fault.to_string());
        }
        current = error.source();
    }
    None
}

/// How far the clock is off, by the date of AWS's answer, where that is too far for AWS.
fn clock_fault<E>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    let date = error.raw_response()?.headers().get("date")?;
    let theirs = DateTime::from_str(date, Format::HttpDate).ok()?.secs();
    let ours = Timestamp::now().as_second();
    let off = ours.abs_diff(theirs);
    let way = if ours > theirs { "ahead of" } else { "behind" };
    (off >= MOST_SKEW)
        .then(|| format!("the clock of this node is about {} minutes {way} AWS's; set it by NTP", off / 60))
}

/// Classifies the error of one secret in a batch.
#[must_use]
pub fn of_item(secret: &str, code: Option<&str>, message: Option<&str>, request_id: Option<String>) -> SourceError {
    let kind = classify(code, message.unwrap_or_default(), 400);
    let principal = message.and_then(principal);
    SourceError { code: code.map(bounded_code), request_id, ..SourceError::new(kind, secret) }.refused(principal)
}

/// Refines the error of a write. AWS uses the same codes for several operations.
#[must_use]
pub fn of_write(error: SourceError, write: WriteOperation) -> SourceError {
    use SourceErrorKind as K;
    let code = error.code.as_deref().unwrap_or_default();
    let kind = match (error.kind, write) {
        (K::AccessDenied, _) => K::WriteDenied,
        (K::Unavailable, _) if code == "ResourceExistsException" => K::TokenTaken,
        (K::Unavailable, _) if code == "LimitExceededException" => K::LimitExceeded,
        // AWS documents EncryptionFailure for PutSecretValue alone.
        (K::Unavailable, WriteOperation::Put) if code == "EncryptionFailure" => K::DecryptionFailed,
        (K::InvalidReference, WriteOperation::MoveStage) => K::StageMoved,
        (K::Unavailable, WriteOperation::MoveStage) if code == "InvalidRequestException" => K::StageMoved,
        (K::InvalidReference, WriteOperation::Rotate) => K::NotRotatable,
        (K::Unavailable, WriteOperation::Rotate) if code == "InvalidRequestException" => K::NotRotatable,
        (kind, _) => kind,
    };
    SourceError { kind, ..error }
}

/// Cuts a code or an id to a short token, so that it cannot carry text of a payload.
fn bounded_code(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')).take(64).collect()
}

fn has_credentials_error(error: &(dyn StdError + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        if error.is::<CredentialsError>() {
            return true;
        }
        current = error.source();
    }
    false
}

/// The code and the request id of a credentials failure, from deep in the chain of causes.
fn credentials_failure(error: &(dyn StdError + 'static)) -> (Option<String>, Option<String>) {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(error) = error.downcast_ref::<AssumeRoleError>() {
            return (error.code().map(str::to_owned), error.meta().request_id().map(str::to_owned));
        }
        if let Some(error) = error.downcast_ref::<AssumeRoleWithWebIdentityError>() {
            return (error.code().map(str::to_owned), error.meta().request_id().map(str::to_owned));
        }
        if let Some(CredentialsCause(code)) = error.downcast_ref::<CredentialsCause>() {
            return (Some(code.clone()), None);
        }
        current = error.source();
    }
    (None, None)
}

/// The table of error codes. Codes are those of the [Secrets Manager API][api] and of [AWS's common errors][common].
///
/// [api]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html#API_GetSecretValue_Errors
/// [common]: https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html
fn classify(code: Option<&str>, message: &str, status: u16) -> SourceErrorKind {
    let message = message.to_ascii_lowercase();
    // Some messages contain the name of the secret, so a phrase counts only at its known place.
    if message.starts_with("rate exceeded") {
        return SourceErrorKind::Throttled;
    }
    match code.unwrap_or_default() {
        "ResourceNotFoundException" => {
            if message.contains("staging label") || message.contains("versionid") || message.contains("version id") {
                SourceErrorKind::VersionNotFound
            } else {
                SourceErrorKind::SecretNotFound
            }
        }
        "InvalidRequestException" => {
            if message.contains("marked for deletion")
                || message.contains("marked deleted")
                || message.contains("scheduled for deletion")
            {
                SourceErrorKind::SecretPendingDeletion
            } else {
                // Another state of the secret can allow the request.
                SourceErrorKind::Unavailable
            }
        }
        "AccessDeniedException" | "AccessDenied" => {
            if message.starts_with("access to kms is not allowed") {
                SourceErrorKind::DecryptionFailed
            } else {
                SourceErrorKind::AccessDenied
            }
        }
        "DecryptionFailure" => SourceErrorKind::DecryptionFailed,
        "InvalidParameterException" | "ValidationException" => SourceErrorKind::InvalidReference,
        code if is_throttling(code) => SourceErrorKind::Throttled,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "OptInRequired" => SourceErrorKind::CredentialsFailed,
        _ if status == 429 => SourceErrorKind::Throttled,
        _ => SourceErrorKind::Unavailable,
    }
}

/// Whether the code means that AWS throttled the call.
pub(super) fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" | "SlowDown"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_contract_has_its_meaning() {
        use SourceErrorKind as K;
        for (code, message, status, kind) in [
            ("ResourceNotFoundException", "Secrets Manager can't find the specified secret.", 400, K::SecretNotFound),
            (
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret value for staging label: AWSPENDING",
                400,
                K::VersionNotFound,
            ),
            (
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret value for VersionId: 0123",
                400,
                K::VersionNotFound,
            ),
            (
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
                400,
                K::SecretPendingDeletion,
            ),
            (
                "AccessDeniedException",
                "User: arn:… is not authorized to perform: secretsmanager:GetSecretValue",
                400,
                K::AccessDenied,
            ),
            ("AccessDeniedException", "Access to KMS is not allowed", 400, K::DecryptionFailed),
            ("DecryptionFailure", "", 400, K::DecryptionFailed),
            ("ThrottlingException", "Rate exceeded", 400, K::Throttled),
            ("InvalidRequestException", "Rate exceeded (Service: AWSKMS)", 400, K::Throttled),
            ("ExpiredTokenException", "", 400, K::CredentialsFailed),
            ("UnrecognizedClientException", "", 400, K::CredentialsFailed),
            ("InvalidSignatureException", "Signature expired", 400, K::CredentialsFailed),
            ("InvalidParameterException", "", 400, K::InvalidReference),
            ("InternalServiceError", "", 500, K::Unavailable),
            ("SomethingNew", "", 400, K::Unavailable),
            ("", "", 429, K::Throttled),
            ("", "", 503, K::Unavailable),
        ] {
            assert_eq!(classify(Some(code), message, status), kind, "{code} {message} {status}");
        }
    }

    #[test]
    fn a_refused_write_means_what_its_operation_makes_of_the_code() {
        use SourceErrorKind as K;
        for (write, code, kind) in [
            (WriteOperation::Put, "AccessDeniedException", K::WriteDenied),
            (WriteOperation::Put, "ResourceExistsException", K::TokenTaken),
            (WriteOperation::Put, "LimitExceededException", K::LimitExceeded),
            (WriteOperation::Put, "EncryptionFailure", K::DecryptionFailed),
            (WriteOperation::Put, "InvalidParameterException", K::InvalidReference),
            (WriteOperation::MoveStage, "InvalidParameterException", K::StageMoved),
            (WriteOperation::MoveStage, "InvalidRequestException", K::StageMoved),
            (WriteOperation::MoveStage, "LimitExceededException", K::LimitExceeded),
            (WriteOperation::Rotate, "InvalidRequestException", K::NotRotatable),
            (WriteOperation::Rotate, "InternalServiceError", K::Unavailable),
            (WriteOperation::MoveStage, "ThrottlingException", K::Throttled),
        ] {
            let refused = of_write(of_item("s", Some(code), Some("hunter2"), None), write);
            assert_eq!(refused.kind, kind, "{write:?} {code}");
            assert!(!refused.to_string().contains("hunter2"));
        }
        let deleted = of_item("s", Some("InvalidRequestException"), Some("was marked for deletion"), None);
        assert_eq!(of_write(deleted, WriteOperation::MoveStage).kind, K::SecretPendingDeletion);
    }

    #[test]
    fn a_secret_named_like_a_phrase_of_aws_does_not_change_the_meaning_of_a_denial() {
        let message = "User: arn:aws:sts::1:x is not authorized on resource: access to kms is not allowed";
        assert_eq!(classify(Some("AccessDeniedException"), message, 400), SourceErrorKind::AccessDenied);
    }

    #[test]
    fn a_clock_that_is_off_by_ten_minutes_is_said_to_be() {
        use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
        use aws_smithy_types::body::SdkBody;
        use aws_smithy_types::error::ErrorMetadata;
        for (code, off, said) in [
            ("RequestTimeTooSkewed", -600, Some("10 minutes ahead of")),
            ("InvalidSignatureException", 600, Some("behind")),
            ("ExpiredTokenException", 0, None),
        ] {
            let mut answer = HttpResponse::new(400.try_into().unwrap(), SdkBody::empty());
            let date = DateTime::from_secs(Timestamp::now().as_second() + off).fmt(Format::HttpDate).unwrap();
            answer.headers_mut().insert("date", date);
            let meta = ErrorMetadata::builder().code(code).message("hunter2").build();
            let error = from_sdk("app", &SdkError::service_error(GetSecretValueError::generic(meta), answer));
            assert_eq!(error.kind, SourceErrorKind::CredentialsFailed, "{code}");
            let text = error.to_string();
            assert_eq!(text.contains("the clock of this node"), said.is_some(), "{text}");
            assert!(said.is_none_or(|said| text.contains(said)) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_denial_names_the_principal_that_was_refused_and_nothing_else_of_the_text() {
        let of = |text: &str| of_item("s", Some("AccessDeniedException"), Some(text), None);
        let arn = "arn:aws:sts::123456789012:assumed-role/bindery/bindery-shop";
        let denied = of(&format!("User: {arn} is not authorized to perform: x on resource: hunter2 because"));
        assert_eq!(denied.principal(), Some(arn));
        assert!(!denied.to_string().contains("hunter2") && denied.to_string().contains(&format!("AWS refused {arn}")));
        for text in [
            "User: hunter2 is not",
            "User: arn:aws:sts::12345678901:x is",
            "User: arn:aws:s3::123456789012:x is",
            "User: arn:aws:sts::123456789012:hun\"ter2 is",
            "hunter2 User: arn:aws:sts::123456789012:x",
        ] {
            assert_eq!(of(text).principal(), None, "{text}");
        }
    }

    #[test]
    fn codes_and_ids_cannot_carry_text() {
        assert_eq!(bounded_code("abc-123"), "abc-123");
        assert_eq!(bounded_code("{\"DATABASE_URL\": \"postgres://u:p@h\"}").len(), "DATABASE_URLpostgres//uph".len());
        assert_eq!(bounded_code(&"x".repeat(1000)).len(), 64);
    }
}
