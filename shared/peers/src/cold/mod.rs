//! Old records, straight from the bucket.
//!
//! A [`BucketReader`] goes from the catalog's run to checked batches, by the segment's directory if the run is large,
//! and reads ahead for who goes on. Across processes [`routes()`] serves a reader over HTTP, and [`RemoteReaders`] asks
//! several of them.

mod ahead;
mod ahead_room;
mod bucket;
mod cutter;
mod fault;
mod remote;
mod routes;
mod run;
mod sequential;
mod shipped;
#[cfg(any(test, feature = "testing"))]
pub mod suite;
#[cfg(test)]
mod tests;

pub use bucket::BucketReader;
pub use remote::RemoteReaders;
pub use routes::routes;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use chronik_format::catalog::CatalogReader;
use chronik_format::ids::{LaneId, Offset, PartitionId, Timestamp, TopicId};
use chronik_service::setting::CacheShares;
use chronik_service::telemetry::Metrics;
use chronik_store::SharedStore;

/// A handle on a reader of old records.
pub type SharedColdReader = Arc<dyn ColdReader>;

/// What a lane has in the bucket: its catalog, empty until it is refreshed, and its old records.
///
/// `segments` is the same store, or one that caches ranges of immutable objects.
pub fn readers(
    store: &SharedStore,
    segments: &SharedStore,
    lane: LaneId,
    memory: &CacheShares,
    metrics: &Metrics,
) -> (Arc<CatalogReader>, Arc<BucketReader>) {
    let catalog = Arc::new(CatalogReader::new(store.clone(), lane, memory.catalog as u64));
    let cold = BucketReader::new(segments.clone(), catalog.clone(), memory.directories as u64);
    (catalog, Arc::new(cold.reading_ahead(memory.ahead, metrics)))
}

/// Why old records could not be read. None of these means that a record may be skipped.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ColdError {
    /// The newest catalog has no such topic or partition, or the offset lies outside of what it names.
    #[error("offset {offset} of partition {partition} of topic {topic} is not in the catalog")]
    NotInCatalog {
        /// The topic asked for.
        topic: TopicId,
        /// The partition asked for.
        partition: PartitionId,
        /// The offset asked for.
        offset: Offset,
    },
    /// The bytes that came back are not those that were written. Trying again does not help, but putting the object
    /// back does.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The name of a segment, or of an object of the catalog.
        object: String,
        /// What does not fit.
        reason: String,
    },
    /// The object was written by a later program.
    #[error("{object} has format version {version}, which this program does not read")]
    UnknownVersion {
        /// The object's name.
        object: String,
        /// The version found.
        version: u64,
    },
    /// The store could not be reached, or failed; trying again may help.
    #[error(transparent)]
    Store(#[from] chronik_store::StoreError),
}

/// Reads shipped records.
#[async_trait]
pub trait ColdReader: Send + Sync {
    /// Whole batches in offset order without a gap, the first one containing `offset`, at most about `max_bytes` but
    /// at least one. Every batch's CRC has been checked. What lies before something that can't be read is returned:
    /// only what can't be read at `offset` itself is an error.
    async fn fetch(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ColdError>;

    /// Offset and timestamp of the first shipped record at or after `from` whose timestamp is at least `timestamp`.
    async fn offset_for_time(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError>;
}
