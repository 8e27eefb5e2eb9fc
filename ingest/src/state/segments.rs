//! Registered objects: segments, archives, and what is no longer needed.
//!
//! A segment is held one by one as long as it is in no list of segments, or an open run points into it. Segments go
//! from the oldest on: once nothing needs those below an index they are dropped, and once they are deleted, forgotten.

use std::ops::Bound;
use std::sync::Arc;

use chronik_format::catalog::OldestSegment;
use chronik_format::ids::{Incarnation, LogIndex, Timestamp};
use chronik_format::segment_list::SegmentListEntry;
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::command::RegisterSegment;
use super::topic::TopicState;

/// Segments that are worth to be dropped although they have no records: more than deletion itself has shipped.
const EMPTY_SEGMENTS_MIN: usize = 64;

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
    /// From the oldest segment on that is not forgotten, without a gap.
    #[serde(deserialize_with = "super::decode::vector")]
    lists: Vector<Arc<SegmentListEntry>>,
    shipped: LogIndex,
    /// The last index of the newest segment that was registered with records.
    with_records: LogIndex,
    /// Segments that end before it are deleted and forgotten.
    begin: LogIndex,
    /// Those behind them that may be deleted.
    dropped: Option<DroppedSegments>,
    /// How many open runs point into a segment; follows from the topics.
    #[serde(skip)]
    open_runs: OrdMap<SegmentId, u32>,
}

/// Segments that nothing needs any more, and that are not all deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedSegments {
    /// They end before it.
    pub below: LogIndex,
    /// The index of the command that dropped them.
    pub index: LogIndex,
    /// When, ms since the epoch.
    pub at: Timestamp,
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

    /// The last index that lies in a segment that was listed or is forgotten; 0 if there is none.
    pub fn listed_index(&self) -> LogIndex {
        self.lists.last().map_or(0, |list| list.last).max(self.begin() - 1)
    }

    /// Segments that end before it are deleted and forgotten; the log begins at 1.
    pub fn begin(&self) -> LogIndex {
        self.begin.max(1)
    }

    /// Segments that nothing needs any more, and that are not all deleted.
    pub fn dropped(&self) -> Option<&DroppedSegments> {
        self.dropped.as_ref()
    }

    /// Segments that end before it may be gone.
    pub fn needed_from(&self) -> LogIndex {
        self.dropped.map_or(self.begin(), |dropped| dropped.below)
    }

    /// The oldest segment that an open run points into.
    pub fn oldest_open(&self) -> Option<OldestSegment> {
        let (id, _) = self.open_runs.get_min()?;
        self.get(*id).map(|segment| OldestSegment { first: segment.first, named_at: segment.registered_at })
    }

    /// How many segments are not forgotten, and bytes of them. A list counts as a whole.
    pub fn size(&self) -> (u64, u64) {
        let listed = self.lists.iter().map(|list| (u64::from(list.segments), list.bytes));
        let unlisted = self.unlisted().map(|(_, segment)| (1, segment.size));
        listed.chain(unlisted).fold((0, 0), |(segments, bytes), (more, of)| (segments + more, bytes.saturating_add(of)))
    }

    /// Whether it is worth to drop the segments that end before an index: they have records, or are many. Else they are
    /// what deletion itself has shipped, and a lane at rest would never come to rest.
    pub fn are_worth_dropping(&self, below: LogIndex) -> bool {
        let begin = self.needed_from();
        let listed = || self.lists.iter().take_while(|list| list.last < below).map(|list| list.segments as usize);
        let unlisted = || self.unlisted().take_while(|(id, _)| *id < SegmentId(below)).take(EMPTY_SEGMENTS_MIN).count();
        let are_many = || listed().sum::<usize>() + unlisted() >= EMPTY_SEGMENTS_MIN;
        begin < below && (begin <= self.with_records || are_many())
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
        if !segment.runs.is_empty() {
            self.with_records = segment.last;
        }
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
        self.unlisted().next().is_some_and(|(_, oldest)| oldest.first == list.first)
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

    /// Drops segments that nothing needs.
    pub fn drop_below(&mut self, dropped: DroppedSegments) {
        self.dropped = Some(dropped);
    }

    /// Lets go of segments that were dropped, and of the lists that have no others, which are returned; `None` if there
    /// are no such segments.
    pub fn forget_below(&mut self, below: LogIndex) -> Option<Vec<Arc<SegmentListEntry>>> {
        let dropped = self.dropped.filter(|dropped| self.begin() < below && below <= dropped.below)?;
        self.begin = below;
        self.dropped = (below < dropped.below).then_some(dropped);
        let gone: Vec<SegmentId> = self.held.range(..SegmentId(below)).map(|(id, _)| *id).collect();
        gone.iter().for_each(|id| drop(self.held.remove(id)));
        let forgotten = self.lists.iter().take_while(|list| list.last < below).count();
        let kept = self.lists.split_off(forgotten);
        Some(std::mem::replace(&mut self.lists, kept).into_iter().collect())
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
