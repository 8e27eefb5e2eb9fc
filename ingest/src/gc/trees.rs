//! Pages that are deleted with all that they name: what is below goes first, so that a deletion that was cut short
//! finds its way again.

use std::sync::Arc;

use chronik_format::catalog::PageEntry;
use chronik_format::catalog::page::{Page, decode_page};
use chronik_store::StoreError;

use super::ObjectDeletion;

/// What is done next on the way through a tree.
enum Step {
    /// Deletes a page's archives and the segments that are its own, and goes on to the pages below it.
    Enter(String),
    /// Deletes a page below which nothing is left.
    Leave(String),
}

/// What a page names. As much of it is in memory for each height as one page holds.
#[derive(Default)]
struct Named {
    pages: Vec<String>,
    objects: Vec<String>,
}

impl ObjectDeletion {
    /// Deletes all that a page names, down to the archives of its leaves and the segments that are theirs alone, and
    /// then the page; `false` if not all of it is gone yet.
    pub(super) async fn delete_tree(&self, page: &str) -> bool {
        let mut ahead = vec![Step::Enter(page.to_owned())];
        let mut count = 0;
        while let Some(step) = ahead.pop() {
            let deleted = match step {
                Step::Leave(page) => self.delete_objects(vec![page]).await,
                Step::Enter(page) => match self.named_by(&page).await {
                    Ok(Named { pages, objects }) => {
                        ahead.push(Step::Leave(page));
                        ahead.extend(pages.into_iter().map(Step::Enter));
                        self.delete_objects(objects).await
                    }
                    Err(error) => (Vec::new(), Some(error)),
                },
            };
            count += deleted.0.len();
            if let (_, Some(error)) = deleted {
                tracing::warn!("{page} and what it names are not deleted yet: {error}");
                return false;
            }
        }
        tracing::info!("deleted {page}, {count} objects with all that it named");
        true
    }

    /// A page that is gone took along what it named. A damaged one leaves that to the look for unknown objects.
    async fn named_by(&self, page: &str) -> Result<Named, StoreError> {
        let bytes = match self.parts.store.read(page, None).await {
            Err(StoreError::NotFound { .. }) => return Ok(Named::default()),
            read => read?,
        };
        Ok(match decode_page(page, &bytes).map(|stored| stored.page) {
            Ok(Page::Runs(runs)) => {
                let archives = runs.archives.iter().map(|archive| archive.key.clone());
                Named { objects: archives.chain(runs.own_segments()).collect(), ..Named::default() }
            }
            Ok(Page::Pages(below)) => {
                let object = |page: &Arc<PageEntry>| page.object.clone();
                Named { pages: below.iter().map(object).collect(), ..Named::default() }
            }
            Err(error) => {
                tracing::warn!("{error}; what it names is deleted when the bucket is looked through");
                Named::default()
            }
        })
    }
}
