//! Leaves that were folded before they were compacted: for want of indexers, or of archives. Pages above say how many
//! there are below, so that only these are entered; round and round, a bounded number of them at a time.

use std::sync::Arc;

use chronik_format::catalog::{CatalogError, CatalogReader, Page, PageEntry};
use chronik_format::ids::{LogIndex, TopicId};

use crate::state::LaneState;
use crate::state::topic::TopicState;

/// A walk over pages whose leaves are named right below them. All it remembers is how far it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FoldedWalk {
    /// Of this topic alone.
    only: Option<TopicId>,
    topic: TopicId,
    /// The last log index of what it has passed in the topic.
    passed: LogIndex,
}

/// Where the walk has come.
pub(super) enum FoldedStep<'a> {
    /// Leaves of which some were never compacted. The walk stays there until it [passes](FoldedWalk::pass) them.
    Leaves { topic: &'a TopicState, leaves: Arc<[Arc<PageEntry>]> },
    /// A page that can't be entered, which is passed.
    Unread(Arc<PageEntry>, CatalogError),
    /// Nothing more may be read now.
    Cut,
    /// Around: it begins anew.
    Round,
}

impl FoldedWalk {
    /// Of one topic, or all.
    pub fn of(only: Option<TopicId>) -> Self {
        Self { only, ..Self::default() }
    }

    /// Whether it has not passed anything since it began anew.
    pub fn is_at_start(&self) -> bool {
        self.topic == TopicId::default() && self.passed == 0
    }

    /// Walks on to leaves below the next page that `admits` lets in, and takes what it reads from `reads`.
    pub async fn next<'a>(
        &mut self,
        catalog: &CatalogReader,
        state: &'a LaneState,
        reads: &mut usize,
        mut admits: impl FnMut(&PageEntry) -> bool,
    ) -> FoldedStep<'a> {
        while let Some((topic, mut page)) = self.next_top(state, &mut admits) {
            loop {
                let Some(left) = reads.checked_sub(1) else { return FoldedStep::Cut };
                *reads = left;
                let below = match catalog.page(topic.id, &page).await {
                    Ok(Page::Pages(below)) => below,
                    Ok(Page::Runs(_)) => {
                        self.passed = page.bounds.last;
                        break;
                    }
                    Err(error) => {
                        self.passed = page.bounds.last;
                        return FoldedStep::Unread(page, error);
                    }
                };
                if page.height == 1 {
                    return FoldedStep::Leaves { topic, leaves: below };
                }
                match below.iter().find(|page| self.is_ahead(topic, page) && admits(page)) {
                    Some(next) => page = next.clone(),
                    None => {
                        self.passed = page.bounds.last;
                        break;
                    }
                }
            }
        }
        *self = Self::of(self.only);
        FoldedStep::Round
    }

    /// Goes on behind leaves.
    pub fn pass(&mut self, leaves: &[Arc<PageEntry>]) {
        self.passed = leaves.last().map_or(self.passed, |leaf| leaf.bounds.last);
    }

    fn next_top<'a>(
        &mut self,
        state: &'a LaneState,
        admits: &mut impl FnMut(&PageEntry) -> bool,
    ) -> Option<(&'a TopicState, Arc<PageEntry>)> {
        for (id, topic) in state.topics.range(self.topic..).filter(|(id, _)| self.only.is_none_or(|only| only == **id))
        {
            if *id != self.topic {
                (self.topic, self.passed) = (*id, 0);
            }
            let ahead = topic.pages.iter().find(|page| self.is_ahead(topic, page) && admits(page));
            if let Some(page) = ahead {
                return Some((topic, page.clone()));
            }
        }
        None
    }

    fn is_ahead(&self, topic: &TopicState, page: &PageEntry) -> bool {
        let bounds = &page.bounds;
        page.height > 0 && bounds.uncompacted.pages > 0 && bounds.last > self.passed && !topic.is_all_deleted(bounds)
    }
}
