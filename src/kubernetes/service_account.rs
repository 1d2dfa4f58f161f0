//! ServiceAccounts as identities at AWS: their role and their tokens.

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use zeroize::Zeroizing;

/// The annotation by which [IRSA] names the role of a ServiceAccount.
///
/// [IRSA]: https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
pub const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// The role that the annotation of a ServiceAccount names; `None` where it names none.
///
/// # Errors
/// Where the API server refuses the read.
pub async fn role_arn(client: &Client, namespace: &str, name: &str) -> Result<Option<String>, kube::Error> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    Ok(api.get_metadata(name).await?.annotations().get(ROLE_ANNOTATION).cloned())
}

/// Asks for a token of a ServiceAccount that AWS STS takes, for ten minutes, the shortest that Kubernetes gives.
///
/// # Errors
/// What Kubernetes refuses.
pub async fn request_token(client: &Client, namespace: &str, account: &str) -> Result<Zeroizing<String>, kube::Error> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec!["sts.amazonaws.com".to_owned()],
            expiration_seconds: Some(600),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = api.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(Zeroizing::new(answer.status.map(|status| status.token).unwrap_or_default()))
}
