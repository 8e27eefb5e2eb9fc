//! What the state holds of a topic's history, in the catalog's shape.

use std::collections::BTreeMap;

use chronik_format::catalog::{ArchiveEntry, PartitionRuns, RunEntry, SegmentEntry, TopicRuns};
use chronik_format::ids::LogIndex;

use crate::state::partition::{IndexStatus, PartitionRun};
use crate::state::segments::{LiveArchive, RegisteredSegments, SegmentId};
use crate::state::topic::TopicState;

/// A topic's open runs in segments up to a log index, and the archives over them; none may be over others too.
pub fn open_runs(topic: &TopicState, registered: &RegisteredSegments, up_to: LogIndex) -> TopicRuns {
    let mut segments = NamedSegments { registered, numbers: BTreeMap::new(), entries: Vec::new() };
    let mut partitions = Vec::new();
    for (partition, state) in (0..).zip(&topic.partitions) {
        let runs: Vec<RunEntry> = state.runs_up_to(SegmentId(up_to)).filter_map(|run| segments.run(run)).collect();
        if !runs.is_empty() {
            partitions.push(PartitionRuns { partition, runs });
        }
    }
    let mut runs = TopicRuns { segments: segments.entries, partitions, archives: Vec::new() };
    let is_over = |archive: &LiveArchive| archive.runs.iter().any(|run| runs.at(run.partition, run.first).is_some());
    let archives = topic.archives.iter().filter(|(_, archive)| is_over(archive));
    runs.archives = archives.map(|(key, archive)| archive_entry(key, archive)).collect();
    runs
}

/// The segments that runs refer to, numbered as they come.
struct NamedSegments<'a> {
    registered: &'a RegisteredSegments,
    numbers: BTreeMap<SegmentId, u32>,
    entries: Vec<SegmentEntry>,
}

impl NamedSegments<'_> {
    fn run(&mut self, run: &PartitionRun) -> Option<RunEntry> {
        Some(RunEntry {
            offsets: run.offsets,
            segment: self.number(run.segment)?,
            bytes: run.bytes,
            times: run.times,
            unreadable: match &run.indexed {
                IndexStatus::Unreadable(reason) => Some(reason.to_string()),
                IndexStatus::Pending | IndexStatus::Archive(_) => None,
            },
        })
    }

    fn number(&mut self, id: SegmentId) -> Option<u32> {
        if let Some(number) = self.numbers.get(&id) {
            return Some(*number);
        }
        let segment = self.registered.get(id)?;
        let number = self.entries.len() as u32;
        self.entries.push(SegmentEntry {
            key: segment.key.to_string(),
            size: segment.size,
            crc: segment.crc,
            directory_position: segment.directory_position,
            level: 0,
        });
        self.numbers.insert(id, number);
        Some(number)
    }
}

fn archive_entry(key: &str, archive: &LiveArchive) -> ArchiveEntry {
    ArchiveEntry {
        key: key.to_owned(),
        size: archive.size,
        crc: archive.crc,
        records: archive.records,
        merged: 0,
        runs: archive.runs.clone(),
    }
}
