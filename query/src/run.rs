//! A query worker: a process that holds no state but caches.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use chronik_format::catalog::CatalogReader;
use chronik_format::ids::LaneId;
use chronik_peers::cold;
use chronik_peers::tail::{FollowLimits, FollowedTail, RemoteTail, SharedTail};
use chronik_service::http_client::HttpClient;
use chronik_service::process::{ServiceError, ServiceProcess};
use chronik_service::setting::CacheUses;
use chronik_store::{BucketAccess, disk_cache};

use crate::http::routes;
use crate::service::{QueryLimits, QueryParts, QueryService};
use crate::settings::RunSettings;

/// How long a worker waits before it asks again for a catalog that could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers searches until a signal ends it.
pub async fn run(settings: RunSettings) -> Result<(), ServiceError> {
    settings.bucket.check()?;
    let place = settings.http.place(Ipv4Addr::LOCALHOST.into())?;
    let process = ServiceProcess::begin(place).await?;
    process.run(async |process| serve(settings, process).await).await
}

async fn serve(settings: RunSettings, process: &ServiceProcess) -> Result<(), ServiceError> {
    let store = settings.bucket.open(&settings.data_dir, BucketAccess::Reader).await?;
    let memory = settings.cache.shares(CacheUses::Search);
    let cached = disk_cache::cached(&store, &settings.cache, &settings.data_dir, &process.metrics).await?;
    let (catalog, cold) = cold::readers(&store, &cached.store, LaneId::SOLE, &memory, &process.metrics);
    let service = QueryService::new(QueryParts {
        store: cached.store,
        catalog: catalog.clone(),
        tail: followed_tail(&settings, memory.tail, process)?,
        cold,
        limits: QueryLimits::within(&memory),
        metrics: process.metrics.clone(),
    });
    process.offer(routes(service));
    let worked = async {
        first_catalog(&catalog, process).await;
        process.ready(&format!("chronik-query is ready: HTTP on http://{}", process.http_addr()));
        catalog.follow(process.cancel.clone()).await;
    };
    process.cancel.run_until_cancelled(worked).await;
    Ok(())
}

/// A copy of what the brokers have not shipped, of at most so many bytes, if there are brokers to ask.
fn followed_tail(
    settings: &RunSettings,
    bytes: usize,
    process: &ServiceProcess,
) -> Result<Option<SharedTail>, ServiceError> {
    let Some(endpoints) = &settings.brokers.ingest_endpoints else {
        return Ok(None);
    };
    let token = settings.http.token()?;
    let client = HttpClient::new(token.as_ref().map(|token| token.reveal()))?;
    let remote = Arc::new(RemoteTail::new(endpoints, client));
    let limits = FollowLimits { bytes, ..FollowLimits::default() };
    let (tail, follower) = FollowedTail::new(remote, limits, &process.metrics);
    process.beside("the tail's follower", follower.run(process.cancel.clone()));
    Ok(Some(Arc::new(tail)))
}

/// Waits until the catalog could be read once: before that nothing can be answered.
async fn first_catalog(catalog: &CatalogReader, process: &ServiceProcess) {
    while let Err(error) = catalog.refresh().await {
        tracing::warn!("the catalog can't be read yet, trying again: {error}");
        process.readiness.unready(format!("the catalog can't be read: {error}"));
        tokio::time::sleep(PAUSE).await;
    }
}
