//! From a job to its result in the inbox, which is written last: what it names is there in full.

use bytes::Bytes;
use chronik_format::job::{CompactJob, Job, JobResult, MergeJob};
use chronik_format::names::ResultName;
use chronik_service::failpoint;
use chronik_store::queue::RECEIVES_MAX;
use serde::Serialize;
use tokio::time::Instant;
use ulid::Ulid;

use crate::error::IndexError;
use crate::job::{AnyJob, compact_result, failed, merge_result, run_count};
use crate::job_runner::JobRunner;
use crate::patience::patiently;

impl JobRunner {
    /// Does the job, or gives it up, and puts the result into the inbox. From `enough` on no further run is indexed,
    /// and no further archive merged.
    pub(crate) async fn report(&self, job: AnyJob, receives: u32, enough: Option<Instant>) -> Result<(), IndexError> {
        match job {
            AnyJob::Index(job) => self.report_index(job, receives, enough).await?,
            AnyJob::Compact(job) => self.report_compact(&job, receives).await?,
            AnyJob::Merge(job) => self.report_merge(&job, receives, enough).await?,
        }
        failpoint!("indexer-reported");
        Ok(())
    }

    async fn report_index(&self, job: Job, receives: u32, enough: Option<Instant>) -> Result<(), IndexError> {
        let name = ResultName { lane: job.lane, incarnation: job.incarnation, ulid: Ulid::new() };
        if receives >= RECEIVES_MAX {
            return self.give_up(name, &job.id, &job.topic, &failed(&job, &given_up(receives))).await;
        }
        let timer = self.metrics.job_seconds.start_timer();
        let runs = run_count(&job);
        let result = self.index(job, enough).await?;
        self.put(name, &result).await?;
        log(&result, runs, timer.stop_and_record());
        self.metrics.jobs_done.inc();
        Ok(())
    }

    async fn report_compact(&self, job: &CompactJob, receives: u32) -> Result<(), IndexError> {
        let name = ResultName { lane: job.lane, incarnation: job.incarnation, ulid: Ulid::new() };
        if receives >= RECEIVES_MAX {
            let failed = compact_result(job, Err(given_up(receives)));
            return self.give_up(name, &job.id, &job.topic, &failed).await;
        }
        let timer = self.metrics.job_seconds.start_timer();
        let result = self.compactor.compact(job).await?;
        self.put(name, &result).await?;
        let (pages, segments, seconds) = (job.pages.len(), result.segments.len(), timer.stop_and_record());
        match &result.failure {
            None => tracing::info!(job = job.id, topic = job.topic, pages, segments, seconds, "pages are compacted"),
            Some(reason) => {
                tracing::error!(job = job.id, topic = job.topic, "{pages} pages can't be compacted: {reason}");
                self.metrics.compactions_failed.inc();
            }
        }
        self.metrics.jobs_done.inc();
        Ok(())
    }

    async fn report_merge(&self, job: &MergeJob, receives: u32, enough: Option<Instant>) -> Result<(), IndexError> {
        let name = ResultName { lane: job.lane, incarnation: job.incarnation, ulid: Ulid::new() };
        if receives >= RECEIVES_MAX {
            let failed = merge_result(job, Err(given_up(receives)));
            return self.give_up(name, &job.id, &job.topic, &failed).await;
        }
        let timer = self.metrics.job_seconds.start_timer();
        let result = self.merger.merge(job, enough).await?;
        self.put(name, &result).await?;
        let (archives, alone, seconds) = (result.archives.len(), result.alone.len(), timer.stop_and_record());
        match &result.failure {
            None => tracing::info!(job = job.id, topic = job.topic, archives, alone, seconds, "a page is merged"),
            Some(reason) => {
                tracing::error!(job = job.id, topic = job.topic, "archives can't be merged: {reason}");
                self.metrics.merges_failed.inc();
            }
        }
        self.metrics.jobs_done.inc();
        Ok(())
    }

    async fn give_up(
        &self,
        name: ResultName,
        job: &str,
        topic: &str,
        result: &impl Serialize,
    ) -> Result<(), IndexError> {
        tracing::error!(job, topic, "a job is given up: none of its tries ended");
        self.put(name, result).await?;
        self.metrics.jobs_failed.inc();
        Ok(())
    }

    async fn put(&self, name: ResultName, result: &impl Serialize) -> Result<(), IndexError> {
        let (key, bytes) = (name.to_string(), Bytes::from(serde_json::to_vec(result)?));
        patiently(|| self.store.create(&key, vec![bytes.clone()])).await?;
        Ok(())
    }
}

fn given_up(receives: u32) -> String {
    format!("the job was tried {} times without a result", receives - 1)
}

/// Logs what became of a job of so many runs.
fn log(result: &JobResult, runs: usize, seconds: f64) {
    for run in &result.unreadable {
        let place = format!("{} to {} of partition {} in {}", run.first, run.last, run.partition, run.segment);
        tracing::error!(job = result.job, "a run stays without an archive, {place}: {}", run.reason);
    }
    let indexed: usize = result.archives.iter().map(|made| made.runs.len()).sum();
    tracing::info!(
        job = result.job,
        archives = result.archives.len(),
        bytes = result.archives.iter().map(|made| made.size).sum::<u64>(),
        records = result.archives.iter().map(|made| made.records).sum::<u64>(),
        unreadable = result.unreadable.len(),
        left = runs.saturating_sub(indexed + result.unreadable.len()),
        seconds,
        "a job is done"
    );
}
