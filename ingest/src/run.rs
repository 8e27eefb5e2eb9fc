//! A broker in a process of its own.

use std::sync::Arc;

use chronik_core::cold;
use chronik_core::ids::Lane;
use chronik_core::process::{Process, ServiceError, reachable};
use chronik_core::queue::{EmbeddedQueue, SharedQueue};
use chronik_core::setting::{ByteSize, Uses};
use chronik_core::store::{LocalBucket, SharedStore};

use crate::broker::{Ingest, IngestError, IngestParts};
use crate::settings::{RunSettings, SettingsError};

/// Jobs are at most 200 KiB; what does not fit is sent again later.
const QUEUE_BYTES_MAX: ByteSize = ByteSize::mebibytes(64);

/// What keeps a broker's process from starting, or ends it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// As in every service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Of the broker.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// Serves Kafka clients until a signal or a failure ends it.
pub async fn run(settings: RunSettings) -> Result<(), RunError> {
    let RunSettings {
        ingest,
        bucket,
        http,
        cache,
    } = settings;
    ingest.validate()?;
    let place = http.place(ingest.listener()?.bind.ip()).map_err(ServiceError::from)?;
    let process = Process::begin(place).await?;
    process
        .run(async |process| {
            let store = LocalBucket::open(&bucket.directory(&ingest.data_dir)).map_err(ServiceError::from)?;
            let store: SharedStore = Arc::new(store);
            let memory = cache.shares(Uses::Broker);
            let (catalog, cold) = cold::readers(&store, Lane::SOLE, &memory);
            let parts = IngestParts {
                settings: ingest,
                store,
                queue: nobodys_queue(process),
                catalog: catalog.clone(),
                cold,
                tail_bytes_max: memory.tail,
                metrics: process.metrics.clone(),
            };
            let cancel = process.cancel.clone();
            let Some(started) = cancel.run_until_cancelled(Ingest::start(parts)).await else {
                return Ok(());
            };
            let ingest = started?;
            process.beside("the catalog's reader", {
                let cancel = cancel.clone();
                async move { catalog.follow(cancel).await }
            });
            process.offer(ingest.routes());
            process.ready(&format!(
                "chronik-ingest is ready: Kafka on {}, HTTP on http://{}",
                reachable(ingest.kafka_addr()),
                process.http_addr(),
            ));
            Ok(ingest.run(cancel).await?)
        })
        .await
}

/// The queue within the process, which no indexer reaches. Jobs wait in it, and searches scan instead.
fn nobodys_queue(process: &Process) -> SharedQueue {
    tracing::warn!(
        "no indexer can take jobs from a queue within this process: searches will scan the segments; run \
         `chronik standalone` to have them indexed"
    );
    Arc::new(EmbeddedQueue::with_metrics(
        QUEUE_BYTES_MAX.as_usize(),
        &process.metrics,
    ))
}
