//! From a result to the page that takes the place of others.

use std::sync::Arc;

use chronik_format::catalog::compacted::{CompactedSegment, compacted};
use chronik_format::catalog::page::{BuiltPage, Page, PageBuilder};
use chronik_format::catalog::{CatalogError, PageEntry, SegmentEntry, TopicRuns};
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::job::{CompactResult, SegmentMade};
use chronik_format::names::{PageName, TopicSegmentName};
use chronik_format::segment::{SegmentError, SegmentReader};
use chronik_service::failpoint;
use chronik_store::StoreError;
use ulid::Ulid;

use super::CompactionDesk;
use crate::clock::now_ms;
use crate::indexing::ResultError;
use crate::lane::{LaneError, LaneGone};
use crate::state::LaneState;
use crate::state::command::{Command, ReplacePages};
use crate::state::segments::NAMED_AGO_MS_MAX;

/// A page that may take the place of others.
struct Replacement {
    page: BuiltPage,
    command: ReplacePages,
}

impl CompactionDesk {
    /// Takes in a result that is for this lane. An error says that it is worth another look; else all is done that is
    /// to be done about it.
    pub async fn take_in(&mut self, result: &CompactResult) -> Result<Result<(), ResultError>, LaneGone> {
        let state = self.parts.lane.snapshot().await?;
        let replaced = match self.replacement(&state, result, now_ms()).await {
            Ok(Some(replacement)) => self.replace(replacement).await?,
            Ok(None) => {
                tracing::debug!("job {} was overtaken: its pages are not there any more", result.job);
                Ok(())
            }
            Err(error) => Err(error),
        };
        match replaced {
            Err(ResultError::Gone(gone)) => return Err(gone),
            Err(error @ ResultError::Unavailable(_)) => return Ok(Err(error)),
            Err(ResultError::Invalid(reason)) => {
                let (pages, topic) = (result.pages.len(), result.topic_id);
                tracing::error!("{pages} pages of topic {topic} stay as they are: {reason}");
                self.failed(&result.pages);
            }
            Ok(()) => {}
        }
        self.in_flight.answered(&result.job);
        Ok(Ok(()))
    }

    async fn replace(&self, Replacement { page, command }: Replacement) -> Result<Result<(), ResultError>, LaneGone> {
        if let Err(error) = self.parts.store.create(&page.entry.object, vec![page.bytes]).await {
            return Ok(Err(ResultError::Unavailable(error.to_string())));
        }
        failpoint!("compacted-page-created");
        let (pages, bytes) = (command.old.len(), page.entry.bounds.bytes);
        match self.parts.lane.propose(Command::ReplacePages(command)).await {
            Err(LaneError::Gone(gone)) => return Err(gone),
            Err(LaneError::Refused(refused)) => tracing::debug!("a compaction was overtaken: {refused}"),
            Err(error) => return Ok(Err(ResultError::Unavailable(error.to_string()))),
            Ok(()) => {
                tracing::info!(pages, bytes, runs = page.entry.bounds.runs, "pages are compacted");
                self.parts.metrics.compactions.inc();
                self.parts.metrics.bytes.inc_by(bytes);
            }
        }
        failpoint!("pages-replaced");
        Ok(Ok(()))
    }

    /// The page to be; `None` if the old ones are not at the top, one behind the other, any more.
    async fn replacement(
        &self,
        state: &LaneState,
        result: &CompactResult,
        now: Timestamp,
    ) -> Result<Option<Replacement>, ResultError> {
        let Some(old) = leaves(state, result.topic_id, &result.pages) else {
            return Ok(None);
        };
        if let Some(failure) = &result.failure {
            return Err(ResultError::Invalid(failure.clone()));
        }
        let mut pages = Vec::with_capacity(old.len());
        for page in &old {
            pages.push(self.runs_of(result.topic_id, page).await?);
        }
        let level = old.iter().map(|page| page.bounds.level).min().unwrap_or_default().saturating_add(1);
        let mut segments = Vec::with_capacity(result.segments.len());
        for made in &result.segments {
            segments.push(self.opened(result.topic_id, made, level, now).await?);
        }
        let runs = compacted(result.topic_id, &pages, segments).map_err(|reason| {
            ResultError::Invalid(format!("the segments of job {} are not what the pages hold: {reason}", result.job))
        })?;
        let page =
            self.page(result.topic_id, &old, &runs, now).map_err(|error| ResultError::Invalid(error.to_string()))?;
        let names = old.iter().map(|page| page.object.clone());
        let command = ReplacePages {
            topic: result.topic_id,
            old: names.clone().collect(),
            new: vec![page.entry.clone()],
            gone: names.chain(pages.iter().flat_map(|page| page.own_segments())).collect(),
            deleted: Vec::new(),
            at: now,
        };
        // Nothing is written that the state would refuse.
        Ok(state.replaceable(&command).is_ok().then_some(Replacement { page, command }))
    }

    async fn runs_of(&self, topic: TopicId, page: &PageEntry) -> Result<Arc<TopicRuns>, ResultError> {
        match self.parts.catalog.page(topic, page).await {
            Ok(Page::Runs(runs)) => Ok(runs),
            Ok(Page::Pages(_)) => Err(ResultError::Invalid(format!("{} is no leaf", page.object))),
            Err(CatalogError::Store(error @ StoreError::Unavailable { .. })) => {
                Err(ResultError::Unavailable(error.to_string()))
            }
            Err(error) => Err(ResultError::Invalid(error.to_string())),
        }
    }

    /// A segment counts once its object is there in full, by size and directory, and only for the topic that its name
    /// says. One that was named long ago may be taken for an orphan before a page names it.
    async fn opened(
        &self,
        topic: TopicId,
        made: &SegmentMade,
        level: u8,
        now: Timestamp,
    ) -> Result<CompactedSegment, ResultError> {
        let SegmentMade { key, size, crc, directory_position } = made.clone();
        let invalid = |reason: String| ResultError::Invalid(reason);
        let name: TopicSegmentName = key.parse().map_err(|error| invalid(format!("{error}")))?;
        if name.topic != topic {
            return Err(invalid(format!("segment {key} is not of topic {topic}")));
        }
        let named_at = Timestamp::try_from(name.ulid.timestamp_ms()).unwrap_or(Timestamp::MAX);
        if now.saturating_sub(named_at) >= NAMED_AGO_MS_MAX {
            return Err(invalid(format!("segment {key} was named too long ago")));
        }
        let store = &self.parts.store;
        let opened = async {
            let stored = store.info(&key).await?.size;
            let reader = SegmentReader::open_known(store.clone(), &key, size, directory_position, crc).await?;
            Ok((stored, reader))
        };
        let (stored, reader) = opened.await.map_err(|error: SegmentError| match error {
            SegmentError::Store(StoreError::Unavailable { .. }) => ResultError::Unavailable(error.to_string()),
            _ => ResultError::Invalid(error.to_string()),
        })?;
        if stored != size || reader.header().level() == 0 {
            return Err(invalid(format!("segment {key} is not the one that the result names")));
        }
        let entry = SegmentEntry { key, size, crc, directory_position, level };
        Ok(CompactedSegment { entry, directory: reader.directory().clone() })
    }

    fn page(
        &self,
        topic: TopicId,
        old: &[Arc<PageEntry>],
        runs: &TopicRuns,
        now: Timestamp,
    ) -> Result<BuiltPage, CatalogError> {
        let origin = self.parts.origin;
        let name = PageName { topic, incarnation: origin.incarnation, ulid: Ulid::new() };
        let newest = old.last().map_or((0, now), |page| (page.bounds.last, page.closed_at));
        let mut page = PageBuilder { origin, topic, written_at: now }.leaf(name.to_string(), runs, newest.0)?;
        page.entry.closed_at = newest.1;
        Ok(page)
    }
}

/// The leaves of these names, if they follow one another at the top.
fn leaves(state: &LaneState, topic: TopicId, names: &[String]) -> Option<Vec<Arc<PageEntry>>> {
    let pages = &state.topics.get(&topic)?.pages;
    let first = pages.iter().position(|page| Some(&page.object) == names.first())?;
    let leaves: Vec<_> = pages.iter().skip(first).take(names.len()).cloned().collect();
    let are_these = leaves.iter().map(|page| &page.object).eq(names) && leaves.iter().all(|page| page.height == 0);
    are_these.then_some(leaves)
}
