//! What readers need to find segments and archives: exported by the lane's owner, never written by anyone else.
//!
//! One export is one object of changed topic pages, the root, and a trailer ([`build_export`]); [`Latest`] names the
//! newest export and is written last. A [`CatalogReader`] follows it.

mod error;
mod export;
mod latest;
mod newest;
pub mod reader;
#[cfg(test)]
mod tests;

pub use error::CatalogError;
pub use export::{BuiltExport, VERSION, build_export, fuzz_catalog};
pub use latest::Latest;
pub use newest::newest_export;
pub use reader::{Catalog, CatalogReader};

use serde::{Deserialize, Serialize};

use crate::batch::TimeSpan;
use crate::ids::{Incarnation, LaneId, LogIndex, Offset, PartitionId, Timestamp, TopicId};
use crate::job::IndexSettings;
use crate::span::{ByteSpan, OffsetSpan};

/// One topic as of one export. Serialised with bincode inside the export object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPage {
    /// The topic's identity.
    pub id: TopicId,
    /// The topic's name.
    pub name: String,
    /// `search.enabled`: whether searches may look at the topic.
    pub search_enabled: bool,
    /// How the topic is indexed.
    pub index: IndexSettings,
    /// The segments that [`RunEntry::segment`] points into.
    pub segments: Vec<SegmentEntry>,
    /// By partition number, all of them.
    pub partitions: Vec<PartitionPage>,
    /// The live archives.
    pub archives: Vec<ArchiveEntry>,
}

/// A segment that holds runs of the topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// The object's name.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its directory.
    pub crc: u32,
    /// Where its directory starts, bytes.
    pub directory_position: u64,
}

/// One partition as of one export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPage {
    /// The partition's number.
    pub partition: PartitionId,
    /// First offset that can be read.
    pub log_start: Offset,
    /// One past the last offset in a registered segment.
    pub shipped_to: Offset,
    /// One past the last record that may be searched.
    pub last_stable: Offset,
    /// (leader epoch, its first offset), ascending.
    pub epochs: Vec<(i32, Offset)>,
    /// Ascending and contiguous from the oldest kept segment to `shipped_to`.
    pub runs: Vec<RunEntry>,
}

/// Consecutive batches of one partition in one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEntry {
    pub offsets: OffsetSpan,
    /// Index into [`TopicPage::segments`].
    pub segment: u32,
    /// Where the batches are in the segment.
    pub bytes: ByteSpan,
    /// Exact bounds of the records' timestamps; [`TimeSpan::ANY`] if not all can be read.
    pub times: TimeSpan,
    /// Why the run has no archive and never will: it is scanned.
    pub unreadable: Option<String>,
}

/// A live archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveEntry {
    /// The object's name.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its table of contents.
    pub crc: u32,
    pub records: u64,
    /// The runs it covers.
    pub runs: Vec<ArchiveRun>,
}

/// A run that an archive covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRun {
    /// The partition's number.
    pub partition: PartitionId,
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// Exact earliest record timestamp, ms; `None` if the run has no records.
    pub min_timestamp: Option<Timestamp>,
    /// Exact latest record timestamp, ms; `None` if the run has no records.
    pub max_timestamp: Option<Timestamp>,
}

/// The head of an export: where every topic's page is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogRoot {
    /// Of the lane's owner.
    pub incarnation: Incarnation,
    pub lane: LaneId,
    /// The applied index at the export.
    pub index: LogIndex,
    /// The last index that lies in a registered segment.
    pub shipped_index: LogIndex,
    /// By topic name.
    pub pages: Vec<PageEntry>,
}

/// Where a topic's page is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageEntry {
    /// The topic's name.
    pub name: String,
    /// The topic's identity.
    pub id: TopicId,
    /// The export object that holds the page.
    pub object: String,
    /// Where the page starts in it, bytes.
    pub position: u64,
    /// Bytes of the page.
    pub length: u64,
    /// CRC-32C of the page.
    pub crc: u32,
}
