//! Registered objects: segments, archives, and what is no longer needed.

use std::sync::Arc;

use chronik_core::ids::{Incarnation, LogIndex, Timestamp};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::command::RegisterSegment;

/// Objects named longer ago are refused for registration: by then somebody may count them as orphans.
const NAMED_AGO_MS_MAX: i64 = 6 * 60 * 60 * 1000;

/// The registered segments, contiguous in the lane's index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    by_first: OrdMap<LogIndex, Arc<Segment>>,
}

/// One segment in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    /// Last index in it.
    pub last: LogIndex,
    /// The object's name.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its directory.
    pub crc: u32,
    /// Where its directory starts, bytes.
    pub directory_position: u64,
    /// When it was registered, ms since the epoch.
    pub registered_at: Timestamp,
}

/// One live archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its table of contents.
    pub crc: u32,
    /// Records in it.
    pub records: u64,
    /// The runs it covers.
    pub runs: Vec<chronik_core::catalog::ArchiveRun>,
}

/// An object that nothing refers to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The index of the command that let go of it.
    pub index: LogIndex,
    /// When, ms since the epoch.
    pub at: Timestamp,
}

impl Segments {
    /// The last index that lies in a registered segment; 0 if there is none.
    pub fn shipped_index(&self) -> LogIndex {
        self.by_first.get_max().map_or(0, |(_, segment)| segment.last)
    }

    /// The segment whose first index this is.
    pub fn get(&self, first: LogIndex) -> Option<&Arc<Segment>> {
        self.by_first.get(&first)
    }

    /// All of them, by first index.
    pub fn iter(&self) -> impl Iterator<Item = (LogIndex, &Arc<Segment>)> {
        self.by_first.iter().map(|(first, segment)| (*first, segment))
    }

    /// Whether a segment may be registered by a command at `index` of the owner `incarnation`.
    pub fn accepts(&self, segment: &RegisterSegment, incarnation: Incarnation, index: LogIndex) -> bool {
        segment.incarnation == incarnation && self.continues(segment) && segment.last < index
    }

    /// Whether a segment's name is younger than what is left unregistered is kept.
    pub fn is_fresh(&self, segment: &RegisterSegment) -> bool {
        segment.at.saturating_sub(segment.named_at) < NAMED_AGO_MS_MAX
    }

    /// Whether a segment goes on where the last one ended.
    pub fn continues(&self, segment: &RegisterSegment) -> bool {
        segment.first == self.shipped_index() + 1 && segment.first <= segment.last
    }

    /// Adds a segment that was accepted.
    pub fn insert(&mut self, segment: &RegisterSegment) {
        self.by_first.insert(
            segment.first,
            Arc::new(Segment {
                incarnation: segment.incarnation,
                last: segment.last,
                key: segment.key.clone(),
                size: segment.size,
                crc: segment.crc,
                directory_position: segment.directory_position,
                registered_at: segment.at,
            }),
        );
    }
}
