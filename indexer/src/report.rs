//! From a job to its result in the inbox, which is written last: what it names is there in full.

use bytes::Bytes;
use chronik_format::job::{Job, JobResult};
use chronik_format::names::ResultName;
use chronik_service::failpoint;
use chronik_store::queue::RECEIVES_MAX;
use tokio::time::Instant;
use ulid::Ulid;

use crate::error::IndexError;
use crate::job::{failed, run_count};
use crate::job_runner::JobRunner;
use crate::patience::patiently;

impl JobRunner {
    /// Does the job, or gives it up, and puts the result into the inbox. From `enough` on no further run is begun.
    pub(crate) async fn report(&self, job: Job, receives: u32, enough: Option<Instant>) -> Result<(), IndexError> {
        let name = ResultName { lane: job.lane, incarnation: job.incarnation, ulid: Ulid::new() };
        if receives >= RECEIVES_MAX {
            self.give_up(name, &job, receives - 1).await?;
        } else {
            let timer = self.metrics.job_seconds.start_timer();
            let runs = run_count(&job);
            let result = self.index(job, enough).await?;
            self.put(name, &result).await?;
            log(&result, runs, timer.stop_and_record());
            self.metrics.jobs_done.inc();
        }
        failpoint!("indexer-reported");
        Ok(())
    }

    async fn give_up(&self, name: ResultName, job: &Job, tries: u32) -> Result<(), IndexError> {
        tracing::error!(job = job.id, topic = job.topic, "a job is given up: none of {tries} tries ended");
        let reason = format!("the job was tried {tries} times without a result");
        self.put(name, &failed(job, &reason)).await?;
        self.metrics.jobs_failed.inc();
        Ok(())
    }

    async fn put(&self, name: ResultName, result: &JobResult) -> Result<(), IndexError> {
        let (key, bytes) = (name.to_string(), Bytes::from(serde_json::to_vec(result)?));
        patiently(|| self.store.create(&key, vec![bytes.clone()])).await?;
        Ok(())
    }
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
