//! The failures of calls to SQS, with what they mean and how to fix them.

use std::error::Error as StdError;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::aws::classify::from_sdk;
use crate::aws::events::address::QueueName;
use crate::domain::secret::error::SourceErrorKind;

/// A call to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueOperation {
    Receive,
    Delete,
}

impl QueueOperation {
    /// AWS's name of the operation.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Receive => "ReceiveMessage",
            Self::Delete => "DeleteMessageBatch",
        }
    }

    /// The IAM action that the call needs.
    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::Receive => "sqs:ReceiveMessage",
            Self::Delete => "sqs:DeleteMessage",
        }
    }

    /// What the queue does while the call fails.
    pub(super) const fn symptom(self) -> &'static str {
        match self {
            Self::Receive => "cannot be read",
            Self::Delete => "gives its messages, which cannot be deleted",
        }
    }

    /// What the operator does while the call fails.
    pub(super) const fn fallback(self) -> &'static str {
        match self {
            Self::Receive => "changes are found by the sweep until it can",
            Self::Delete => "they come again and are handled again until they can",
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueueFailure {
    pub(super) operation: QueueOperation,
    pub(super) kind: SourceErrorKind,
    /// AWS's error code, or a code in its style where AWS answered none.
    pub(super) code: String,
}

impl QueueFailure {
    pub(super) fn new<E>(operation: QueueOperation, error: &SdkError<E, HttpResponse>) -> Self
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
        Self { operation, kind: classified.kind, code }
    }

    /// How to fix it. The codes are those of the [SQS API][errors].
    ///
    /// [errors]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html#API_ReceiveMessage_Errors
    fn remedy(&self) -> String {
        let action = self.operation.action();
        if self.code.starts_with("KMS.") || self.code.starts_with("Kms") {
            return "allow kms:Decrypt on the key of the queue and check that the key is enabled".to_owned();
        }
        match self.kind {
            SourceErrorKind::CredentialsFailed => {
                "check the operator's role, its token and its clock: it has no valid AWS credentials".to_owned()
            }
            SourceErrorKind::Throttled => "this passes by itself".to_owned(),
            SourceErrorKind::AccessDenied => format!("allow {action} on the queue, and check --events-queue-url"),
            _ if matches!(self.code.as_str(), "TimedOut" | "NotReached" | "BadAnswer") => {
                "check the way to SQS: network, proxy, endpoint".to_owned()
            }
            _ => format!("check --events-queue-url and the right {action}"),
        }
    }
}

/// The warning about a failure.
pub(super) fn warning(queue: &QueueName, failure: &QueueFailure) -> String {
    let QueueFailure { operation, code, .. } = failure;
    format!("the queue {queue} {} ({code}); {}; {}", operation.symptom(), operation.fallback(), failure.remedy())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const URL: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/bindery-events";
    pub const DENIED: &str = "AccessDeniedException";
    pub const GONE: &str = "AWS.SimpleQueueService.NonExistentQueue";

    #[test]
    fn a_complaint_says_what_is_wrong_what_happens_meanwhile_and_what_to_do() {
        use SourceErrorKind as K;
        let said = |operation, kind, code: &str| {
            warning(&QueueName::of(URL), &QueueFailure { operation, kind, code: code.to_owned() })
        };
        assert_eq!(
            said(QueueOperation::Receive, K::Unavailable, GONE),
            "the queue bindery-events (eu-west-1) cannot be read (AWS.SimpleQueueService.NonExistentQueue); changes \
                 are found by the sweep until it can; check --events-queue-url and the right sqs:ReceiveMessage"
        );
        for (operation, kind, code, remedy) in [
            (QueueOperation::Receive, K::AccessDenied, DENIED, "allow sqs:ReceiveMessage on the queue"),
            (QueueOperation::Delete, K::AccessDenied, DENIED, "allow sqs:DeleteMessage on the queue"),
            (QueueOperation::Receive, K::Unavailable, "KMS.AccessDeniedException", "allow kms:Decrypt"),
            (QueueOperation::Receive, K::CredentialsFailed, "ExpiredToken", "valid AWS credentials"),
            (QueueOperation::Receive, K::Throttled, "ThrottlingException", "passes by itself"),
            (QueueOperation::Receive, K::Unavailable, "NotReached", "network, proxy, endpoint"),
        ] {
            assert!(said(operation, kind, code).contains(remedy), "{}", said(operation, kind, code));
        }
    }
}
