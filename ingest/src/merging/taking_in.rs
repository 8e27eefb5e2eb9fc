//! From a result to the leaf that takes the place of another.

use std::sync::Arc;

use chronik_format::archive::{self, ArchiveError};
use chronik_format::catalog::merged::{OpenedMerge, merged};
use chronik_format::catalog::{PageEntry, TopicRuns};
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::job::{MergeResult, MergedArchive};
use chronik_format::names::{ArchiveName, NameError};
use chronik_service::failpoint;

use super::MergingDesk;
use crate::indexing::ResultError;
use crate::indexing::leaf_edit::LeafEdit;
use crate::indexing::page_filing::FilingError;
use crate::lane::{LaneError, LaneGone};
use crate::state::LaneState;
use crate::state::segments::NAMED_AGO_MS_MAX;

/// Bytes of an archive's end that are read first: in them are the runs of one that is not very large.
const END_BYTES: u64 = 64 << 10;

impl MergingDesk {
    /// Takes in a result that is for this lane, as of `now`. An error says that it is worth another look; else all is
    /// done that is to be done about it.
    pub async fn take_in(&mut self, result: &MergeResult, now: Timestamp) -> Result<Result<(), ResultError>, LaneGone> {
        let state = self.parts.lane.snapshot().await?;
        let replaced = match self.edit(&state, result, now).await {
            Ok(Some(edit)) => self.replace(result.topic_id, &edit, now).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match replaced {
            Err(ResultError::Gone(gone)) => return Err(gone),
            Err(error @ ResultError::Unavailable(_)) => return Ok(Err(error)),
            Err(ResultError::Invalid(reason)) => {
                tracing::error!("the archives of {} stay as they are: {reason}", result.page);
                self.failed(&result.page);
            }
            Ok(()) => {}
        }
        self.in_flight.answered(&result.job);
        Ok(Ok(()))
    }

    async fn replace(&self, topic: TopicId, edit: &LeafEdit, now: Timestamp) -> Result<(), ResultError> {
        match self.parts.filing.replace_leaf(topic, edit, now).await {
            Ok(()) => {}
            Err(FilingError::Lane(LaneError::Refused(refused))) => {
                return Err(ResultError::Unavailable(format!("the page was replaced meanwhile: {refused}")));
            }
            Err(error) => return Err(error.into()),
        }
        failpoint!("merge-named");
        let (archives, gone) = (edit.runs.archives.len(), edit.gone.len());
        tracing::info!(archives, gone, "archives are merged");
        self.parts.metrics.merges.inc();
        self.parts.metrics.merged_archives.inc_by(gone as u64);
        Ok(())
    }

    /// The leaf to be; `None` if the old one is not in its place any more, or if it is too late for what was made.
    async fn edit(
        &self,
        state: &LaneState,
        result: &MergeResult,
        now: Timestamp,
    ) -> Result<Option<LeafEdit>, ResultError> {
        let Some((entry, leaf)) = self.leaf_of(state, result).await? else {
            tracing::debug!("job {} was overtaken: its page is not there any more", result.job);
            return Ok(None);
        };
        if is_late(result, now) {
            tracing::warn!("the archives of job {} were named too long ago: it is sent again", result.job);
            return Ok(None);
        }
        if let Some(failure) = &result.failure {
            return Err(ResultError::Invalid(failure.clone()));
        }
        if result.archives.is_empty() && result.alone.is_empty() {
            return Err(ResultError::Invalid(format!("job {} came to nothing", result.job)));
        }
        let mut opened = Vec::with_capacity(result.archives.len());
        for made in &result.archives {
            opened.push(self.opened(result.topic_id, made).await?);
        }
        let (runs, gone) = merged(&leaf, &opened, &result.alone).map_err(ResultError::Invalid)?;
        Ok(Some(LeafEdit::merged(entry, runs, gone)))
    }

    async fn leaf_of(
        &self,
        state: &LaneState,
        result: &MergeResult,
    ) -> Result<Option<(Arc<PageEntry>, Arc<TopicRuns>)>, ResultError> {
        let Some(topic) = state.topics.get(&result.topic_id) else { return Ok(None) };
        let top: Vec<Arc<PageEntry>> = topic.pages.iter().cloned().collect();
        let leaf = self.parts.catalog.named_leaf_at(topic.id, &top, result.partition, result.first).await;
        Ok(leaf.map_err(FilingError::from)?.filter(|(entry, _)| entry.object == result.page))
    }

    /// An archive counts once its object is there in full, by size and table of contents, and only for the topic that
    /// its name says.
    async fn opened(&self, topic: TopicId, made: &MergedArchive) -> Result<OpenedMerge, ResultError> {
        let key = &made.key;
        let name: ArchiveName = key.parse().map_err(|error: NameError| ResultError::Invalid(error.to_string()))?;
        if name.topic != topic {
            return Err(ResultError::Invalid(format!("archive {key} is not of topic {topic}")));
        }
        let store = &*self.parts.store;
        let opened = async {
            let opened = archive::open(store, key, made.size, Some(made.crc), END_BYTES).await?;
            let runs = opened.indexed_runs(store).await?;
            Ok((opened.toc.description, runs))
        };
        let (description, runs) = opened.await.map_err(|error: ArchiveError| match error {
            ArchiveError::Store { .. } => ResultError::Unavailable(error.to_string()),
            _ => ResultError::Invalid(error.to_string()),
        })?;
        if description.topic_id != topic || description.records != made.records {
            return Err(ResultError::Invalid(format!("archive {key} is not the one that the result names")));
        }
        Ok(OpenedMerge { archive: made.clone(), runs })
    }
}

/// Whether what was made was named so long ago that it may be taken for an orphan before a page names it.
fn is_late(result: &MergeResult, now: Timestamp) -> bool {
    let named_at = |made: &MergedArchive| {
        let name: ArchiveName = made.key.parse().ok()?;
        Timestamp::try_from(name.ulid.timestamp_ms()).ok()
    };
    result.archives.iter().filter_map(named_at).any(|named_at| now.saturating_sub(named_at) >= NAMED_AGO_MS_MAX)
}
