//! From segments to archives, as the lane's owner sees it: sends jobs for runs without an archive ([`job_planner`]),
//! also for those that were closed without one ([`waiting_pages`]), remembers what is out ([`jobs_in_flight`]),
//! registers the results from `inbox/` ([`inbox`]), or puts them into pages ([`page_filing`]). The queue is a hint:
//! what is pending is in the state and its pages, and what was lost is sent again. [Compaction](crate::compaction) and
//! [merging](crate::merging) have their turns in the same loop: their jobs are in the same queue, their results in the
//! same inbox.

mod inbox;
mod job_planner;
mod jobs_in_flight;
pub mod leaf_edit;
pub mod page_filing;
pub mod waiting_pages;

pub use inbox::ResultError;
pub use jobs_in_flight::JobsInFlight;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chronik_format::catalog::{CatalogReader, WaitingRuns};
use chronik_format::ids::{LogIndex, TopicId};
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::SharedStore;
use chronik_store::queue::MESSAGE_BYTES_MAX;
use chronik_store::queue::{QueueError, SharedQueue};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::clock::now_ms;
use crate::compaction::{CompactionDesk, CompactionParts, CompactionScope, CompactionSendError, CompactionsSent};
use crate::lane::{Lane, LaneError, LaneGone, LaneProgress};
use crate::merging::{MergingDesk, MergingParts};
use crate::metrics::{MergingMetrics, ShipMetrics};
use crate::state::command::{Command, GiveUp, ScannedRun};
use crate::state::{LaneState, RunKey};

use self::job_planner::{JobBatches, PendingRun};
use self::page_filing::{FilingError, PageFiling};
use self::waiting_pages::{WaitingLimits, WaitingLook, WaitingPages};

/// How often the inbox is looked at while jobs are out.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often otherwise: jobs that an operator moved back from the dead letters have results too.
const SWEEP_AT_REST: Duration = Duration::from_secs(60);
/// How often the queue is asked how full it is.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
/// How long until the next try after the queue took nothing.
const SEND_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often compactions are planned, beside what a result or a look at the queue leads to.
const COMPACT_EVERY: Duration = Duration::from_secs(10);

/// When jobs are sent.
#[derive(Clone, Copy, Debug)]
pub struct IndexLimits {
    /// Bytes of runs that make a job, and the most one holds.
    pub bytes: u64,
    /// How long the oldest run waits.
    pub age: Duration,
}

/// What jobs and their registration need.
pub struct IndexingParts {
    /// Who sends.
    pub origin: Origin,
    /// The lane's owner.
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    /// Where jobs go.
    pub queue: SharedQueue,
    /// Where pages are read.
    pub catalog: Arc<CatalogReader>,
    /// When jobs are sent.
    pub limits: IndexLimits,
    /// What is counted.
    pub metrics: ShipMetrics,
}

/// The way to the indexing task.
#[derive(Clone, Debug)]
pub struct IndexingHandle {
    orders: mpsc::Sender<IndexingOrder>,
    counts: Arc<IndexingCounts>,
}

/// What others see of the indexing task.
#[derive(Debug, Default)]
struct IndexingCounts {
    pending_jobs: AtomicUsize,
    failed_pages: AtomicUsize,
}

/// What is asked of the indexing task.
#[derive(Debug)]
enum IndexingOrder {
    /// Jobs for all runs that have no archive.
    Flush(oneshot::Sender<Result<(), QueueError>>),
    /// Jobs for all pages of one topic, or all, of which compaction or merging gains something.
    Compact(Option<TopicId>, oneshot::Sender<Result<CompactionsSent, QueueError>>),
}

/// Why not everything was sent.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The broker is stopping.
    #[error(transparent)]
    Gone(#[from] LaneGone),
    /// The queue takes nothing; sending goes on by itself.
    #[error("the jobs wait until the queue takes them: {0}")]
    Queue(#[from] QueueError),
}

impl IndexingHandle {
    /// Sends jobs for all open runs that are registered now, however small or young, and returns once the queue has
    /// them.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let (done, sent) = oneshot::channel();
        self.orders.send(IndexingOrder::Flush(done)).await.map_err(|_| LaneGone)?;
        Ok(sent.await.map_err(|_| LaneGone)??)
    }

    /// Sends jobs for all pages of a topic, or all, of which compaction or merging gains something, whether it is time
    /// or not, and returns once the queue has them. Of very many that lie below others it sends the first.
    pub async fn compact(&self, topic: Option<TopicId>) -> Result<CompactionsSent, FlushError> {
        let (done, sent) = oneshot::channel();
        self.orders.send(IndexingOrder::Compact(topic, done)).await.map_err(|_| LaneGone)?;
        Ok(sent.await.map_err(|_| LaneGone)??)
    }

    /// Jobs that were sent and not answered.
    pub fn pending_jobs(&self) -> usize {
        self.counts.pending_jobs.load(Ordering::Relaxed)
    }

    /// Pages that are left as they are until the next start, because compaction has failed.
    pub fn failed_pages(&self) -> usize {
        self.counts.failed_pages.load(Ordering::Relaxed)
    }
}

/// The task's own memory.
struct IndexingTask {
    indexing: IndexingParts,
    in_flight: JobsInFlight<RunKey>,
    compaction: CompactionDesk,
    merging: MergingDesk,
    /// When compactions are planned next, and what is to be merged.
    compact_at: Instant,
    pages: WaitingPages,
    filing: PageFiling,
    ignored: HashSet<String>,
    counts: Arc<IndexingCounts>,
}

/// How far sending went.
struct Sending {
    /// Until there is something to send.
    next_due: Option<Duration>,
    /// Why the queue took no more.
    stopped: Option<QueueError>,
}

impl IndexingParts {
    /// The task, in which compaction and merging have their turns, and the handle to it.
    pub fn start(
        self,
        compaction: CompactionParts,
        merging: MergingMetrics,
    ) -> (IndexingHandle, impl FnOnce(CancellationToken) -> futures::future::BoxFuture<'static, ()>) {
        let (orders, ordered) = mpsc::channel(16);
        let counts = Arc::new(IndexingCounts::default());
        let filing = PageFiling {
            origin: self.origin,
            lane: self.lane.clone(),
            store: self.store.clone(),
            catalog: self.catalog.clone(),
        };
        let merging = MergingParts {
            origin: self.origin,
            lane: self.lane.clone(),
            store: self.store.clone(),
            queue: self.queue.clone(),
            catalog: self.catalog.clone(),
            filing: filing.clone(),
            metrics: merging,
        };
        let desk = IndexingTask {
            indexing: self,
            in_flight: JobsInFlight::default(),
            compaction: CompactionDesk::new(compaction),
            merging: MergingDesk::new(merging),
            compact_at: Instant::now(),
            pages: WaitingPages::new(WaitingLimits::default()),
            filing,
            ignored: HashSet::new(),
            counts: counts.clone(),
        };
        let run = move |cancel: CancellationToken| -> futures::future::BoxFuture<'static, ()> {
            Box::pin(async move {
                // Nothing that is cut off here is lost: the next process sends again what has no archive.
                if let Some(Err(LaneGone)) = cancel.run_until_cancelled(desk.run(ordered)).await {
                    tracing::debug!("indexing ends with its lane");
                }
            })
        };
        (IndexingHandle { orders, counts }, run)
    }
}

impl IndexingTask {
    async fn run(mut self, mut orders: mpsc::Receiver<IndexingOrder>) -> Result<(), LaneGone> {
        let mut progress = self.indexing.lane.progress();
        let mut swept: Option<Instant> = None;
        let mut compare_at = Instant::now();
        let mut send_at = Instant::now();
        let mut next_due = Instant::now();
        let mut lost = false;
        loop {
            let planned = progress.borrow_and_update().catalog;
            if swept.is_none_or(|at| at.elapsed() >= self.sweep_every()) {
                self.sweep_inbox().await?;
                swept = Some(Instant::now());
            }
            if Instant::now() >= compare_at {
                lost |= self.compare_with_queue().await;
                compare_at = Instant::now() + COMPARE_EVERY;
            }
            // A queue that took nothing is left alone for a while, whatever happens in the lane.
            if Instant::now() >= send_at {
                // What was lost had its time to wait.
                let sending = self.send_jobs(lost).await?;
                next_due = Instant::now() + sending.next_due.unwrap_or(COMPARE_EVERY);
                match sending.stopped {
                    None => lost = false,
                    Some(_) => send_at = next_due,
                }
            }
            if Instant::now() >= send_at.max(self.compact_at) && self.compact().await?.is_err() {
                send_at = Instant::now() + SEND_AGAIN_AFTER;
            }
            let wake_at = compare_at.min(next_due).min(self.compact_at).min(Instant::now() + self.sweep_every());
            tokio::select! {
                biased;
                Some(order) = orders.recv() => self.follow(order).await?,
                changed = catalog_changes(&mut progress, planned) => changed?,
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    async fn follow(&mut self, order: IndexingOrder) -> Result<(), LaneGone> {
        match order {
            IndexingOrder::Flush(done) => {
                let sending = self.send_jobs(true).await?;
                let _ = done.send(sending.stopped.map_or(Ok(()), Err));
            }
            IndexingOrder::Compact(topic, done) => {
                let _ = done.send(self.send_compactions(CompactionScope::Everything(topic)).await?);
            }
        }
        Ok(())
    }

    /// Sends the compactions that are due, and has merged what it is time for.
    async fn compact(&mut self) -> Result<Result<CompactionsSent, QueueError>, LaneGone> {
        self.compact_at = Instant::now() + COMPACT_EVERY;
        self.send_compactions(CompactionScope::Due).await
    }

    async fn send_compactions(
        &mut self,
        scope: CompactionScope,
    ) -> Result<Result<CompactionsSent, QueueError>, LaneGone> {
        let sent = self.send_closed(scope).await;
        self.count();
        match sent {
            Ok(sent) => Ok(Ok(sent)),
            Err(CompactionSendError::Gone(gone)) => Err(gone),
            Err(CompactionSendError::Queue(error)) => {
                tracing::warn!("a compaction was not sent, trying again: {error}");
                self.indexing.metrics.queue_failures.inc();
                Ok(Err(error))
            }
        }
    }

    /// Compactions first: what they are over is merged later.
    async fn send_closed(&mut self, scope: CompactionScope) -> Result<CompactionsSent, CompactionSendError> {
        let now = now_ms();
        let sent = self.compaction.send(scope, now).await?;
        let taken = self.compaction.taken(now).await?;
        let room = self.compaction.room().saturating_sub(self.merging.pending());
        let merges = self.merging.send(scope, room, &taken, now).await?;
        Ok(CompactionsSent { merges, ..sent })
    }

    /// Sends what is due of what is open, or everything, and then what waits in the oldest pages.
    async fn send_jobs(&mut self, everything: bool) -> Result<Sending, LaneGone> {
        let state = self.indexing.lane.snapshot().await?;
        let (pending, out) = (job_planner::pending_runs(&state), self.in_flight.inputs());
        let WaitingLook { leaves, is_cut } = self.pages.look(&self.indexing.catalog, &state, &out).await;
        self.in_flight.keep_only(&pending.iter().map(PendingRun::key).chain(self.pages.runs()).collect());
        self.show(&state, &pending);
        let is_waiting = |run: &PendingRun| !out.contains(&run.key());
        let waiting = pending.into_iter().filter(is_waiting).collect();
        let JobBatches { batches, next_due } = job_planner::batch(waiting, self.indexing.limits, now_ms(), everything);
        let closed = leaves.into_iter().flat_map(|runs| {
            let waiting = runs.into_iter().filter(is_waiting).collect();
            job_planner::fill(waiting, self.indexing.limits.bytes)
        });
        let closed: Vec<Vec<PendingRun>> = closed.collect();
        for batch in batches.into_iter().chain(closed) {
            let (exhausted, fresh): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|run| self.in_flight.is_exhausted(&run.key()));
            self.give_up(exhausted).await?;
            if let Err(error) = self.send(fresh).await {
                tracing::warn!("a job was not sent, trying again: {error}");
                self.indexing.metrics.queue_failures.inc();
                self.count();
                return Ok(Sending { next_due: Some(SEND_AGAIN_AFTER), stopped: Some(error) });
            }
        }
        self.count();
        let next_due = if is_cut { Some(Duration::ZERO) } else { next_due };
        Ok(Sending { next_due, stopped: None })
    }

    /// Shows how much waits for an archive, and how long.
    fn show(&self, state: &LaneState, pending: &[PendingRun]) {
        let since = pending.iter().map(|run| run.registered_at).chain(self.pages.since()).min();
        let lag = since.map_or(0, |since| (now_ms() - since).max(0));
        self.indexing.metrics.indexer_lag_seconds.set(lag as f64 / 1000.0);
        let waiting =
            state.topics.values().map(|topic| state.waiting(topic)).fold(WaitingRuns::default(), WaitingRuns::and);
        self.indexing.metrics.waiting_runs.set(waiting.runs as i64);
        self.indexing.metrics.waiting_bytes.set(waiting.bytes as i64);
    }

    /// Sends one batch, as several jobs if one message would be too large.
    async fn send(&mut self, runs: Vec<PendingRun>) -> Result<(), QueueError> {
        let mut waiting = vec![runs];
        while let Some(runs) = waiting.pop() {
            let id = Ulid::new().to_string();
            let Some(job) = job_planner::job(&self.indexing.origin, &id, &runs) else {
                continue;
            };
            let body = serde_json::to_string(&job).unwrap_or_default();
            if body.len() > MESSAGE_BYTES_MAX && runs.len() > 1 {
                let (left, right) = runs.split_at(runs.len() / 2);
                waiting.extend([right.to_vec(), left.to_vec()]);
                continue;
            }
            self.indexing.queue.send(body).await?;
            failpoint!("job-sent");
            let keys = runs.iter().map(PendingRun::key).collect();
            self.in_flight.sent(id, keys, Instant::now());
        }
        Ok(())
    }

    async fn give_up(&mut self, runs: Vec<PendingRun>) -> Result<(), LaneGone> {
        let Some(topic) = runs.first().map(|run| run.topic) else {
            return Ok(());
        };
        let reason = "its jobs were lost too often without a result".to_owned();
        tracing::error!("{} runs of topic {topic} are scanned from now on: {reason}", runs.len());
        let runs: Vec<ScannedRun> = runs
            .into_iter()
            .map(|run| ScannedRun {
                segment: run.segment.key.to_string(),
                partition: run.partition,
                first: run.offsets.first,
                reason: reason.clone(),
            })
            .collect();
        if self.give_up_closed(topic, &runs).await? {
            self.indexing.metrics.unreadable_runs.inc_by(runs.len() as u64);
            self.propose(Command::GiveUp(GiveUp { topic, runs })).await?;
        }
        Ok(())
    }

    /// `false`: it is to be tried again.
    async fn give_up_closed(&self, topic: TopicId, runs: &[ScannedRun]) -> Result<bool, LaneGone> {
        match self.filing.give_up(topic, runs, now_ms()).await {
            Ok(()) => Ok(true),
            Err(FilingError::Lane(LaneError::Gone(gone))) => Err(gone),
            Err(error) => {
                tracing::warn!("runs are not given up yet, trying again: {error}");
                Ok(false)
            }
        }
    }

    /// Proposes bookkeeping that is found again and proposed again should it not go through now.
    async fn propose(&self, command: Command) -> Result<(), LaneGone> {
        match self.indexing.lane.propose(command).await {
            Err(LaneError::Gone(gone)) => Err(gone),
            Err(error) => {
                tracing::warn!("an indexing command was not applied, trying again: {error}");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Asks the queue how full it is, for operators and for what it may have lost; `true` if it lost runs to be
    /// indexed.
    async fn compare_with_queue(&mut self) -> bool {
        let depth = match self.indexing.queue.depth().await {
            Ok(depth) => {
                self.indexing.metrics.queue_visible.set(depth.visible as i64);
                self.indexing.metrics.queue_in_flight.set(depth.in_flight as i64);
                Some(depth)
            }
            Err(error) => {
                tracing::warn!("the queue does not say how full it is: {error}");
                self.indexing.metrics.queue_failures.inc();
                None
            }
        };
        let lost = self.in_flight.compare(depth, Instant::now());
        let closed_lost = self.compaction.compare(depth, Instant::now()) + self.merging.compare(depth, Instant::now());
        let all_lost = lost + closed_lost;
        if all_lost > 0 {
            tracing::warn!("{all_lost} jobs have no result and seem to be lost: sending them again");
        }
        self.count();
        lost > 0
    }

    fn sweep_every(&self) -> Duration {
        if self.out() == 0 { SWEEP_AT_REST } else { SWEEP_EVERY }
    }

    /// Jobs that are out.
    fn out(&self) -> usize {
        self.in_flight.len() + self.compaction.pending() + self.merging.pending()
    }

    fn count(&self) {
        self.counts.pending_jobs.store(self.out(), Ordering::Relaxed);
        self.counts.failed_pages.store(self.compaction.failed_pages(), Ordering::Relaxed);
        self.indexing.metrics.pending_jobs.set(self.out() as i64);
    }
}

/// Ends once a command has changed what is to be indexed.
async fn catalog_changes(progress: &mut watch::Receiver<LaneProgress>, planned: LogIndex) -> Result<(), LaneGone> {
    progress.wait_for(|now| now.catalog > planned).await.map(drop).map_err(|_| LaneGone)
}
