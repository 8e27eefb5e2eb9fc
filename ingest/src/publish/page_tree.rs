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

/// What becomes of a page below another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFate {
    /// It stays as it is.
    Stays,
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

/// Changes the pages below those at a topic's top.
pub struct PageTree<'a> {
    pub catalog: &'a CatalogReader,
    pub builder: PageBuilder,
}

/// Says of a page what becomes of it.
type Fate<'a> = dyn FnMut(&PageEntry) -> PageFate + Send + 'a;

/// What comes of a change below the top.
#[derive(Default)]
struct Edits {
    pages: Vec<BuiltPage>,
    gone: Vec<String>,
    deleted: Vec<String>,
}

impl PageTree<'_> {
    /// The change of what is below `top`; `None` if there is nothing to change. It has in memory what it writes: as much
    /// as the pages that are entered.
    pub async fn changed(&self, top: &Arc<PageEntry>, fate: &mut Fate<'_>) -> Result<Option<TreeChange>, CatalogError> {
        let mut edits = Edits::default();
        let new = self.edited(top, fate, &mut edits).await?;
        let Edits { pages, gone, deleted } = edits;
        if gone.is_empty() {
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
            let Page::Pages(below) = self.catalog.page(self.builder.topic, page).await? else {
                return Ok(Some(page.clone()));
            };
            let mut kept = Vec::with_capacity(below.len());
            for child in below.iter() {
                match fate(child) {
                    PageFate::Stays => kept.push(child.clone()),
                    PageFate::Goes => edits.deleted.push(child.object.clone()),
                    PageFate::Entered => kept.extend(self.edited(child, fate, edits).await?),
                }
            }
            if kept == *below {
                return Ok(Some(page.clone()));
            }
            edits.gone.push(page.object.clone());
            if kept.is_empty() {
                return Ok(None);
            }
            let new = self.builder.inner(page_name(self.builder), &kept)?;
            let entry = Arc::new(new.entry.clone());
            edits.pages.push(new);
            Ok(Some(entry))
        }
        .boxed()
    }
}

/// A name for a page that is built now.
pub fn page_name(PageBuilder { origin, topic, written_at }: PageBuilder) -> String {
    let Origin { incarnation, .. } = origin;
    PageName { topic, incarnation, ulid: Ulid::from_datetime(time_at(written_at)) }.to_string()
}
