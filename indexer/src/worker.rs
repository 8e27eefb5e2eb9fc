//! The loop over the queue. A job is acknowledged only when its result is in the inbox.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use chronik_core::job::{Job, JobResult};
use chronik_core::names::ResultName;
use chronik_core::queue::{Delivery, QueueError};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::error::IndexError;
use crate::indexer::Indexer;
use crate::job::{failed, parse};
use crate::patience::patiently;

/// How long a job stays hidden from other workers unless it is extended.
const VISIBILITY: Duration = Duration::from_secs(120);
/// How often it is extended.
const EXTENSION: Duration = Duration::from_secs(40);
/// How long one call waits for a job.
const WAIT: Duration = Duration::from_secs(20);
/// How long the worker waits after the queue has failed.
const PAUSE: Duration = Duration::from_secs(1);
/// A job that comes for this many times ended none of the tries before: it is given up without another.
const RECEIVES_MAX: u32 = 5;

impl Indexer {
    /// Works on one job after the other until cancelled. A job that is not done by then is handed back.
    pub async fn run(&self, cancel: CancellationToken) {
        while let Some(received) = cancel
            .run_until_cancelled(self.queue.receive(1, VISIBILITY, WAIT))
            .await
        {
            let worked = match received {
                Ok(deliveries) => self.work_on(deliveries, &cancel).await,
                Err(error) => Err(error),
            };
            if let Err(error) = worked {
                tracing::warn!("the queue failed: {error}");
                cancel.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
    }

    async fn work_on(&self, deliveries: Vec<Delivery>, cancel: &CancellationToken) -> Result<(), QueueError> {
        for delivery in deliveries {
            tokio::select! {
                biased;
                () = cancel.cancelled() => self.queue.release(&delivery.receipt).await?,
                worked = self.answer(&delivery) => worked?,
                never = self.keep(&delivery) => match never {},
            }
        }
        Ok(())
    }

    /// Keeps a job hidden from others, for ever. If that fails somebody else may do the job too, which is harmless.
    async fn keep(&self, delivery: &Delivery) -> Infallible {
        loop {
            tokio::time::sleep(EXTENSION).await;
            if let Err(error) = self.queue.extend(&delivery.receipt, VISIBILITY).await {
                tracing::warn!("a job could not be extended: {error}");
            }
        }
    }

    async fn answer(&self, delivery: &Delivery) -> Result<(), QueueError> {
        let job = match parse(&delivery.body) {
            Ok(job) => job,
            Err(reason) => {
                tracing::error!("a message is put with the dead letters: {reason}");
                self.metrics.jobs_refused.inc();
                return self.queue.bury(&delivery.receipt, &reason).await;
            }
        };
        let id = job.id.clone();
        match self.report(job, delivery.receives).await {
            Ok(()) => self.queue.acknowledge(&delivery.receipt).await,
            Err(error) => {
                // It comes again when its visibility is over, which is the pause that it needs.
                tracing::warn!(
                    job = id,
                    receives = delivery.receives,
                    "a job is left for later: {error}"
                );
                self.metrics.jobs_interrupted.inc();
                Ok(())
            }
        }
    }

    /// Does the job, or gives it up, and puts the result into the inbox.
    async fn report(&self, job: Job, receives: u32) -> Result<(), IndexError> {
        let name = ResultName {
            lane: job.lane,
            incarnation: job.incarnation,
            ulid: Ulid::new(),
        };
        if receives >= RECEIVES_MAX {
            tracing::error!(
                job = job.id,
                topic = job.topic,
                "a job is given up: none of {} tries ended",
                receives - 1
            );
            let reason = format!("the job was tried {} times without a result", receives - 1);
            self.put(name, &failed(&job, &reason)).await?;
            self.metrics.jobs_failed.inc();
            return Ok(());
        }
        let timer = self.metrics.job_seconds.start_timer();
        let result = self.index(job).await?;
        for run in &result.unreadable {
            let place = format!(
                "{} to {} of partition {} in {}",
                run.first, run.last, run.partition, run.segment
            );
            tracing::error!(
                job = result.job,
                "a run stays without an archive, {place}: {}",
                run.reason
            );
        }
        self.put(name, &result).await?;
        timer.observe_duration();
        self.metrics.jobs_done.inc();
        Ok(())
    }

    async fn put(&self, name: ResultName, result: &JobResult) -> Result<(), IndexError> {
        let (key, bytes) = (name.to_string(), Bytes::from(serde_json::to_vec(result)?));
        patiently(|| self.store.create(&key, vec![bytes.clone()])).await?;
        Ok(())
    }
}
