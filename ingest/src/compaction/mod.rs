//! From segments that all topics share to a topic's own, and from many small runs to few: has adjacent pages of a topic
//! compacted by indexers ([`planner`]), also those below other pages ([`folded_walk`]), and puts a page over the
//! segments that they wrote ([`taking_in`]) in the place of the old ones, wherever these are by then ([`placing`]). The
//! queue is a hint here, too: what is to be compacted follows from the state and its pages, and a result that is lost,
//! doubled, late or overtaken changes nothing.

mod failed_pages;
mod folded_walk;
mod placing;
pub mod planner;
mod taking_in;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use chronik_format::catalog::{CatalogError, CatalogReader, PageEntry};
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::SharedStore;
use chronik_store::queue::{MESSAGE_BYTES_MAX, QueueDepth, QueueError, SharedQueue};
use serde::Serialize;
use tokio::time::Instant;
use ulid::Ulid;

use self::failed_pages::FailedPages;
use self::folded_walk::{FoldedStep, FoldedWalk};
use self::planner::{CompactionGroup, PageTurn};
use crate::indexing::JobsInFlight;
use crate::lane::{Lane, LaneGone};
use crate::metrics::CompactionMetrics;
use crate::publish::pages::PageLimits;
use crate::read_failures::ReadFailures;
use crate::state::LaneState;

/// Pages above others that one look enters, and one for everything.
const READS_MAX: usize = 64;
const READS_FOR_EVERYTHING_MAX: usize = 1024;

/// When pages are compacted.
#[derive(Clone, Copy, Debug)]
pub struct CompactionLimits {
    /// Bytes of the batches that a job is about, unless one page alone has more.
    pub job_bytes: u64,
    /// Pages that are compacted before their day is over, if they have enough bytes.
    pub pages: usize,
    /// Bytes that are enough.
    pub enough_bytes: u64,
    /// Pages whose runs have so many bytes on the average are not compacted once more.
    pub small_run_bytes: u64,
    /// Jobs that are out at the same time.
    pub jobs: usize,
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
            small_run_bytes: 1 << 20,
            jobs: failpoint::limit("compaction-jobs", 32),
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
    failed: FailedPages,
    folded: FoldedWalk,
    /// Jobs that may be out: more and more, as long as nobody waits in the queue.
    allowed: usize,
    unread: ReadFailures,
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
        Self {
            allowed: parts.limits.jobs.min(1),
            parts,
            in_flight: JobsInFlight::default(),
            failed: FailedPages::default(),
            folded: FoldedWalk::default(),
            unread: ReadFailures::default(),
        }
    }

    /// Jobs that were sent and not answered.
    pub fn pending(&self) -> usize {
        self.in_flight.len()
    }

    /// Pages that are left as they are until the next start, because compaction has failed.
    pub fn failed_pages(&self) -> usize {
        self.failed.left_alone()
    }

    /// Compares with the queue, `None` if it did not answer; returns how many jobs seem to be lost. Compaction gives
    /// way to what waits there.
    pub fn compare(&mut self, depth: Option<QueueDepth>, now: Instant) -> usize {
        self.allowed = match depth {
            Some(QueueDepth { visible: 0, .. }) => (self.allowed * 2).min(self.parts.limits.jobs),
            _ => (self.allowed / 2).max(self.parts.limits.jobs.min(1)),
        };
        let lost = self.in_flight.compare(depth, now);
        for page in self.in_flight.take_exhausted() {
            tracing::error!("{page} stays as it is: jobs over it were lost too often without a result");
            self.failed.give_up(page);
        }
        lost
    }

    /// How many jobs more may be out.
    pub fn room(&self) -> usize {
        self.allowed.saturating_sub(self.in_flight.len())
    }

    /// The pages of the jobs that are out, or due as of `now`.
    pub async fn taken(&mut self, now: Timestamp) -> Result<HashSet<String>, LaneGone> {
        let state = self.parts.lane.snapshot().await?;
        let due = self.plan(&state, CompactionScope::Due, now).into_iter().flat_map(|group| group.pages);
        let out = self.in_flight.inputs();
        Ok(due.map(|page| page.object.clone()).chain(out.iter().map(ToString::to_string)).collect())
    }

    /// Sends jobs, as of `now`: as many as may be out, or everything that is asked for; the oldest history first.
    pub async fn send(
        &mut self,
        scope: CompactionScope,
        now: Timestamp,
    ) -> Result<CompactionsSent, CompactionSendError> {
        let state = self.parts.lane.snapshot().await?;
        let mut sent = CompactionsSent::default();
        let at_top = self.plan(&state, scope, now);
        let below = self.send_folded(&state, scope, &mut sent).await;
        self.show(&state, now);
        below?;
        for group in at_top {
            if !self.has_room(scope) {
                break;
            }
            self.send_job(&state, &group, &mut sent).await?;
        }
        Ok(sent)
    }

    fn has_room(&self, scope: CompactionScope) -> bool {
        scope != CompactionScope::Due || self.in_flight.len() < self.allowed
    }

    fn plan(&mut self, state: &LaneState, scope: CompactionScope, now: Timestamp) -> Vec<CompactionGroup> {
        let out = self.in_flight.inputs();
        let turn = |page: &PageEntry| turn(&mut self.failed, &out, page);
        let everything = scope != CompactionScope::Due;
        let mut groups = planner::plan(state, self.parts.limits, now, turn, everything);
        if let CompactionScope::Everything(Some(topic)) = scope {
            groups.retain(|group| group.topic == topic);
        }
        groups
    }

    /// Sends what was never compacted below other pages.
    async fn send_folded(
        &mut self,
        state: &LaneState,
        scope: CompactionScope,
        sent: &mut CompactionsSent,
    ) -> Result<(), CompactionSendError> {
        if let CompactionScope::Everything(topic) = scope {
            return self.walk_folded(state, scope, &mut FoldedWalk::of(topic), READS_FOR_EVERYTHING_MAX, sent).await;
        }
        let mut walk = self.folded;
        if walk.is_at_start() {
            self.failed.begin_round(self.in_flight.lossy().cloned());
            if self.failed.has_unmet() {
                self.meet_top(state);
            }
        }
        let walked = self.walk_folded(state, scope, &mut walk, READS_MAX, sent).await;
        self.folded = walk;
        walked
    }

    async fn walk_folded(
        &mut self,
        state: &LaneState,
        scope: CompactionScope,
        walk: &mut FoldedWalk,
        mut reads: usize,
        sent: &mut CompactionsSent,
    ) -> Result<(), CompactionSendError> {
        let out = self.in_flight.inputs();
        while self.has_room(scope) {
            let admits = |page: &PageEntry| self.failed.turn(&page.object) != PageTurn::Out;
            match walk.next(&self.parts.catalog, state, &mut reads, admits).await {
                FoldedStep::Leaves { topic, leaves } => {
                    let turn = |page: &PageEntry| turn(&mut self.failed, &out, page);
                    for group in planner::plan_below(topic, self.parts.limits, &leaves, turn) {
                        if !self.has_room(scope) {
                            return Ok(());
                        }
                        self.send_job(state, &group, sent).await?;
                    }
                    walk.pass(&leaves);
                }
                FoldedStep::Unread(page, error) => self.leave_unread(&page, &error),
                FoldedStep::Cut => return Ok(()),
                FoldedStep::Round => {
                    if scope == CompactionScope::Due {
                        let gone = self.failed.end_round();
                        self.in_flight.keep_losses(|page| !gone.contains(page));
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What is below a page that is damaged or gone stays as it is; a store that does not answer is asked again.
    fn leave_unread(&mut self, page: &PageEntry, error: &CatalogError) {
        let failure = format!("what is below {} is not compacted: {error}", page.object);
        if self.unread.is_news(&failure, std::time::Instant::now()) {
            tracing::warn!("{failure}");
        }
        match error {
            CatalogError::Store(_) if !error.is_missing() => self.failed.forget_none(),
            _ => self.failed.give_up(page.object.as_str().into()),
        }
    }

    async fn send_job(
        &mut self,
        state: &LaneState,
        CompactionGroup { topic, pages }: &CompactionGroup,
        sent: &mut CompactionsSent,
    ) -> Result<(), CompactionSendError> {
        let Some(topic) = state.topics.get(topic) else { return Ok(()) };
        let id = Ulid::new().to_string();
        let job = planner::job(&self.parts.origin, &id, topic, pages);
        let body = serde_json::to_string(&job).unwrap_or_default();
        if body.len() > MESSAGE_BYTES_MAX {
            tracing::error!("{} pages of topic {} don't fit into a job", pages.len(), topic.name);
            return Ok(());
        }
        self.parts.queue.send(body).await?;
        failpoint!("compaction-sent");
        let names = pages.iter().map(|page| page.object.as_str().into()).collect();
        self.in_flight.sent(id, names, Instant::now());
        sent.jobs += 1;
        sent.pages += pages.len();
        sent.bytes += pages.iter().map(|page| page.bounds.bytes).sum::<u64>();
        Ok(())
    }

    /// Whatever is at the top is there.
    fn meet_top(&mut self, state: &LaneState) {
        for page in state.topics.values().flat_map(|topic| &topic.pages) {
            self.failed.turn(&page.object);
        }
    }

    /// A job over pages has failed: each is tried once more, alone.
    fn fail(&mut self, pages: &[String]) {
        self.parts.metrics.failures.inc();
        self.failed.failed(pages);
    }

    fn show(&self, state: &LaneState, now: Timestamp) {
        let (debt, metrics) = (planner::debt(state), &self.parts.metrics);
        metrics.debt_pages.set(debt.pages as i64);
        metrics.debt_runs.set(debt.runs as i64);
        metrics.debt_bytes.set(debt.bytes as i64);
        let age = debt.oldest_closed_at.map_or(0, |oldest| (now - oldest).max(0));
        metrics.debt_seconds.set(age as f64 / 1000.0);
        metrics.failed_pages.set(self.failed_pages() as i64);
    }
}

/// How a page may be compacted: not twice at the same time, nor again and again in vain.
fn turn(failed: &mut FailedPages, out: &HashSet<Arc<str>>, page: &PageEntry) -> PageTurn {
    let turn = failed.turn(&page.object);
    if out.contains(&*page.object) { PageTurn::Out } else { turn }
}
