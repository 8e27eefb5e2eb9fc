use std::sync::Arc;

use chronik_format::catalog::CatalogReader;
use chronik_peers::cold::SharedColdReader;
use chronik_peers::tail::SharedTail;
use chronik_service::admission::TurnLimit;
use chronik_service::setting::CacheShares;
use chronik_service::telemetry::Metrics;
use chronik_store::SharedStore;

use crate::answer_room::AnswerRoom;
use crate::archive::ArchiveLeaf;
use crate::cpu::CpuPool;
use crate::memory::ScanMemory;
use crate::metrics::SearchMetrics;
use crate::search::{LayoutSources, MovedBatches, RecordScanner, SearchExecutor, UnreadableBatches};

/// What a query service works with.
#[derive(Clone)]
pub struct QueryParts {
    /// Segments and archives of the bucket.
    pub store: SharedStore,
    /// What is in the bucket. The caller keeps it up to date with [`CatalogReader::follow`].
    pub catalog: Arc<CatalogReader>,
    /// The broker's tail. Without one a search covers what is in the bucket.
    pub tail: Option<SharedTail>,
    /// Reads old records for `/records`.
    pub cold: SharedColdReader,
    /// How much memory and company it may have.
    pub limits: QueryLimits,
    /// Where searches are counted.
    pub metrics: Metrics,
}

/// How much a query service may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// Bytes of archives that are kept.
    pub cache_bytes: u64,
    /// Bytes of segments and tail that are held, compressed, while they are searched.
    pub read_bytes: usize,
    /// Bytes of answers that clients have not taken yet; beside them one that needs more.
    pub answer_bytes: usize,
    /// Searches at a time; others wait.
    pub searches: usize,
    /// Searches that may wait; more are refused with `busy`.
    pub waiting_searches: usize,
}

impl QueryLimits {
    /// The usual limits, within a share of the process's memory.
    pub fn within(memory: &CacheShares) -> Self {
        Self { cache_bytes: memory.archives as u64, read_bytes: memory.scans, ..Self::default() }
    }
}

impl Default for QueryLimits {
    /// 128 MiB of cache, 64 MiB of reads, 128 MiB of answers, 8 searches, 64 waiting.
    fn default() -> Self {
        Self {
            cache_bytes: 128 << 20,
            read_bytes: 64 << 20,
            answer_bytes: 128 << 20,
            searches: 8,
            waiting_searches: 64,
        }
    }
}

/// Answers searches and reads of records; holds no state but caches.
pub struct QueryService {
    pub(crate) searcher: SearchExecutor,
    pub(crate) cold: SharedColdReader,
    pub(crate) answers: Arc<AnswerRoom>,
}

impl QueryService {
    /// A service that answers through its [`routes`](crate::routes).
    pub fn new(parts: QueryParts) -> Arc<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = parts.limits;
        let metrics = SearchMetrics::register(&parts.metrics);
        let answers = AnswerRoom::new(limits.answer_bytes, metrics.http_answer_bytes.clone(), metrics.refused.clone());
        let scanner = RecordScanner {
            store: Arc::clone(&parts.store),
            tail: parts.tail.clone(),
            cpu: CpuPool::new(threads),
            memory: ScanMemory::new(limits.read_bytes),
            unreadable: UnreadableBatches::new(metrics.unreadable.clone()),
            metrics,
        };
        let searcher = SearchExecutor {
            sources: LayoutSources { catalog: parts.catalog, tail: parts.tail },
            leaf: ArchiveLeaf::new(parts.store.clone(), limits.cache_bytes / 8 * 7),
            moved: MovedBatches::new(parts.store, limits.cache_bytes / 8),
            scanner,
            breadth: threads.clamp(2, 8),
            turns: TurnLimit::new(limits.searches, limits.waiting_searches),
        };
        Arc::new(Self { searcher, cold: parts.cold, answers })
    }
}
