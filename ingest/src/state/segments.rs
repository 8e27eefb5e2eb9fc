//! Registered objects: segments, archives, and what is no longer needed.

use std::sync::Arc;

use chronik_format::ids::{Incarnation, LogIndex, Timestamp};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::command::RegisterSegment;

/// Objects named longer ago are refused for registration: by then they may be taken for orphans.
pub(super) const NAMED_AGO_MS_MAX: i64 = 6 * 60 * 60 * 1000;

/// What the state calls a registered segment: the last log index in it. So they sort as they follow one another, and
/// what lies in segments up to an index is told without a look at them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub LogIndex);

/// The registered segments, contiguous in the lane's index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredSegments {
    #[serde(deserialize_with = "super::decode::map")]
    by_id: OrdMap<SegmentId, Arc<RegisteredSegment>>,
    shipped: LogIndex,
}

/// One segment in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredSegment {
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    pub first: LogIndex,
    pub last: LogIndex,
    /// The object's name.
    pub key: Arc<str>,
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
pub struct LiveArchive {
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its table of contents.
    pub crc: u32,
    pub records: u64,
    /// The runs it covers.
    pub runs: Vec<chronik_format::catalog::ArchiveRun>,
}

/// An object that nothing refers to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The index of the command that superseded it.
    pub index: LogIndex,
    /// When, ms since the epoch.
    pub at: Timestamp,
    /// Whether all that a page names goes along, down to its archives.
    pub with_all: bool,
}

impl Tombstone {
    /// Of an object of which nothing lives on.
    pub fn of_all(index: LogIndex, at: Timestamp) -> Self {
        Self { index, at, with_all: true }
    }
}

impl RegisteredSegments {
    /// The last index that lies in a registered segment; 0 if there is none.
    pub fn shipped_index(&self) -> LogIndex {
        self.shipped
    }

    /// The segment of an id.
    pub fn get(&self, id: SegmentId) -> Option<&Arc<RegisteredSegment>> {
        self.by_id.get(&id)
    }

    /// All of them, in the order of their registration.
    pub fn iter(&self) -> impl Iterator<Item = (SegmentId, &Arc<RegisteredSegment>)> {
        self.by_id.iter().map(|(id, segment)| (*id, segment))
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

    /// Adds a segment that was accepted; returns its id.
    pub fn insert(&mut self, segment: &RegisterSegment) -> SegmentId {
        let id = SegmentId(segment.last);
        self.shipped = segment.last;
        let registered = RegisteredSegment {
            incarnation: segment.incarnation,
            first: segment.first,
            last: segment.last,
            key: segment.key.as_str().into(),
            size: segment.size,
            crc: segment.crc,
            directory_position: segment.directory_position,
            registered_at: segment.at,
        };
        self.by_id.insert(id, Arc::new(registered));
        id
    }
}
