//! Follows `latest`, and loads pages when they are asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::future::Cache;
use tokio_util::sync::CancellationToken;

use super::export::{PART_BYTES_MAX, TRAILER_LENGTH, decode_page, decode_root};
use super::{CatalogError, CatalogRoot, Latest, PageEntry, TopicPage};
use crate::ids::{Incarnation, LaneId, LogIndex, TopicId};
use crate::names;
use chronik_store::{SharedStore, StoreError};

/// How often `latest` is read.
pub(super) const PACE: Duration = Duration::from_secs(5);

/// Loaded pages by (object, position).
type Pages = Cache<(String, u64), Arc<TopicPage>>;

/// A lane's catalog as it moves on. It never goes back to an older export, whatever `latest` says.
#[derive(Debug)]
pub struct CatalogReader {
    lane: LaneId,
    store: SharedStore,
    pages: Pages,
    current: ArcSwap<Catalog>,
}

/// One export. Its pages are loaded by ranged reads and shared with other exports through a cache.
#[derive(Debug)]
pub struct Catalog {
    root: CatalogRoot,
    export: String,
    by_id: HashMap<TopicId, usize>,
    store: SharedStore,
    pub(super) pages: Pages,
}

impl CatalogReader {
    /// An empty catalog until the first refresh. Decoded pages are kept in up to about `cache_bytes`.
    pub fn new(store: SharedStore, lane: LaneId, cache_bytes: u64) -> Self {
        let weigh = |key: &(String, u64), page: &Arc<TopicPage>| {
            let bytes = key.0.len() as u64 + memory_bytes(page);
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let pages = Cache::builder().max_capacity(cache_bytes).weigher(weigh).build();
        let root = CatalogRoot { incarnation: Incarnation(0), lane, index: 0, shipped_index: 0, pages: Vec::new() };
        let empty = Catalog::new(root, String::new(), store.clone(), pages.clone());
        Self { lane, store, pages, current: ArcSwap::from_pointee(empty) }
    }

    /// The newest export seen.
    pub fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Looks for a newer export and gives the newest. A bucket without a catalog has an empty one.
    pub async fn refresh(&self) -> Result<Arc<Catalog>, CatalogError> {
        match self.read_newer().await {
            // An export may be superseded and deleted between the two reads.
            Err(error) if error.is_missing() => self.read_newer().await?,
            read => read?,
        }
        Ok(self.current())
    }

    /// A topic by its name, from the newest export seen; refreshes once if that one's page is gone.
    pub async fn topic(&self, name: &str) -> Result<Option<Arc<TopicPage>>, CatalogError> {
        match self.current().topic(name).await {
            Err(error) if error.is_missing() => self.refresh().await?.topic(name).await,
            topic => topic,
        }
    }

    /// A topic by its id, from the newest export seen; refreshes once if that one's page is gone.
    pub async fn topic_by_id(&self, id: TopicId) -> Result<Option<Arc<TopicPage>>, CatalogError> {
        match self.current().topic_by_id(id).await {
            Err(error) if error.is_missing() => self.refresh().await?.topic_by_id(id).await,
            topic => topic,
        }
    }

    /// Refreshes every five seconds until cancelled.
    pub async fn follow(&self, cancel: CancellationToken) {
        let mut failing = false;
        while let Some(refreshed) = cancel.run_until_cancelled(self.refresh()).await {
            match refreshed {
                Ok(_) => failing = false,
                Err(error) if !failing => {
                    tracing::warn!("the catalog can't be refreshed, going on with the last one: {error}");
                    failing = true;
                }
                Err(_) => {}
            }
            if cancel.run_until_cancelled(tokio::time::sleep(PACE)).await.is_none() {
                return;
            }
        }
    }

    async fn read_newer(&self) -> Result<(), CatalogError> {
        let key = names::latest(self.lane);
        let latest = match self.store.read(&key, None).await {
            Ok(bytes) => Latest::decode(&key, &bytes)?,
            Err(StoreError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if latest.lane != self.lane {
            return Err(CatalogError::damaged(&key, format!("it is of lane {}", latest.lane)));
        }
        let current = self.current();
        if !latest.names_export() || latest.generation() < current.generation() || latest.export == current.export {
            return Ok(());
        }
        let root = self.read_root(&latest).await?;
        let read = Arc::new(Catalog::new(root, latest.export, self.store.clone(), self.pages.clone()));
        self.current.rcu(
            |current| {
                if current.generation() > read.generation() { current.clone() } else { read.clone() }
            },
        );
        Ok(())
    }

    async fn read_root(&self, latest: &Latest) -> Result<CatalogRoot, CatalogError> {
        let Latest { export, root_position, root_length, .. } = latest;
        let end = root_length.checked_add(TRAILER_LENGTH).and_then(|length| root_position.checked_add(length));
        let Some(end) = end.filter(|_| *root_length <= PART_BYTES_MAX) else {
            return Err(CatalogError::damaged(export, format!("its root would have {root_length} bytes")));
        };
        decode_root(latest, &self.store.read(export, Some(*root_position..end)).await?)
    }
}

impl Catalog {
    fn new(root: CatalogRoot, export: String, store: SharedStore, pages: Pages) -> Self {
        let by_id = root.pages.iter().enumerate().map(|(at, page)| (page.id, at)).collect();
        Self { root, export, by_id, store, pages }
    }

    /// (incarnation, applied index) of the export; (0, 0) if there is none yet.
    pub fn generation(&self) -> (Incarnation, LogIndex) {
        (self.root.incarnation, self.root.index)
    }

    /// The last index that lies in a registered segment.
    pub fn shipped_index(&self) -> LogIndex {
        self.root.shipped_index
    }

    /// The objects that it needs itself: its export, and the older ones that hold pages of it. Not the segments and
    /// archives that its pages name.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        let pages = self.root.pages.iter().map(|page| page.object.as_str());
        std::iter::once(self.export.as_str()).chain(pages)
    }

    /// All topics by name.
    pub fn topics(&self) -> impl Iterator<Item = (&str, TopicId)> {
        self.root.pages.iter().map(|page| (page.name.as_str(), page.id))
    }

    /// A topic by its name. An error that [is one of a missing object](CatalogError::is_missing) means that this
    /// export is superseded.
    pub async fn topic(&self, name: &str) -> Result<Option<Arc<TopicPage>>, CatalogError> {
        match self.root.pages.binary_search_by(|page| page.name.as_str().cmp(name)) {
            Ok(at) => self.page(&self.root.pages[at]).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// A topic by its id; errors as in [`Self::topic`].
    pub async fn topic_by_id(&self, id: TopicId) -> Result<Option<Arc<TopicPage>>, CatalogError> {
        match self.by_id.get(&id) {
            Some(&at) => self.page(&self.root.pages[at]).await.map(Some),
            None => Ok(None),
        }
    }

    async fn page(&self, entry: &PageEntry) -> Result<Arc<TopicPage>, CatalogError> {
        let key = (entry.object.clone(), entry.position);
        if let Some(page) = self.pages.get(&key).await {
            return Ok(page);
        }
        let end = entry.position.saturating_add(entry.length);
        let bytes = self.store.read(&entry.object, Some(entry.position..end)).await?;
        let page = Arc::new(decode_page(entry, &bytes)?);
        self.pages.insert(key, page.clone()).await;
        Ok(page)
    }
}

fn memory_bytes(page: &TopicPage) -> u64 {
    let names = page.name.len() + page.segments.iter().map(|segment| segment.key.len()).sum::<usize>();
    let segments = size_of_val(page.segments.as_slice());
    let partitions: usize = page
        .partitions
        .iter()
        .map(|partition| {
            let reasons =
                partition.runs.iter().filter_map(|run| run.unreadable.as_ref()).map(String::len).sum::<usize>();
            size_of_val(partition)
                + size_of_val(partition.runs.as_slice())
                + size_of_val(partition.epochs.as_slice())
                + reasons
        })
        .sum();
    let archives: usize = page
        .archives
        .iter()
        .map(|archive| size_of_val(archive) + archive.key.len() + size_of_val(archive.runs.as_slice()))
        .sum();
    (size_of::<TopicPage>() + names + segments + partitions + archives) as u64
}
