//! Credentials of identities other than the operator's own.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, SharedCredentialsProvider, future};
use kube::Client;
use tokio::time::timeout;

use crate::domain::secret::identity::{Role, ServiceAccountIdentity, session_name};
use crate::kubernetes::service_account::{request_token, role_arn};

/// How long Kubernetes may take to answer a ServiceAccount or its token.
const KUBERNETES_TIMEOUT: Duration = Duration::from_secs(10);

/// Credentials of a role that the operator assumes from its own identity.
pub async fn assume_role(config: &SdkConfig, role: &Role) -> SharedCredentialsProvider {
    let mut builder =
        AssumeRoleProvider::builder(&role.arn).configure(config).session_name(session_name(&role.namespace));
    if let Some(region) = config.region() {
        builder = builder.region(region.clone());
    }
    if let Some(id) = &role.external_id {
        builder = builder.external_id(id);
    }
    if role.tags {
        builder =
            builder.tags([("bindery-namespace", role.namespace.as_str()), ("bindery-grant", role.grant.as_str())]);
    }
    SharedCredentialsProvider::new(builder.build().await)
}

/// Credentials for a ServiceAccount, by [TokenRequest] and [AssumeRoleWithWebIdentity]. The token stays in memory for
/// one request.
///
/// [TokenRequest]: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/
/// [AssumeRoleWithWebIdentity]: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
pub struct ServiceAccountCredentials {
    kubernetes: Client,
    sts: aws_sdk_sts::Client,
    account: ServiceAccountIdentity,
}

impl ServiceAccountCredentials {
    /// Credentials for `account`. The token replaces the credentials of `config`.
    #[must_use]
    pub fn new(kubernetes: Client, config: &SdkConfig, account: ServiceAccountIdentity) -> Self {
        let mut unsigned = config.to_builder();
        unsigned.set_credentials_provider(None);
        let unsigned = unsigned.build();
        Self { kubernetes, sts: aws_sdk_sts::Client::new(&unsigned), account }
    }

    async fn role(&self) -> std::result::Result<String, CredentialsError> {
        if let Some(arn) = &self.account.role_arn {
            return Ok(arn.clone());
        }
        let ServiceAccountIdentity { namespace, name, .. } = &self.account;
        let role = match timeout(KUBERNETES_TIMEOUT, role_arn(&self.kubernetes, namespace, name)).await {
            Ok(Ok(role)) => role,
            Ok(Err(error)) => return Err(refused("ServiceAccount", &error)),
            Err(_) => return Err(CredentialsError::provider_timed_out(KUBERNETES_TIMEOUT)),
        };
        role.ok_or_else(|| {
            CredentialsError::invalid_configuration(CredentialsCause("ServiceAccountWithoutRole".to_owned()))
        })
    }

    async fn credentials(&self) -> Result {
        let role = self.role().await?;
        let ServiceAccountIdentity { namespace, name, .. } = &self.account;
        let token = match timeout(KUBERNETES_TIMEOUT, request_token(&self.kubernetes, namespace, name)).await {
            Ok(Ok(token)) => token,
            Ok(Err(error)) => return Err(refused("TokenRequest", &error)),
            Err(_) => return Err(CredentialsError::provider_timed_out(KUBERNETES_TIMEOUT)),
        };
        let answer = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name(session_name(namespace))
            .web_identity_token(token.as_str())
            .send()
            .await
            .map_err(CredentialsError::provider_error)?;
        let given = answer
            .credentials
            .ok_or_else(|| CredentialsError::unhandled(CredentialsCause("NoCredentials".to_owned())))?;
        let mut credentials = Credentials::builder()
            .access_key_id(given.access_key_id)
            .secret_access_key(given.secret_access_key)
            .session_token(given.session_token)
            .provider_name("bindery-service-account");
        credentials.set_expiry(SystemTime::try_from(given.expiration).ok());
        Ok(credentials.build())
    }
}

impl fmt::Debug for ServiceAccountCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountCredentials").field("account", &self.account).finish_non_exhaustive()
    }
}

impl ProvideCredentials for ServiceAccountCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

/// A credentials failure outside AWS, as a short code in the style of AWS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CredentialsCause(pub String);

fn refused(what: &str, error: &kube::Error) -> CredentialsError {
    let code = match error {
        kube::Error::Api(status) => status.code.to_string(),
        _ => "Unavailable".to_owned(),
    };
    CredentialsError::provider_error(CredentialsCause(format!("{what}{code}")))
}
