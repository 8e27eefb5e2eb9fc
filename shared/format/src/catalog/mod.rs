//! What readers need to find segments and archives: exported by the lane's owner, never written by anyone else.
//!
//! One export is one object of changed topics' heads, the root, and a trailer ([`build_export`]); [`Latest`] names the
//! newest export and is written last. A [`CatalogReader`] follows it. What of a topic's history is closed lies in
//! [pages](page), immutable objects in a tree whose top its head names.

mod bounds;
mod coding;
pub mod compacted;
mod error;
mod export;
pub mod inspect;
mod latest;
pub mod merged;
mod newest;
pub mod page;
pub mod reader;
pub mod runs;
#[cfg(test)]
mod tests;
pub mod walk;

pub use bounds::{OldestSegment, PageBounds, PageEntry, PartitionBounds, UncompactedPages, WaitingRuns};
pub use error::CatalogError;
pub use export::{BuiltExport, VERSION, build_export};
pub use latest::Latest;
pub use newest::newest_export;
pub use page::Page;
pub use reader::{Catalog, CatalogReader};
pub use runs::{ArchiveEntry, ArchiveRun, ArchivedOffsets, PartitionRuns, RunEntry, SegmentEntry, TopicRuns};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, LaneId, LogIndex, Offset, PartitionId, TopicId};
use crate::job::IndexSettings;

/// One topic as of one export. Serialised with bincode inside the export object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicHead {
    /// The topic's identity.
    pub id: TopicId,
    /// The topic's name.
    pub name: String,
    /// `search.enabled`: whether searches may look at the topic.
    pub search_enabled: bool,
    /// How the topic is indexed.
    pub index: IndexSettings,
    /// By partition number, all of them.
    pub partitions: Vec<PartitionHead>,
    /// The pages at the top of what of its history is closed, from the oldest to the newest.
    pub pages: Vec<Arc<PageEntry>>,
    /// What follows the last page.
    pub open: Arc<TopicRuns>,
}

/// One partition as of one export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionHead {
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
}

/// The head of an export: where every topic's head is.
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
    pub heads: Vec<HeadEntry>,
}

/// Where a topic's head is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadEntry {
    /// The topic's name.
    pub name: String,
    /// The topic's identity.
    pub id: TopicId,
    /// The export object that holds the head.
    pub object: String,
    /// Where the head starts in it, bytes.
    pub position: u64,
    /// Bytes of the head.
    pub length: u64,
    /// CRC-32C of the head.
    pub crc: u32,
}

impl TopicHead {
    /// The partition of a number.
    pub fn partition(&self, number: PartitionId) -> Option<&PartitionHead> {
        self.partitions.get(usize::try_from(number).ok()?)
    }

    /// First offset of a partition that no page holds, nor anything behind it.
    pub fn closed_to(&self, partition: PartitionId) -> Offset {
        let newest = self.pages.iter().rev().find_map(|page| page.bounds.of(partition));
        newest.map_or(0, |bounds| bounds.offsets.end())
    }
}

/// Reads any bytes as every part of a catalog, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_catalog(bytes: &[u8]) {
    export::fuzz_export(bytes);
    page::fuzz_page(bytes);
}
