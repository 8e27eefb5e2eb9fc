//! From many archives to few: has those of a leaf merged by indexers ([`planner`]), once compaction is done with its
//! runs, and puts a leaf with the new ones in its place ([`taking_in`]). As with compaction, what is to be merged
//! follows from the state, and a result that is lost, doubled, late or overtaken changes nothing: at most it leaves
//! archives that no page names, which go as other orphans do.

pub mod planner;
mod taking_in;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use chronik_format::catalog::{CatalogReader, Page, PageEntry};
use chronik_format::ids::Timestamp;
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::SharedStore;
use chronik_store::queue::{QueueDepth, SharedQueue};
use tokio::time::Instant;
use ulid::Ulid;

use crate::compaction::{CompactionScope, CompactionSendError};
use crate::indexing::JobsInFlight;
use crate::indexing::page_filing::PageFiling;
use crate::lane::Lane;
use crate::metrics::MergingMetrics;
use crate::read_failures::ReadFailures;
use crate::state::LaneState;
use crate::state::topic::TopicState;

/// Pages above others that are read in one look.
const READS_MAX: usize = 64;
/// Pages whose merging has failed, or that are looked into in vain, as far as they are remembered.
const REMEMBERED_MAX: usize = 16 * 1024;

/// What merging works with.
pub struct MergingParts {
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
    /// Puts leaves in the place of others.
    pub filing: PageFiling,
    pub metrics: MergingMetrics,
}

/// Sends jobs and takes their results. A restart forgets what is out, and sends it again.
pub struct MergingDesk {
    parts: MergingParts,
    in_flight: JobsInFlight<Arc<str>>,
    /// Leaves that are left as they are until the next start.
    failed: HashSet<Arc<str>>,
    /// Pages right above leaves that have nothing to send for now.
    barren: HashSet<String>,
    failures: ReadFailures,
}

/// What a look is for.
struct MergeLook<'a> {
    scope: CompactionScope,
    /// Leaves that are enough.
    most: usize,
    /// Pages that compaction has, or is about to.
    taken: &'a HashSet<String>,
    now: Timestamp,
}

/// A leaf whose archives are to be merged.
type MergeableLeaf<'a> = (&'a TopicState, Arc<PageEntry>);

impl MergingDesk {
    /// Nothing is sent yet.
    pub fn new(parts: MergingParts) -> Self {
        Self {
            parts,
            in_flight: JobsInFlight::default(),
            failed: HashSet::new(),
            barren: HashSet::new(),
            failures: ReadFailures::default(),
        }
    }

    /// Jobs that were sent and not answered.
    pub fn pending(&self) -> usize {
        self.in_flight.len()
    }

    /// Compares with the queue, `None` if it did not answer; returns how many jobs seem to be lost.
    pub fn compare(&mut self, depth: Option<QueueDepth>, now: Instant) -> usize {
        let lost = self.in_flight.compare(depth, now);
        if lost > 0 {
            self.barren.clear();
        }
        lost
    }

    /// Sends jobs, as of `now`: those that it is time for, so many at the most, or all that are found in one look; none
    /// over pages that are `taken` by others. Returns how many.
    pub async fn send(
        &mut self,
        scope: CompactionScope,
        most: usize,
        taken: &HashSet<String>,
        now: Timestamp,
    ) -> Result<usize, CompactionSendError> {
        let state = self.parts.lane.snapshot().await?;
        self.show(&state);
        let most = if scope == CompactionScope::Due { most } else { usize::MAX };
        let leaves = self.look(&state, &MergeLook { scope, most, taken, now }).await;
        for (topic, leaf) in &leaves {
            let id = Ulid::new().to_string();
            let Some(job) = planner::job(&self.parts.origin, &id, topic, leaf) else { continue };
            self.parts.queue.send(serde_json::to_string(&job).unwrap_or_default()).await?;
            failpoint!("merge-sent");
            self.in_flight.sent(id, vec![leaf.object.as_str().into()], Instant::now());
        }
        let out = self.in_flight.inputs();
        self.in_flight.keep_losses(|page| out.contains(page));
        Ok(leaves.len())
    }

    /// Finds leaves from the oldest on, at the top and below pages that say that there are some.
    async fn look<'a>(&mut self, state: &'a LaneState, look: &MergeLook<'_>) -> Vec<MergeableLeaf<'a>> {
        let mut ahead = planner::at_top(state, look.scope);
        let (mut found, mut reads) = (Vec::new(), 0);
        while found.len() < look.most
            && let Some((topic, page)) = ahead.pop()
        {
            if page.bounds.mergeable == 0 || self.barren.contains(&page.object) {
                continue;
            }
            if page.height == 0 {
                found.extend(self.wants(topic, &page, look).then_some((topic, page)));
                continue;
            }
            if reads == READS_MAX {
                return found;
            }
            reads += 1;
            let below = self.below(topic, &page).await;
            if page.height > 1 {
                ahead.extend(below.into_iter().rev().map(|page| (topic, page)));
                continue;
            }
            let mut leaves = below.into_iter().filter(|leaf| self.wants(topic, leaf, look)).peekable();
            let is_barren = leaves.peek().is_none();
            found.extend(leaves.take(look.most - found.len()).map(|leaf| (topic, leaf)));
            if is_barren {
                self.set_aside(&page);
            }
        }
        if found.is_empty() && ahead.is_empty() {
            // All there is was looked through: the next look begins anew.
            self.barren.clear();
        }
        found
    }

    /// The pages below one; none if it can't be read now.
    async fn below(&self, topic: &TopicState, page: &PageEntry) -> Vec<Arc<PageEntry>> {
        match self.parts.catalog.page(topic.id, page).await {
            Ok(Page::Pages(below)) => below.to_vec(),
            Ok(Page::Runs(_)) => Vec::new(),
            Err(error) => {
                let failure = format!("archives below {} are not merged: {error}", page.object);
                if self.failures.is_news(&failure, std::time::Instant::now()) {
                    tracing::warn!("{failure}");
                }
                Vec::new()
            }
        }
    }

    fn wants(&mut self, topic: &TopicState, leaf: &PageEntry, look: &MergeLook) -> bool {
        let name: &str = &leaf.object;
        if self.in_flight.is_exhausted(name) && !self.failed.contains(name) {
            tracing::error!("the archives of {name} stay as they are: the jobs over it were lost too often");
            self.failed(name);
        }
        let is_free = !self.in_flight.has(name) && !self.failed.contains(name) && !look.taken.contains(name);
        let is_time = look.scope != CompactionScope::Due || planner::is_due(topic, leaf, look.now);
        is_free && is_time && planner::is_ready(topic, leaf)
    }

    fn set_aside(&mut self, page: &PageEntry) {
        if self.barren.len() >= REMEMBERED_MAX {
            self.barren.clear();
        }
        self.barren.insert(page.object.clone());
    }

    /// A job over a leaf has failed.
    fn failed(&mut self, leaf: &str) {
        self.parts.metrics.failures.inc();
        if self.failed.len() >= REMEMBERED_MAX {
            self.failed.clear();
        }
        self.failed.insert(leaf.into());
    }

    fn show(&self, state: &LaneState) {
        let metrics = &self.parts.metrics;
        let topics = || state.topics.values();
        let of_pages = topics().flat_map(|topic| &topic.pages).map(|page| i64::from(page.bounds.archives)).sum::<i64>();
        let open = topics().map(|topic| topic.archives.len() as i64).sum::<i64>();
        metrics.archives.set(of_pages + open);
        metrics.debt_archives.set(planner::debt(state) as i64);
        metrics.failed_pages.set(self.failed.len() as i64);
    }
}
