//! Closing of history: what is open of a topic up to a log index goes into a page.

use std::sync::Arc;

use chronik_format::catalog::{ArchiveRun, PageBounds, PageEntry, PartitionBounds};

use crate::state::LaneState;
use crate::state::command::ClosePage;
use crate::state::partition::{IndexStatus, PartitionState};
use crate::state::refusal::CommandRefusal;
use crate::state::segments::SegmentId;
use crate::state::topic::TopicState;

impl LaneState {
    /// Accepted if the page holds just what is open up to its last index: a result that was registered since the page
    /// was made may have changed that.
    pub(super) fn close_page(&mut self, close: &ClosePage) -> Result<(), CommandRefusal> {
        let topic = self.topics.get_mut(&close.topic).map(Arc::make_mut).ok_or(CommandRefusal::UnknownTopic)?;
        let bounds = &close.page.bounds;
        let follows = topic.closed_index() < bounds.last && bounds.last <= self.segments.shipped_index();
        let archives = follows.then(|| topic.closable_archives(bounds, SegmentId(bounds.last))).flatten();
        let archives = archives.ok_or(CommandRefusal::PageOutOfPlace)?;
        topic.close(&close.page, &archives);
        topic.changed = self.applied;
        Ok(())
    }
}

impl TopicState {
    /// The archives over what is open up to a segment; `None` if that has other bounds, or may still change.
    fn closable_archives(&self, bounds: &PageBounds, last: SegmentId) -> Option<Vec<Arc<str>>> {
        let mut expected = bounds.partitions.iter().peekable();
        for (number, partition) in (0..).zip(&self.partitions) {
            let bounds = expected.next_if(|bounds| bounds.partition == number);
            if !self.is_closable(partition, bounds, last) {
                return None;
            }
        }
        let archives = self.archives_within(bounds)?;
        (expected.next().is_none() && archives.len() == bounds.archives as usize).then_some(archives)
    }

    fn is_closable(&self, partition: &PartitionState, bounds: Option<&PartitionBounds>, last: SegmentId) -> bool {
        let waits = |indexed: &IndexStatus| self.config.search_enabled() && *indexed == IndexStatus::Pending;
        let (mut first, mut end) = (None, None);
        for run in partition.runs_up_to(last) {
            if waits(&run.indexed) {
                return false;
            }
            first = first.or(Some(run.offsets.first));
            end = Some(run.offsets.last);
        }
        (first, end) == bounds.map(|bounds| (bounds.offsets.first, bounds.offsets.last)).unzip()
    }

    /// The archives over runs within bounds; `None` if one is over others too. Runs that were deleted don't count.
    fn archives_within(&self, bounds: &PageBounds) -> Option<Vec<Arc<str>>> {
        let is_there =
            |run: &&ArchiveRun| self.partition(run.partition).is_some_and(|partition| !partition.is_deleted(run.last));
        let is_within =
            |run: &ArchiveRun| bounds.of(run.partition).is_some_and(|bounds| bounds.offsets.contains(run.first));
        let mut archives = Vec::new();
        for (key, archive) in &self.archives {
            let (within, behind): (Vec<&ArchiveRun>, Vec<&ArchiveRun>) =
                archive.runs.iter().filter(is_there).partition(|run| is_within(run));
            match (within.is_empty(), behind.is_empty()) {
                (true, _) => {}
                (false, true) => archives.push(key.clone()),
                (false, false) => return None,
            }
        }
        Some(archives)
    }

    fn close(&mut self, page: &PageEntry, archives: &[Arc<str>]) {
        for bounds in &page.bounds.partitions {
            if let Some(partition) = self.partition_mut(bounds.partition) {
                partition.close(bounds);
            }
        }
        for archive in archives {
            self.archives.remove(archive);
        }
        self.pages.push_back(Arc::new(page.clone()));
    }

    /// Removes the oldest pages, as long as all of their records are deleted.
    pub(super) fn drop_deleted_pages(&mut self) -> Vec<Arc<PageEntry>> {
        let is_deleted = |bounds: &PartitionBounds| {
            self.partition(bounds.partition).is_none_or(|partition| partition.is_deleted(bounds.offsets.last))
        };
        let deleted = self.pages.iter().take_while(|page| page.bounds.partitions.iter().all(is_deleted)).count();
        let kept = self.pages.split_off(deleted);
        std::mem::replace(&mut self.pages, kept).into_iter().collect()
    }
}
