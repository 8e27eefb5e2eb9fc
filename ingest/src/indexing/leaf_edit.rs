//! A leaf of a topic's history that is to be written anew, with what became known of its runs since it was closed, or
//! with fewer archives.

use std::sync::Arc;

use chronik_format::catalog::{ArchiveEntry, ArchivedOffsets, PageEntry, RunEntry, TopicRuns};
use chronik_format::ids::{Offset, PartitionId};
use chronik_format::job::CoveredRun;

use crate::state::apply::archive_run;
use crate::state::command::{ArchiveFacts, ScannedRun};

/// A leaf, and what is to be in its place.
#[derive(Clone, Debug)]
pub struct LeafEdit {
    /// As it is.
    pub entry: Arc<PageEntry>,
    /// As they are to be.
    pub runs: TopicRuns,
    /// Names of archives that are needed no more then.
    pub gone: Vec<String>,
    archived: ArchivedOffsets,
    is_changed: bool,
}

impl LeafEdit {
    /// Nothing is to be changed yet.
    pub fn new(entry: Arc<PageEntry>, runs: &TopicRuns) -> Self {
        Self { entry, archived: runs.archived(), runs: runs.clone(), gone: Vec::new(), is_changed: false }
    }

    /// Other archives are over the same runs, and some are gone.
    pub fn merged(entry: Arc<PageEntry>, runs: TopicRuns, gone: Vec<String>) -> Self {
        Self { entry, archived: runs.archived(), runs, gone, is_changed: true }
    }

    /// Whether it is to be another than it is.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Whether an offset of a partition lies in it.
    pub fn holds(&self, partition: PartitionId, offset: Offset) -> bool {
        self.entry.bounds.of(partition).is_some_and(|bounds| bounds.offsets.contains(offset))
    }

    /// Whether it names an archive.
    pub fn names(&self, archive: &str) -> bool {
        self.runs.archives.iter().any(|known| known.key == archive)
    }

    /// Adds an archive, if each of its runs is here, whole, in the segment that it names, and has none, or is deleted;
    /// else `false`.
    pub fn add(&mut self, archive: &ArchiveFacts, is_deleted: impl Fn(&CoveredRun) -> bool) -> bool {
        let is_here = |run: &CoveredRun| self.run(run.partition, run.first).is_some();
        let mut kept = archive.runs.iter().filter(|run| is_here(run) || !is_deleted(run)).peekable();
        if kept.peek().is_none() || !kept.all(|run| self.wants(run)) {
            return false;
        }
        for run in &archive.runs {
            if let Some(known) = self.run_mut(run.partition, run.first) {
                known.unreadable = None;
            }
        }
        self.runs.archives.push(ArchiveEntry {
            key: archive.key.clone(),
            size: archive.size,
            crc: archive.crc,
            records: archive.records,
            merged: 0,
            runs: archive.runs.iter().map(archive_run).collect(),
        });
        self.archived = self.runs.archived();
        self.is_changed = true;
        true
    }

    /// Notes why a run will have no archive, if it has none, and lies where it did when it was tried.
    pub fn give_up(&mut self, run: &ScannedRun) {
        let waits = |known: &RunEntry| {
            let is_there = self.runs.segment_of(known).is_some_and(|segment| segment.key == run.segment);
            is_there && known.unreadable.is_none() && !self.archived.hold(run.partition, known.offsets)
        };
        if self.run(run.partition, run.first).is_some_and(waits)
            && let Some(known) = self.run_mut(run.partition, run.first)
        {
            known.unreadable = Some(run.reason.clone());
            self.is_changed = true;
        }
    }

    fn wants(&self, run: &CoveredRun) -> bool {
        self.run(run.partition, run.first).is_some_and(|known| {
            let segment = self.runs.segment_of(known);
            known.offsets.last == run.last
                && segment.is_some_and(|segment| segment.key == run.segment)
                && !self.archived.hold(run.partition, known.offsets)
        })
    }

    fn run(&self, partition: PartitionId, first: Offset) -> Option<&RunEntry> {
        self.runs.at(partition, first).filter(|run| run.offsets.first == first)
    }

    fn run_mut(&mut self, partition: PartitionId, first: Offset) -> Option<&mut RunEntry> {
        let of = self.runs.partitions.binary_search_by_key(&partition, |of| of.partition).ok()?;
        let of = self.runs.partitions.get_mut(of)?;
        let at = of.runs.binary_search_by_key(&first, |run| run.offsets.first).ok()?;
        of.runs.get_mut(at)
    }
}
