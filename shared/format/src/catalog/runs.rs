//! A part of a topic's history: the runs that segments hold, and the archives over them.

use serde::{Deserialize, Serialize};

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

impl TopicRuns {
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
