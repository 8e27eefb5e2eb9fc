//! A part of a topic's history: the runs that segments hold, and the archives over them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::archive::IndexedRun;
use crate::batch::TimeSpan;
use crate::ids::{Offset, PartitionId, Timestamp};
use crate::span::{ByteSpan, OffsetSpan};

/// Runs of a topic, and the archives over them; no archive is over others too. Serialised with bincode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRuns {
    /// The segments that [`RunEntry::segment`] points into.
    pub segments: Vec<SegmentEntry>,
    /// Ascending by number; only those that have runs.
    pub partitions: Vec<PartitionRuns>,
    /// The live archives.
    pub archives: Vec<ArchiveEntry>,
}

/// A segment that holds runs of the topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// The object's name.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its directory.
    pub crc: u32,
    /// Where its directory starts, bytes.
    pub directory_position: u64,
    /// How often its batches were compacted: 0 if they are in it as they were shipped.
    pub level: u8,
}

/// The runs of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRuns {
    /// The partition's number.
    pub partition: PartitionId,
    /// Ascending by offset; at least one.
    pub runs: Vec<RunEntry>,
}

/// Consecutive batches of one partition in one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEntry {
    pub offsets: OffsetSpan,
    /// Index into [`TopicRuns::segments`].
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
    /// The level of its runs when it was last merged with others, or left alone for want of such; 0 if never.
    pub merged: u8,
    /// What it covers, by partition or not.
    pub runs: Vec<ArchiveRun>,
}

/// Offsets that an archive covers: those of whole runs. No record has those between two runs.
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

impl ArchiveRun {
    /// Runs in the order of partitions and offsets; those that follow one another as one.
    pub(super) fn joined(mut runs: Vec<Self>) -> Vec<Self> {
        runs.sort_by_key(|run| (run.partition, run.first));
        let mut joined: Vec<Self> = Vec::new();
        for run in runs {
            match joined.last_mut() {
                Some(before) if before.partition == run.partition && before.last.checked_add(1) == Some(run.first) => {
                    before.last = run.last;
                    before.min_timestamp = [before.min_timestamp, run.min_timestamp].into_iter().flatten().min();
                    before.max_timestamp = [before.max_timestamp, run.max_timestamp].into_iter().flatten().max();
                }
                _ => joined.push(run),
            }
        }
        joined
    }
}

/// The offsets that archives cover.
#[derive(Clone, Debug, Default)]
pub struct ArchivedOffsets {
    /// By partition, ascending, not side by side.
    spans: BTreeMap<PartitionId, Vec<OffsetSpan>>,
}

impl ArchivedOffsets {
    /// Those of some archives.
    pub fn of<'a>(archives: impl IntoIterator<Item = &'a ArchiveEntry>) -> Self {
        let runs = archives.into_iter().flat_map(|archive| &archive.runs);
        Self::of_spans(runs.map(|run| (run.partition, OffsetSpan { first: run.first, last: run.last })).collect())
    }

    /// Those of runs as an archive's own table has them.
    pub(super) fn of_runs(runs: &[IndexedRun]) -> Self {
        Self::of_spans(runs.iter().map(|run| (run.partition, run.offsets())).collect())
    }

    fn of_spans(mut of: Vec<(PartitionId, OffsetSpan)>) -> Self {
        of.sort_unstable_by_key(|(partition, offsets)| (*partition, offsets.first));
        let mut spans: BTreeMap<PartitionId, Vec<OffsetSpan>> = BTreeMap::new();
        for (partition, offsets) in of {
            let spans = spans.entry(partition).or_default();
            match spans.last_mut() {
                Some(span) if offsets.first <= span.end() => span.last = span.last.max(offsets.last),
                _ => spans.push(offsets),
            }
        }
        Self { spans }
    }

    /// Whether all of some offsets are among them.
    pub fn hold(&self, partition: PartitionId, offsets: OffsetSpan) -> bool {
        let spans = self.spans.get(&partition).map_or(&[][..], Vec::as_slice);
        let at = spans.partition_point(|span| span.last < offsets.last);
        spans.get(at).is_some_and(|span| span.first <= offsets.first)
    }
}

impl TopicRuns {
    /// The offsets that the archives cover.
    pub fn archived(&self) -> ArchivedOffsets {
        ArchivedOffsets::of(&self.archives)
    }

    /// The runs that may still get an archive: they have none, and no reason to have none.
    pub fn waiting(&self, archived: &ArchivedOffsets) -> impl Iterator<Item = (PartitionId, &RunEntry)> {
        let all = self.partitions.iter().flat_map(|PartitionRuns { partition, runs }| {
            let partition = *partition;
            runs.iter().map(move |run| (partition, run))
        });
        all.filter(|(partition, run)| run.unreadable.is_none() && !archived.hold(*partition, run.offsets))
    }

    /// How often all of the batches were compacted, at the least.
    pub fn level(&self) -> u8 {
        self.segments.iter().map(|segment| segment.level).min().unwrap_or_default()
    }

    /// The archives that are to be merged with one another: those over compacted runs that were not merged since. One
    /// alone is not.
    pub fn mergeable(&self) -> Vec<&ArchiveEntry> {
        let level = self.level();
        let mergeable: Vec<_> = self.archives.iter().filter(|archive| archive.merged < level).collect();
        if mergeable.len() > 1 { mergeable } else { Vec::new() }
    }

    /// Names of the segments that nothing else names: compaction wrote them for these runs.
    pub fn own_segments(&self) -> impl Iterator<Item = String> {
        self.segments.iter().filter(|segment| segment.level > 0).map(|segment| segment.key.clone())
    }

    /// The runs of a partition, ascending by offset.
    pub fn of(&self, partition: PartitionId) -> &[RunEntry] {
        let at = self.partitions.binary_search_by_key(&partition, |runs| runs.partition);
        at.map_or(&[], |at| &self.partitions[at].runs)
    }

    /// The run that holds an offset of a partition.
    pub fn at(&self, partition: PartitionId, offset: Offset) -> Option<&RunEntry> {
        self.reaching(partition, offset).filter(|run| run.offsets.contains(offset))
    }

    /// The run that holds an offset of a partition or, if no record has it, the next one.
    pub fn reaching(&self, partition: PartitionId, offset: Offset) -> Option<&RunEntry> {
        let runs = self.of(partition);
        runs.get(runs.partition_point(|run| run.offsets.last < offset))
    }

    /// The segment of a run.
    pub fn segment_of(&self, run: &RunEntry) -> Option<&SegmentEntry> {
        self.segments.get(run.segment as usize)
    }

    /// What readers rely on to find their way.
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.partitions.is_sorted_by(|a, b| a.partition < b.partition) {
            return Err("partitions are out of order".to_owned());
        }
        for PartitionRuns { partition, runs } in &self.partitions {
            if runs.is_empty() {
                return Err(format!("partition {partition} has no runs"));
            }
            if !runs.is_sorted_by(|a, b| a.offsets.last < b.offsets.first) {
                return Err(format!("the runs of partition {partition} are out of order"));
            }
            if runs.iter().any(|run| !run.offsets.is_possible() || self.segment_of(run).is_none()) {
                return Err(format!("a run of partition {partition} has no offsets or no segment"));
            }
        }
        Ok(())
    }

    /// About as many bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let segments = self.segments.iter().map(|segment| size_of_val(segment) + segment.key.len());
        let partitions = self.partitions.iter().map(|PartitionRuns { runs, .. }| {
            let reasons = runs.iter().filter_map(|run| run.unreadable.as_ref()).map(String::len);
            size_of::<PartitionRuns>() + size_of_val(runs.as_slice()) + reasons.sum::<usize>()
        });
        let archives = self
            .archives
            .iter()
            .map(|archive| size_of_val(archive) + archive.key.len() + size_of_val(archive.runs.as_slice()));
        segments.sum::<usize>() + partitions.sum::<usize>() + archives.sum::<usize>()
    }
}
