//! Closed history: what is open of a topic up to a log index goes into a page, and pages into the place of others.

use std::ops::Range;
use std::sync::Arc;

use chronik_format::catalog::{ArchiveRun, PageBounds, PageEntry, PartitionBounds, WaitingRuns};
use chronik_format::ids::PartitionId;

use crate::state::LaneState;
use crate::state::command::{ClosePage, ReplacePages};
use crate::state::partition::{IndexStatus, PartitionRun};
use crate::state::refusal::CommandRefusal;
use crate::state::segments::{SegmentId, Tombstone};
use crate::state::topic::TopicState;

impl LaneState {
    pub(super) fn close_page(&mut self, close: &ClosePage) -> Result<(), CommandRefusal> {
        let archives = self.closable(close)?;
        let topic = self.topics.get_mut(&close.topic).map(Arc::make_mut).ok_or(CommandRefusal::UnknownTopic)?;
        let closed = topic.close(&close.page, &archives);
        for (partition, run) in closed {
            self.segments.remove_open_run(run.segment);
            self.pending.remove(&(topic.id, partition, run.offsets.first));
        }
        topic.changed = self.applied;
        Ok(())
    }

    /// The archives that go into a page. It must hold just what is open up to its last index, as it is: a result that
    /// was registered since it was made may have changed that.
    pub fn closable(&self, close: &ClosePage) -> Result<Vec<Arc<str>>, CommandRefusal> {
        let topic = self.topics.get(&close.topic).ok_or(CommandRefusal::UnknownTopic)?;
        let bounds = &close.page.bounds;
        let follows = topic.closed_index() < bounds.last && bounds.last <= self.segments.shipped_index();
        let follows = follows && self.has_segments_of(&close.page);
        let archives = follows.then(|| topic.closable_archives(bounds, SegmentId(bounds.last))).flatten();
        archives.ok_or(CommandRefusal::PageOutOfPlace)
    }

    /// Whether no segment that a page needs was dropped.
    fn has_segments_of(&self, page: &PageEntry) -> bool {
        page.bounds.oldest_segment.is_none_or(|oldest| self.segments.needed_from() <= oldest.first)
    }

    /// Readers find what they found before in other pages.
    pub(super) fn replace_pages(&mut self, replace: &ReplacePages) -> Result<(), CommandRefusal> {
        let place = self.replaceable(replace)?;
        let topic = self.topics.get_mut(&replace.topic).map(Arc::make_mut).ok_or(CommandRefusal::UnknownTopic)?;
        topic.replace_pages(place, &replace.new);
        topic.changed = self.applied;
        let tombstone = Tombstone { index: self.applied, at: replace.at, with_all: false };
        self.tombstones.extend(replace.gone.iter().map(|object| (object.clone(), tombstone)));
        let tombstone = Tombstone::of_all(self.applied, replace.at);
        self.tombstones.extend(replace.deleted.iter().map(|object| (object.clone(), tombstone)));
        Ok(())
    }

    /// Where the pages to be replaced lie at the top. They must follow one another there, and the new ones must hold
    /// just the same, but for records that are deleted by now; nothing that is named then is gone.
    pub fn replaceable(&self, replace: &ReplacePages) -> Result<Range<usize>, CommandRefusal> {
        let topic = self.topics.get(&replace.topic).ok_or(CommandRefusal::UnknownTopic)?;
        let is_dead = |page: &PageEntry| self.tombstones.contains_key(&page.object);
        let place = topic.place_of(&replace.old).filter(|place| {
            let others = || topic.pages.iter().take(place.start).chain(topic.pages.iter().skip(place.end));
            let mut named = replace.new.iter().chain(others().map(Arc::as_ref));
            topic.hold_the_same(place.clone(), &replace.new)
                && !replace.new.iter().any(is_dead)
                && replace.new.iter().all(|page| self.has_segments_of(page))
                && !named.any(|page| replace.gone.contains(&page.object) || replace.deleted.contains(&page.object))
        });
        place.ok_or(CommandRefusal::PagesNotReplaceable)
    }
}

impl TopicState {
    /// Where pages of these names follow one another; `None` if they don't, or there are none.
    fn place_of(&self, pages: &[String]) -> Option<Range<usize>> {
        let first = self.pages.iter().position(|page| Some(&page.object) == pages.first())?;
        let found = self.pages.iter().skip(first).map(|page| &page.object).take(pages.len());
        found.eq(pages).then(|| first..first + pages.len())
    }

    fn hold_the_same(&self, old: Range<usize>, new: &[PageEntry]) -> bool {
        let before = old.start.checked_sub(1).and_then(|before| self.pages.get(before));
        if before.zip(new.first()).is_some_and(|(before, first)| before.bounds.last >= first.bounds.last) {
            return false;
        }
        let old = self.pages.iter().skip(old.start).take(old.len());
        let (Ok(old), Ok(new)) = (PageBounds::of_pages(old.map(Arc::as_ref)), PageBounds::of_pages(new)) else {
            return false;
        };
        let mut left = new.partitions.iter().peekable();
        let is_kept = |old: &PartitionBounds| {
            let Some(partition) = self.partition(old.partition) else { return false };
            let (first, last) = (old.offsets.first, old.offsets.last);
            match left.next_if(|new| new.partition == old.partition) {
                Some(new) => {
                    let begins =
                        new.offsets.first == first || (first..=partition.log_start).contains(&new.offsets.first);
                    begins && (new.offsets.last == last || partition.is_deleted(last))
                }
                None => partition.is_deleted(last),
            }
        };
        // The last ones may lie below the logs' starts, as any.
        new.last <= old.last && old.partitions.iter().all(is_kept) && left.next().is_none()
    }

    fn replace_pages(&mut self, old: Range<usize>, new: &[PageEntry]) {
        let behind = self.pages.split_off(old.end);
        self.pages.truncate(old.start);
        self.pages.extend(new.iter().cloned().map(Arc::new));
        self.pages.append(behind);
        self.renew_scanned();
    }

    /// The archives over what is open up to a segment; `None` if that is not what the bounds say.
    fn closable_archives(&self, bounds: &PageBounds, last: SegmentId) -> Option<Vec<Arc<str>>> {
        let mut expected = bounds.partitions.iter().peekable();
        for (number, partition) in (0..).zip(&self.partitions) {
            let bounds = expected.next_if(|bounds| bounds.partition == number);
            let (mut first, mut end) = (None, None);
            for run in partition.runs_up_to(last) {
                first = first.or(Some(run.offsets.first));
                end = Some(run.offsets.last);
            }
            if (first, end) != bounds.map(|bounds| (bounds.offsets.first, bounds.offsets.last)).unzip() {
                return None;
            }
        }
        let archives = self.archives_within(bounds)?;
        let is_as_it_was = archives.len() == bounds.archives as usize && self.waiting_up_to(last) == bounds.waiting;
        (expected.next().is_none() && is_as_it_was).then_some(archives)
    }

    /// The open runs up to a segment that may still get an archive.
    fn waiting_up_to(&self, last: SegmentId) -> WaitingRuns {
        let runs = self.partitions.iter().flat_map(|partition| partition.runs_up_to(last));
        runs.filter(|run| run.indexed == IndexStatus::Pending).map(|run| run.bytes.length).collect()
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

    /// Leaves to a page what it has taken, the runs among it, which are returned by partition.
    fn close(&mut self, page: &PageEntry, archives: &[Arc<str>]) -> Vec<(PartitionId, PartitionRun)> {
        let mut closed = Vec::new();
        for bounds in &page.bounds.partitions {
            if let Some(partition) = self.partition_mut(bounds.partition) {
                closed.extend(partition.close(bounds).into_iter().map(|run| (bounds.partition, run)));
            }
        }
        for archive in archives {
            self.archives.remove(archive);
        }
        self.pages.push_back(Arc::new(page.clone()));
        closed
    }

    /// Removes the pages whose records are all deleted. Before them others may stay, for records of other partitions.
    pub(super) fn drop_deleted_pages(&mut self) -> Vec<Arc<PageEntry>> {
        let (deleted, kept): (Vec<_>, Vec<_>) =
            self.pages.iter().cloned().partition(|page| self.is_all_deleted(&page.bounds));
        if !deleted.is_empty() {
            self.pages = kept.into();
            self.renew_scanned();
        }
        deleted
    }

    /// Other pages are at the top: from where nothing is archived follows from what they say.
    fn renew_scanned(&mut self) {
        let mut scanned = vec![None; self.partitions.len()];
        for bounds in self.pages.iter().flat_map(|page| &page.bounds.partitions) {
            let known = usize::try_from(bounds.partition).ok().and_then(|number| scanned.get_mut(number));
            if let Some(first) = known {
                *first = first.or(bounds.scanned_from);
            }
        }
        for (number, scanned_from) in (0..).zip(scanned) {
            if self.partition(number).is_some_and(|partition| partition.closed.scanned_from != scanned_from)
                && let Some(partition) = self.partition_mut(number)
            {
                partition.closed.scanned_from = scanned_from;
            }
        }
    }
}
