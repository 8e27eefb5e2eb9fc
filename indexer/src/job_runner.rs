//! Where a job is done, wherever it came from: read, survey, fill, store.

use std::sync::Arc;

use chronik_format::archive::UndecodableBatches;
use chronik_format::batch::DECOMPRESSED_BYTES_MAX;
use chronik_format::job::{ArchiveMade, Job, JobResult};
use chronik_format::names::ArchiveName;
use chronik_service::failpoint;
use chronik_service::telemetry::Metrics;
use chronik_store::SharedStore;
use tokio::time::Instant;
use ulid::Ulid;

use crate::compaction::{CompactLimits, Compactor};
use crate::decode::{DecodedRun, RunLimits, unreadable};
use crate::error::IndexError;
use crate::index_builder::{FillOutcome, IndexBudget, UnnamedArchive, fill};
use crate::job::result;
use crate::merging::{MergeLimits, Merger};
use crate::metrics::IndexerMetrics;
use crate::patience::patiently;
use crate::reader::{RunReader, SurveyedRun, length_of};
use crate::work_thread::WorkThread;

/// Less memory does not hold the largest batch and an index beside it.
const MEMORY_BYTES_MIN: usize = 64 << 20;

/// Does jobs within a limit of memory, one at a time. Nothing is ever written to a local disk.
#[derive(Debug)]
pub(crate) struct JobRunner {
    pub store: SharedStore,
    pub metrics: IndexerMetrics,
    budget: IndexBudget,
    reader: RunReader,
    thread: WorkThread,
    pub compactor: Compactor,
    pub merger: Merger,
}

impl JobRunner {
    /// A runner for jobs that may take about so many bytes of memory, at least 64 MiB.
    pub(crate) fn new(store: SharedStore, memory_bytes: usize, metrics: &Metrics) -> Self {
        let memory = memory_bytes.max(MEMORY_BYTES_MIN);
        let budget = IndexBudget {
            full: memory / 8 * 3,
            most: memory / 2,
            batch_bytes: DECOMPRESSED_BYTES_MAX.min(memory / 8),
            enough: None,
        };
        let (metrics, thread) = (IndexerMetrics::new(metrics), WorkThread::default());
        let reader = RunReader {
            store: store.clone(),
            thread: thread.clone(),
            held_bytes_max: memory / 4,
            limits: RunLimits { batch_bytes: budget.batch_bytes, documents: budget.documents() },
            bytes_read: metrics.bytes_read.clone(),
        };
        let compactor = Compactor {
            store: store.clone(),
            thread: thread.clone(),
            limits: CompactLimits::within(memory),
            reads: metrics.compact_reads.clone(),
            bytes: metrics.compacted_bytes.clone(),
        };
        let merger = Merger {
            store: store.clone(),
            thread: thread.clone(),
            limits: MergeLimits::within(memory),
            merged: metrics.merged_archives.clone(),
            bytes_written: metrics.bytes_written.clone(),
            archive_size: metrics.archive_size.clone(),
        };
        Self { store, metrics, budget, reader, thread, compactor, merger }
    }

    /// Does a job: the archives are in the store when it returns, the result is not. Runs that can't be indexed are
    /// named in the result and do not keep the others from it. From `enough` on no further run is begun if there is
    /// anything to show: the result then lacks the runs that are left, and the lane sends those again.
    pub(crate) async fn index(&self, job: Job, enough: Option<Instant>) -> Result<JobResult, IndexError> {
        let job = Arc::new(job);
        let mut round = Round { result: result(&job), waiting: Vec::new(), held: 0, enough };
        for input in &job.inputs {
            for places in self.reader.neighbours(&input.runs) {
                if round.is_over() {
                    break;
                }
                let held = length_of(places).saturating_add(round.held as u64);
                if round.held > 0 && held > self.reader.held_bytes_max as u64 {
                    self.archive(&job, &mut round).await?;
                }
                for surveyed in self.reader.read(&input.key, places).await? {
                    round.take(surveyed);
                }
            }
        }
        failpoint!("indexer-read");
        self.archive(&job, &mut round).await?;
        self.metrics.runs_unreadable.inc_by(round.result.unreadable.len() as u64);
        Ok(round.result)
    }

    /// Makes archives of the runs that wait, as few as the memory allows.
    async fn archive(&self, job: &Arc<Job>, round: &mut Round) -> Result<(), IndexError> {
        let mut runs = round.waiting_runs();
        let budget = IndexBudget { enough: round.enough, ..self.budget };
        while !(runs.is_empty() || round.is_late() && round.has_shown()) {
            let job_again = job.clone();
            let filled;
            (filled, runs) =
                self.thread.run(move |abandoned| (fill(&job_again, &runs, budget, abandoned), runs)).await?;
            match filled? {
                FillOutcome::Archive(made, count) => {
                    runs.drain(..count);
                    round.result.archives.push(self.create(job, *made).await?);
                }
                FillOutcome::TooLarge => {
                    let run = runs.remove(0);
                    let reason = format!("its index needs more than {} bytes of memory", budget.most);
                    round.result.unreadable.push(unreadable(&run.segment, run.place, reason));
                }
            }
        }
        Ok(())
    }

    async fn create(&self, job: &Job, made: UnnamedArchive) -> Result<ArchiveMade, IndexError> {
        let name = ArchiveName { topic: job.topic_id, incarnation: job.incarnation, ulid: Ulid::new() };
        let key = name.to_string();
        let (size, records, undecodable) = (made.archive.size, made.records, made.undecodable.len());
        patiently(|| self.store.create(&key, made.archive.parts.clone())).await?;
        failpoint!("indexer-archived");
        tracing::info!(job = job.id, archive = key, bytes = size, records, "an archive is made");
        for batches in made.undecodable {
            let UndecodableBatches { partition, first, last, reason, .. } = batches;
            tracing::warn!(
                job = job.id,
                archive = key,
                "offsets {first} to {last} of partition {partition} can't be decoded: {reason}"
            );
        }
        self.metrics.undecodable.inc_by(undecodable as u64);
        self.metrics.records.inc_by(records);
        self.metrics.bytes_written.inc_by(size);
        self.metrics.archive_size.set(size as i64);
        Ok(ArchiveMade { key, size, crc: made.archive.toc_crc, records, runs: made.runs })
    }
}

/// How far a job is.
struct Round {
    result: JobResult,
    waiting: Vec<DecodedRun>,
    /// Bytes of the runs that wait.
    held: usize,
    enough: Option<Instant>,
}

impl Round {
    fn take(&mut self, surveyed: SurveyedRun) {
        match surveyed {
            Ok(run) => {
                self.held += run.weight();
                self.waiting.push(run);
            }
            Err(run) => self.result.unreadable.push(run),
        }
    }

    fn waiting_runs(&mut self) -> Vec<DecodedRun> {
        self.held = 0;
        std::mem::take(&mut self.waiting)
    }

    fn is_late(&self) -> bool {
        self.enough.is_some_and(|enough| Instant::now() >= enough)
    }

    fn has_shown(&self) -> bool {
        !self.result.archives.is_empty() || !self.result.unreadable.is_empty()
    }

    /// Whether what there is has to do.
    fn is_over(&self) -> bool {
        self.is_late() && (self.has_shown() || !self.waiting.is_empty())
    }
}
