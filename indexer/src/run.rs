//! An indexer in a process of its own. It holds no state: any number of them share a queue.

use std::net::Ipv4Addr;
use std::time::Duration;

use chronik_format::names;
use chronik_service::process::{ServiceError, ServiceProcess};
use chronik_store::queue::SharedQueue;
use chronik_store::setting::QueueKind;
use chronik_store::{BucketAccess, SharedStore, StoreError};

use crate::indexer::{Indexer, IndexerParts};
use crate::settings::RunSettings;

/// How long an indexer waits before it asks again for a bucket or a queue that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What keeps an indexer's process from starting, or ends it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The queue is within another process.
    #[error(
        "CHRONIK_QUEUE is embedded, and an embedded queue is within the broker's process: set CHRONIK_QUEUE=sqs and \
         SQS_QUEUE_URL for broker and indexers, or run `chronik standalone`"
    )]
    NoQueue,
    /// As in every service.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Works on jobs until a signal ends it.
pub async fn run(settings: RunSettings) -> Result<(), RunError> {
    if settings.queue.queue == QueueKind::Embedded {
        return Err(RunError::NoQueue);
    }
    settings.bucket.check().map_err(ServiceError::from)?;
    settings.queue.check().map_err(ServiceError::from)?;
    let place = settings.http.place(Ipv4Addr::LOCALHOST.into());
    let process = ServiceProcess::begin(place.map_err(ServiceError::from)?).await?;
    process.run(async |process| Ok(work(settings, process).await?)).await
}

async fn work(settings: RunSettings, process: &ServiceProcess) -> Result<(), ServiceError> {
    let store = settings.bucket.open(&settings.data_dir, BucketAccess::Worker).await?;
    let queue = settings.queue.open(&process.metrics).await?;
    let indexer = Indexer::new(IndexerParts {
        store: store.clone(),
        queue: queue.clone(),
        memory_bytes: settings.indexer.indexer_memory_bytes.as_usize(),
        metrics: process.metrics.clone(),
    });
    let reached = process.cancel.run_until_cancelled(until_reached(&store, &queue, process));
    if reached.await.is_some() {
        process.ready(&format!("chronik-indexer is ready: HTTP on http://{}", process.http_addr()));
        indexer.run(process.cancel.clone()).await;
    }
    Ok(())
}

/// Waits until bucket and queue answer.
async fn until_reached(store: &SharedStore, queue: &SharedQueue, process: &ServiceProcess) {
    while let Err(reason) = reach(store, queue).await {
        tracing::warn!("jobs can't be worked on yet, trying again: {reason}");
        process.readiness.unready(reason);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn reach(store: &SharedStore, queue: &SharedQueue) -> Result<(), String> {
    match store.info(names::CLUSTER).await {
        Ok(_) | Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.to_string()),
    }
    queue.depth().await.map(|_| ()).map_err(|error| error.to_string())
}
