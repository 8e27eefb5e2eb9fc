//! Everything that makes a broker, started together and stopped together.

mod tasks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chronik_format::catalog::reader::CatalogReader;
use chronik_format::ids::{LaneId, LogIndex};
use chronik_net::{KafkaServer, NetLimits};
use chronik_peers::cold::SharedColdReader;
use chronik_peers::tail::{self, SharedTail};
use chronik_service::handles;
use chronik_service::telemetry::Metrics;
use chronik_store::SharedStore;
use chronik_store::queue::SharedQueue;
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::tasks::{BrokerTasks, StopTokens};
use crate::api::{self, BrokerConfig, BrokerContext, FetchRoom, FetchSessions, ProducerIds, SessionLimits};
use crate::clock::now_ms;
use crate::data_dir::{DataDir, DataDirError, DirectoryIdentity};
use crate::http::tail::TailService;
use crate::http::{compaction, status};
use crate::indexing::IndexingHandle;
use crate::lane::{Lane, LaneGone};
use crate::listener::{BoundListener, KafkaListener};
use crate::metrics::{FetchMetrics, SessionMetrics};
use crate::ownership::BucketOwnership;
use crate::ownership::claim::ClaimError;
use crate::ownership::fenced::FencingReport;
use crate::ownership::fencing_reporter::FencingReporter;
use crate::publish::catalog::CatalogExporter;
use crate::publish::error::ExportError;
use crate::publish::segments::ShipError;
use crate::reading::RecordReader;
use crate::settings::{IngestSettings, SettingsError};
use crate::startup::{self, StartError};
use crate::wal::WalError;

/// Standalone has one lane.
const LANE: LaneId = LaneId(0);
/// Bytes of requests that are being answered; clients wait beyond it. The `balanced` produce profile.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// Bytes of records in answers that are not sent yet. The less is free, the less a connection gets of it.
const ANSWERS_BYTES_MAX: usize = 256 << 20;
/// How long a stop may take to answer clients and ship what is left; what is not shipped by then stays in the data
/// directory.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);
/// How much of that is kept for giving the bucket up, whatever becomes of the last checkpoint.
const GIVE_UP_TIME: Duration = Duration::from_secs(5);

/// How long the reason of a part that failed may take longer than the end of what depends on it.
const REASON_WAIT: Duration = Duration::from_secs(1);

/// What the broker is given by who starts it.
pub struct IngestParts {
    /// What the operator set.
    pub settings: IngestSettings,
    /// The bucket.
    pub store: SharedStore,
    /// Where jobs go.
    pub queue: SharedQueue,
    /// The catalog as read back from the bucket.
    pub catalog: Arc<CatalogReader>,
    /// How old records are read.
    pub cold: SharedColdReader,
    /// Memory for the newest records, bytes.
    pub tail_bytes_max: usize,
    /// Where metrics are shown.
    pub metrics: Metrics,
}

/// What keeps a broker from starting, or ends one.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// What was found can't be started from.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The Kafka port can't be bound.
    #[error("could not listen for Kafka clients on {listener}: {source}; choose another port with {settings}")]
    Bind {
        /// Which one.
        listener: Box<KafkaListener>,
        /// By which it was chosen.
        settings: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The write-ahead log failed. What was acknowledged is in it; nothing else was.
    #[error("the write-ahead log failed, so nothing can be acknowledged any more: {0}")]
    Wal(#[from] WalError),
    /// Shipping ended.
    #[error(transparent)]
    Ship(#[from] ShipError),
    /// The catalog can't be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The bucket is another cluster's.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Another broker owns the bucket.
    #[error("{0}")]
    Fenced(Box<FencingReport>),
    /// A task ended by a fault of the program.
    #[error("a part of the broker ended unexpectedly: {0}")]
    Fault(String),
}

/// A running broker.
pub struct RunningBroker {
    listeners: Arc<[BoundListener]>,
    tail: SharedTail,
    tail_answer_bytes: IntGauge,
    lane: Lane,
    indexing: IndexingHandle,
    store: SharedStore,
    ownership: BucketOwnership,
    /// Whether the bucket has answered since the start. Nothing is written to it before.
    confirmed: watch::Receiver<bool>,
    /// The index of the last checkpoint in the bucket.
    checkpoints: watch::Receiver<LogIndex>,
    data_dir: Arc<DataDir>,
    exporter: tokio::task::JoinHandle<CatalogExporter>,
    stops: StopTokens,
    clients: tokio::task::JoinHandle<()>,
    tasks: JoinSet<Result<(), IngestError>>,
}

impl RunningBroker {
    /// Opens or recovers the lane, and serves Kafka clients when this returns.
    pub async fn start(parts: IngestParts) -> Result<Self, IngestError> {
        parts.settings.validate()?;
        // The ports are had before anything is claimed.
        let (server, listeners) = listen(&parts.settings).await?;
        let data_dir = Arc::new(DataDir::open(&parts.settings.data_dir)?);
        let started = startup::start(&parts.settings, &data_dir, &parts.store, LANE).await?;

        let mut tasks = BrokerTasks::new(&parts, &data_dir, &started.ownership);
        let confirmed = tasks.confirm(started.confirmed, started.log_end);
        let (lane, orders) = tasks.own_lane(started.replayed, started.log)?;
        let checkpoints = tasks.ship(&lane, orders, &confirmed);
        let indexing = tasks.index(&lane);
        let state = lane.snapshot().await.map_err(|gone| IngestError::Fault(gone.to_string()))?;
        let groups = tasks.coordinate(&lane, &state);
        tasks.expire_producers(&lane);
        tasks.retain(&lane, &confirmed);
        tasks.delete(&lane, &confirmed, &checkpoints);
        tasks.watch(&lane, server.stats());
        // What was recovered is read through the catalog, so clients come after it.
        let exporter = tasks.export(&lane, started.beat, &confirmed).await;

        let fetch_metrics = FetchMetrics::new(&parts.metrics);
        let answers = FetchRoom::new(ANSWERS_BYTES_MAX, fetch_metrics.answer_bytes.clone());
        let tail_answer_bytes = fetch_metrics.tail_answer_bytes.clone();
        let reader = RecordReader::new(lane.clone(), parts.cold.clone(), fetch_metrics);
        let broker = BrokerContext {
            config: BrokerConfig::new(&parts.settings, &listeners),
            listeners: listeners.clone(),
            lane: lane.clone(),
            reader: reader.clone(),
            catalog: parts.catalog.clone(),
            answers,
            sessions: FetchSessions::new(SessionLimits::default(), SessionMetrics::new(&parts.metrics)),
            groups,
            producer_ids: ProducerIds::after(&state),
            cluster: started.ownership.cluster(),
            auto_create_topics: parts.settings.auto_create_topics,
            num_partitions: parts.settings.num_partitions,
        };
        let BrokerTasks { stops, running, .. } = tasks;
        let clients = tokio::spawn(server.serve(Arc::new(api::table(broker)), stops.clients.clone()));
        Ok(Self {
            listeners,
            tail: Arc::new(TailService::new(lane.clone(), reader)),
            tail_answer_bytes,
            lane,
            indexing,
            store: parts.store,
            ownership: started.ownership,
            confirmed,
            checkpoints,
            data_dir,
            exporter,
            stops,
            clients,
            tasks: running,
        })
    }

    /// Where Kafka clients come in, the first one first in the settings.
    pub fn listeners(&self) -> &[BoundListener] {
        &self.listeners
    }

    /// What has not been shipped, for searches.
    pub fn tail(&self) -> SharedTail {
        self.tail.clone()
    }

    /// `/v1/status`, `/v1/seal`, `/v1/compaction` and `/v1/compact`, and `/v1/tail` for query workers.
    pub fn routes(&self) -> Router {
        let desk = Arc::new(status::StatusContext { lane: self.lane.clone(), indexing: self.indexing.clone() });
        let own = status::routes(desk.clone()).merge(compaction::routes(desk));
        own.merge(tail::routes(self.tail(), self.stops.clients.clone(), self.tail_answer_bytes.clone()))
    }

    /// Serves until cancelled and then stops in good order, or until something fails for good, or another broker
    /// claims the bucket.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), IngestError> {
        let reporter = FencingReporter {
            store: self.store.clone(),
            ownership: self.ownership.clone(),
            lane_id: LANE,
            lane: self.lane.clone(),
            data_dir: self.data_dir.path().to_owned(),
        };
        let fenced = self.ownership.fenced().clone();
        let failed = tokio::select! {
            biased;
            () = fenced.cancelled() => Ok(()),
            () = cancel.cancelled() => {
                let stopped = self.stop().await;
                return if fenced.is_cancelled() { Err(lost_bucket(reporter, &cancel).await) } else { stopped };
            }
            ended = self.tasks.join_next() => reason(ended.unwrap_or(Ok(Ok(()))), &mut self.tasks).await,
            ended = &mut self.exporter => reason(ended.map(|_| Ok(())), &mut self.tasks).await,
        };
        self.end().await;
        if fenced.is_cancelled() {
            return Err(lost_bucket(reporter, &cancel).await);
        }
        failed
    }

    /// Ends at once: the log keeps what is acknowledged.
    async fn end(mut self) {
        self.stops.clients.cancel();
        self.exporter.abort();
        self.clients.abort();
        self.stops.at_once.cancel();
        self.tasks.shutdown().await;
        let _ = self.clients.await;
        if !self.exporter.is_finished() {
            let _ = self.exporter.await;
        }
    }

    /// Answers what is in flight, ships everything, releases the bucket, and ends the lane.
    async fn stop(mut self) -> Result<(), IngestError> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        self.stops.clients.cancel();
        let _ = self.clients.await;
        self.stops.exporter.cancel();
        let mut exporter = self.exporter.await.map_err(|fault| IngestError::Fault(fault.to_string()))?;
        let held = DirectoryIdentity::held(self.ownership.cluster(), self.ownership.incarnation());
        let confirmed = *self.confirmed.borrow();
        let given_up = tokio::time::timeout_at(deadline, async {
            if !confirmed {
                tracing::warn!("the bucket has not answered since the start; what it lacks is in the data directory");
                return Ok(());
            }
            let border = ship_all(&self.lane, &mut exporter).await?;
            let stored = store_checkpoint(&self.lane, &mut exporter, &self.checkpoints, border);
            match tokio::time::timeout_at(deadline - GIVE_UP_TIME, stored).await {
                Ok(stored) => stored?,
                Err(_) => tracing::warn!("the last checkpoint is not in the bucket yet: a recovery has more to replay"),
            }
            // First here, then in the bucket: where another may own it, this broker must ask before it serves again.
            self.data_dir.set_identity(&held.given_up())?;
            Ok::<_, IngestError>(exporter.release().await?)
        });
        tokio::select! {
            () = self.ownership.fenced().cancelled() => {}
            given_up = given_up => match given_up {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("the bucket was not released: {error}"),
                Err(_) => {
                    tracing::warn!("not everything was shipped in {STOP_TIMEOUT:?}; the rest is in the data directory")
                }
            },
        }
        self.stops.lane.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|fault| IngestError::Fault(fault.to_string()))??;
        }
        Ok(())
    }
}

async fn listen(settings: &IngestSettings) -> Result<(KafkaServer, Arc<[BoundListener]>), IngestError> {
    let limits = NetLimits::default();
    let mut server = KafkaServer::new(NetLimits {
        in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
        connections_max: handles::for_clients(limits.connections_max),
        ..limits
    });
    let mut bound = Vec::new();
    for listener in settings.kafka_listeners()? {
        let settings = settings.listening_settings();
        let refused = |source| IngestError::Bind { listener: Box::new(listener.clone()), settings, source };
        bound.push(listener.clone().bind(&mut server).await.map_err(refused)?);
    }
    Ok((server, bound.into()))
}

/// Why the bucket is not ours any more, and what that leaves behind.
async fn lost_bucket(reporter: FencingReporter, cancel: &CancellationToken) -> IngestError {
    match reporter.ownership.loss() {
        Some(doubled @ ClaimError::Doubled { .. }) => doubled.into(),
        _ => reporter.report(cancel).await.into(),
    }
}

/// Why tasks end that should not: one that returns does so because another failed, whose reason may be a moment late.
async fn reason(
    mut ended: Result<Result<(), IngestError>, tokio::task::JoinError>,
    tasks: &mut JoinSet<Result<(), IngestError>>,
) -> Result<(), IngestError> {
    let failed = async {
        while let Ok(Ok(())) = ended
            && let Some(next) = tasks.join_next().await
        {
            ended = next;
        }
    };
    let _ = tokio::time::timeout(REASON_WAIT, failed).await;
    failure(ended)
}

fn failure(ended: Result<Result<(), IngestError>, tokio::task::JoinError>) -> Result<(), IngestError> {
    Err(match ended {
        Ok(Ok(())) => IngestError::Fault("a task returned".into()),
        Ok(Err(error)) => error,
        Err(fault) => IngestError::Fault(fault.to_string()),
    })
}

/// Ships everything acknowledged, with a checkpoint unless an earlier one is still on its way; returns the last index.
async fn ship_all(lane: &Lane, exporter: &mut CatalogExporter) -> Result<LogIndex, ExportError> {
    let border = lane.cut(true).await?;
    lane.shipped(border).await?;
    exporter.export_if_changed(now_ms()).await?;
    Ok(border)
}

/// Waits for a checkpoint at `border`, or behind it where an earlier one was on its way as that was drawn.
async fn store_checkpoint(
    lane: &Lane,
    exporter: &mut CatalogExporter,
    stored: &watch::Receiver<LogIndex>,
    border: LogIndex,
) -> Result<(), ExportError> {
    lane.checkpoint_settled().await;
    if *stored.borrow() < border {
        ship_all(lane, exporter).await?;
        lane.checkpoint_settled().await;
    }
    Ok(())
}

impl From<FencingReport> for IngestError {
    fn from(remains: FencingReport) -> Self {
        IngestError::Fenced(Box::new(remains))
    }
}

impl From<LaneGone> for IngestError {
    fn from(gone: LaneGone) -> Self {
        IngestError::Fault(gone.to_string())
    }
}

#[cfg(test)]
mod tests;
