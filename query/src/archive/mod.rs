//! The Tantivy leaf of a search: which records of an archive may match a query.
//!
//! An archive is opened with one read of its end, or of all of it if it is small, and kept within a byte limit. The
//! query becomes a [plan](query_plan) that may select too much and never too little; the documents it selects lead to
//! batches in segments by the archive's tables. Everything that is read is checked against the table of contents.

mod directory;
mod documents;
mod error;
mod file;
mod opened;
mod query_plan;
mod select;
mod spelling;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use chronik_format::archive::UndecodableBatches;
use chronik_format::catalog::ArchiveEntry;
use chronik_format::ids::{Offset, PartitionId, Timestamp};
use chronik_format::job::IndexSettings;
use chronik_format::search::Query;
use chronik_store::SharedStore;
use moka::future::Cache;

pub use error::LeafError;
use file::BlockCache;
use opened::{ReadAhead, SearchableArchive};

use crate::cpu::CpuPool;

const READ_AHEAD: ReadAhead = ReadAhead { whole_bytes: 4 << 20, end_bytes: 2 << 20, file_bytes: 256 << 10 };

/// The records of an archive that may match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateRecords {
    /// By run in the archive's order, then by offset.
    pub batches: Vec<CandidateBatch>,
    /// Whether all of them match, so that they need not be read to be counted.
    pub exact: bool,
    /// What no program can decode, whatever is looked for.
    pub undecodable: Vec<UndecodableBatches>,
}

/// A batch with records that may match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateBatch {
    /// The partition's number.
    pub partition: PartitionId,
    /// The segment's object name.
    pub segment_key: String,
    /// Where the batch starts in the segment, bytes.
    pub position: u64,
    /// Bytes of the batch.
    pub length: u64,
    /// Exact earliest timestamp of its records, ms.
    pub min_timestamp: Timestamp,
    /// Exact latest timestamp of its records, ms.
    pub max_timestamp: Timestamp,
    /// The batch's own base offset.
    pub base_offset: Offset,
    /// The records that may match, ascending; at least one.
    pub offsets: Vec<Offset>,
}

/// Searches archives, straight from the bucket.
#[derive(Clone, Debug)]
pub struct ArchiveLeaf {
    store: SharedStore,
    ahead: ReadAhead,
    archives: Cache<String, Arc<SearchableArchive>>,
    blocks: BlockCache,
    cpu: CpuPool,
}

impl ArchiveLeaf {
    /// A leaf that keeps at most about `cache_bytes` of archives: half for opened ones, half for blocks of large ones.
    pub fn new(store: SharedStore, cache_bytes: u64) -> Self {
        Self::reading_ahead(store, cache_bytes, READ_AHEAD)
    }

    fn reading_ahead(store: SharedStore, cache_bytes: u64, ahead: ReadAhead) -> Self {
        let archive_weight = |_: &String, archive: &Arc<SearchableArchive>| as_weight(archive.weight());
        let block_weight = |_: &(Arc<str>, u64), block: &bytes::Bytes| as_weight(block.len());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            store,
            ahead,
            archives: Cache::builder().max_capacity(cache_bytes / 2).weigher(archive_weight).build(),
            blocks: Cache::builder().max_capacity(cache_bytes / 2).weigher(block_weight).build(),
            cpu: CpuPool::new(threads),
        }
    }

    /// The records of an archive that may match a query over a topic with these settings: all that do, and maybe
    /// others.
    pub async fn candidates(
        &self,
        entry: &ArchiveEntry,
        query: &Query,
        settings: IndexSettings,
    ) -> Result<CandidateRecords, LeafError> {
        let found = self.search(entry, query, settings).await;
        if found.as_ref().is_err_and(|error| !matches!(error, LeafError::Store { .. })) {
            self.store.distrust(&entry.key);
        }
        found
    }

    async fn search(
        &self,
        entry: &ArchiveEntry,
        query: &Query,
        settings: IndexSettings,
    ) -> Result<CandidateRecords, LeafError> {
        let archive = self.open(entry).await?;
        let plan = archive.plan(query, settings);
        archive.warm_up(&plan).await?;
        let searched = self.cpu.run(move || archive.search(&plan)).await;
        searched.map_err(|error| LeafError::failed(&entry.key, error))?
    }

    async fn open(&self, entry: &ArchiveEntry) -> Result<Arc<SearchableArchive>, LeafError> {
        let open = async { SearchableArchive::open(&self.store, &self.blocks, self.ahead, entry).await.map(Arc::new) };
        self.archives.try_get_with_by_ref(&entry.key, open).await.map_err(|error| LeafError::clone(&error))
    }
}

fn as_weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Runs what may block or panic on a thread of its own.
async fn at_work<T: Send + 'static>(archive: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, LeafError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| LeafError::failed(archive, error))
}

impl std::fmt::Debug for SearchableArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "archive {}", self.key)
    }
}
