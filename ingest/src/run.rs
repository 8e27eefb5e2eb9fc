//! A broker in a process of its own.

use std::sync::Arc;

use chronik_format::ids::LaneId;
use chronik_peers::cold::{self, RemoteReaders, SharedColdReader};
use chronik_service::http_client::HttpClient;
use chronik_service::process::{ServiceError, ServiceProcess};
use chronik_service::setting::CacheUses;
use chronik_store::setting::QueueKind;
use chronik_store::{BucketAccess, disk_cache};

use crate::broker::{IngestError, IngestParts, RunningBroker};
use crate::listener::named_places;
use crate::settings::{IngestSettings, RunSettings, SettingsError};

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
    settings.ingest.validate()?;
    settings.bucket.check().map_err(ServiceError::from)?;
    settings.queue.check().map_err(ServiceError::from)?;
    let place = settings.http.place(settings.ingest.http_bind()?).map_err(ServiceError::from)?;
    let process = ServiceProcess::begin(place).await?;
    process.run(async |process| serve(settings, process).await).await
}

async fn serve(settings: RunSettings, process: &ServiceProcess) -> Result<(), RunError> {
    if settings.queue.queue == QueueKind::Embedded {
        tracing::warn!(
            "no indexer can take jobs from a queue within this process: searches will scan the segments; set \
             CHRONIK_QUEUE=sqs, or run `chronik standalone` to have them indexed"
        );
    }
    let queue = settings.queue.open(&process.metrics).await.map_err(ServiceError::from)?;
    let opened = settings.bucket.open(&settings.ingest.data_dir, BucketAccess::Owner).await;
    let store = opened.map_err(ServiceError::from)?;
    let memory = settings.cache.shares(CacheUses::Broker);
    let cached = disk_cache::cached(&store, &settings.cache, &settings.ingest.data_dir, &process.metrics).await?;
    let (catalog, local) = cold::readers(&store, &cached.store, LaneId::SOLE, &memory, &process.metrics);
    let cold: SharedColdReader = match &settings.workers.query_endpoints {
        Some(endpoints) => {
            let token = settings.http.token().map_err(ServiceError::from)?;
            let client = HttpClient::new(token.as_ref().map(|token| token.reveal())).map_err(ServiceError::from)?;
            Arc::new(RemoteReaders::new(endpoints, client, local, &process.metrics))
        }
        None => local,
    };
    let parts = IngestParts {
        settings: IngestSettings { disk_bytes_kept: cached.disk_bytes_left, ..settings.ingest },
        store,
        queue,
        catalog: catalog.clone(),
        cold,
        tail_bytes_max: memory.tail,
        metrics: process.metrics.clone(),
    };
    let cancel = process.cancel.clone();
    let Some(started) = cancel.run_until_cancelled(RunningBroker::start(parts)).await else {
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
        named_places(ingest.listeners()),
        process.http_addr(),
    ));
    Ok(ingest.run(cancel).await?)
}
