//! Compaction: the runs of adjacent pages go into segments of level 1.

use serde::{Deserialize, Serialize};

use super::JobKind;
use crate::ids::{Incarnation, LaneId, Offset, PartitionId, TopicId};

/// A queue message, within the same bounds as [`Job`](super::Job).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactJob {
    /// [`VERSION`](super::VERSION).
    pub v: u32,
    /// [`JobKind::Compact`].
    pub kind: JobKind,
    /// The cluster's id, as in `cluster.json`.
    pub cluster: String,
    /// Of the lane's owner when it sent the job.
    pub incarnation: Incarnation,
    /// Whose inbox the result belongs into.
    pub lane: LaneId,
    /// A ulid; results repeat it.
    pub id: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// Leaves that follow one another in the topic's history.
    pub pages: Vec<JobPage>,
    /// Where the first of them begins; results repeat it.
    pub place: RecordPlace,
    /// Where logs start that begin within the pages: runs that end before are left out.
    pub log_starts: Vec<RecordPlace>,
    /// The leader epoch of all batches, if they have the same one: then a batch can be checked by itself.
    pub epoch: Option<i32>,
}

/// A place in a topic's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPlace {
    /// The partition's number.
    pub partition: PartitionId,
    pub offset: Offset,
}

/// A page whose runs are to be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPage {
    /// The page's object name.
    pub key: String,
    /// Bytes of the page.
    pub size: u64,
    /// The page's checksum.
    pub crc: u32,
}

/// What an indexer made of a [`CompactJob`]: an object as that of a [`JobResult`](super::JobResult).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactResult {
    /// [`VERSION`](super::VERSION).
    pub v: u32,
    /// [`JobKind::Compact`].
    pub kind: JobKind,
    /// As in the job.
    pub cluster: String,
    /// As in the job.
    pub incarnation: Incarnation,
    /// As in the job.
    pub lane: LaneId,
    /// The job's id.
    pub job: String,
    /// As in the job.
    pub topic_id: TopicId,
    /// Object names of the job's pages, in their order.
    pub pages: Vec<String>,
    /// As in the job: by it the pages are found wherever they are named by then.
    pub place: RecordPlace,
    /// The segments that were created, in the order of the partitions and offsets in them.
    pub segments: Vec<SegmentMade>,
    /// Why there are none.
    pub failure: Option<String>,
}

/// One segment as its writer describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMade {
    /// The segment's object name.
    pub key: String,
    /// Bytes of the segment.
    pub size: u64,
    /// CRC-32C of the segment's directory.
    pub crc: u32,
    /// Where its directory starts, bytes.
    pub directory_position: u64,
}
