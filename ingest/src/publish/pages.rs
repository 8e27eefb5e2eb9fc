//! Pages: what of a topic's history is settled, or has waited for archives for too long, leaves the lane's state for
//! immutable objects, so that the state stays small however long the history is.

use bytes::Bytes;
use chronik_format::catalog::page::{BuiltPage, PageBuilder};
use chronik_format::ids::{LogIndex, Timestamp, TopicId};
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::SharedStore;
use futures::{StreamExt, stream};

use super::closing::{ClosableRuns, closable};
use super::error::ExportError;
use super::folding::{FoldablePages, foldable};
use super::page_tree::page_name;
use super::topic_runs::open_runs;
use crate::lane::{Lane, LaneError};
use crate::metrics::PageMetrics;
use crate::state::LaneState;
use crate::state::command::{ClosePage, Command, ReplacePages};
use crate::state::refusal::CommandRefusal;

/// Pages that are made before the catalog is exported again.
pub(super) const PAGES_AT_ONCE: usize = 64;
/// Pages that are uploaded at the same time.
const UPLOADS: usize = 8;

/// How much of the settled history the state names one by one.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Runs of a page, unless one segment alone has more; some 100 to 200 bytes each.
    pub page_runs: usize,
    /// Bytes of their batches, about: a page is compacted in one go.
    pub page_bytes: u64,
    /// Settled runs that all topics together have open, about.
    pub open_runs: usize,
    /// Pages' worth of a topic's runs that may be open and wait for archives.
    pub waiting_pages: usize,
    /// Runs of all topics together that may, about.
    pub waiting_runs: usize,
    /// Pages below another one, if these have few partitions.
    pub fan_out: usize,
    /// Pages that all topics together have at the top at one height, about.
    pub top_pages: usize,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self {
            page_runs: failpoint::limit("page-runs", 4096),
            page_bytes: 4 << 30,
            open_runs: 64 * 4096,
            waiting_pages: 4,
            waiting_runs: 64 * 4096,
            fan_out: failpoint::limit("fan-out", 64),
            top_pages: 64 * 1024,
        }
    }
}

/// Moves history of one lane's topics into pages.
pub struct PageCloser {
    /// Whose pages they are.
    pub origin: Origin,
    /// The lane itself.
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    pub limits: PageLimits,
    pub metrics: PageMetrics,
}

impl PageCloser {
    /// Closes what is settled, or has waited for too long, as of `now`, and folds what there is too much of. `exported`
    /// is the last log index whose segments the catalog names: what lies behind it is released by offsets of open runs.
    /// A page that can't be written now is made again later.
    pub async fn close_oldest(&self, exported: LogIndex, now: Timestamp) -> Result<(), ExportError> {
        let mut left = PAGES_AT_ONCE;
        while left > 0 {
            match self.close_some(exported, now).await? + self.fold_some(now).await? {
                0 => break,
                made => left = left.saturating_sub(made),
            }
        }
        let state = self.lane.snapshot().await?;
        self.metrics.open_runs.set(state.topics.values().map(|topic| topic.open_runs() as i64).sum());
        self.metrics.top_pages.set(state.topics.values().map(|topic| topic.pages.len() as i64).sum());
        Ok(())
    }

    /// Closes a page of each topic that has one, and says of how many.
    async fn close_some(&self, exported: LogIndex, now: Timestamp) -> Result<usize, ExportError> {
        let state = self.lane.snapshot().await?;
        let closable = closable(&state, exported, self.limits, now);
        let pages = stream::iter(closable).map(|closable| self.write_leaf(&state, closable, now));
        let mut pages = pages.buffer_unordered(UPLOADS);
        let mut count = 0;
        while let Some(close) = pages.next().await {
            failpoint!("page-created");
            let closed = self.name(close?).await?;
            self.metrics.pages.inc_by(closed as u64);
            count += closed;
            failpoint!("page-closed");
        }
        Ok(count)
    }

    /// Puts pages of each topic that has too many below one, and says of how many topics.
    async fn fold_some(&self, now: Timestamp) -> Result<usize, ExportError> {
        let state = self.lane.snapshot().await?;
        let foldable = foldable(&state, self.limits);
        let folds = stream::iter(foldable).map(|fold| self.write_fold(&state, fold, now));
        let mut folds = folds.buffer_unordered(UPLOADS);
        let mut count = 0;
        while let Some(fold) = folds.next().await {
            failpoint!("fold-created");
            count += self.name(fold?).await?;
            failpoint!("fold-named");
        }
        Ok(count)
    }

    /// Has the state name a page that was written; 0 if there is none, or no place for it any more.
    async fn name(&self, command: Option<Command>) -> Result<usize, ExportError> {
        let Some(command) = command else { return Ok(0) };
        match self.lane.propose(command).await {
            Ok(()) => Ok(1),
            Err(LaneError::Gone(gone)) => Err(gone.into()),
            Err(refused) => {
                tracing::debug!("a page is made again: {refused}");
                Ok(0)
            }
        }
    }

    async fn write_leaf(
        &self,
        state: &LaneState,
        ClosableRuns { topic, last }: ClosableRuns,
        now: Timestamp,
    ) -> Result<Option<Command>, ExportError> {
        let runs = state.topics.get(&topic).map(|topic| open_runs(topic, &state.segments, last)).unwrap_or_default();
        let builder = self.builder(topic, now);
        let BuiltPage { bytes, entry } = builder.leaf(page_name(builder), &runs, last)?;
        let (object, close) = (entry.object.clone(), ClosePage { topic, page: entry });
        let accepted = state.closable(&close).map(drop);
        self.create(object, bytes, accepted, Command::ClosePage(close)).await
    }

    async fn write_fold(
        &self,
        state: &LaneState,
        FoldablePages { topic, pages }: FoldablePages,
        now: Timestamp,
    ) -> Result<Option<Command>, ExportError> {
        let builder = self.builder(topic, now);
        let BuiltPage { bytes, entry } = builder.inner(page_name(builder), &pages)?;
        let (object, old) = (entry.object.clone(), pages.iter().map(|page| page.object.clone()).collect());
        let replace = ReplacePages { topic, old, new: vec![entry], gone: Vec::new(), deleted: Vec::new(), at: now };
        let accepted = state.replaceable(&replace).map(drop);
        self.create(object, bytes, accepted, Command::ReplacePages(replace)).await
    }

    /// Creates a page, unless the command that is to name it would be refused: it would be made again and again.
    async fn create(
        &self,
        object: String,
        bytes: Bytes,
        accepted: Result<(), CommandRefusal>,
        command: Command,
    ) -> Result<Option<Command>, ExportError> {
        if let Err(refused) = accepted {
            tracing::warn!("page {object} is not written: {refused}");
            return Ok(None);
        }
        self.store.create(&object, vec![bytes]).await?;
        Ok(Some(command))
    }

    fn builder(&self, topic: TopicId, now: Timestamp) -> PageBuilder {
        PageBuilder { origin: self.origin, topic, written_at: now }
    }
}
