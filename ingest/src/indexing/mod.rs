//! From segments to archives, as the lane's owner sees it: sends jobs for runs without an archive ([`gather`]), takes in
//! the results from `inbox/` ([`inbox`]). The queue is a hint: what is pending is in the state, and what was lost is sent again.

mod gather;
mod inbox;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chronik_core::ids::{Offset, PartitionId, TopicId};
use chronik_core::queue::{Depth, SharedQueue};
use chronik_core::store::SharedStore;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::clock::now_ms;
use crate::command::{Command, GiveUp, Unreadable};
use crate::lane::{LaneError, LaneGone, LaneHandle};
use crate::metrics::ShipMetrics;

use self::gather::{Batching, PendingRun};

pub use self::gather::JobOrigin;

/// How often the inbox is looked at while jobs are out.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often the queue is compared with what is out.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// A job without a result after this long is sent again, whatever the queue says.
const JOB_AGE_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// A run that was sent so often without any result is not sent again.
const SENDS_MAX: u32 = 3;

/// A run as jobs name it.
type RunKey = (TopicId, PartitionId, Offset);

/// When jobs are sent.
#[derive(Clone, Copy, Debug)]
pub struct IndexLimits {
    /// Bytes of runs that make a job, and the most one holds.
    pub bytes: u64,
    /// How long the oldest run waits.
    pub age: Duration,
}

/// What jobs and their registration need.
pub struct Indexing {
    /// Who sends.
    pub origin: JobOrigin,
    /// The lane's owner.
    pub lane: LaneHandle,
    /// The bucket.
    pub store: SharedStore,
    /// Where jobs go.
    pub queue: SharedQueue,
    /// When jobs are sent.
    pub limits: IndexLimits,
    /// What is counted.
    pub metrics: ShipMetrics,
}

/// The way to the indexing task.
#[derive(Clone, Debug)]
pub struct IndexingHandle {
    flush: mpsc::Sender<oneshot::Sender<()>>,
    pending: Arc<AtomicUsize>,
}

impl IndexingHandle {
    /// Sends jobs for all runs that are registered now, however small or young, and returns once the queue has them.
    pub async fn flush(&self) -> Result<(), LaneGone> {
        let (done, sent) = oneshot::channel();
        self.flush.send(done).await.map_err(|_| LaneGone)?;
        sent.await.map_err(|_| LaneGone)
    }

    /// Jobs that were sent and not answered.
    pub fn pending_jobs(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }
}

/// The task's own memory. A restart forgets it, and sends everything again that has no archive.
struct Desk {
    indexing: Indexing,
    out: HashMap<String, JobOut>,
    sends: HashMap<RunKey, u32>,
    ignored: HashSet<String>,
    queue_was_empty: bool,
    pending: Arc<AtomicUsize>,
}

struct JobOut {
    runs: Vec<RunKey>,
    sent_at: Instant,
}

impl Indexing {
    /// The task, and the handle to it.
    pub fn start(
        self,
    ) -> (
        IndexingHandle,
        impl FnOnce(CancellationToken) -> futures::future::BoxFuture<'static, ()>,
    ) {
        let (flush, flushes) = mpsc::channel(16);
        let pending = Arc::new(AtomicUsize::new(0));
        let desk = Desk {
            indexing: self,
            out: HashMap::new(),
            sends: HashMap::new(),
            ignored: HashSet::new(),
            queue_was_empty: false,
            pending: pending.clone(),
        };
        let run = move |cancel: CancellationToken| -> futures::future::BoxFuture<'static, ()> {
            Box::pin(async move {
                if desk.run(flushes, cancel).await.is_err() {
                    tracing::debug!("indexing ends with its lane");
                }
            })
        };
        (IndexingHandle { flush, pending }, run)
    }
}

impl Desk {
    async fn run(
        mut self,
        mut flushes: mpsc::Receiver<oneshot::Sender<()>>,
        cancel: CancellationToken,
    ) -> Result<(), LaneGone> {
        let mut progress = self.indexing.lane.progress();
        let mut swept: Option<Instant> = None;
        let mut compared = Instant::now();
        loop {
            if swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY && !self.out.is_empty()) {
                self.sweep_inbox().await?;
                swept = Some(Instant::now());
            }
            if compared.elapsed() >= COMPARE_EVERY {
                self.compare_with_queue().await;
                compared = Instant::now();
            }
            let next_due = self.send_jobs(false).await?;
            let wait = next_due
                .into_iter()
                .chain((!self.out.is_empty()).then_some(SWEEP_EVERY))
                .min();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                Some(done) = flushes.recv() => {
                    self.send_jobs(true).await?;
                    let _ = done.send(());
                }
                changed = progress.changed() => changed.map_err(|_| LaneGone)?,
                () = tokio::time::sleep(wait.unwrap_or(COMPARE_EVERY)) => {}
            }
        }
    }

    /// Sends what is due, or everything; returns when something will be due by age.
    async fn send_jobs(&mut self, everything: bool) -> Result<Option<Duration>, LaneGone> {
        let pending = self.indexing.lane.look(gather::pending_runs).await?;
        let lag = pending
            .iter()
            .map(|run| run.registered_at)
            .min()
            .map_or(0, |oldest| now_ms() - oldest);
        self.indexing.metrics.indexer_lag_seconds.set(lag as f64 / 1000.0);
        let out: HashSet<RunKey> = self.out.values().flat_map(|job| job.runs.iter().copied()).collect();
        let waiting = pending.into_iter().filter(|run| !out.contains(&run.key())).collect();
        let Batching { batches, next_due } = gather::batch(waiting, self.indexing.limits, now_ms(), everything);
        for batch in batches {
            let (exhausted, fresh): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .partition(|run| self.sends.get(&run.key()).is_some_and(|sends| *sends >= SENDS_MAX));
            self.give_up(exhausted).await?;
            if !self.send(fresh).await {
                return Ok(Some(SWEEP_EVERY));
            }
        }
        self.count();
        Ok(next_due)
    }

    /// Sends one batch, as several jobs if one message would be too large; `false` if the queue takes nothing now.
    async fn send(&mut self, runs: Vec<PendingRun>) -> bool {
        let mut waiting = vec![runs];
        while let Some(runs) = waiting.pop() {
            let id = Ulid::new().to_string();
            let Some(job) = gather::job(&self.indexing.origin, &id, &runs) else {
                continue;
            };
            let body = serde_json::to_string(&job).unwrap_or_default();
            if body.len() > gather::JOB_BYTES_MAX && runs.len() > 1 {
                let (left, right) = runs.split_at(runs.len() / 2);
                waiting.extend([right.to_vec(), left.to_vec()]);
                continue;
            }
            if let Err(error) = self.indexing.queue.send(body).await {
                tracing::warn!("a job was not sent, trying again: {error}");
                return false;
            }
            let keys: Vec<RunKey> = runs.iter().map(PendingRun::key).collect();
            for key in &keys {
                *self.sends.entry(*key).or_insert(0) += 1;
            }
            self.out.insert(
                id,
                JobOut {
                    runs: keys,
                    sent_at: Instant::now(),
                },
            );
        }
        true
    }

    async fn give_up(&mut self, runs: Vec<PendingRun>) -> Result<(), LaneGone> {
        let Some(topic) = runs.first().map(|run| run.topic) else {
            return Ok(());
        };
        let reason = format!("sent {SENDS_MAX} times without a result");
        tracing::error!("{} runs of topic {topic} are scanned from now on: {reason}", runs.len());
        self.indexing.metrics.unreadable_runs.inc_by(runs.len() as u64);
        for run in &runs {
            self.sends.remove(&run.key());
        }
        let runs = runs
            .into_iter()
            .map(|run| Unreadable {
                segment: run.segment.key,
                partition: run.partition,
                first: run.first,
                reason: reason.clone(),
            })
            .collect();
        self.propose(Command::GiveUp(GiveUp { topic, runs })).await
    }

    /// Proposes bookkeeping that is found again and proposed again should it not go through now.
    async fn propose(&self, command: Command) -> Result<(), LaneGone> {
        match self.indexing.lane.propose(command).await {
            Err(LaneError::Gone(gone)) => Err(gone),
            Err(error) => {
                tracing::warn!("what indexing found out was not taken in: {error}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Jobs that the queue lost, or that nobody has answered for very long, count as not sent. As long as all of them
    /// lie in the queue there is no indexer at work, and no run is to blame.
    async fn compare_with_queue(&mut self) {
        let depth = self.indexing.queue.depth().await;
        let untouched = matches!(depth, Ok(Depth { visible, in_flight: 0 }) if visible >= self.out.len());
        if !untouched {
            self.out.retain(|_, job| job.sent_at.elapsed() < JOB_AGE_MAX);
        }
        let empty = matches!(
            depth,
            Ok(Depth {
                visible: 0,
                in_flight: 0
            })
        );
        if empty && self.queue_was_empty && !self.out.is_empty() {
            tracing::warn!(
                "the queue is empty but {} jobs have no result: sending them again",
                self.out.len()
            );
            self.out.clear();
        }
        self.queue_was_empty = empty;
        self.count();
    }

    fn count(&self) {
        self.pending.store(self.out.len(), Ordering::Relaxed);
        self.indexing.metrics.pending_jobs.set(self.out.len() as i64);
    }
}
