//! The indexer as a worker: a job runner, and the queue that brings it jobs.

use chronik_format::job::{CompactJob, CompactResult, Job, JobResult, MergeJob, MergeResult};
use chronik_service::telemetry::Metrics;
use chronik_store::SharedStore;
use chronik_store::queue::SharedQueue;

use crate::error::IndexError;
use crate::job_runner::JobRunner;

/// What an indexer works with.
#[derive(Clone, Debug)]
pub struct IndexerParts {
    /// Where segments are read and archives and results are created.
    pub store: SharedStore,
    /// Where jobs come from.
    pub queue: SharedQueue,
    /// About how much memory one job may take, bytes; at least 64 MiB are assumed.
    pub memory_bytes: usize,
    /// Where the indexer shows what it does.
    pub metrics: Metrics,
}

/// Makes archives, one job at a time.
#[derive(Debug)]
pub struct Indexer {
    pub(crate) queue: SharedQueue,
    pub(crate) runner: JobRunner,
}

impl Indexer {
    /// An indexer that is not at work yet.
    pub fn new(parts: IndexerParts) -> Self {
        Self { queue: parts.queue, runner: JobRunner::new(parts.store, parts.memory_bytes, &parts.metrics) }
    }

    /// Does a job: the archives are in the store when it returns, the result is not. Runs that can't be indexed are
    /// named in the result and do not keep the others from it.
    pub async fn index(&self, job: Job) -> Result<JobResult, IndexError> {
        self.runner.index(job, None).await
    }

    /// Does a compaction: the segments are in the store when it returns, the result is not. Inputs that are damaged or
    /// gone are named in the result.
    pub async fn compact(&self, job: &CompactJob) -> Result<CompactResult, IndexError> {
        self.runner.compactor.compact(job).await
    }

    /// Merges archives: the new ones are in the store when it returns, the result is not. Inputs that are damaged or
    /// gone are named in the result.
    pub async fn merge(&self, job: &MergeJob) -> Result<MergeResult, IndexError> {
        self.runner.merger.merge(job, None).await
    }
}
