//! A call to SQS that failed: what it means and what to do about it.

use std::error::Error as StdError;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::aws::classify::from_sdk;
use crate::aws::events::address::QueueName;
use crate::domain::secret::error::SourceErrorKind;

/// The calls that Bindery makes to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Receive,
    Delete,
}

impl Call {
    pub(super) const fn operation(self) -> &'static str {
        match self {
            Self::Receive => "ReceiveMessage",
            Self::Delete => "DeleteMessageBatch",
        }
    }

    /// The right that the call needs.
    pub(super) const fn right(self) -> &'static str {
        match self {
            Self::Receive => "sqs:ReceiveMessage",
            Self::Delete => "sqs:DeleteMessage",
        }
    }

    pub(super) const fn cannot(self) -> &'static str {
        match self {
            Self::Receive => "cannot be read",
            Self::Delete => "gives its messages, which cannot be deleted",
        }
    }

    pub(super) const fn meanwhile(self) -> &'static str {
        match self {
            Self::Receive => "changes are found by the sweep until it can",
            Self::Delete => "they come again and are handled again until they can",
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) call: Call,
    pub(super) kind: SourceErrorKind,
    /// AWS's code, or a word of the same style where AWS gave none.
    pub(super) code: String,
}

impl Failed {
    pub(super) fn new<E>(call: Call, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let classified = from_sdk("", error);
        let code = classified.code.filter(|code| !code.is_empty()).unwrap_or_else(|| {
            let word = match error {
                SdkError::TimeoutError(_) => "TimedOut",
                SdkError::DispatchFailure(_) => "NotReached",
                SdkError::ConstructionFailure(_) => "NotSent",
                _ => "BadAnswer",
            };
            word.to_owned()
        });
        Self { call, kind: classified.kind, code }
    }

    /// What to do about it. Codes are those of the [SQS API][errors].
    ///
    /// [errors]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html#API_ReceiveMessage_Errors
    pub(super) fn cure(&self) -> String {
        let right = self.call.right();
        if self.code.starts_with("KMS.") || self.code.starts_with("Kms") {
            return "allow kms:Decrypt on the key of the queue and check that the key is enabled".to_owned();
        }
        match self.kind {
            SourceErrorKind::CredentialsFailed => {
                "check the operator's role, its token and its clock: it has no valid AWS credentials".to_owned()
            }
            SourceErrorKind::Throttled => "this passes by itself".to_owned(),
            SourceErrorKind::AccessDenied => format!("allow {right} on the queue, and check --events-queue-url"),
            _ if matches!(self.code.as_str(), "TimedOut" | "NotReached" | "BadAnswer") => {
                "check the way to SQS: network, proxy, endpoint".to_owned()
            }
            _ => format!("check --events-queue-url and the right {right}"),
        }
    }
}

pub(super) fn complaint(queue: &QueueName, failed: &Failed) -> String {
    let Failed { call, code, .. } = failed;
    format!("the queue {queue} {} ({code}); {}; {}", call.cannot(), call.meanwhile(), failed.cure())
}
