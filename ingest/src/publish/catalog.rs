//! The catalog: what readers see of the lane's state. Exported on change, at most every five seconds, after what is
//! settled was closed; `latest`, which [`Heartbeat`] writes, comes last.
//!
//! Once `latest` names a segment, the broker may release its records: the tail forgets them, and the write-ahead
//! log's files are used anew after a local checkpoint.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chronik_format::catalog::reader::CatalogReader;
use chronik_format::catalog::{self, CatalogRoot, HeadEntry, PartitionHead, TopicHead};
use chronik_format::ids::{LogIndex, Timestamp, TopicId};
use chronik_format::names::ExportName;
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::SharedStore;
use prometheus::IntCounter;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::clock::now_ms;
use crate::data_dir::DataDir;
use crate::lane::{Lane, LaneGone};
use crate::ownership::heartbeat::Heartbeat;
use crate::publish::closing::last_evening;
use crate::publish::error::ExportError;
use crate::publish::pages::PageCloser;
use crate::publish::segment_lists::SegmentLister;
use crate::publish::topic_runs::open_runs;
use crate::state::partition::PartitionState;
use crate::state::segments::RegisteredSegments;
use crate::state::topic::TopicState;
use crate::state::{LaneState, checkpoint};

const PACE: Duration = Duration::from_secs(5);
/// How often a lane at rest is looked at: what is open is closed as the day ends.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What an exporter works with.
pub struct ExporterParts {
    /// Whose catalog it is.
    pub origin: Origin,
    /// The lane itself.
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    /// The broker's own view of the catalog, refreshed before anything is released.
    pub reader: Arc<CatalogReader>,
    /// Where local checkpoints go.
    pub data_dir: Arc<DataDir>,
    /// Names what was exported.
    pub beat: Heartbeat,
    /// Takes what is settled out of what is exported.
    pub pages: PageCloser,
    /// Takes segments out of the state that are old enough.
    pub lister: SegmentLister,
    /// Local checkpoints that could not be written.
    pub checkpoint_failures: IntCounter,
}

/// Exports one lane's catalog.
pub struct CatalogExporter {
    parts: ExporterParts,
    heads: BTreeMap<TopicId, HeadEntry>,
    exported: Option<LogIndex>,
    /// What `latest` names as shipped.
    named: LogIndex,
    /// Up to where what is settled was closed.
    closed: LogIndex,
    /// When it was last looked for what was to be closed, ms since the epoch.
    looked_at: Timestamp,
    /// Up to where files of the log were recycled.
    recycled: LogIndex,
}

/// What one export takes from the state.
struct Changes {
    index: LogIndex,
    shipped: LogIndex,
    living: Vec<TopicId>,
    heads: Vec<TopicHead>,
}

impl CatalogExporter {
    /// An exporter that has exported nothing yet.
    pub fn new(parts: ExporterParts) -> Self {
        Self {
            parts,
            heads: BTreeMap::new(),
            exported: None,
            named: 0,
            closed: 0,
            looked_at: Timestamp::MIN,
            recycled: 0,
        }
    }

    /// Exports until cancelled. A bucket that can't be reached, or a local checkpoint that can't be written, is tried
    /// again with the next export.
    pub async fn run(mut self, cancel: CancellationToken) -> Self {
        let mut progress = self.parts.lane.progress();
        loop {
            match self.export_if_changed(now_ms()).await {
                Err(ExportError::Gone(_)) => return self,
                Err(error) => tracing::warn!("the catalog was not exported, trying again: {error}"),
                Ok(()) => {}
            }
            let (exported, is_behind) = (self.exported, self.named > self.closed.min(self.recycled));
            let changed = async {
                tokio::time::sleep(PACE).await;
                let is_changed = progress.wait_for(|progress| is_behind || Some(progress.catalog) > exported);
                let _ = tokio::time::timeout(LOOK_EVERY, is_changed).await;
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => return self,
                () = changed => {}
            }
        }
    }

    /// Releases the bucket, as the last act before a stop. Everything must have been exported.
    pub async fn release(&self) -> Result<(), ExportError> {
        Ok(self.parts.beat.release().await?)
    }

    /// Exports if anything changed since the last export, and releases what `latest` names, as of `now`.
    pub async fn export_if_changed(&mut self, now: Timestamp) -> Result<(), ExportError> {
        let is_evening = self.looked_at < last_evening(now);
        if self.is_changed() || self.closed < self.named || is_evening {
            self.parts.pages.close_oldest(self.named, now).await?;
            self.parts.lister.list_oldest(now).await?;
            (self.closed, self.looked_at) = (self.named, now);
        }
        if self.is_changed() {
            self.export().await?;
        }
        self.let_go().await
    }

    fn is_changed(&self) -> bool {
        Some(self.parts.lane.progress().borrow().catalog) > self.exported
    }

    async fn export(&mut self) -> Result<(), ExportError> {
        let changes = Changes::since(&self.parts.lane.snapshot().await?, self.exported);
        self.heads.retain(|id, _| changes.living.contains(id));
        let unchanged = self.unchanged(&changes);
        let Origin { cluster, incarnation, lane } = self.parts.origin;
        let name = ExportName { lane, incarnation, index: changes.index, ulid: Ulid::new() };
        let root =
            CatalogRoot { incarnation, lane, index: changes.index, shipped_index: changes.shipped, heads: unchanged };
        let export = catalog::build_export(cluster, &name.to_string(), root, &changes.heads)?;
        self.parts.store.create(&name.to_string(), export.parts).await?;
        failpoint!("catalog-created");
        self.parts.beat.publish(export.latest).await?;
        failpoint!("catalog-named");
        self.heads = export.root.heads.into_iter().map(|head| (head.id, head)).collect();
        self.parts.reader.refresh().await?;
        self.exported = Some(changes.index);
        self.named = changes.shipped;
        Ok(())
    }

    fn unchanged(&self, changes: &Changes) -> Vec<HeadEntry> {
        let changed: HashSet<TopicId> = changes.heads.iter().map(|head| head.id).collect();
        self.heads.values().filter(|head| !changed.contains(&head.id)).cloned().collect()
    }

    /// What `latest` names as shipped is served from the bucket from now on. As long as the local checkpoint can't be
    /// written, the log keeps its files: in the end there is no space for more, and appends are refused.
    async fn let_go(&mut self) -> Result<(), ExportError> {
        let shipped = self.named;
        if shipped <= self.recycled {
            return Ok(());
        }
        let Origin { cluster, incarnation, lane } = self.parts.origin;
        let (state, checkpoints) = (self.parts.lane.snapshot().await?, self.parts.data_dir.checkpoints(lane));
        let put = tokio::task::spawn_blocking(move || {
            checkpoints.put(incarnation, state.applied, &checkpoint::encode(&state, cluster, lane))
        });
        if let Err(error) = put.await.map_err(|_| LaneGone)? {
            self.parts.checkpoint_failures.inc();
            tracing::warn!(
                "the local checkpoint was not written, trying again; until then the log frees no space: {error}"
            );
            return Ok(());
        }
        self.parts.lane.release(shipped);
        self.recycled = shipped;
        Ok(())
    }
}

impl Changes {
    fn since(state: &LaneState, exported: Option<LogIndex>) -> Self {
        let changed = |topic: &TopicState| exported.is_none_or(|exported| topic.changed > exported);
        Self {
            index: state.applied,
            shipped: state.shipped_index(),
            living: state.topics.keys().copied().collect(),
            heads: state
                .topics
                .values()
                .filter(|topic| changed(topic))
                .map(|topic| head_of(topic, &state.segments))
                .collect(),
        }
    }
}

/// What readers see of a topic.
pub fn head_of(topic: &TopicState, segments: &RegisteredSegments) -> TopicHead {
    let partition_head = |(number, partition): (usize, &Arc<PartitionState>)| PartitionHead {
        partition: number as i32,
        log_start: partition.log_start,
        shipped_to: partition.shipped_to,
        last_stable: partition.next_offset,
        epochs: partition.epochs.iter().copied().collect(),
    };
    TopicHead {
        id: topic.id,
        name: topic.name.to_string(),
        search_enabled: topic.config.search_enabled(),
        index: topic.config.index_settings(),
        partitions: topic.partitions.iter().enumerate().map(partition_head).collect(),
        pages: topic.pages.iter().cloned().collect(),
        open: Arc::new(open_runs(topic, segments, LogIndex::MAX)),
    }
}
