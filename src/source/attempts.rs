//! Attempts within one call of the SDK, which repeats a call by itself.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::FinalizerInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Counts the attempts of one call whose request may have reached AWS and whose answer did not arrive whole: AWS may
/// count each of them as a read of the value.
#[derive(Clone, Debug, Default)]
pub struct LostAttempts(Arc<AtomicU32>);

impl LostAttempts {
    /// How many there were.
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
        // An answer that AWS means as a success, and that cannot be understood, may hold the value.
        let succeeded = context.response().is_some_and(|response| response.status().is_success());
        if let Some(Err(error)) = context.output_or_error()
            && (succeeded || is_lost(error))
        {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn is_lost<E: StdError + 'static>(error: &OrchestratorError<E>) -> bool {
    if error.is_timeout_error() || error.is_response_error() {
        return true;
    }
    error.as_connector_error().is_some_and(|error| !error.is_user() && !never_connected(error))
}

/// Whether no connection was made, so that nothing was sent.
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
