//! Registered objects: segments, archives, and what is no longer needed.

use std::sync::Arc;

use chronik_format::ids::{Incarnation, LogIndex, Timestamp};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::command::RegisterSegment;

/// Objects named longer ago are refused for registration: by then they may be taken for orphans.
pub(super) const NAMED_AGO_MS_MAX: i64 = 6 * 60 * 60 * 1000;

/// What the state calls a registered segment; given once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub u64);

/// The registered segments, contiguous in the lane's index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredSegments", into = "StoredSegments")]
pub struct RegisteredSegments {
    by_id: OrdMap<SegmentId, Arc<RegisteredSegment>>,
    by_key: OrdMap<Arc<str>, SegmentId>,
    next: SegmentId,
    shipped: LogIndex,
}

/// What a checkpoint holds of them.
#[derive(Serialize, Deserialize)]
struct StoredSegments {
    #[serde(deserialize_with = "super::decode::map")]
    by_id: OrdMap<SegmentId, Arc<RegisteredSegment>>,
    next: SegmentId,
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

    /// Whether an object of this name is registered.
    pub fn contains(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// The newest one that ends at or before a log index, however many there are.
    pub fn newest_up_to(&self, last: LogIndex) -> Option<SegmentId> {
        let ends_by = |id: u64| self.by_id.get(&SegmentId(id)).is_some_and(|segment| segment.last <= last);
        let oldest = self.by_id.get_min()?.0.0;
        // Ids follow one another as the indices do.
        let (mut first, mut behind) = (oldest, self.next.0);
        while first < behind {
            let middle = first + (behind - first) / 2;
            match ends_by(middle) {
                true => first = middle + 1,
                false => behind = middle,
            }
        }
        (first > oldest).then(|| SegmentId(first - 1))
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
        let (id, key): (_, Arc<str>) = (self.next, segment.key.as_str().into());
        self.next = SegmentId(id.0 + 1);
        self.shipped = segment.last;
        self.by_key.insert(key.clone(), id);
        let registered = RegisteredSegment {
            incarnation: segment.incarnation,
            first: segment.first,
            last: segment.last,
            key,
            size: segment.size,
            crc: segment.crc,
            directory_position: segment.directory_position,
            registered_at: segment.at,
        };
        self.by_id.insert(id, Arc::new(registered));
        id
    }
}

impl From<StoredSegments> for RegisteredSegments {
    fn from(StoredSegments { by_id, next, shipped }: StoredSegments) -> Self {
        let by_key = by_id.iter().map(|(id, segment)| (segment.key.clone(), *id)).collect();
        Self { by_id, by_key, next, shipped }
    }
}

impl From<RegisteredSegments> for StoredSegments {
    fn from(RegisteredSegments { by_id, next, shipped, .. }: RegisteredSegments) -> Self {
        Self { by_id, next, shipped }
    }
}
