//! The attempts of one call. The SDK repeats a call by itself.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{FinalizerInterceptorContextRef, InterceptorContext};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use crate::aws::classify::is_throttling;

/// Counts the attempts of one call whose request may have reached AWS and whose answer did not arrive whole. AWS may
/// count each as a read of the value.
#[derive(Clone, Debug, Default)]
pub struct LostAttempts(Arc<AtomicU32>);

impl LostAttempts {
    /// The number of lost attempts.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[dyn_dispatch_hint]
impl Intercept for LostAttempts {
    fn name(&self) -> &'static str {
        "LostAttempts"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // A success that the SDK cannot parse may contain the value.
        let succeeded = context.response().is_some_and(|response| response.status().is_success());
        if let Some(Err(error)) = context.output_or_error()
            && (succeeded || is_lost(error))
        {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Forbids the SDK to repeat a throttled call. The [rate limit](crate::aws::rate_limit) of the identity slows down
/// before the next attempt.
#[derive(Debug)]
pub struct ThrottlingIsPaced;

impl ClassifyRetry for ThrottlingIsPaced {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let answer = context.response().filter(|response| !response.status().is_success());
        let code = answer.and_then(|answer| answer.body().bytes()).and_then(error_code);
        match code {
            Some(code) if is_throttling(&code) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "ThrottlingIsPaced"
    }

    fn priority(&self) -> RetryClassifierPriority {
        // This classifier overrides the others.
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

/// The code of an error in the [AWS JSON protocol](https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html).
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Fault {
        #[serde(rename = "__type", alias = "code")]
        code: String,
    }
    let fault: Fault = serde_json::from_slice(body).ok()?;
    fault.code.rsplit('#').next().map(str::to_owned)
}

fn is_lost<E: StdError + 'static>(error: &OrchestratorError<E>) -> bool {
    if error.is_timeout_error() || error.is_response_error() {
        return true;
    }
    error.as_connector_error().is_some_and(|error| !error.is_user() && !never_connected(error))
}

/// Whether no connection opened, so that no request was sent.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let mut current = Some(error);
    while let Some(error) = current {
        if error.is::<CredentialsError>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), AddrNotAvailable | ConnectionRefused | HostUnreachable | NetworkUnreachable)
        {
            return true;
        }
        current = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_throttled_call_is_found_in_its_forms() {
        for (body, throttled) in [
            (r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#, true),
            (r#"{"__type":"com.amazonaws.secretsmanager#ThrottlingException"}"#, true),
            (r#"{"__type":"InternalServiceError"}"#, false),
            ("<html>", false),
            ("", false),
        ] {
            assert_eq!(error_code(body.as_bytes()).is_some_and(|code| is_throttling(&code)), throttled, "{body}");
        }
    }
}
