//! Registered objects: segments, archives, and what is no longer needed.
//!
//! A segment is held one by one as long as it is in no list of segments, or an open run points into it.

use std::ops::Bound;
use std::sync::Arc;

use chronik_format::ids::{Incarnation, LogIndex, Timestamp};
use chronik_format::segment_list::SegmentListEntry;
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::command::RegisterSegment;
use super::topic::TopicState;

/// Objects named longer ago are refused for registration: by then they may be taken for orphans.
pub const NAMED_AGO_MS_MAX: i64 = 6 * 60 * 60 * 1000;

/// What the state calls a registered segment: the last log index in it. So they sort as they follow one another, and
/// what lies in segments up to an index is told without a look at them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub LogIndex);

/// The registered segments, contiguous in the lane's index: the older ones in lists, the others one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredSegments {
    /// All that no list has, and those that open runs point into.
    #[serde(deserialize_with = "super::decode::map")]
    held: OrdMap<SegmentId, Arc<RegisteredSegment>>,
    /// From the first segment on, without a gap.
    #[serde(deserialize_with = "super::decode::vector")]
    lists: Vector<Arc<SegmentListEntry>>,
    shipped: LogIndex,
    /// How many open runs point into a segment; follows from the topics.
    #[serde(skip)]
    open_runs: OrdMap<SegmentId, u32>,
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

    /// The last index that lies in a listed segment; 0 if there is none.
    pub fn listed_index(&self) -> LogIndex {
        self.lists.last().map_or(0, |list| list.last)
    }

    /// The segment of an id, if it is held; those that open runs point into are.
    pub fn get(&self, id: SegmentId) -> Option<&Arc<RegisteredSegment>> {
        self.held.get(&id)
    }

    /// Those that are held, in the order of their registration.
    pub fn held(&self) -> impl Iterator<Item = (SegmentId, &Arc<RegisteredSegment>)> {
        self.held.iter().map(|(id, segment)| (*id, segment))
    }

    /// Those that no list has, in the order of their registration.
    pub fn unlisted(&self) -> impl Iterator<Item = (SegmentId, &Arc<RegisteredSegment>)> {
        let unlisted = self.held.range((Bound::Excluded(SegmentId(self.listed_index())), Bound::Unbounded));
        unlisted.map(|(id, segment)| (*id, segment))
    }

    /// The lists, from the oldest to the newest.
    pub fn lists(&self) -> &Vector<Arc<SegmentListEntry>> {
        &self.lists
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
        self.held.insert(id, Arc::new(registered));
        id
    }

    /// Whether a list holds just the segments that follow those of the lists before, up to its last one.
    pub fn accepts_list(&self, list: &SegmentListEntry) -> bool {
        let listed = || self.unlisted().take_while(|(id, _)| *id <= SegmentId(list.last));
        list.first == self.listed_index() + 1
            && listed().last().is_some_and(|(id, _)| id == SegmentId(list.last))
            && listed().count() == list.segments as usize
    }

    /// Adds a list that was accepted, and lets go of what no open run points into.
    pub fn insert_list(&mut self, list: SegmentListEntry) {
        let listed: Vec<SegmentId> =
            self.unlisted().map(|(id, _)| id).take_while(|id| *id <= SegmentId(list.last)).collect();
        self.lists.push_back(Arc::new(list));
        listed.into_iter().for_each(|id| self.let_go(id));
    }

    /// So many more open runs point into a segment.
    pub fn add_open_runs(&mut self, id: SegmentId, runs: u32) {
        if runs > 0 {
            *self.open_runs.entry(id).or_default() += runs;
        }
    }

    /// A run is open no more.
    pub fn remove_open_run(&mut self, id: SegmentId) {
        match self.open_runs.get_mut(&id) {
            Some(runs) if *runs > 1 => *runs -= 1,
            _ => {
                self.open_runs.remove(&id);
                self.let_go(id);
            }
        }
    }

    fn let_go(&mut self, id: SegmentId) {
        if id.0 <= self.listed_index() && !self.open_runs.contains_key(&id) {
            self.held.remove(&id);
        }
    }

    /// Counts the open runs of topics anew; fails with a segment that one of them points into, and that is not held.
    pub fn count_open_runs<'a>(&mut self, topics: impl Iterator<Item = &'a TopicState>) -> Result<(), SegmentId> {
        self.open_runs = OrdMap::new();
        let runs = topics.flat_map(|topic| &topic.partitions).flat_map(|partition| &partition.runs);
        runs.for_each(|run| self.add_open_runs(run.segment, 1));
        self.open_runs.keys().find(|id| self.get(**id).is_none()).map_or(Ok(()), |id| Err(*id))
    }
}
