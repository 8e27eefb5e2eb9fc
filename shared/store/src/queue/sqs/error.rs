//! What goes wrong with SQS, and what follows from it.

use std::error::Error;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;

use super::QueueAddress;
use crate::queue::QueueError;

pub(super) type AttributesError = SdkError<GetQueueAttributesError, HttpResponse>;

/// Why a queue can't be used, however often it is tried.
#[derive(Debug, thiserror::Error)]
pub enum SqsError {
    /// The AWS chain has none.
    #[error(
        "no credentials for SQS: {reason}; accepted are those of the standard AWS chain (AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY, a profile, a web identity, the role of a container or an instance)"
    )]
    NoCredentials {
        /// The chain's own words.
        reason: String,
    },
    /// There is no such queue.
    #[error("there is no queue {queue}; create it, or mend SQS_QUEUE_URL")]
    NoQueue {
        /// The queue's URL.
        queue: String,
    },
    /// The queue has nowhere to put dead letters.
    #[error("{queue} has no dead-letter queue; give it one by a redrive policy")]
    NoDeadLetters {
        /// The queue's URL.
        queue: String,
    },
    /// The queue does not let us ask.
    #[error(
        "{queue} refuses to be asked ({code}: {reason}); Chronik needs sqs:GetQueueAttributes, sqs:SendMessage, \
         sqs:ReceiveMessage, sqs:ChangeMessageVisibility and sqs:DeleteMessage, and sqs:SendMessage of its dead-letter queue"
    )]
    Refused {
        /// The queue's URL.
        queue: String,
        /// SQS's own name of the error.
        code: String,
        /// SQS's own words.
        reason: String,
    },
}

/// Two kinds: what may pass, and what does not.
#[derive(Debug)]
pub(super) enum SqsFailure {
    Queue(QueueError),
    Refused(SqsError),
}

impl SqsFailure {
    /// Sorts an answer to the first question.
    pub(super) fn of(queue: &QueueAddress, error: AttributesError) -> Self {
        let queue = queue.to_string();
        let refused =
            |status: u16, code: &str| (400..500).contains(&status) && status != 429 && !code.contains("Throttl");
        match &error {
            SdkError::ServiceError(_) if error.code().is_some_and(is_absence) => {
                Self::Refused(SqsError::NoQueue { queue })
            }
            SdkError::ServiceError(answer)
                if refused(answer.raw().status().as_u16(), error.code().unwrap_or_default()) =>
            {
                Self::Refused(SqsError::Refused {
                    queue,
                    code: error.code().unwrap_or("no code").to_owned(),
                    reason: error.message().unwrap_or("no message").to_owned(),
                })
            }
            _ => Self::Queue(failed(error)),
        }
    }

    pub(super) fn into_queue_error(self) -> QueueError {
        match self {
            Self::Queue(error) => error,
            Self::Refused(SqsError::NoDeadLetters { queue }) => QueueError::NoDeadLetters { queue },
            Self::Refused(error) => QueueError::Unavailable { message: error.to_string() },
        }
    }
}

/// AWS's code is that of the protocol before this one; other servers have the new one.
fn is_absence(code: &str) -> bool {
    matches!(code, "AWS.SimpleQueueService.NonExistentQueue" | "QueueDoesNotExist")
}

/// Whether SQS only objects to the receipt: it is old, or its message is gone. AWS says so in three ways, other servers
/// in one of them.
pub(super) fn about_receipt<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    match error.code() {
        Some("ReceiptHandleIsInvalid" | "MessageNotInflight") => true,
        Some("AWS.SimpleQueueService.MessageNotInflight") => true,
        Some("InvalidParameterValue" | "InvalidParameterValueException") => {
            error.message().is_some_and(|message| message.to_ascii_lowercase().contains("receipt"))
        }
        _ => false,
    }
}

/// A call that did not succeed.
pub(super) fn failed<E, R>(error: SdkError<E, R>) -> QueueError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let message = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => words(&error),
    };
    QueueError::Unavailable { message }
}

/// An error and its causes in one line.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let mut words = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words.dedup();
    words.join(": ")
}
