//! Pages in the place of others, where something changes below the top of a topic's history: what lies on the way down
//! to it is written anew, and names the rest as it is.

use std::sync::Arc;

use chronik_format::catalog::page::{BuiltPage, PageBuilder};
use chronik_format::catalog::{CatalogError, CatalogReader, Page, PageEntry};
use chronik_format::names::PageName;
use chronik_format::origin::Origin;
use futures::FutureExt;
use futures::future::BoxFuture;
use ulid::Ulid;

use crate::clock::time_at;
use crate::state::command::ReplacePages;

/// What becomes of a page.
#[derive(Clone, Debug)]
pub enum PageFate {
    /// It stays as it is.
    Stays,
    /// Another page comes in its place, or has come in that of one before it.
    Replaced(Option<Box<BuiltPage>>),
    /// It is named no more, nor is what it names.
    Goes,
    /// That depends on what is below it.
    Entered,
}

/// Pages that are to be created, and then the command that puts them in their place.
#[derive(Debug)]
pub struct TreeChange {
    pub pages: Vec<BuiltPage>,
    pub replace: ReplacePages,
}

/// Changes the pages at a topic's top, and below.
pub struct PageTree<'a> {
    pub catalog: &'a CatalogReader,
    pub builder: PageBuilder,
}

/// Says of a page what becomes of it.
type Fate<'a> = dyn FnMut(&PageEntry) -> PageFate + Send + 'a;

/// What comes of a change.
#[derive(Default)]
struct Edits {
    pages: Vec<BuiltPage>,
    gone: Vec<String>,
    deleted: Vec<String>,
}

impl PageTree<'_> {
    /// The change of a page at the top and of what is below it; `None` if there is nothing to change. It has in memory
    /// what it writes: as much as the pages that are entered.
    pub async fn changed(&self, top: &Arc<PageEntry>, fate: &mut Fate<'_>) -> Result<Option<TreeChange>, CatalogError> {
        let mut edits = Edits::default();
        let new = self.edited(top, fate, &mut edits).await?;
        let Edits { pages, gone, deleted } = edits;
        if gone.is_empty() && deleted.is_empty() {
            return Ok(None);
        }
        let PageBuilder { topic, written_at: at, .. } = self.builder;
        let (old, new) = (vec![top.object.clone()], new.iter().map(|page| PageEntry::clone(page)).collect());
        Ok(Some(TreeChange { pages, replace: ReplacePages { topic, old, new, gone, deleted, at } }))
    }

    /// What comes in the place of a page: itself, or nothing if nothing is left of it.
    fn edited<'a>(
        &'a self,
        page: &'a Arc<PageEntry>,
        fate: &'a mut Fate<'_>,
        edits: &'a mut Edits,
    ) -> BoxFuture<'a, Result<Option<Arc<PageEntry>>, CatalogError>> {
        async move {
            let new = match fate(page) {
                PageFate::Stays => return Ok(Some(page.clone())),
                PageFate::Goes => {
                    edits.deleted.push(page.object.clone());
                    return Ok(None);
                }
                PageFate::Replaced(new) => new.map(|new| *new),
                PageFate::Entered => {
                    let Page::Pages(below) = self.catalog.page(self.builder.topic, page).await? else {
                        return Ok(Some(page.clone()));
                    };
                    let mut kept = Vec::with_capacity(below.len());
                    for child in below.iter() {
                        kept.extend(self.edited(child, fate, edits).await?);
                    }
                    if kept == *below {
                        return Ok(Some(page.clone()));
                    }
                    let inner = || self.builder.inner(page_name(self.builder), &kept);
                    (!kept.is_empty()).then(inner).transpose()?
                }
            };
            edits.gone.push(page.object.clone());
            let entry = new.as_ref().map(|new| Arc::new(new.entry.clone()));
            edits.pages.extend(new);
            Ok(entry)
        }
        .boxed()
    }
}

/// A name for a page that is built now.
pub fn page_name(PageBuilder { origin, topic, written_at }: PageBuilder) -> String {
    let Origin { incarnation, .. } = origin;
    PageName { topic, incarnation, ulid: Ulid::from_datetime(time_at(written_at)) }.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;
    use std::ops::Range;

    use chronik_format::catalog::TopicRuns;
    use chronik_format::ids::{Incarnation, LaneId, LogIndex, TopicId};
    use chronik_store::{SharedStore, memory};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
    const BUILDER: PageBuilder = PageBuilder {
        origin: Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) },
        topic: TOPIC,
        written_at: 1_700_000_000_000,
    };

    /// A page with so many leaves below it, and so many pages below each.
    async fn tree(store: &SharedStore, leaves: LogIndex, fan_out: usize) -> Arc<PageEntry> {
        let mut level = Vec::new();
        for last in 1..=leaves {
            level.push(BUILDER.leaf(page_name(BUILDER), &TopicRuns::default(), last).unwrap());
        }
        loop {
            for page in &level {
                store.create(&page.entry.object, vec![page.bytes.clone()]).await.unwrap();
            }
            let entries: Vec<Arc<PageEntry>> = level.into_iter().map(|page| page.entry.into()).collect();
            if entries.len() == 1 && entries[0].height > 0 {
                return entries[0].clone();
            }
            level = entries.chunks(fan_out).map(|below| BUILDER.inner(page_name(BUILDER), below).unwrap()).collect();
        }
    }

    /// The last log indices of the leaves at or below some pages, and all pages there by object name.
    async fn found(
        reader: &CatalogReader,
        top: impl IntoIterator<Item = Arc<PageEntry>>,
    ) -> (Vec<LogIndex>, BTreeMap<String, Arc<PageEntry>>) {
        let mut walk = reader.walk(TOPIC, top, |_| true);
        let (mut leaves, mut pages) = (Vec::new(), BTreeMap::new());
        while let Some((entry, page)) = walk.next().await.unwrap() {
            pages.insert(entry.object.clone(), entry.clone());
            if let Page::Runs(_) = page {
                leaves.push(entry.bounds.last);
            }
        }
        (leaves, pages)
    }

    /// Leaves out some leaves: what is named then are the others, and whatever was named before and is no more is among
    /// what goes, once.
    async fn check(leaves: LogIndex, fan_out: usize, left_out: Range<LogIndex>) {
        let store = memory();
        let reader = CatalogReader::new(store.clone(), LaneId(0), 0);
        let top = tree(&store, leaves, fan_out).await;
        let goes = |last: LogIndex| left_out.contains(&last);
        // The leaves below a page of a height end at `last`, and are as many as fit below it, or all that are left.
        let first_below = |page: &PageEntry| {
            let whole = (fan_out as LogIndex).pow(page.height.into());
            (page.bounds.last - 1) / whole * whole + 1
        };
        let mut fate = |page: &PageEntry| {
            let below = first_below(page)..=page.bounds.last;
            match below.clone().filter(|last| goes(*last)).count() {
                0 => PageFate::Stays,
                count if count == below.count() => PageFate::Goes,
                _ => PageFate::Entered,
            }
        };
        let tree = PageTree { catalog: &reader, builder: BUILDER };
        let change = tree.changed(&top, &mut fate).await.unwrap();
        let (_, before) = found(&reader, [top.clone()]).await;
        let Some(TreeChange { pages, replace }) = change else {
            assert!(!(1..=leaves).any(goes));
            return;
        };
        assert_eq!(replace.old, std::slice::from_ref(&top.object));
        for page in pages {
            store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        }
        let new: Vec<_> = replace.new.into_iter().map(Arc::new).collect();
        assert!(new.iter().all(|page| page.height == top.height));
        let (kept, after) = found(&reader, new).await;
        assert_eq!(kept, (1..=leaves).filter(|last| !goes(*last)).collect::<Vec<_>>());
        let mut gone = replace.gone;
        for object in &replace.deleted {
            gone.extend(found(&reader, [before[object].clone()]).await.1.into_keys());
        }
        gone.sort();
        let expected: Vec<_> = before.keys().filter(|object| !after.contains_key(*object)).cloned().collect();
        assert_eq!(gone, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_left_out_is_named_no_more_and_all_else_is(
            leaves in 1..30u64,
            fan_out in 2..5usize,
            first in 1..30u64,
            count in 0..30u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(check(leaves, fan_out, first..first + count));
        }
    }
}
