//! The messages between a lane's owner and the indexers: a [`Job`], a [`CompactJob`] or a [`MergeJob`] goes out on the
//! queue, a [`JobResult`], a [`CompactResult`] or a [`MergeResult`] comes back as an object in `inbox/`. All are JSON
//! with `v` and `kind`; an unknown version or kind is refused, not guessed.

mod compact;
mod merge;

pub use compact::{CompactJob, CompactResult, JobPage, RecordPlace, SegmentMade};
pub use merge::{MergeJob, MergeResult, MergedArchive};

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, LaneId, Offset, PartitionId, Timestamp, TopicId};
use crate::span::{ByteSpan, OffsetSpan};

/// The version of all messages that this program writes and reads.
pub const VERSION: u32 = 0;

/// What an indexer is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Build archives over the runs of the inputs.
    Index,
    /// Write the runs of pages into segments of level 1.
    Compact,
    /// Make few archives of the many of a page.
    Merge,
}

/// A queue message, at most [`MESSAGE_BYTES_MAX`](chronik_store::queue::MESSAGE_BYTES_MAX) as JSON: what would be
/// larger becomes several jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// [`VERSION`].
    pub v: u32,
    /// [`JobKind::Index`].
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
    /// Changes when the way a topic is indexed changes.
    pub index_epoch: u32,
    /// The segments to read.
    pub inputs: Vec<JobInput>,
    /// How to index.
    pub settings: IndexSettings,
}

/// One segment and the runs of it that the job is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInput {
    /// The segment's object name.
    pub key: String,
    /// Bytes of the segment.
    pub size: u64,
    /// CRC-32C of the segment's directory.
    pub crc: u32,
    /// The runs, by partition.
    pub runs: Vec<JobRun>,
}

/// Consecutive batches of one partition in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRun {
    /// The partition's number.
    pub partition: PartitionId,
    #[serde(flatten)]
    pub offsets: OffsetSpan,
    /// Where the batches are in the segment.
    #[serde(flatten)]
    pub bytes: ByteSpan,
}

/// How a topic's values become searchable (`search.value.format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueFormat {
    /// JSON by its decoded strings, anything else as text.
    #[default]
    Auto,
    /// As [`ValueFormat::Auto`].
    Json,
    /// Text, also what is JSON.
    Text,
    /// Values are not searched; keys and headers are.
    None,
}

impl ValueFormat {
    /// Whether the words of JSON are those of its decoded strings.
    pub fn decodes_json(self) -> bool {
        matches!(self, Self::Auto | Self::Json)
    }
}

/// A topic's settings as far as an index depends on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSettings {
    /// How values become searchable.
    pub value_format: ValueFormat,
    /// Whether token positions are indexed.
    pub positions: bool,
}

/// What an indexer made of a job: object `inbox/{lane}/{incarnation}-{ulid}.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// [`VERSION`].
    pub v: u32,
    /// [`JobKind::Index`].
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
    /// As in the job.
    pub index_epoch: u32,
    /// The archives that were created.
    pub archives: Vec<ArchiveMade>,
    /// Runs that could not be decoded, or the whole job after its last try.
    pub unreadable: Vec<UnreadableRun>,
}

/// One archive as its builder describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveMade {
    /// The archive's object name.
    pub key: String,
    /// Bytes of the archive.
    pub size: u64,
    /// CRC-32C of the archive's table of contents.
    pub crc: u32,
    /// Records indexed.
    pub records: u64,
    /// The runs it covers, each whole.
    pub runs: Vec<CoveredRun>,
}

/// A run that an archive covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredRun {
    /// The segment's object name.
    pub segment: String,
    /// The partition's number.
    pub partition: PartitionId,
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// Earliest record timestamp, ms; `None` if the run has no records.
    pub min_timestamp: Option<Timestamp>,
    /// Latest record timestamp, ms; `None` if the run has no records.
    pub max_timestamp: Option<Timestamp>,
}

/// A run that stays without an archive, and why; it is scanned instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableRun {
    /// The segment's object name.
    pub segment: String,
    /// The partition's number.
    pub partition: PartitionId,
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// What went wrong, for the operator.
    pub reason: String,
}
