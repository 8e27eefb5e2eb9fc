//! AWS's own client, for what is asked of a bucket or a queue beside their contents, and what it answers.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use chronik_service::cli::with_causes;
use chronik_store::sdk_config;
use chronik_store::setting::S3Place;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// All tries of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// A client for the bucket's server, and the bucket's region.
pub async fn s3_client(place: &S3Place) -> Result<(Client, String)> {
    let shared = sdk_config(place).await?;
    let region = shared.region().map(ToString::to_string).unwrap_or_default();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(CALL_TIMEOUT).build();
    let config =
        aws_sdk_s3::config::Builder::from(&shared).force_path_style(place.path_style).timeout_config(timeouts).build();
    Ok((Client::from_conf(config), region))
}

/// A call that did not succeed.
#[derive(Clone, Debug)]
pub struct AwsRefusal {
    /// The server's own name of the error; empty if it gave none, or did not answer.
    pub code: String,
    /// None if the server did not answer.
    pub status: Option<u16>,
    message: String,
}

impl<E> From<SdkError<E, HttpResponse>> for AwsRefusal
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let code = error.code().unwrap_or_default().to_owned();
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        let message = match (error.message(), status) {
            (Some(message), _) => format!("{code}: {message}"),
            (None, Some(status)) if status >= 300 => format!("{status} {code}").trim().to_owned(),
            // No answer, or one that can't be read.
            (None, _) => with_causes(&error),
        };
        Self { code, status, message }
    }
}

impl AwsRefusal {
    /// Whether a right is missing.
    pub fn is_forbidden(&self) -> bool {
        self.code.starts_with("AccessDenied") || (self.status == Some(403) && self.code.is_empty())
    }

    /// Whether the server has nothing of the kind.
    pub fn is_unknown(&self) -> bool {
        matches!(self.status, Some(405 | 501)) || matches!(self.code.as_str(), "NotImplemented" | "MethodNotAllowed")
    }

    /// Whether there is no such queue. AWS's code is that of the protocol before this one; other servers have the new
    /// one.
    pub fn is_absent_queue(&self) -> bool {
        matches!(self.code.as_str(), "AWS.SimpleQueueService.NonExistentQueue" | "QueueDoesNotExist")
    }
}

impl fmt::Display for AwsRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
