//! Where objects live, and the [`queue`] of jobs. Objects are created once and never rewritten, except the catalog's
//! `latest`.
//!
//! [`ObjectBucket`] speaks to any backend of `object_store`: S3, Google Cloud Storage, Azure; [`LocalBucket`] is one
//! over a directory, locked against a second owner; [`memory`] is one without a disk. All of them pass the same suite.

mod access;
mod aws_chain;
pub(crate) mod azure;
mod client;
pub mod disk_cache;
mod failure;
pub(crate) mod gcs;
mod local;
mod object;
mod patient;
pub mod queue;
pub(crate) mod s3;
pub mod setting;
mod upload;

#[cfg(any(test, feature = "testing"))]
pub mod clocked;
#[cfg(any(test, feature = "testing"))]
pub mod counted;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
#[cfg(any(test, feature = "testing"))]
pub mod suite;

pub use access::{BucketAccess, BucketError};
pub use local::{LocalBucket, LocalBucketError};
pub use object::{ObjectBucket, memory};
pub use patient::PatientStore;
pub use s3::sdk_config;

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

/// A handle on the bucket that services share.
pub type SharedStore = Arc<dyn Store>;

/// The most bytes that one read returns, whole object or range.
pub const READ_BYTES_MAX: u64 = 512 << 20;
/// The most objects that a page of [`Store::pages`] names.
pub const PAGE_OBJECTS_MAX: usize = 1000;

/// An object's name, size and the store's own time of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The name within the bucket and prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// By the store's clock.
    pub last_modified: SystemTime,
}

/// Why the store did not do what was asked.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StoreError {
    /// No object of this name.
    #[error("object {key} does not exist")]
    NotFound {
        /// The name asked for.
        key: String,
    },
    /// A create found an object with other bytes.
    #[error("object {key} exists already with other content")]
    Exists {
        /// The name asked for.
        key: String,
    },
    /// A range reaches beyond the object's end: the object is shorter than its reader believes.
    #[error("object {key} has {size} bytes, {start}..{end} were asked for")]
    BeyondEnd {
        /// The name asked for.
        key: String,
        /// Bytes of the object.
        size: u64,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
    },
    /// The object is larger than one read may be; it has to be read by ranges.
    #[error("object {key} has {size} bytes, a read may have {limit}")]
    TooLarge {
        /// The name asked for.
        key: String,
        /// Bytes of the object, or of the range.
        size: u64,
        /// [`READ_BYTES_MAX`].
        limit: u64,
    },
    /// The store could not be reached, or failed.
    #[error("{operation} of {key} failed: {message}")]
    Unavailable {
        /// `create`, `read`, ...
        operation: Cow<'static, str>,
        /// The name or prefix asked for.
        key: String,
        /// The store's own words.
        message: String,
        /// What would mend it. It does not leave the process: its clients are not those that called the store.
        #[serde(skip)]
        cause: ErrorCause,
    },
}

/// Why a store did not answer as it should: what would have to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorCause {
    /// Nothing but time, as far as the answer shows: an outage, a store that is too busy, a full disk.
    #[default]
    Passing,
    /// The store knows who asks, and does not allow this to them.
    Right,
    /// The settings: there is no such bucket, or the store does not know who asks.
    Setting,
}

impl StoreError {
    /// Whether waiting may mend it.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { cause: ErrorCause::Passing, .. })
    }
}

/// An object that is written piece by piece. There is nothing of it before it is finished.
#[async_trait]
pub trait ObjectUpload: Debug + Send {
    /// Adds bytes; waits while some 32 MiB are on their way.
    async fn add(&mut self, bytes: Bytes) -> Result<(), StoreError>;
    /// Creates the object of all that was added, durably. After an error it may be there or not.
    async fn finish(self: Box<Self>) -> Result<(), StoreError>;
    /// Takes back what was added, as far as the store can be reached.
    async fn abort(self: Box<Self>);
}

/// The bucket. Keys are relative to the configured prefix.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Creates an object from `parts`, durably; never overwrites. If the outcome of a try is in doubt or the
    /// name is taken, the object is read back: equal bytes are success, others [`StoreError::Exists`].
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError>;
    /// Begins an object that is too large for [`create`](Self::create), under a name that nobody else has: whether it
    /// is free is not asked. What was stored is to be read back before it is relied upon.
    async fn upload(&self, key: &str) -> Result<Box<dyn ObjectUpload>, StoreError>;
    /// Writes an object whether it exists or not; for the catalog's `latest` alone.
    async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;
    /// The whole object, or exactly the bytes of `range`; a range beyond the end is an error.
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError>;
    /// Size and time of an object.
    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError>;
    /// All objects below `prefix` (which ends in `/`), in lexicographic order of their keys.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;
    /// The objects below `prefix` (which ends in `/`) whose keys come after `after`, in lexicographic order. Where the
    /// store can begin there, nothing before it is listed.
    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects = self.list(prefix).await?;
        objects.retain(|object| object.key.as_str() > after);
        Ok(objects)
    }
    /// All objects below `prefix` (which ends in `/`), in no order, however many: in pages of up to
    /// [`PAGE_OBJECTS_MAX`], each asked for when it is wanted. What is created or deleted meanwhile may be in it or
    /// not.
    fn pages<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Vec<ObjectInfo>, StoreError>> {
        futures::stream::once(self.list(prefix)).boxed()
    }
    /// Deletes; an object that is not there counts as deleted.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
    /// What was read of an object is not what was written: nothing that is kept of it beside the bucket is used again.
    fn distrust(&self, _key: &str) {}
    /// Whether this handle keeps every other writer out while it lives: then there is no other writer to watch for.
    fn is_locked(&self) -> bool {
        false
    }
}
