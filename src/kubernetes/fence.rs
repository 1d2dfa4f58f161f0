//! The test of the fence around the operator's own ServiceAccount: writes that its admission policies must refuse. Each is
//! a dry run, so that nothing comes of it where a policy does not stand.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Secret, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::timeout;

use crate::kubernetes::deadline::timed_out;

/// The time for one test.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of what is never made.
const NAME: &str = "bindery-fence-test";

/// How the messages of the fence's policies begin, as the API server hands them on.
const REFUSAL: &str = " denied request: Bindery ";

/// A policy of the fence that a write can test. That of workloads is not among them: Bindery may make no workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FencePolicy {
    /// Which Secrets it writes.
    Secrets,
    /// Which tokens it asks for.
    Tokens,
    /// Which Jobs it makes.
    Jobs,
}

impl FencePolicy {
    /// Its name in logs, in metrics and on `/readyz`; that of the policy ends in it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Tokens => "tokens",
            Self::Jobs => "jobs",
        }
    }
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FenceTest {
    /// The policy refused the write.
    Holds,
    /// Nothing refused the write.
    Open,
    /// Something else kept the write from the policy; the text names it.
    Unknown(String),
}

impl FenceTest {
    fn of(result: Result<(), kube::Error>) -> Self {
        match result {
            Ok(()) => Self::Open,
            Err(kube::Error::Api(status)) if status.message.contains(REFUSAL) => Self::Holds,
            Err(kube::Error::Api(status)) => Self::Unknown(format!("the API server answered {}", status.code)),
            Err(_) => Self::Unknown("the API server did not answer".to_owned()),
        }
    }
}

/// Tries what a policy of the fence must refuse, as a dry run in this namespace.
pub async fn test_fence(client: &Client, namespace: &str, policy: FencePolicy) -> FenceTest {
    let tried = timeout(TEST_TIMEOUT, async {
        match policy {
            FencePolicy::Secrets => try_secret(client, namespace).await,
            FencePolicy::Tokens => try_token(client, namespace).await,
            FencePolicy::Jobs => try_job(client, namespace).await,
        }
    });
    FenceTest::of(tried.await.unwrap_or_else(|_| Err(timed_out())))
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn named() -> ObjectMeta {
    ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() }
}

/// A Secret without a mark.
async fn try_secret(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    api.create(&dry_run(), &Secret { metadata: named(), ..Secret::default() }).await.map(|_| ())
}

/// A token for an audience that nobody is.
async fn try_token(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let spec = TokenRequestSpec {
        audiences: vec![NAME.to_owned()],
        expiration_seconds: Some(600),
        ..TokenRequestSpec::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest { spec, ..TokenRequest::default() };
    api.create_token_request("default", &dry_run(), &request).await.map(|_| ())
}

/// A Job of nobody.
async fn try_job(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let container =
        Container { name: NAME.to_owned(), image: Some("example.invalid/none".to_owned()), ..Container::default() };
    let pod = PodSpec { containers: vec![container], restart_policy: Some("Never".to_owned()), ..PodSpec::default() };
    let template = PodTemplateSpec { spec: Some(pod), ..PodTemplateSpec::default() };
    let spec = JobSpec { suspend: Some(true), template, ..JobSpec::default() };
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    api.create(&dry_run(), &Job { metadata: named(), spec: Some(spec), ..Job::default() }).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_by_the_fence_itself_shows_that_it_holds() {
        let refused = |code: u16, message: &str| {
            Err(kube::Error::Api(Box::new(kube::core::Status::failure(message, "Forbidden").with_code(code))))
        };
        let by_policy = "secrets \"bindery-fence-test\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
        assert_eq!(FenceTest::of(refused(403, &format!("{by_policy}Bindery writes only Secrets"))), FenceTest::Holds);
        for other in [format!("{by_policy}no Secret without an owner"), "is forbidden: User \"x\"".to_owned()] {
            assert_eq!(
                FenceTest::of(refused(403, &other)),
                FenceTest::Unknown("the API server answered 403".to_owned())
            );
        }
        assert_eq!(FenceTest::of(Ok(())), FenceTest::Open);
    }
}
