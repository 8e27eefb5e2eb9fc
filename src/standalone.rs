//! Broker, indexer and search in one process. They share it, and nothing else but store, queue and what `chronik-peers`
//! has them ask of each other.

use std::net::SocketAddr;

use anyhow::Result;
use chronik_format::ids::LaneId;
use chronik_indexer::{Indexer, IndexerParts};
use chronik_ingest::{BoundListener, IngestParts, IngestSettings, RunningBroker, named_places};
use chronik_peers::cold;
use chronik_query::{QueryLimits, QueryParts, QueryService};
use chronik_service::process::ServiceProcess;
use chronik_service::setting::CacheUses;
use chronik_store::{BucketAccess, disk_cache};

use crate::settings::StandaloneSettings;

/// Serves until a signal or a failure ends it.
pub async fn run(settings: StandaloneSettings) -> Result<()> {
    settings.ingest.validate()?;
    settings.bucket.check()?;
    settings.queue.check()?;
    let place = settings.http.place(settings.ingest.http_bind()?)?;
    let process = ServiceProcess::begin(place).await?;
    process.run(async |process| work(settings, process).await).await
}

async fn work(settings: StandaloneSettings, process: &ServiceProcess) -> Result<()> {
    let metrics = &process.metrics;
    let queue = settings.queue.open(metrics).await?;
    let store = settings.bucket.open(&settings.ingest.data_dir, BucketAccess::Owner).await?;
    let memory = settings.cache.shares(CacheUses::Search);
    let cached = disk_cache::cached(&store, &settings.cache, &settings.ingest.data_dir, metrics).await?;
    let (catalog, cold) = cold::readers(&store, &cached.store, LaneId::SOLE, &memory, metrics);
    let cancel = process.cancel.clone();
    let starting = RunningBroker::start(IngestParts {
        settings: IngestSettings { disk_bytes_kept: cached.disk_bytes_left, ..settings.ingest },
        store: store.clone(),
        queue: queue.clone(),
        catalog: catalog.clone(),
        cold: cold.clone(),
        tail_bytes_max: memory.tail,
        metrics: metrics.clone(),
    });
    let Some(started) = cancel.run_until_cancelled(starting).await else {
        return Ok(());
    };
    let ingest = started?;
    let indexer = Indexer::new(IndexerParts {
        store: store.clone(),
        queue,
        memory_bytes: settings.indexer.indexer_memory_bytes.as_usize(),
        metrics: metrics.clone(),
    });
    let query = QueryService::new(QueryParts {
        store: cached.store,
        catalog: catalog.clone(),
        tail: Some(ingest.tail()),
        cold,
        limits: QueryLimits::within(&memory),
        metrics: metrics.clone(),
    });

    process.offer(chronik_query::routes(query).merge(ingest.routes()));
    process.beside("the catalog's reader", {
        let cancel = cancel.clone();
        async move { catalog.follow(cancel).await }
    });
    process.beside("the indexer", {
        let cancel = cancel.clone();
        async move { indexer.run(cancel).await }
    });
    process.ready(&ready_line(ingest.listeners(), process.http_addr()));
    Ok(ingest.run(cancel).await?)
}

/// Where to connect, and what to try first.
fn ready_line(listeners: &[BoundListener], http: SocketAddr) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "chronik".to_owned());
    let is_default = |place: &SocketAddr| place.port() == 9092 && place.ip().is_loopback();
    let first = listeners.first().map(BoundListener::nearby).filter(|place| !is_default(place));
    let bootstrap = first.map_or_else(String::new, |place| format!(" --bootstrap {place}"));
    let kafka = named_places(listeners);
    let endpoint =
        if http.port() == 8080 && http.ip().is_loopback() { String::new() } else { format!(" --http http://{http}") };
    format!(
        "chronik is ready: Kafka on {kafka}, HTTP on http://{http}\n\
         try   echo 'hello world' | {program} produce greetings{bootstrap}\n\
         \x20     {program} consume greetings{bootstrap}\n\
         \x20     {program} search greetings hello{endpoint}",
    )
}
