//! Pages as what is above them names them: with bounds of all that lies below, enough for readers to decide whether
//! they read a page.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::runs::ArchivedOffsets;
use super::{PartitionRuns, RunEntry, SegmentEntry, TopicRuns};
use crate::batch::TimeSpan;
use crate::ids::{LogIndex, Offset, PartitionId, Timestamp};
use crate::names::SegmentName;
use crate::span::OffsetSpan;

/// A page as a topic's head, or a page above it, names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageEntry {
    /// The object's name.
    pub object: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of all before it, as it stands at the object's end.
    pub crc: u32,
    /// When it was written, ms since the epoch; what it names was named before.
    pub written_at: Timestamp,
    /// When the newest of what lies below was closed, ms since the epoch, whatever became of it since.
    pub closed_at: Timestamp,
    /// 0 of a leaf, which holds runs; of others one more than of the pages below.
    pub height: u8,
    /// Of all that lies below.
    pub bounds: PageBounds,
}

/// What a page holds, or what those below it do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageBounds {
    /// Last log index of its segments; all of the topic up to there lies in it or in pages before it.
    pub last: LogIndex,
    /// How many runs there are.
    pub runs: u32,
    /// How many offsets they have.
    pub records: u64,
    /// Bytes of the batches.
    pub bytes: u64,
    /// How many archives are over its runs.
    pub archives: u32,
    /// How many of them are to be [merged](TopicRuns::mergeable).
    pub mergeable: u32,
    /// Its runs that may still get an archive.
    pub waiting: WaitingRuns,
    /// How often all of its batches were compacted, at the least.
    pub level: u8,
    /// The oldest level 0 segment that it names; `None` if all was compacted.
    pub oldest_segment: Option<OldestSegment>,
    /// What of it was never compacted.
    pub uncompacted: UncompactedPages,
    /// Ascending by number; only those that have runs.
    pub partitions: Vec<PartitionBounds>,
}

/// A level 0 segment that is needed, while those before it may not be. They sort as they follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OldestSegment {
    /// Its first log index.
    pub first: LogIndex,
    /// ms since the epoch.
    pub named_at: Timestamp,
}

/// Runs without an archive and without a reason to have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingRuns {
    pub runs: u64,
    /// Bytes of their batches.
    pub bytes: u64,
}

/// Leaves whose batches lie in segments as they were shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncompactedPages {
    pub pages: u64,
    /// Their runs.
    pub runs: u64,
    /// How many offsets these have.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
}

/// What a page holds of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBounds {
    /// The partition's number.
    pub partition: PartitionId,
    pub offsets: OffsetSpan,
    /// Of the records; [`TimeSpan::ANY`] if not all can be read.
    pub times: TimeSpan,
    /// Of the batches.
    pub bytes: u64,
    /// First offset that no archive covers.
    pub scanned_from: Option<Offset>,
}

impl PageEntry {
    /// The first of pages that reaches an offset of a partition: that holds it, or, if no record has it, what follows.
    pub fn reaching(pages: &[Arc<Self>], partition: PartitionId, offset: Offset) -> Option<&Arc<Self>> {
        pages.iter().find(|page| page.bounds.of(partition).is_some_and(|bounds| offset <= bounds.offsets.last))
    }

    /// About as many bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(self) + self.object.len() + size_of_val(self.bounds.partitions.as_slice())
    }
}

impl PageBounds {
    /// Those of runs in segments up to a log index.
    pub fn of_runs(runs: &TopicRuns, last: LogIndex) -> Self {
        let archived = runs.archived();
        let all = || runs.partitions.iter().flat_map(|partition| &partition.runs);
        let (count, bytes) = (all().count(), all().map(|run| run.bytes.length).fold(0, u64::saturating_add));
        let records = all().map(|run| run.offsets.count()).fold(0, u64::saturating_add);
        let level = runs.level();
        let as_shipped = UncompactedPages { pages: 1, runs: count as u64, records, bytes };
        Self {
            last,
            runs: u32::try_from(count).unwrap_or(u32::MAX),
            records,
            bytes,
            archives: u32::try_from(runs.archives.len()).unwrap_or(u32::MAX),
            mergeable: u32::try_from(runs.mergeable().len()).unwrap_or(u32::MAX),
            waiting: runs.waiting(&archived).map(|(_, run)| run.bytes.length).collect(),
            level,
            oldest_segment: runs.segments.iter().filter_map(OldestSegment::of).min(),
            uncompacted: if level == 0 { as_shipped } else { UncompactedPages::default() },
            partitions: runs.partitions.iter().filter_map(|runs| PartitionBounds::of_runs(runs, &archived)).collect(),
        }
    }

    /// Those of pages that follow one another, from the oldest to the newest; the reason if they do not.
    pub fn of_pages<'a>(pages: impl IntoIterator<Item = &'a PageEntry>) -> Result<Self, String> {
        pages.into_iter().try_fold(Self::default(), |bounds, page| {
            let joined = (page.bounds.last > bounds.last && page.bounds.is_possible()).then(|| bounds.joined(page));
            joined.flatten().ok_or_else(|| format!("{} does not follow the page before it", page.object))
        })
    }

    fn joined(self, page: &PageEntry) -> Option<Self> {
        let PageBounds {
            last,
            runs,
            records,
            bytes,
            archives,
            mergeable,
            waiting,
            level,
            oldest_segment,
            uncompacted,
            partitions,
        } = &page.bounds;
        Some(Self {
            last: *last,
            runs: self.runs.saturating_add(*runs),
            level: if self.last == 0 { *level } else { self.level.min(*level) },
            records: self.records.saturating_add(*records),
            bytes: self.bytes.saturating_add(*bytes),
            archives: self.archives.saturating_add(*archives),
            mergeable: self.mergeable.saturating_add(*mergeable),
            waiting: self.waiting.and(*waiting),
            oldest_segment: [self.oldest_segment, *oldest_segment].into_iter().flatten().min(),
            uncompacted: self.uncompacted.and(*uncompacted),
            partitions: joined(self.partitions, partitions)?,
        })
    }

    /// What it holds of a partition.
    pub fn of(&self, partition: PartitionId) -> Option<&PartitionBounds> {
        let at = self.partitions.binary_search_by_key(&partition, |bounds| bounds.partition).ok()?;
        self.partitions.get(at)
    }

    /// Whether it is what [`Self::of_runs`] may give.
    pub(super) fn is_possible(&self) -> bool {
        self.partitions.is_sorted_by(|a, b| a.partition < b.partition)
            && self.partitions.iter().all(|bounds| bounds.offsets.is_possible())
    }
}

impl OldestSegment {
    /// Says it of a segment, unless compaction wrote it. One that has another name than it should is older than all, so
    /// that nothing goes because of it.
    fn of(segment: &SegmentEntry) -> Option<Self> {
        let named = |name: SegmentName| Self { first: name.first, named_at: name.named_at() };
        (segment.level == 0).then(|| segment.key.parse().map(named).unwrap_or_default())
    }
}

impl WaitingRuns {
    /// These and others.
    pub fn and(self, others: Self) -> Self {
        let (runs, bytes) = (self.runs.saturating_add(others.runs), self.bytes.saturating_add(others.bytes));
        Self { runs, bytes }
    }
}

impl UncompactedPages {
    /// These and others.
    pub fn and(self, others: Self) -> Self {
        Self {
            pages: self.pages.saturating_add(others.pages),
            runs: self.runs.saturating_add(others.runs),
            records: self.records.saturating_add(others.records),
            bytes: self.bytes.saturating_add(others.bytes),
        }
    }
}

/// Of runs with so many bytes each.
impl FromIterator<u64> for WaitingRuns {
    fn from_iter<I: IntoIterator<Item = u64>>(runs: I) -> Self {
        runs.into_iter().map(|bytes| Self { runs: 1, bytes }).fold(Self::default(), Self::and)
    }
}

/// By partition; `None` if what is later of one does not lie behind what is earlier.
fn joined(earlier: Vec<PartitionBounds>, later: &[PartitionBounds]) -> Option<Vec<PartitionBounds>> {
    let mut joined = Vec::with_capacity(earlier.len().max(later.len()));
    let mut later = later.iter().copied().peekable();
    for bounds in earlier {
        while let Some(other) = later.next_if(|later| later.partition < bounds.partition) {
            joined.push(other);
        }
        match later.next_if(|later| later.partition == bounds.partition) {
            Some(later) => joined.push(bounds.followed_by(later)?),
            None => joined.push(bounds),
        }
    }
    joined.extend(later);
    Some(joined)
}

impl PartitionBounds {
    fn of_runs(runs: &PartitionRuns, archived: &ArchivedOffsets) -> Option<Self> {
        let PartitionRuns { partition, runs } = runs;
        let (first, last) = (runs.first()?.offsets.first, runs.last()?.offsets.last);
        let is_scanned = |run: &&RunEntry| !archived.hold(*partition, run.offsets);
        Some(Self {
            partition: *partition,
            offsets: OffsetSpan { first, last },
            times: runs.iter().map(|run| run.times).fold(TimeSpan::NONE, TimeSpan::union),
            bytes: runs.iter().map(|run| run.bytes.length).fold(0, u64::saturating_add),
            scanned_from: runs.iter().find(is_scanned).map(|run| run.offsets.first),
        })
    }

    fn followed_by(self, later: Self) -> Option<Self> {
        (self.offsets.last < later.offsets.first).then_some(Self {
            partition: self.partition,
            offsets: OffsetSpan { first: self.offsets.first, last: later.offsets.last },
            times: self.times.union(later.times),
            bytes: self.bytes.saturating_add(later.bytes),
            scanned_from: self.scanned_from.or(later.scanned_from),
        })
    }
}
