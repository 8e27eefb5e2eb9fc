//! Records that the broker still serves itself: everything from the end of the last segment that the catalog's
//! `latest` names, onward.
//!
//! In one process a search asks the broker directly. Across processes [`routes()`] serves a tail over HTTP, a
//! [`RemoteTail`] asks for it there, and a [`FollowedTail`] keeps a copy of what searches are about.

mod copies;
mod followed;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod remote;
mod routes;
#[cfg(any(test, feature = "testing"))]
pub mod suite;
#[cfg(test)]
mod tests;

pub use followed::{FollowLimits, FollowedTail, TailFollower};
pub use remote::RemoteTail;
pub use routes::routes;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_format::job::IndexSettings;

/// A handle on a broker's tail.
pub type SharedTail = Arc<dyn Tail>;

/// Where a topic stands at the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailTopic {
    /// The topic's identity.
    pub id: TopicId,
    /// Whether the topic's records may be searched.
    pub search_enabled: bool,
    /// How they are searched.
    pub index: IndexSettings,
    /// By partition number, all of them.
    pub partitions: Vec<TailPartition>,
}

/// Where a partition stands at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailPartition {
    /// The partition's number.
    pub partition: PartitionId,
    /// First offset that can be read at all.
    pub log_start: Offset,
    /// First offset that the tail serves.
    pub start: Offset,
    /// One past the last record that may be read (the last stable offset).
    pub end: Offset,
}

impl TailTopic {
    /// The sum of all partitions' ends: it grows with each record.
    pub fn reach(&self) -> i64 {
        self.partitions.iter().fold(0, |reach: i64, partition| reach.saturating_add(partition.end))
    }
}

/// Why the tail did not answer.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The broker has no such topic.
    #[error("the broker has no topic with id {id}")]
    UnknownTopic {
        /// The id asked for.
        id: TopicId,
    },
    /// The records were shipped and are served from the bucket now: refresh the catalog.
    #[error("offset {from} is no longer in the tail, which starts at {start}")]
    TooOld {
        /// The offset asked for.
        from: Offset,
        /// First offset that the tail serves.
        start: Offset,
    },
    /// The broker could not be reached, or its disk failed.
    #[error("the tail is unavailable: {message}")]
    Unavailable {
        /// What failed.
        message: String,
    },
}

/// The broker's tail.
#[async_trait]
pub trait Tail: Send + Sync {
    /// The names of all topics.
    async fn topics(&self) -> Result<Vec<String>, TailError>;
    /// Where a topic stands, or `None` if the broker has none of this name.
    async fn topic(&self, name: &str) -> Result<Option<TailTopic>, TailError>;
    /// Where a topic stands once its [reach](TailTopic::reach) is beyond `reach`, or after `wait` at the latest.
    async fn moved(&self, topic: TopicId, reach: i64, wait: Duration) -> Result<TailTopic, TailError>;
    /// Whole batches in offset order, the first one containing `from`, at most about `max_bytes` but at least one;
    /// empty at the end. Batches carry their final offsets and a valid CRC.
    async fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, TailError>;
}
