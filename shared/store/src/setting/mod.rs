//! Where the bucket and the queue are, and how to get at them.

mod azure;
mod bucket;
mod gcs;
mod queue;
mod s3;

pub use azure::{AzurePlace, AzureSettings};
pub use bucket::{BucketKind, BucketSettings, BucketSettingsError};
pub use gcs::{GcsPlace, GcsSettings};
pub use queue::{QueueKind, QueueSettings, QueueSettingsError};
pub use s3::{S3Place, S3Settings};
