//! Credentials of identities other than the operator's own. A failure names the role or the ServiceAccount.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};
use kube::Client;
use tokio::time::timeout;

use crate::aws::own_credentials::OwnCredentials;
use crate::aws::own_credentials::fault::{CredentialsFault, FailedLink, named_fault};
use crate::aws::own_credentials::signs::role_fault;
use crate::aws::sts_failure::StsFailure;
use crate::domain::secret::identity::{Role, ServiceAccountIdentity, session_name};
use crate::kubernetes::service_account::{ROLE_ANNOTATION, request_token, role_arn};

/// How long Kubernetes may take to answer a ServiceAccount or its token.
const KUBERNETES_TIMEOUT: Duration = Duration::from_secs(10);

/// Credentials of a role that the operator assumes from its own identity.
#[derive(Debug)]
pub struct RoleCredentials {
    provider: AssumeRoleProvider,
    own: OwnCredentials,
    role: Role,
    region: String,
}

impl RoleCredentials {
    /// Credentials of `role`, by those of `own`, which are also those of `config`.
    pub async fn new(config: &SdkConfig, own: OwnCredentials, role: Role) -> Self {
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
        Self { provider: builder.build().await, own, role, region: region_of(config) }
    }

    async fn credentials(&self) -> Result {
        let error = match self.provider.provide_credentials().await {
            Ok(credentials) => return Ok(credentials),
            Err(error) => error,
        };
        let what = if let Some(fault) = named_fault(&error) {
            format!("cannot be had: {fault}")
        } else {
            let external = if self.role.external_id.is_some() { ", with the external id of the grant" } else { "" };
            let tags = if self.role.tags { ", and sts:TagSession" } else { "" };
            let trust = format!("sts:AssumeRole to the operator's own identity{external}{tags}");
            let why = StsFailure::explain(&error, &trust, &self.region);
            format!("{why} (asked for with {})", self.own.describe())
        };
        let fault = CredentialsFault::Link { link: link_of_role(&self.role), what };
        Err(FailedLink::new(fault, Some(error)).into())
    }
}

impl ProvideCredentials for RoleCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

/// How a message names the role of a grant.
#[must_use]
pub fn link_of_role(role: &Role) -> String {
    format!("the role {} of the SecretGrant {:?}", role.arn, role.grant)
}

/// How a message names the ServiceAccount of a grant.
#[must_use]
pub fn link_of_account(account: &ServiceAccountIdentity) -> String {
    format!("the ServiceAccount {}/{}", account.namespace, account.name)
}

fn region_of(config: &SdkConfig) -> String {
    config.region().map_or_else(|| "(none)".to_owned(), ToString::to_string)
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
    region: String,
}

impl ServiceAccountCredentials {
    /// Credentials for `account`. The token replaces the credentials of `config`.
    #[must_use]
    pub fn new(kubernetes: Client, config: &SdkConfig, account: ServiceAccountIdentity) -> Self {
        let mut unsigned = config.to_builder();
        unsigned.set_credentials_provider(None);
        let unsigned = unsigned.build();
        Self { kubernetes, sts: aws_sdk_sts::Client::new(&unsigned), account, region: region_of(config) }
    }

    fn fault(&self, what: impl Into<String>) -> CredentialsError {
        let link = link_of_account(&self.account);
        FailedLink::from(CredentialsFault::Link { link, what: what.into() }).into()
    }

    async fn role(&self) -> std::result::Result<String, CredentialsError> {
        if let Some(arn) = &self.account.role_arn {
            return Ok(arn.clone());
        }
        let ServiceAccountIdentity { namespace, name, .. } = &self.account;
        let role = match timeout(KUBERNETES_TIMEOUT, role_arn(&self.kubernetes, namespace, name)).await {
            Ok(Ok(role)) => role,
            Ok(Err(error)) => return Err(self.fault(refused("be read", &error))),
            Err(_) => return Err(self.fault(LATE)),
        };
        let role = role.ok_or_else(|| {
            self.fault(format!("has no annotation {ROLE_ANNOTATION}, and the SecretGrant no roleArn; set one of them"))
        })?;
        match role_fault(&role) {
            Some(what) => {
                Err(self.fault(format!("has an annotation {ROLE_ANNOTATION} that {what}; correct the annotation")))
            }
            None => Ok(role),
        }
    }

    async fn credentials(&self) -> Result {
        let role = self.role().await?;
        let ServiceAccountIdentity { namespace, name, .. } = &self.account;
        let token = match timeout(KUBERNETES_TIMEOUT, request_token(&self.kubernetes, namespace, name)).await {
            Ok(Ok(token)) => token,
            Ok(Err(error)) => return Err(self.fault(refused("be asked for a token", &error))),
            Err(_) => return Err(self.fault(LATE)),
        };
        let answer = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(&role)
            .role_session_name(session_name(namespace))
            .web_identity_token(token.as_str())
            .send()
            .await
            .map_err(|error| self.not_given(&role, CredentialsError::provider_error(error)))?;
        let given = answer.credentials.ok_or_else(|| self.fault("got no credentials by the answer of STS"))?;
        let mut credentials = Credentials::builder()
            .access_key_id(given.access_key_id)
            .secret_access_key(given.secret_access_key)
            .session_token(given.session_token)
            .provider_name("bindery-service-account");
        credentials.set_expiry(SystemTime::try_from(given.expiration).ok());
        Ok(credentials.build())
    }
}

impl ServiceAccountCredentials {
    fn not_given(&self, role: &str, error: CredentialsError) -> CredentialsError {
        let ServiceAccountIdentity { namespace, name, .. } = &self.account;
        let trust =
            format!("sts:AssumeRoleWithWebIdentity to the subject \"system:serviceaccount:{namespace}:{name}\"");
        let what = StsFailure::explain(&error, &trust, &self.region);
        let link = format!("{} with the role {role}", link_of_account(&self.account));
        FailedLink::new(CredentialsFault::Link { link, what }, Some(error)).into()
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

const LATE: &str = "cannot be looked at: the API server has not answered in time";

/// What is wrong where Kubernetes does not give what is asked for.
fn refused(what: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 => "does not exist; create it".to_owned(),
        kube::Error::Api(status) if status.code == 403 => {
            format!("may not {what} by the operator; set rbac.serviceAccountTokens in the chart")
        }
        kube::Error::Api(status) => format!("could not {what}: the API server answered {}", status.code),
        _ => format!("could not {what}: the API server cannot be reached"),
    }
}
