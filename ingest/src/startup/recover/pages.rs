//! Whether the pages of history that the state names are in the bucket: by names and sizes, a listing for each topic
//! that has pages.

use std::fmt;
use std::sync::Arc;

use chronik_format::catalog::PageEntry;
use chronik_format::names::PageName;
use chronik_store::{ObjectInfo, SharedStore, StoreError};
use futures::{StreamExt, TryStreamExt, stream};

use super::segments::LISTINGS_AT_ONCE;
use super::unreachable::Listed;
use crate::state::LaneState;
use crate::state::topic::TopicState;

/// Pages that are gone or have another size, and the records in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachablePages(Listed);

impl UnreachablePages {
    /// Compares the state's pages with what the bucket lists; `None` if all are there.
    pub async fn of(store: &SharedStore, state: &LaneState) -> Result<Option<Self>, StoreError> {
        let with_pages = state.topics.values().filter(|topic| !topic.pages.is_empty());
        let topics: Vec<Arc<TopicState>> = with_pages.cloned().collect();
        let listed = stream::iter(topics).map(|topic| {
            let store = store.clone();
            async move {
                let objects = store.list(&PageName::prefix(topic.id)).await?;
                Ok::<_, StoreError>((topic, objects))
            }
        });
        let mut listed = listed.buffered(LISTINGS_AT_ONCE);
        let mut pages = Listed::default();
        while let Some((topic, objects)) = listed.try_next().await? {
            let differing = topic.pages.iter().filter(|page| !is_there(page, &objects));
            differing.for_each(|page| pages.add(|| in_words(&topic, page)));
        }
        Ok((!pages.is_empty()).then_some(Self(pages)))
    }
}

fn is_there(page: &PageEntry, listed: &[ObjectInfo]) -> bool {
    let at = listed.binary_search_by(|object| object.key.cmp(&page.object));
    at.is_ok_and(|at| listed[at].size == page.size)
}

fn in_words(topic: &TopicState, page: &PageEntry) -> String {
    let partitions = page.bounds.partitions.len();
    let records: i64 = page.bounds.partitions.iter().map(|bounds| bounds.offsets.end() - bounds.offsets.first).sum();
    format!("{} ({records} offsets of {partitions} partitions of {})", page.object, topic.name)
}

impl fmt::Display for UnreachablePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pages of history are not there as they were: {}", self.0)
    }
}
