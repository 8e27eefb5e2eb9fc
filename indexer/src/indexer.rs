//! One job: read, survey, fill, store.

use std::sync::Arc;

use bytes::Bytes;
use chronik_core::job::{ArchiveMade, Job, JobResult, JobRun, UnreadableRun};
use chronik_core::names::ArchiveName;
use chronik_core::queue::SharedQueue;
use chronik_core::store::{SharedStore, StoreError};
use chronik_core::telemetry::Metrics;
use ulid::Ulid;

use crate::draft::{Budget, Filled, Made, fill};
use crate::error::IndexError;
use crate::job::result;
use crate::metrics::IndexerMetrics;
use crate::patience::patiently;
use crate::survey::{Limits, Run, is_possible, unreadable};

/// Less memory does not hold the largest batch and an index beside it.
const MEMORY_BYTES_MIN: usize = 64 << 20;
/// Bytes that a batch may have, decompressed, however much memory there is.
const BATCH_BYTES_MAX: usize = 128 << 20;

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
    pub(crate) store: SharedStore,
    pub(crate) queue: SharedQueue,
    pub(crate) metrics: IndexerMetrics,
    budget: Budget,
    /// Bytes of runs that are held at a time.
    held_bytes_max: usize,
}

impl Indexer {
    /// An indexer that is not at work yet.
    pub fn new(parts: IndexerParts) -> Self {
        let memory = parts.memory_bytes.max(MEMORY_BYTES_MIN);
        Self {
            store: parts.store,
            queue: parts.queue,
            metrics: IndexerMetrics::new(&parts.metrics),
            budget: Budget {
                full: memory / 8 * 3,
                most: memory / 2,
                batch_bytes: BATCH_BYTES_MAX.min(memory / 8),
            },
            held_bytes_max: memory / 4,
        }
    }

    /// Does a job: the archives are in the store when it returns, the result is not. Runs that can't be indexed are
    /// named in the result and do not keep the others from it.
    pub async fn index(&self, job: Job) -> Result<JobResult, IndexError> {
        let job = Arc::new(job);
        let mut result = result(&job);
        let mut waiting = Vec::new();
        let mut held = 0;
        for input in &job.inputs {
            for place in &input.runs {
                match self.survey(&input.key, *place).await? {
                    Ok(run) => {
                        held += run.weight();
                        waiting.push(run);
                    }
                    Err(run) => result.unreadable.push(run),
                }
                if held >= self.held_bytes_max {
                    self.archive(&job, std::mem::take(&mut waiting), &mut result).await?;
                    held = 0;
                }
            }
        }
        self.archive(&job, waiting, &mut result).await?;
        self.metrics.runs_unreadable.inc_by(result.unreadable.len() as u64);
        Ok(result)
    }

    async fn survey(&self, segment: &str, place: JobRun) -> Result<Result<Run, UnreadableRun>, IndexError> {
        if !is_possible(&place) || place.length > self.held_bytes_max as u64 {
            let reason = format!("{} bytes can't be held in memory", place.length);
            return Ok(Err(unreadable(segment, place, reason)));
        }
        let bytes = match self.read(segment, place).await {
            Ok(bytes) => bytes,
            Err(error @ StoreError::Unavailable { .. }) => return Err(error.into()),
            Err(error) => return Ok(Err(unreadable(segment, place, error.to_string()))),
        };
        self.metrics.bytes_read.inc_by(place.length);
        let limits = Limits {
            batch_bytes: self.budget.batch_bytes,
            documents: self.budget.documents(),
        };
        let segment = segment.to_owned();
        at_work(move || Run::survey(&segment, place, bytes, limits)).await
    }

    async fn read(&self, segment: &str, place: JobRun) -> Result<Bytes, StoreError> {
        if place.length == 0 {
            return Ok(Bytes::new());
        }
        let range = place.position..place.position + place.length;
        patiently(|| self.store.read(segment, Some(range.clone()))).await
    }

    /// Makes archives of the runs, as few as the memory allows.
    async fn archive(&self, job: &Arc<Job>, mut runs: Vec<Run>, result: &mut JobResult) -> Result<(), IndexError> {
        while !runs.is_empty() {
            let (job_again, budget) = (job.clone(), self.budget);
            let filled;
            (filled, runs) = at_work(move || (fill(&job_again, &runs, budget), runs)).await?;
            match filled? {
                Filled::Archive(made, count) => {
                    runs.drain(..count);
                    result.archives.push(self.create(job, *made).await?);
                }
                Filled::TooLarge => {
                    let run = runs.remove(0);
                    let reason = format!("its index needs more than {} bytes of memory", budget.most);
                    result.unreadable.push(unreadable(&run.segment, run.place, reason));
                }
            }
        }
        Ok(())
    }

    async fn create(&self, job: &Job, made: Made) -> Result<ArchiveMade, IndexError> {
        let name = ArchiveName {
            topic: job.topic_id,
            incarnation: job.incarnation,
            ulid: Ulid::new(),
        };
        let key = name.to_string();
        patiently(|| self.store.create(&key, made.archive.parts.clone())).await?;
        self.metrics.records.inc_by(made.records);
        self.metrics.bytes_written.inc_by(made.archive.size);
        self.metrics.archive_size.set(made.archive.size as i64);
        Ok(ArchiveMade {
            key,
            size: made.archive.size,
            crc: made.archive.toc_crc,
            records: made.records,
            runs: made.runs,
        })
    }
}

/// Runs CPU work off the async runtime. One piece at a time: a job waits for it.
async fn at_work<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| IndexError::GivenUp {
            reason: error.to_string(),
        })
}
