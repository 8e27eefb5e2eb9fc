//! What a service may do in the bucket, and why it can't be opened.

use chronik_service::process::ServiceError;

use super::LocalBucketError;
use crate::setting::BucketSettingsError;

/// What a service does in the bucket. On a directory only its owner keeps others out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketAccess {
    /// The broker: it owns the bucket, and a directory is locked while it does.
    Owner,
    /// The indexer: it adds objects beside the owner.
    Worker,
    /// Search: it reads.
    Reader,
}

/// Why a bucket can't be opened. That a store can't be reached shows when it is asked for something.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The settings don't fit together.
    #[error(transparent)]
    Settings(#[from] BucketSettingsError),
    /// The directory can't be used.
    #[error(transparent)]
    Local(#[from] LocalBucketError),
    /// Requests to S3 are signed for a region.
    #[error("S3_REGION is not set, and the AWS environment names no region either: set it to the region of {bucket}")]
    NoRegion { bucket: String },
    /// The client of a store does not accept its settings or its environment.
    #[error("the bucket's settings are not accepted by the client of {backend}: {source}")]
    Refused {
        /// `s3`, `gcs`, `azure`.
        backend: &'static str,
        /// Why.
        source: object_store::Error,
    },
}

impl From<BucketError> for ServiceError {
    fn from(error: BucketError) -> Self {
        Self::Resource(Box::new(error))
    }
}
