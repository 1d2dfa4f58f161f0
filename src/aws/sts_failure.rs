//! The failures of STS inside failures of credentials: AWS's code, the way to cure it, and AWS's clock.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;

/// What STS answered when it was asked for a role.
#[derive(Debug, Default)]
pub struct StsFailure<'a> {
    /// AWS's error code.
    pub code: Option<&'a str>,
    /// AWS's text, of which only names may be used.
    pub message: Option<&'a str>,
    /// AWS's request id.
    pub request_id: Option<&'a str>,
    /// The answer as it came.
    pub answer: Option<&'a HttpResponse>,
}

impl<'a> StsFailure<'a> {
    /// The failure of STS among the causes of an error.
    #[must_use]
    pub fn within(error: &'a (dyn StdError + 'static)) -> Option<Self> {
        let mut current = Some(error);
        while let Some(error) = current {
            let found = of::<AssumeRoleError>(error).or_else(|| of::<AssumeRoleWithWebIdentityError>(error));
            if found.is_some() {
                return found;
            }
            current = error.source();
        }
        None
    }

    /// What is wrong when STS was asked for a role, and what cures it.
    #[must_use]
    pub fn explain(error: &CredentialsError, trust: &str, region: &str) -> String {
        let failure = StsFailure::within(error).unwrap_or_default();
        match failure.code {
            _ if failure.answer.is_some_and(|answer| answer.status().as_u16() >= 500) => {
                "cannot be had, since STS failed; it is asked again".to_owned()
            }
            Some("AccessDenied" | "AccessDeniedException") => {
                format!("is refused by STS: the role must exist, and its trust policy must allow {trust}")
            }
            Some("RegionDisabledException") => {
                format!("is refused, since STS is off in the region {region}; switch it on in the settings of the account")
            }
            Some("InvalidIdentityToken") => {
                format!("is refused by STS, which does not take the token: the account of the role needs an IAM OIDC provider of the token's issuer and audience, and the role must allow {trust}")
            }
            Some("ExpiredTokenException" | "ExpiredToken") => {
                "is refused by STS, by whose clock the token or session has ended; check the clock of this node and who renews it".to_owned()
            }
            Some("IDPCommunicationError") => {
                "is refused, since STS cannot reach the token's issuer; its keys must be public".to_owned()
            }
            Some("InvalidClientTokenId" | "UnrecognizedClientException" | "SignatureDoesNotMatch") => {
                "cannot be had, since STS refuses the credentials that ask for it; correct those".to_owned()
            }
            Some(_) => "is refused by STS".to_owned(),
            None => format!(
                "cannot be had, since STS cannot be reached in the region {region}; check the network, the proxy and the variable AWS_ENDPOINT_URL_STS, and restart the operator where a variable was wrong"
            ),
        }
    }
}

fn of<'a, E>(error: &'a (dyn StdError + 'static)) -> Option<StsFailure<'a>>
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let failed = error.downcast_ref::<SdkError<E, HttpResponse>>()?;
    let answered = failed.as_service_error();
    Some(StsFailure {
        code: answered.and_then(ProvideErrorMetadata::code),
        message: answered.and_then(ProvideErrorMetadata::message),
        request_id: answered.and_then(|error| error.meta().request_id()),
        answer: failed.raw_response(),
    })
}
