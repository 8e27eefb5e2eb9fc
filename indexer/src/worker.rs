//! The loop over the queue. A job is acknowledged only when its result is in the inbox.

use std::convert::Infallible;
use std::time::Duration;

use chronik_store::queue::{QueueDelivery, QueueError};
use tokio_util::sync::CancellationToken;

use crate::indexer::Indexer;
use crate::job::parse;

/// How long a job stays hidden from other workers unless it is extended.
const VISIBILITY: Duration = Duration::from_secs(120);
/// How often it is extended.
const EXTENSION: Duration = Duration::from_secs(40);
/// How long one call waits for a job, and a stop for the call.
const WAIT: Duration = Duration::from_secs(10);
/// How long a stop waits for a job to be handed back.
const HAND_BACK: Duration = Duration::from_secs(5);
/// How long the worker waits after the queue has failed.
const PAUSE: Duration = Duration::from_secs(1);

impl Indexer {
    /// Works on one job after the other until cancelled. A job that is not done by then is handed back.
    pub async fn run(&self, cancel: CancellationToken) {
        while let Some(received) = self.receive(&cancel).await {
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

    /// The next jobs; `None` once cancelled. A wait at a server is not cut short, so that a job that it hands out
    /// meanwhile can be handed back.
    async fn receive(&self, cancel: &CancellationToken) -> Option<Result<Vec<QueueDelivery>, QueueError>> {
        let received = self.queue.receive(1, VISIBILITY, WAIT);
        match self.queue.waits_at_server() {
            true if cancel.is_cancelled() => None,
            true => Some(received.await),
            false => cancel.run_until_cancelled(received).await,
        }
    }

    async fn work_on(&self, deliveries: Vec<QueueDelivery>, cancel: &CancellationToken) -> Result<(), QueueError> {
        for delivery in deliveries {
            tokio::select! {
                biased;
                () = cancel.cancelled() => self.hand_back(&delivery).await?,
                worked = self.answer(&delivery) => worked?,
                never = self.keep(&delivery) => match never {},
            }
        }
        Ok(())
    }

    async fn hand_back(&self, delivery: &QueueDelivery) -> Result<(), QueueError> {
        let released = tokio::time::timeout(HAND_BACK, self.queue.release(&delivery.receipt));
        released.await.unwrap_or_else(|_| {
            Err(QueueError::Unavailable { message: format!("it did not take a job back within {HAND_BACK:?}") })
        })
    }

    /// Keeps a job hidden from others, for ever. If that fails another indexer may do the job too, which is harmless.
    async fn keep(&self, delivery: &QueueDelivery) -> Infallible {
        loop {
            tokio::time::sleep(EXTENSION).await;
            if let Err(error) = self.queue.extend(&delivery.receipt, VISIBILITY).await {
                tracing::warn!("a job could not be extended: {error}");
            }
        }
    }

    async fn answer(&self, delivery: &QueueDelivery) -> Result<(), QueueError> {
        let job = match parse(&delivery.body) {
            Ok(job) => job,
            Err(reason) => {
                tracing::error!("a message is put with the dead letters: {reason}");
                self.runner.metrics.jobs_refused.inc();
                return self.queue.bury(delivery, &reason).await;
            }
        };
        let id = job.id().to_owned();
        match self.runner.report(job, delivery.receives, None).await {
            Ok(()) => self.queue.acknowledge(&delivery.receipt).await,
            Err(error) => {
                // It comes again when its visibility is over, which is the pause that it needs.
                tracing::warn!(job = id, receives = delivery.receives, "a job is left for later: {error}");
                self.runner.metrics.jobs_interrupted.inc();
                Ok(())
            }
        }
    }
}
