//! Archives that come late: what they are over was closed into pages meanwhile, which are written anew with them.

use std::collections::HashSet;
use std::sync::Arc;

use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{CatalogError, CatalogReader, PageEntry};
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_format::job::CoveredRun;
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::{SharedStore, StoreError};

use super::leaf_edit::LeafEdit;
use crate::lane::{Lane, LaneError, LaneGone};
use crate::publish::page_tree::{PageFate, PageTree, TreeChange, page_name};
use crate::state::command::{ArchiveFacts, Command, RegisterResult, ScannedRun};
use crate::state::segments::NAMED_AGO_MS_MAX;
use crate::state::topic::TopicState;

/// Why something was not put into pages. Nothing is lost by trying again.
#[derive(Debug, thiserror::Error)]
pub enum FilingError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error("the page that it belongs into was replaced meanwhile")]
    Overtaken,
}

impl From<LaneGone> for FilingError {
    fn from(gone: LaneGone) -> Self {
        Self::Lane(gone.into())
    }
}

/// Puts what becomes known of closed runs into their pages.
#[derive(Clone)]
pub struct PageFiling {
    /// Who writes the pages.
    pub origin: Origin,
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    pub catalog: Arc<CatalogReader>,
}

impl PageFiling {
    /// Files what a result says of closed runs, as of its time, and leaves the rest in it to be registered: what is
    /// open, and archives that no page takes. It may have been filed before: an archive that a page names must not be
    /// taken for one that nobody needs.
    pub async fn file(&self, result: &mut RegisterResult) -> Result<(), FilingError> {
        let state = self.lane.snapshot().await?;
        let Some(topic) = state.topics.get(&result.topic) else { return Ok(()) };
        let is_wanted = |archive: &ArchiveFacts| {
            result.index_epoch == topic.index_epoch
                && result.at.saturating_sub(archive.named_at) < NAMED_AGO_MS_MAX
                && !state.tombstones.contains_key(&archive.key)
        };
        let is_deleted =
            |run: &CoveredRun| topic.partition(run.partition).is_some_and(|partition| partition.is_deleted(run.last));
        let (mut leaves, mut filed) = (Leaves::of(self, topic), HashSet::new());
        for archive in &result.archives {
            let Some(leaf) = leaves.holding_any(archive.runs.iter().map(|run| (run.partition, run.first))).await?
            else {
                continue;
            };
            if leaf.names(&archive.key) || (is_wanted(archive) && leaf.add(archive, is_deleted)) {
                filed.insert(archive.key.clone());
            }
        }
        leaves.give_up(&result.unreadable).await?;
        let (edits, at) = (leaves.edits, result.at);
        self.replace(result.topic, edits, at).await?;
        result.archives.retain(|archive| !filed.contains(&archive.key));
        Ok(())
    }

    /// Notes, as of `now`, why closed runs of a topic will have no archive.
    pub async fn give_up(&self, topic: TopicId, runs: &[ScannedRun], now: Timestamp) -> Result<(), FilingError> {
        let state = self.lane.snapshot().await?;
        let Some(topic) = state.topics.get(&topic) else { return Ok(()) };
        let mut leaves = Leaves::of(self, topic);
        leaves.give_up(runs).await?;
        self.replace(topic.id, leaves.edits, now).await
    }

    async fn replace(&self, topic: TopicId, edits: Vec<LeafEdit>, now: Timestamp) -> Result<(), FilingError> {
        for edit in edits.iter().filter(|edit| edit.is_changed()) {
            self.replace_leaf(topic, edit, now).await?;
        }
        Ok(())
    }

    /// Puts a leaf in the place of another, below pages that are written anew.
    pub async fn replace_leaf(&self, topic: TopicId, edit: &LeafEdit, now: Timestamp) -> Result<(), FilingError> {
        let state = self.lane.snapshot().await?;
        let old = &edit.entry;
        let is_above = |page: &PageEntry| {
            let bounds = old.bounds.partitions.first();
            let above = bounds.and_then(|bounds| Some((bounds, page.bounds.of(bounds.partition)?)));
            above.is_some_and(|(bounds, above)| above.offsets.contains(bounds.offsets.first))
        };
        let top = state.topics.get(&topic).and_then(|topic| topic.pages.iter().find(|page| is_above(page)));
        let top = top.ok_or(FilingError::Overtaken)?;
        let builder = PageBuilder { origin: self.origin, topic, written_at: now };
        let mut new = builder.leaf(page_name(builder), &edit.runs, old.bounds.last)?;
        new.entry.closed_at = old.closed_at;
        let mut fate = |page: &PageEntry| match () {
            () if page.object == old.object => PageFate::Replaced(Some(Box::new(new.clone()))),
            () if is_above(page) => PageFate::Entered,
            () => PageFate::Stays,
        };
        let tree = PageTree { catalog: &self.catalog, builder };
        let TreeChange { pages, mut replace } = tree.changed(top, &mut fate).await?.ok_or(FilingError::Overtaken)?;
        replace.gone.extend(edit.gone.iter().cloned());
        // Nothing is written that the state would refuse.
        state.replaceable(&replace).map_err(LaneError::from)?;
        for page in pages {
            self.store.create(&page.entry.object, vec![page.bytes]).await?;
        }
        failpoint!("late-page-created");
        self.lane.propose(Command::ReplacePages(replace)).await?;
        failpoint!("late-page-named");
        Ok(())
    }
}

/// The leaves of a topic that something is to be put into.
struct Leaves<'a> {
    filing: &'a PageFiling,
    topic: &'a TopicState,
    top: Vec<Arc<PageEntry>>,
    edits: Vec<LeafEdit>,
}

impl<'a> Leaves<'a> {
    fn of(filing: &'a PageFiling, topic: &'a TopicState) -> Self {
        Self { filing, topic, top: topic.pages.iter().cloned().collect(), edits: Vec::new() }
    }

    async fn give_up(&mut self, runs: &[ScannedRun]) -> Result<(), CatalogError> {
        for run in runs {
            if let Some(leaf) = self.holding(run.partition, run.first).await? {
                leaf.give_up(run);
            }
        }
        Ok(())
    }

    /// The leaf that holds the first of some offsets that is in one.
    async fn holding_any(
        &mut self,
        offsets: impl Iterator<Item = (PartitionId, Offset)>,
    ) -> Result<Option<&mut LeafEdit>, CatalogError> {
        for (partition, offset) in offsets {
            if let Some(at) = self.position(partition, offset).await? {
                return Ok(self.edits.get_mut(at));
            }
        }
        Ok(None)
    }

    async fn holding(&mut self, partition: PartitionId, offset: Offset) -> Result<Option<&mut LeafEdit>, CatalogError> {
        self.holding_any([(partition, offset)].into_iter()).await
    }

    async fn position(&mut self, partition: PartitionId, offset: Offset) -> Result<Option<usize>, CatalogError> {
        if let Some(known) = self.edits.iter().position(|leaf| leaf.holds(partition, offset)) {
            return Ok(Some(known));
        }
        let leaf = self.filing.catalog.named_leaf_at(self.topic.id, &self.top, partition, offset).await?;
        let leaf = leaf.map(|(entry, runs)| LeafEdit::new(entry, &runs));
        Ok(leaf.filter(|leaf| leaf.holds(partition, offset)).map(|leaf| {
            self.edits.push(leaf);
            self.edits.len() - 1
        }))
    }
}
