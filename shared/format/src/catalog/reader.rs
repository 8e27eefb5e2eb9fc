//! Follows `latest`, and loads heads and pages when they are asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::future::Cache;
use tokio_util::sync::CancellationToken;

use super::coding::PART_BYTES_MAX;
use super::export::{TRAILER_LENGTH, decode_head, decode_root};
use super::page::decode_named;
use super::{CatalogError, CatalogRoot, HeadEntry, Latest, Page, PageEntry, TopicHead};
use crate::ids::{Incarnation, LaneId, LogIndex, TopicId};
use crate::names;
use chronik_store::{SharedStore, StoreError};

/// How often `latest` is read.
pub(super) const PACE: Duration = Duration::from_secs(5);

/// What was loaded, by (object, position).
pub(super) type LoadedParts = Cache<(String, u64), LoadedPart>;

#[derive(Clone, Debug)]
pub(super) enum LoadedPart {
    Head(Arc<TopicHead>),
    Page(Page),
}

/// A lane's catalog as it moves on. It never goes back to an older export, whatever `latest` says.
#[derive(Debug)]
pub struct CatalogReader {
    lane: LaneId,
    store: SharedStore,
    loaded: LoadedParts,
    current: ArcSwap<Catalog>,
}

/// One export. Its heads are loaded by ranged reads and shared with other exports through a cache.
#[derive(Debug)]
pub struct Catalog {
    root: CatalogRoot,
    export: String,
    by_id: HashMap<TopicId, usize>,
    store: SharedStore,
    pub(super) loaded: LoadedParts,
}

impl CatalogReader {
    /// An empty catalog until the first refresh. Decoded heads and pages are kept in up to about `cache_bytes`.
    pub fn new(store: SharedStore, lane: LaneId, cache_bytes: u64) -> Self {
        let weigh = |key: &(String, u64), part: &LoadedPart| {
            u32::try_from(key.0.len() + part.memory_bytes()).unwrap_or(u32::MAX)
        };
        let loaded = Cache::builder().max_capacity(cache_bytes).weigher(weigh).build();
        let root = CatalogRoot { incarnation: Incarnation(0), lane, index: 0, shipped_index: 0, heads: Vec::new() };
        let empty = Catalog::new(root, String::new(), store.clone(), loaded.clone());
        Self { lane, store, loaded, current: ArcSwap::from_pointee(empty) }
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

    /// A topic by its name, from the newest export seen; refreshes once if that one's head is gone.
    pub async fn topic(&self, name: &str) -> Result<Option<Arc<TopicHead>>, CatalogError> {
        match self.current().topic(name).await {
            Err(error) if error.is_missing() => self.refresh().await?.topic(name).await,
            topic => topic,
        }
    }

    /// A topic by its id, from the newest export seen; refreshes once if that one's head is gone.
    pub async fn topic_by_id(&self, id: TopicId) -> Result<Option<Arc<TopicHead>>, CatalogError> {
        match self.current().topic_by_id(id).await {
            Err(error) if error.is_missing() => self.refresh().await?.topic_by_id(id).await,
            topic => topic,
        }
    }

    /// A page that the topic's head names, or a page above it. An error that [is one of a missing
    /// object](CatalogError::is_missing) means that a newer head names others.
    pub async fn page(&self, topic: TopicId, entry: &PageEntry) -> Result<Page, CatalogError> {
        let key = (entry.object.clone(), 0);
        if let Some(LoadedPart::Page(page)) = self.loaded.get(&key).await {
            return Ok(page);
        }
        let bytes = self.store.read(&entry.object, None).await?;
        let page = decode_named(topic, entry, &bytes)?;
        self.loaded.insert(key, LoadedPart::Page(page.clone())).await;
        Ok(page)
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
        let read = Arc::new(Catalog::new(root, latest.export, self.store.clone(), self.loaded.clone()));
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
    fn new(root: CatalogRoot, export: String, store: SharedStore, loaded: LoadedParts) -> Self {
        let by_id = root.heads.iter().enumerate().map(|(at, head)| (head.id, at)).collect();
        Self { root, export, by_id, store, loaded }
    }

    /// (incarnation, applied index) of the export; (0, 0) if there is none yet.
    pub fn generation(&self) -> (Incarnation, LogIndex) {
        (self.root.incarnation, self.root.index)
    }

    /// The last index that lies in a registered segment.
    pub fn shipped_index(&self) -> LogIndex {
        self.root.shipped_index
    }

    /// The exports that it needs: its own, and the older ones that hold heads of it. Not what its heads name.
    pub fn exports(&self) -> impl Iterator<Item = &str> {
        let heads = self.root.heads.iter().map(|head| head.object.as_str());
        std::iter::once(self.export.as_str()).chain(heads)
    }

    /// All topics by name.
    pub fn topics(&self) -> impl Iterator<Item = (&str, TopicId)> {
        self.root.heads.iter().map(|head| (head.name.as_str(), head.id))
    }

    /// A topic by its name. An error that [is one of a missing object](CatalogError::is_missing) means that this
    /// export is superseded.
    pub async fn topic(&self, name: &str) -> Result<Option<Arc<TopicHead>>, CatalogError> {
        match self.root.heads.binary_search_by(|head| head.name.as_str().cmp(name)) {
            Ok(at) => self.head(&self.root.heads[at]).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// A topic by its id; errors as in [`Self::topic`].
    pub async fn topic_by_id(&self, id: TopicId) -> Result<Option<Arc<TopicHead>>, CatalogError> {
        match self.by_id.get(&id) {
            Some(&at) => self.head(&self.root.heads[at]).await.map(Some),
            None => Ok(None),
        }
    }

    async fn head(&self, entry: &HeadEntry) -> Result<Arc<TopicHead>, CatalogError> {
        let key = (entry.object.clone(), entry.position);
        if let Some(LoadedPart::Head(head)) = self.loaded.get(&key).await {
            return Ok(head);
        }
        let end = entry.position.saturating_add(entry.length);
        let bytes = self.store.read(&entry.object, Some(entry.position..end)).await?;
        let head = Arc::new(decode_head(entry, &bytes)?);
        self.loaded.insert(key, LoadedPart::Head(head.clone())).await;
        Ok(head)
    }
}

impl LoadedPart {
    /// About as many bytes of memory.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Page(page) => page.memory_bytes(),
            Self::Head(head) => {
                let partitions = head
                    .partitions
                    .iter()
                    .map(|partition| size_of_val(partition) + size_of_val(partition.epochs.as_slice()));
                let pages = head.pages.iter().map(|page| page.memory_bytes());
                let parts = partitions.sum::<usize>() + pages.sum::<usize>() + head.open.memory_bytes();
                size_of::<TopicHead>() + head.name.len() + parts
            }
        }
    }
}
