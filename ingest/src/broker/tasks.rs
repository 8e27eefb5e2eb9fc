//! The broker's tasks: a method starts each.

use std::sync::Arc;
use std::time::Duration;

use chronik_format::ids::LogIndex;
use chronik_net::NetStats;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{IngestError, IngestParts, LANE};
use crate::clock::now_ms;
use crate::compaction::{CompactionLimits, CompactionParts};
use crate::data_dir::DataDir;
use crate::gc::{DeletionParts, ObjectDeletion};
use crate::groups::{Coordinator, GroupLimits, Groups};
use crate::indexing::{IndexLimits, IndexingHandle, IndexingParts};
use crate::lane::owner::{LaneOwner, LaneSettings};
use crate::lane::replay::ReplayedLane;
use crate::lane::ship_policy::ShipLimits;
use crate::lane::{Lane, ShipOrder};
use crate::metrics::{
    CompactionMetrics, DeletionMetrics, GroupMetrics, KafkaMetrics, LaneMetrics, MergingMetrics, PageMetrics,
    RetentionMetrics, ShipMetrics,
};
use crate::ownership::BucketOwnership;
use crate::ownership::claim::ClaimError;
use crate::ownership::heartbeat::Heartbeat;
use crate::producer_expiry;
use crate::publish::catalog::{CatalogExporter, ExporterParts};
use crate::publish::pages::{PageCloser, PageLimits};
use crate::publish::segment_lists::SegmentLister;
use crate::publish::segments::SegmentShipper;
use crate::retention::{Retention, RetentionParts};
use crate::startup;
use crate::startup::continuity::LogEnd;
use crate::state::LaneState;
use crate::wal::WalLog;

/// How soon the claims are asked for again while nothing is acknowledged before they answer.
const DOUBT_RETRY: Duration = Duration::from_millis(500);
/// An offset that is committed once more as it is, is written once more after so long, or sooner if offsets are kept
/// for a short time only.
const COMMIT_REFRESH_MAX: Duration = Duration::from_secs(60 * 60);
/// How often gauges follow what they measure.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// A stop goes from the outside in: clients first, the lane last.
#[derive(Default)]
pub(super) struct StopTokens {
    pub clients: CancellationToken,
    pub exporter: CancellationToken,
    pub lane: CancellationToken,
    /// Not in good order: the lane answers nothing any more.
    pub at_once: CancellationToken,
}

/// What runs beside the clients' connections, and what it works with.
pub(super) struct BrokerTasks<'a> {
    parts: &'a IngestParts,
    data_dir: &'a Arc<DataDir>,
    ownership: &'a BucketOwnership,
    ship_metrics: ShipMetrics,
    pub stops: StopTokens,
    /// Those that end only by a stop or a failure.
    pub running: JoinSet<Result<(), IngestError>>,
}

impl<'a> BrokerTasks<'a> {
    pub fn new(parts: &'a IngestParts, data_dir: &'a Arc<DataDir>, ownership: &'a BucketOwnership) -> Self {
        Self {
            parts,
            data_dir,
            ownership,
            ship_metrics: ShipMetrics::new(&parts.metrics),
            stops: StopTokens { at_once: ownership.fenced().child_token(), ..StopTokens::default() },
            running: JoinSet::new(),
        }
    }

    /// Asks a bucket that did not answer at the start until it does. Nothing is written to it before.
    pub fn confirm(&mut self, confirmed: bool, log_end: LogEnd) -> watch::Receiver<bool> {
        let (confirmation, seen) = watch::channel(confirmed);
        if confirmed {
            return seen;
        }
        let (data_dir, ownership, stop) = (self.data_dir.clone(), self.ownership.clone(), self.stops.lane.clone());
        let rhythm = self.parts.settings.rhythm;
        self.running.spawn(async move {
            let asked = startup::confirm(&data_dir, &ownership, &log_end, rhythm);
            if let Some(answered) = stop.run_until_cancelled(asked).await {
                answered?;
                confirmation.send_replace(true);
                stop.cancelled().await;
            }
            Ok(())
        });
        seen
    }

    /// The lane's owner, on a thread of its own, so that what encodes and decodes on the shared runtime can't delay
    /// acknowledgements.
    pub fn own_lane(
        &mut self,
        replayed: ReplayedLane,
        log: WalLog,
    ) -> Result<(Lane, mpsc::UnboundedReceiver<ShipOrder>), IngestError> {
        let settings = &self.parts.settings;
        let (orders, ordered) = mpsc::unbounded_channel();
        let lane_settings = LaneSettings {
            incarnation: self.ownership.incarnation(),
            ship: ShipLimits { bytes: settings.ship_max_bytes.0, age: settings.ship_max_age.0 },
            tail_bytes_max: self.parts.tail_bytes_max,
            commit_refresh: COMMIT_REFRESH_MAX.min(settings.offsets_retention.0 / 8),
        };
        let metrics = LaneMetrics::new(&self.parts.metrics);
        let (owner, lane) = LaneOwner::new(lane_settings, replayed, log, orders, metrics);
        let owner = owner.until(self.stops.at_once.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| IngestError::Fault(format!("the lane's thread could not start: {error}")))?;
        let stop = self.stops.lane.clone();
        self.running.spawn_blocking(move || Ok(runtime.block_on(owner.run(stop))?));
        Ok((lane.acknowledged_by(self.ownership.presence().clone()), ordered))
    }

    /// The shipper; reports every checkpoint that is in the bucket.
    pub fn ship(
        &mut self,
        lane: &Lane,
        orders: mpsc::UnboundedReceiver<ShipOrder>,
        confirmed: &watch::Receiver<bool>,
    ) -> watch::Receiver<LogIndex> {
        let (checkpoints, stored) = watch::channel(0);
        let shipper = SegmentShipper {
            origin: self.ownership.origin(LANE),
            lane: lane.clone(),
            store: self.parts.store.clone(),
            ownership: self.ownership.clone(),
            checkpoints,
            metrics: self.ship_metrics.clone(),
        };
        let (stop, confirmed) = (self.stops.lane.clone(), confirmed.clone());
        self.running.spawn(async move {
            if is_confirmed(confirmed, &stop).await {
                shipper.run(orders, stop).await?;
            }
            Ok(())
        });
        stored
    }

    /// The sender of jobs, which takes their results.
    pub fn index(&mut self, lane: &Lane) -> IndexingHandle {
        let settings = &self.parts.settings;
        let indexing = IndexingParts {
            origin: self.ownership.origin(LANE),
            lane: lane.clone(),
            store: self.parts.store.clone(),
            queue: self.parts.queue.clone(),
            catalog: self.parts.catalog.clone(),
            limits: IndexLimits { bytes: settings.index_batch_bytes.0, age: settings.index_batch_age.0 },
            metrics: self.ship_metrics.clone(),
        };
        let compaction = CompactionParts {
            origin: self.ownership.origin(LANE),
            lane: lane.clone(),
            store: self.parts.store.clone(),
            queue: self.parts.queue.clone(),
            catalog: self.parts.catalog.clone(),
            limits: CompactionLimits::default(),
            metrics: CompactionMetrics::new(&self.parts.metrics),
        };
        let (handle, run) = indexing.start(compaction, MergingMetrics::new(&self.parts.metrics));
        let runs = run(self.stops.lane.clone());
        self.running.spawn(async move {
            runs.await;
            Ok(())
        });
        handle
    }

    /// The coordinator of consumer groups. It ends with the clients.
    pub fn coordinate(&mut self, lane: &Lane, state: &LaneState) -> Groups {
        let settings = &self.parts.settings;
        let limits =
            GroupLimits { initial_rebalance_delay: settings.group_initial_rebalance_delay.0, ..GroupLimits::default() };
        let (retention, metrics) = (settings.offsets_retention.0, GroupMetrics::new(&self.parts.metrics));
        let (coordinator, groups) = Coordinator::restored(state, lane.clone(), limits, retention, metrics);
        let (stop, lane_stop) = (self.stops.clients.clone(), self.stops.lane.clone());
        self.running.spawn(async move {
            coordinator.run(stop).await;
            lane_stop.cancelled().await;
            Ok(())
        });
        groups
    }

    /// Forgets producers that are silent.
    pub fn expire_producers(&mut self, lane: &Lane) {
        let expiration = self.parts.settings.producer_id_expiration.0;
        let (lane, stop) = (lane.clone(), self.stops.lane.clone());
        self.running.spawn(async move {
            producer_expiry::run(lane, expiration, stop.clone()).await;
            stop.cancelled().await;
            Ok(())
        });
    }

    /// Deletion of records that topics don't keep.
    pub fn retain(&mut self, lane: &Lane, confirmed: &watch::Receiver<bool>) {
        let retention = Retention::new(RetentionParts {
            origin: self.ownership.origin(LANE),
            lane: lane.clone(),
            store: self.parts.store.clone(),
            catalog: self.parts.catalog.clone(),
            metrics: RetentionMetrics::new(&self.parts.metrics),
        });
        let every = self.parts.settings.retention_check_interval.0;
        let (stop, confirmed) = (self.stops.lane.clone(), confirmed.clone());
        self.running.spawn(async move {
            if is_confirmed(confirmed, &stop).await {
                retention.run_always(every, stop.clone()).await;
            }
            stop.cancelled().await;
            Ok(())
        });
    }

    /// Deletion of what nothing refers to any more.
    pub fn delete(&mut self, lane: &Lane, confirmed: &watch::Receiver<bool>, checkpoints: &watch::Receiver<LogIndex>) {
        let deletion = ObjectDeletion::new(DeletionParts {
            origin: self.ownership.origin(LANE),
            lane: lane.clone(),
            store: self.parts.store.clone(),
            ownership: self.ownership.clone(),
            catalog: self.parts.catalog.clone(),
            metrics: DeletionMetrics::new(&self.parts.metrics),
        });
        let (stop, confirmed, stored) = (self.stops.lane.clone(), confirmed.clone(), checkpoints.clone());
        self.running.spawn(async move {
            if is_confirmed(confirmed, &stop).await {
                deletion.run_always(stored, stop).await?;
            }
            Ok(())
        });
    }

    /// Looks at the claims and at the clock, and what keeps the gauges.
    pub fn watch(&mut self, lane: &Lane, clients: Arc<NetStats>) {
        let stop = || self.stops.lane.clone();
        let every = self.parts.settings.rhythm.check;
        self.running.spawn(watch_claims(self.ownership.clone(), every, stop()));
        self.running.spawn(follow_gauges(lane.clone(), self.ship_metrics.clone(), stop()));
        self.running.spawn(follow_clients(clients, KafkaMetrics::new(&self.parts.metrics), stop()));
        let (presence, stop) = (self.ownership.presence().clone(), stop());
        self.running.spawn(async move {
            stop.run_until_cancelled(presence.keep_looking()).await;
            Ok(())
        });
    }

    /// The exporter, after a first export if the bucket answers. It ends by a stop of its own, and is given back then.
    pub async fn export(
        &self,
        lane: &Lane,
        beat: Heartbeat,
        confirmed: &watch::Receiver<bool>,
    ) -> JoinHandle<CatalogExporter> {
        let mut exporter = CatalogExporter::new(ExporterParts {
            origin: self.ownership.origin(LANE),
            lane: lane.clone(),
            store: self.parts.store.clone(),
            reader: self.parts.catalog.clone(),
            data_dir: self.data_dir.clone(),
            beat,
            pages: PageCloser {
                origin: self.ownership.origin(LANE),
                lane: lane.clone(),
                store: self.parts.store.clone(),
                limits: PageLimits::default(),
                metrics: PageMetrics::new(&self.parts.metrics),
            },
            lister: SegmentLister {
                origin: self.ownership.origin(LANE),
                lane: lane.clone(),
                store: self.parts.store.clone(),
                limits: self.parts.settings.segment_lists,
                held: self.ship_metrics.held_segments.clone(),
            },
            checkpoint_failures: self.ship_metrics.checkpoint_failures.clone(),
        });
        if *confirmed.borrow()
            && let Err(error) = exporter.export_if_changed(now_ms()).await
        {
            tracing::warn!("the catalog was not exported yet: {error}");
        }
        let (stop, confirmed) = (self.stops.exporter.clone(), confirmed.clone());
        tokio::spawn(async move {
            if is_confirmed(confirmed, &stop).await {
                return exporter.run(stop).await;
            }
            exporter
        })
    }
}

/// Waits for the bucket's answer; `false` once stopped. An answer that ends the broker is reported by the task
/// that asked.
async fn is_confirmed(mut confirmed: watch::Receiver<bool>, stop: &CancellationToken) -> bool {
    let answer = async {
        if confirmed.wait_for(|confirmed| *confirmed).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    stop.run_until_cancelled(answer).await.is_some()
}

/// Looks for a claim above our own, until there is one; at once where only the answer lets the broker acknowledge
/// again.
async fn watch_claims(ownership: BucketOwnership, every: Duration, stop: CancellationToken) -> Result<(), IngestError> {
    loop {
        match stop.run_until_cancelled(ownership.check()).await {
            None => return Ok(()),
            Some(Err(ClaimError::Store(error))) => tracing::warn!("the claims can't be read: {error}"),
            Some(checked) => checked?,
        }
        let pause = async {
            if ownership.presence().is_in_doubt() {
                return tokio::time::sleep(DOUBT_RETRY.min(every)).await;
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = ownership.presence().in_doubt() => {}
            }
        };
        if stop.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
    }
}

async fn follow_gauges(lane: Lane, metrics: ShipMetrics, stop: CancellationToken) -> Result<(), IngestError> {
    let progress = lane.progress();
    while stop.run_until_cancelled(tokio::time::sleep(GAUGES_EVERY)).await.is_some() {
        let progress = *progress.borrow();
        metrics.unshipped_bytes.set(progress.unshipped_bytes as i64);
        let since = progress.unshipped_since.map_or(0, |since| (now_ms() - since).max(0));
        metrics.unshipped_seconds.set(since as f64 / 1000.0);
    }
    Ok(())
}

async fn follow_clients(
    stats: Arc<NetStats>,
    metrics: KafkaMetrics,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    while stop.run_until_cancelled(tokio::time::sleep(GAUGES_EVERY)).await.is_some() {
        metrics.follow(&stats);
    }
    Ok(())
}
