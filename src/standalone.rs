//! Broker, indexer and search in one process. They share it, and nothing else but the seams of `chronik-core`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use chronik_core::catalog::CatalogReader;
use chronik_core::cold::BucketReader;
use chronik_core::ids::Lane;
use chronik_core::setting::{ByteSize, EarlierName, earlier_names_in};
use chronik_core::shutdown::stop_on_signal;
use chronik_core::store::Access;
use chronik_core::telemetry::{Metrics, log_to_stderr};
use chronik_core::web::{self, Readiness};
use chronik_indexer::{Indexer, IndexerParts};
use chronik_ingest::{Ingest, IngestParts};
use chronik_query::{QueryLimits, QueryParts, QueryService};

use crate::settings::StandaloneSettings;

/// Standalone has one lane.
const LANE: Lane = Lane(0);

/// Serves until a signal or a failure ends it.
pub async fn run(settings: StandaloneSettings) -> Result<()> {
    settings.check()?;
    log_to_stderr("info");
    warn_of_earlier_names(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    let cancel = stop_on_signal().context("signals can't be handled")?;
    let listener = web::listen(settings.http.bind()).await?;
    let http_addr = listener
        .local_addr()
        .context("the HTTP port can't be asked for its number")?;

    let metrics = Metrics::new();
    let store = settings.bucket.open(&settings.ingest.data_dir, Access::Owner).await?;
    let queue = settings.queue.open(&metrics).await?;
    let memory = Shares::of(settings.cache.cache_memory_bytes);
    let catalog = Arc::new(CatalogReader::new(store.clone(), LANE, memory.catalog as u64));
    let cold = Arc::new(BucketReader::new(
        store.clone(),
        catalog.clone(),
        memory.directories as u64,
    ));
    let ingest = Ingest::start(IngestParts {
        settings: settings.ingest.clone(),
        store: store.clone(),
        queue: queue.clone(),
        catalog: catalog.clone(),
        cold: cold.clone(),
        tail_bytes_max: memory.tail,
        metrics: metrics.clone(),
    })
    .await?;
    let indexer = Indexer::new(IndexerParts {
        store: store.clone(),
        queue,
        memory_bytes: settings.cache.indexer_memory_bytes.as_usize(),
        metrics: metrics.clone(),
    });
    let query = QueryService::new(QueryParts {
        store,
        catalog: catalog.clone(),
        tail: Some(ingest.tail()),
        cold,
        limits: QueryLimits {
            cache_bytes: memory.archives as u64,
            read_bytes: memory.scans,
            ..QueryLimits::default()
        },
        metrics: metrics.clone(),
    });

    let readiness = Readiness::new(cancel.clone());
    let routes = web::routes(chronik_query::routes(query).merge(ingest.routes()), metrics, readiness);
    let served = tokio::spawn(web::serve(listener, routes, cancel.clone()));
    let followed = tokio::spawn({
        let cancel = cancel.clone();
        async move { catalog.follow(cancel).await }
    });
    let indexed = tokio::spawn({
        let cancel = cancel.clone();
        async move { indexer.run(cancel).await }
    });
    print_ready(ingest.kafka_addr(), http_addr)?;

    let ended = ingest.run(cancel.clone()).await;
    cancel.cancel();
    served.await?.context("HTTP ended")?;
    indexed.await?;
    followed.await?;
    Ok(ended?)
}

/// Warns of names that earlier systems used.
fn warn_of_earlier_names(names: impl Iterator<Item = String>) {
    for EarlierName { name, instead } in earlier_names_in(names) {
        tracing::warn!("{name} has no effect here; in its place there is {instead}");
    }
}

/// Who gets how much of the memory for caches, bytes.
struct Shares {
    tail: usize,
    catalog: usize,
    directories: usize,
    archives: usize,
    scans: usize,
}

impl Shares {
    fn of(memory: ByteSize) -> Self {
        let eighth = memory.as_usize() / 8;
        Self {
            tail: eighth * 2,
            catalog: eighth,
            directories: eighth,
            archives: eighth * 3,
            scans: eighth,
        }
    }
}

/// Says where to connect, and what to try first.
fn print_ready(kafka: SocketAddr, http: SocketAddr) -> Result<()> {
    let program = std::env::args().next().unwrap_or_else(|| "chronik".to_owned());
    let bootstrap = if kafka.port() == 9092 && kafka.ip().is_loopback() {
        String::new()
    } else {
        format!(" --bootstrap {}", reachable(kafka))
    };
    let endpoint = if http.port() == 8080 && http.ip().is_loopback() {
        String::new()
    } else {
        format!(" --http http://{}", reachable(http))
    };
    let mut out = io::stdout().lock();
    let printed = writeln!(
        out,
        "chronik is ready: Kafka on {}, HTTP on http://{}\n\
         try   echo 'hello world' | {program} produce greetings{bootstrap}\n\
         \x20     {program} consume greetings{bootstrap}\n\
         \x20     {program} search greetings hello{endpoint}",
        reachable(kafka),
        reachable(http),
    );
    match printed.and_then(|()| out.flush()) {
        // Nobody has to read it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// An address that this machine can connect to.
fn reachable(bound: SocketAddr) -> SocketAddr {
    match bound {
        SocketAddr::V4(address) if address.ip().is_unspecified() => ([127, 0, 0, 1], address.port()).into(),
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, address.port()).into()
        }
        bound => bound,
    }
}
