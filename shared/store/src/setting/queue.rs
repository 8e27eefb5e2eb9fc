//! Where jobs go.

use std::sync::Arc;

use chronik_service::process::ServiceError;
use clap::Args;

use crate::queue::{EmbeddedQueue, QueueAddress, QueueEndpoint, SharedQueue, SqsError, SqsQueue};
use chronik_service::setting::ByteSize;
use chronik_service::telemetry::Metrics;

/// What the embedded queue holds; jobs are at most 200 KiB, and what does not fit is sent again later.
const EMBEDDED_BYTES_MAX: ByteSize = ByteSize::mebibytes(64);

/// The job queue.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Queue")]
pub struct QueueSettings {
    /// The kind of job queue: embedded, within the process; sqs, also over several
    #[arg(long = "queue", env = "CHRONIK_QUEUE", value_name = "KIND", default_value = "embedded", value_parser = kind)]
    pub queue: QueueKind,
    /// URL of the SQS queue, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME; it needs a dead-letter queue
    #[allow(rustdoc::bare_urls, reason = "this is the text of --help")]
    #[arg(long, env = "SQS_QUEUE_URL", value_name = "URL")]
    pub sqs_queue_url: Option<QueueAddress>,
    /// Where SQS is reached [default: the server in the queue's URL]
    #[arg(long, env = "SQS_ENDPOINT", value_name = "URL")]
    pub sqs_endpoint: Option<QueueEndpoint>,
}

/// A kind of job queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Within the process.
    Embedded,
    /// SQS, or a server that speaks its protocol.
    Sqs,
}

/// A queue that can't be opened as it was set.
#[derive(Debug, thiserror::Error)]
pub enum QueueSettingsError {
    /// SQS without a queue.
    #[error("CHRONIK_QUEUE is sqs, but no queue is named; set SQS_QUEUE_URL (--sqs-queue-url) to the queue's URL")]
    NoAddress,
    /// A setting of SQS without SQS.
    #[error(
        "{setting} is set, but CHRONIK_QUEUE is embedded; set CHRONIK_QUEUE=sqs (--queue sqs), or leave {setting} out"
    )]
    NotSqs {
        /// The setting's variable.
        setting: &'static str,
    },
    /// SQS refuses.
    #[error(transparent)]
    Sqs(#[from] SqsError),
}

impl QueueSettings {
    /// Checks what goes beyond a single value.
    pub fn check(&self) -> Result<(), QueueSettingsError> {
        match (self.queue, &self.sqs_queue_url, &self.sqs_endpoint) {
            (QueueKind::Sqs, None, _) => Err(QueueSettingsError::NoAddress),
            (QueueKind::Embedded, Some(_), _) => Err(QueueSettingsError::NotSqs { setting: "SQS_QUEUE_URL" }),
            (QueueKind::Embedded, None, Some(_)) => Err(QueueSettingsError::NotSqs { setting: "SQS_ENDPOINT" }),
            _ => Ok(()),
        }
    }

    /// The queue. SQS that can't be reached now is no error, see [`SqsQueue::open`].
    pub async fn open(&self, metrics: &Metrics) -> Result<SharedQueue, QueueSettingsError> {
        self.check()?;
        match &self.sqs_queue_url {
            Some(address) => Ok(Arc::new(SqsQueue::open(address, self.sqs_endpoint.as_ref(), metrics).await?)),
            None => Ok(Arc::new(EmbeddedQueue::with_metrics(EMBEDDED_BYTES_MAX.as_usize(), metrics))),
        }
    }
}

fn kind(text: &str) -> Result<QueueKind, String> {
    match text {
        "embedded" => Ok(QueueKind::Embedded),
        "sqs" => Ok(QueueKind::Sqs),
        _ => Err(format!("{text:?} is no kind of queue; accepted are embedded and sqs")),
    }
}

impl From<QueueSettingsError> for ServiceError {
    fn from(error: QueueSettingsError) -> Self {
        Self::Resource(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn settings(queue: QueueKind, url: Option<&str>, endpoint: Option<&str>) -> QueueSettings {
        QueueSettings {
            queue,
            sqs_queue_url: url.map(|url| url.parse().unwrap()),
            sqs_endpoint: endpoint.map(|url| url.parse().unwrap()),
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_what_to_do() {
        let (url, endpoint) = (Some("http://127.0.0.1:1/1/jobs"), Some("http://127.0.0.1:1"));
        let told = |queue, url, endpoint| settings(queue, url, endpoint).check().unwrap_err().to_string();
        assert!(told(QueueKind::Sqs, None, endpoint).contains("set SQS_QUEUE_URL"));
        assert!(told(QueueKind::Embedded, url, endpoint).starts_with("SQS_QUEUE_URL is set"));
        assert!(told(QueueKind::Embedded, None, endpoint).starts_with("SQS_ENDPOINT is set"));
        for (queue, url, endpoint) in
            [(QueueKind::Embedded, None, None), (QueueKind::Sqs, url, None), (QueueKind::Sqs, url, endpoint)]
        {
            settings(queue, url, endpoint).check().unwrap();
        }
        assert!(kind("rabbit").is_err_and(|told| told.contains("embedded and sqs")));
    }
}
