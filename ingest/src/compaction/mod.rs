//! From many small runs to few: has adjacent pages of a topic compacted by indexers ([`planner`]), and puts a page over
//! the segments that they wrote in the place of the old ones ([`taking_in`]). The queue is a hint here, too: what is to
//! be compacted follows from the state, and a result that is lost, doubled, late or overtaken changes nothing.

pub mod planner;
mod taking_in;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chronik_format::catalog::{CatalogReader, PageEntry};
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::SharedStore;
use chronik_store::queue::{MESSAGE_BYTES_MAX, QueueDepth, QueueError, SharedQueue};
use serde::Serialize;
use tokio::time::Instant;
use ulid::Ulid;

use self::planner::{CompactionGroup, PageTurn};
use crate::indexing::JobsInFlight;
use crate::lane::{Lane, LaneGone};
use crate::metrics::CompactionMetrics;
use crate::publish::pages::PageLimits;
use crate::state::LaneState;

/// Jobs that are out at the same time.
const JOBS_MAX: usize = 32;
/// A page whose jobs have failed so often is left as it is until the next start.
const FAILURES_MAX: u32 = 2;

/// When pages are compacted.
#[derive(Clone, Copy, Debug)]
pub struct CompactionLimits {
    /// Bytes of the batches that a job is about, unless one page alone has more.
    pub job_bytes: u64,
    /// Pages that are compacted before their day is over, if they have enough bytes.
    pub pages: usize,
    /// Bytes that are enough.
    pub enough_bytes: u64,
    /// Pages whose runs have so many bytes on the average stay as they are.
    pub small_run_bytes: u64,
    /// Pages have to be compacted before they are folded.
    pub folding: PageLimits,
}

impl Default for CompactionLimits {
    fn default() -> Self {
        let folding = PageLimits::default();
        Self {
            job_bytes: 1 << 30,
            pages: 16,
            enough_bytes: 64 << 20,
            small_run_bytes: failpoint::limit("small-run-bytes", 1 << 20) as u64,
            folding,
        }
    }
}

/// What compaction works with.
pub struct CompactionParts {
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
    pub limits: CompactionLimits,
    pub metrics: CompactionMetrics,
}

/// Sends jobs and takes their results. A restart forgets what is out, and sends it again.
pub struct CompactionDesk {
    parts: CompactionParts,
    in_flight: JobsInFlight<Arc<str>>,
    /// How many jobs over a page have failed; only pages that are there.
    failures: HashMap<Arc<str>, u32>,
    /// Jobs that may be out: more and more, as long as nobody waits in the queue.
    allowed: usize,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CompactionsSent {
    pub jobs: usize,
    pub pages: usize,
    pub bytes: u64,
    /// Jobs of [merging](crate::merging) beside these.
    pub merges: usize,
}

/// Why not everything was sent.
#[derive(Debug, thiserror::Error)]
pub enum CompactionSendError {
    #[error(transparent)]
    Gone(#[from] LaneGone),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What is to be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionScope {
    /// What it is time for.
    Due,
    /// All that there is to be gained, of one topic or all.
    Everything(Option<TopicId>),
}

impl CompactionDesk {
    /// Nothing is sent yet.
    pub fn new(parts: CompactionParts) -> Self {
        Self { parts, in_flight: JobsInFlight::default(), failures: HashMap::new(), allowed: 1 }
    }

    /// Jobs that were sent and not answered.
    pub fn pending(&self) -> usize {
        self.in_flight.len()
    }

    /// Compares with the queue, `None` if it did not answer; returns how many jobs seem to be lost. Compaction gives
    /// way to what waits there.
    pub fn compare(&mut self, depth: Option<QueueDepth>, now: Instant) -> usize {
        self.allowed = match depth {
            Some(QueueDepth { visible: 0, .. }) => (self.allowed * 2).min(JOBS_MAX),
            _ => 1,
        };
        self.in_flight.compare(depth, now)
    }

    /// How many jobs more may be out.
    pub fn room(&self) -> usize {
        self.allowed.saturating_sub(self.in_flight.len())
    }

    /// The pages of the jobs that are out, or due as of `now`.
    pub async fn taken(&self, now: Timestamp) -> Result<HashSet<String>, LaneGone> {
        let state = self.parts.lane.snapshot().await?;
        let due = self.plan(&state, CompactionScope::Due, now).into_iter().flat_map(|group| group.pages);
        let out = self.in_flight.inputs();
        Ok(due.map(|page| page.object.clone()).chain(out.iter().map(ToString::to_string)).collect())
    }

    /// Sends jobs, as of `now`: as many as may be out, or everything that is asked for.
    pub async fn send(
        &mut self,
        scope: CompactionScope,
        now: Timestamp,
    ) -> Result<CompactionsSent, CompactionSendError> {
        let state = self.parts.lane.snapshot().await?;
        self.forget_others(&state);
        self.show(&state, now);
        let mut sent = CompactionsSent::default();
        for CompactionGroup { topic, pages } in self.plan(&state, scope, now) {
            if scope == CompactionScope::Due && self.in_flight.len() >= self.allowed {
                break;
            }
            let id = Ulid::new().to_string();
            let Some(topic) = state.topics.get(&topic) else { continue };
            let job = planner::job(&self.parts.origin, &id, topic, &pages);
            let body = serde_json::to_string(&job).unwrap_or_default();
            if body.len() > MESSAGE_BYTES_MAX {
                tracing::error!("{} pages of topic {} don't fit into a job", pages.len(), topic.name);
                continue;
            }
            self.parts.queue.send(body).await?;
            failpoint!("compaction-sent");
            let names = pages.iter().map(|page| page.object.as_str().into()).collect();
            self.in_flight.sent(id, names, Instant::now());
            sent.jobs += 1;
            sent.pages += pages.len();
            sent.bytes += pages.iter().map(|page| page.bounds.bytes).sum::<u64>();
        }
        Ok(sent)
    }

    fn plan(&self, state: &LaneState, scope: CompactionScope, now: Timestamp) -> Vec<CompactionGroup> {
        let out = self.in_flight.inputs();
        let turn = |page: &PageEntry| {
            let name: &str = &page.object;
            let failures = self.failures.get(name).copied().unwrap_or(0);
            match out.contains(name) || self.in_flight.is_exhausted(name) || failures >= FAILURES_MAX {
                true => PageTurn::Out,
                false if failures > 0 => PageTurn::Alone,
                false => PageTurn::Free,
            }
        };
        let everything = scope != CompactionScope::Due;
        let mut groups = planner::plan(state, self.parts.limits, now, turn, everything);
        if let CompactionScope::Everything(Some(topic)) = scope {
            groups.retain(|group| group.topic == topic);
        }
        groups
    }

    /// Pages that are at the top no more will be in no job.
    fn forget_others(&mut self, state: &LaneState) {
        let top = || state.topics.values().flat_map(|topic| &topic.pages).map(|page| page.object.as_str());
        if !self.failures.is_empty() {
            let top: HashSet<&str> = top().collect();
            self.failures.retain(|page, _| top.contains(&**page));
        }
        self.in_flight.keep_losses_of(top().map(Arc::from));
    }

    /// A job over pages has failed: each is tried once more, alone.
    fn failed(&mut self, pages: &[String]) {
        self.parts.metrics.failures.inc();
        let more = if pages.len() > 1 { 1 } else { FAILURES_MAX };
        for page in pages {
            *self.failures.entry(page.as_str().into()).or_insert(0) += more;
        }
    }

    fn show(&self, state: &LaneState, now: Timestamp) {
        let (debt, metrics) = (planner::debt(state, self.parts.limits), &self.parts.metrics);
        metrics.debt_pages.set(debt.pages as i64);
        metrics.debt_runs.set(debt.runs as i64);
        metrics.debt_bytes.set(debt.bytes as i64);
        let age = debt.oldest_closed_at.map_or(0, |oldest| (now - oldest).max(0));
        metrics.debt_seconds.set(age as f64 / 1000.0);
        metrics.failed_pages.set(self.failures.values().filter(|failures| **failures >= FAILURES_MAX).count() as i64);
    }
}
