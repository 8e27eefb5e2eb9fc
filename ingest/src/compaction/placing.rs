//! Where the pages of a job are by the time its result comes, and the page that takes their place there: at the top of
//! the topic's history, or below pages that are written anew.

use std::sync::Arc;

use chronik_format::catalog::page::{BuiltPage, Page, PageBuilder};
use chronik_format::catalog::{CatalogError, PageEntry};
use chronik_format::ids::Timestamp;
use chronik_format::job::{CompactResult, RecordPlace};

use super::CompactionDesk;
use crate::publish::page_tree::{PageFate, PageTree, TreeChange};
use crate::state::LaneState;
use crate::state::command::ReplacePages;

/// Leaves that follow one another, where they are named.
pub(super) struct NamedLeaves {
    pub leaves: Vec<Arc<PageEntry>>,
    /// The page at the top that they are below, unless they are there themselves.
    top: Option<Arc<PageEntry>>,
}

/// A page that is to take the place of others.
#[derive(Debug)]
pub(super) struct CompactedPage {
    pub page: BuiltPage,
    /// What nothing names then, beside the old pages.
    pub gone: Vec<String>,
}

impl CompactionDesk {
    /// The pages of a result; `None` if they are not there any more, one behind the other. Reads a page at each height.
    pub(super) async fn named(
        &self,
        state: &LaneState,
        CompactResult { topic_id, pages: names, place, .. }: &CompactResult,
    ) -> Result<Option<NamedLeaves>, CatalogError> {
        let Some(topic) = state.topics.get(topic_id) else { return Ok(None) };
        let (mut pages, mut top): (Arc<[Arc<PageEntry>]>, _) = (topic.pages.iter().cloned().collect(), None);
        loop {
            if let Some(leaves) = following(&pages, names) {
                return Ok(Some(NamedLeaves { leaves, top }));
            }
            let above = PageEntry::reaching(&pages, place.partition, place.offset).filter(|page| page.height > 0);
            let Some(above) = above.cloned() else { return Ok(None) };
            let Page::Pages(below) = self.parts.catalog.page(topic.id, &above).await? else { return Ok(None) };
            top.get_or_insert(above);
            pages = below;
        }
    }

    /// What puts a page in the place of others; `None` if the state would refuse it.
    pub(super) async fn placed(
        &self,
        state: &LaneState,
        result: &CompactResult,
        NamedLeaves { leaves, top }: &NamedLeaves,
        CompactedPage { page: new, gone }: &CompactedPage,
        now: Timestamp,
    ) -> Result<Option<TreeChange>, CatalogError> {
        let topic = result.topic_id;
        let change = match top {
            None => {
                let old: Vec<String> = leaves.iter().map(|leaf| leaf.object.clone()).collect();
                let (gone, page) = (old.clone(), new.entry.clone());
                let replace = ReplacePages { topic, old, new: vec![page], gone, deleted: Vec::new(), at: now };
                Some(TreeChange { pages: vec![new.clone()], replace })
            }
            Some(top) => {
                let RecordPlace { partition, offset } = result.place;
                let is_above =
                    |page: &PageEntry| page.bounds.of(partition).is_some_and(|bounds| bounds.offsets.contains(offset));
                let mut fate = |page: &PageEntry| match leaves.iter().position(|leaf| leaf.object == page.object) {
                    Some(0) => PageFate::Replaced(Some(Box::new(new.clone()))),
                    Some(_) => PageFate::Replaced(None),
                    None if page.height > 0 && is_above(page) => PageFate::Entered,
                    None => PageFate::Stays,
                };
                let builder = PageBuilder { origin: self.parts.origin, topic, written_at: now };
                PageTree { catalog: &self.parts.catalog, builder }.changed(top, &mut fate).await?
            }
        };
        Ok(change.and_then(|mut change| {
            change.replace.gone.extend_from_slice(gone);
            state.replaceable(&change.replace).is_ok().then_some(change)
        }))
    }
}

/// The leaves of these names, if they follow one another among some pages.
fn following(pages: &[Arc<PageEntry>], names: &[String]) -> Option<Vec<Arc<PageEntry>>> {
    let first = pages.iter().position(|page| Some(&page.object) == names.first())?;
    let leaves = pages.get(first..first + names.len())?;
    let are_these = leaves.iter().map(|page| &page.object).eq(names) && leaves.iter().all(|page| page.height == 0);
    are_these.then(|| leaves.to_vec())
}
