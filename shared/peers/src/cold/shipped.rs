//! A partition as one export shows it.

use std::sync::Arc;

use super::ColdError;
use chronik_format::catalog::{PageEntry, PartitionHead, RunEntry, SegmentEntry, TopicHead, TopicRuns};
use chronik_format::ids::{Offset, PartitionId};

/// A partition of which something is in the bucket. Runs lie side by side.
pub(super) struct ShippedPartition {
    pub head: Arc<TopicHead>,
    pub partition: PartitionId,
}

impl ShippedPartition {
    /// Whether a run holds an offset that is not deleted, or one behind it: between runs are offsets that were used up
    /// without a record.
    pub(super) fn keeps(&self, offset: Offset) -> bool {
        let Self { head, partition } = self;
        let is_kept = self.of_head().is_some_and(|partition| offset >= partition.log_start);
        let is_open = || head.open.reaching(*partition, offset).is_some();
        is_kept && (is_open() || PageEntry::reaching(&head.pages, *partition, offset).is_some())
    }

    /// Whether an offset may be of a leader epoch. Epochs begin no earlier than the log: where records are deleted, it
    /// may be any up to the first one.
    pub(super) fn may_have(&self, offset: Offset, epoch: i32) -> bool {
        let epochs = self.of_head().map_or(&[][..], |partition| &partition.epochs);
        match epochs.iter().rev().find(|(_, start)| *start <= offset) {
            Some((known, _)) => epoch == *known,
            None => epochs.first().is_some_and(|(first, _)| (0..=*first).contains(&epoch)),
        }
    }

    pub(super) fn segment_entry<'a>(&self, runs: &'a TopicRuns, run: &RunEntry) -> Result<&'a SegmentEntry, ColdError> {
        runs.segment_of(run).ok_or_else(|| self.not_in_catalog(run.offsets.first))
    }

    pub(super) fn not_in_catalog(&self, offset: Offset) -> ColdError {
        ColdError::NotInCatalog { topic: self.head.id, partition: self.partition, offset }
    }

    fn of_head(&self) -> Option<&PartitionHead> {
        self.head.partition(self.partition)
    }
}
