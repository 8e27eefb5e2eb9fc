//! Trimming: a page whose records are all deleted goes as a whole; where it lies below a page of which others live on,
//! that one is written anew without it.

use std::sync::Arc;

use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{CatalogError, PageEntry, PartitionBounds};
use chronik_format::ids::{Offset, Timestamp};
use chronik_service::failpoint;
use chronik_store::StoreError;

use super::{PAGES_READ_MAX, Retention};
use crate::lane::{LaneError, LaneGone};
use crate::publish::page_tree::{PageFate, PageTree, TreeChange};
use crate::state::LaneState;
use crate::state::command::Command;
use crate::state::topic::TopicState;

/// Why a page was not trimmed; a later look tries again.
#[derive(Debug, thiserror::Error)]
enum TrimError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Lane(#[from] LaneError),
}

impl Retention {
    /// Takes what is deleted out of a topic's pages, where its logs have come to start later since it was done last.
    pub(super) async fn trim(&mut self, state: &LaneState, topic: &TopicState, now: Timestamp) -> Result<(), LaneGone> {
        let log_starts = || topic.partitions.iter().map(|partition| partition.log_start);
        let before = self.trimmed_at.get(&topic.id).map_or(&[][..], Vec::as_slice);
        if log_starts().eq(before.iter().copied()) {
            return Ok(());
        }
        let mut is_done = true;
        for page in topic.pages.iter().filter(|page| may_be_trimmed(topic, before, page)) {
            match self.trim_below(state, topic, before, page, now).await {
                Ok(()) => {}
                Err(TrimError::Lane(LaneError::Gone(gone))) => return Err(gone),
                // It was put below another page meanwhile, or a log starts at an offset that no record has.
                Err(TrimError::Lane(LaneError::Refused(refused))) => {
                    tracing::debug!("{} keeps what is deleted until a later look: {refused}", page.object);
                    is_done = false;
                }
                Err(error) => {
                    tracing::warn!("{} keeps what is deleted until a later look: {error}", page.object);
                    is_done = false;
                }
            }
        }
        if is_done {
            self.trimmed_at.insert(topic.id, log_starts().collect());
        }
        Ok(())
    }

    /// What is deep below the page may have to wait until all of it goes: a change enters a bounded number of pages.
    async fn trim_below(
        &self,
        state: &LaneState,
        topic: &TopicState,
        before: &[Offset],
        page: &Arc<PageEntry>,
        now: Timestamp,
    ) -> Result<(), TrimError> {
        let builder = PageBuilder { origin: self.parts.origin, topic: topic.id, written_at: now };
        let tree = PageTree { catalog: &self.parts.catalog, builder };
        let mut pages_entered = 0;
        let mut fate = |page: &PageEntry| match () {
            () if topic.is_all_deleted(&page.bounds) => PageFate::Goes,
            () if pages_entered < PAGES_READ_MAX && may_be_trimmed(topic, before, page) => {
                pages_entered += 1;
                PageFate::Entered
            }
            () => PageFate::Stays,
        };
        let Some(TreeChange { pages, replace }) = tree.changed(page, &mut fate).await? else { return Ok(()) };
        // Nothing is written that the state would refuse.
        state.replaceable(&replace).map_err(LaneError::from)?;
        for page in pages {
            self.parts.store.create(&page.entry.object, vec![page.bytes]).await?;
        }
        failpoint!("trim-created");
        self.parts.lane.propose(Command::ReplacePages(replace)).await?;
        failpoint!("trim-named");
        Ok(())
    }
}

/// Whether a page, some of whose records live, may have others below it of which none does any more: logs have come to
/// start in it, or behind it, since they started at `before`.
fn may_be_trimmed(topic: &TopicState, before: &[Offset], page: &PageEntry) -> bool {
    let has_moved = |bounds: &PartitionBounds| {
        let Some(partition) = topic.partition(bounds.partition) else { return false };
        let before = usize::try_from(bounds.partition).ok().and_then(|number| before.get(number));
        let before = before.copied().unwrap_or_default();
        before < partition.log_start && before <= bounds.offsets.last && bounds.offsets.first < partition.log_start
    };
    page.height > 0 && page.bounds.partitions.iter().any(has_moved)
}
