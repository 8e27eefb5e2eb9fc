//! Whether the pages of history that the state names are in the bucket: by a request for each of those at the top, as
//! few however long the history is. What is gone below them is named when it is read.

use std::fmt;
use std::sync::Arc;

use chronik_format::catalog::PageEntry;
use chronik_store::{SharedStore, StoreError};
use futures::{StreamExt, TryStreamExt, stream};

use super::unreachable::Listed;
use crate::state::LaneState;
use crate::state::topic::TopicState;

/// Requests at the same time.
const REQUESTS_AT_ONCE: usize = 64;

/// Pages that are gone or have another size, and the records in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachablePages(Listed);

impl UnreachablePages {
    /// Asks the bucket for the state's pages; `None` if all are there.
    pub async fn of(store: &SharedStore, state: &LaneState) -> Result<Option<Self>, StoreError> {
        let pages_of = |topic: &Arc<TopicState>| {
            let topic = topic.clone();
            topic.pages.clone().into_iter().map(move |page| (topic.clone(), page))
        };
        let named: Vec<_> = state.topics.values().flat_map(pages_of).collect();
        let asked = stream::iter(named).map(|(topic, page)| async move {
            let there = is_there(store, &page).await?;
            Ok::<_, StoreError>((topic, page, there))
        });
        let mut asked = asked.buffered(REQUESTS_AT_ONCE);
        let mut unreachable = Listed::default();
        while let Some((topic, page, there)) = asked.try_next().await? {
            if !there {
                unreachable.add(|| in_words(&topic, &page));
            }
        }
        Ok((!unreachable.is_empty()).then_some(Self(unreachable)))
    }
}

async fn is_there(store: &SharedStore, page: &PageEntry) -> Result<bool, StoreError> {
    match store.info(&page.object).await {
        Ok(info) => Ok(info.size == page.size),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
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
