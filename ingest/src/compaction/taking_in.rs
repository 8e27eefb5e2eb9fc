//! From a result to the page that takes the place of others.

use std::collections::HashSet;
use std::sync::Arc;

use chronik_format::catalog::compacted::{CompactedSegment, compacted};
use chronik_format::catalog::page::{BuiltPage, Page, PageBuilder};
use chronik_format::catalog::{CatalogError, PageEntry, SegmentEntry, TopicRuns};
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::job::{CompactResult, SegmentMade};
use chronik_format::names::TopicSegmentName;
use chronik_format::segment::{SegmentError, SegmentReader};
use chronik_service::failpoint;
use chronik_store::StoreError;

use super::CompactionDesk;
use super::placing::CompactedPage;
use crate::indexing::ResultError;
use crate::lane::{LaneError, LaneGone};
use crate::publish::page_tree::page_name;
use crate::state::LaneState;
use crate::state::command::Command;
use crate::state::segments::NAMED_AGO_MS_MAX;

/// How often a page is put in its place in one go, when others are put beside it meanwhile.
const ATTEMPTS: usize = 5;

impl CompactionDesk {
    /// Takes in a result that is for this lane, as of `now`. An error says that it is worth another look; else all is
    /// done that is to be done about it.
    pub async fn take_in(
        &mut self,
        result: &CompactResult,
        now: Timestamp,
    ) -> Result<Result<(), ResultError>, LaneGone> {
        match self.replace(result, now).await {
            Err(ResultError::Gone(gone)) => return Err(gone),
            Err(error @ ResultError::Unavailable(_)) => return Ok(Err(error)),
            Err(ResultError::Invalid(reason)) => {
                let (pages, topic) = (result.pages.len(), result.topic_id);
                tracing::error!("{pages} pages of topic {topic} stay as they are: {reason}");
                self.fail(&result.pages);
            }
            Ok(()) => {}
        }
        self.in_flight.answered(&result.job);
        Ok(Ok(()))
    }

    /// Puts a page over the segments in the place of the old ones, wherever these are named, if they still are.
    async fn replace(&self, result: &CompactResult, now: Timestamp) -> Result<(), ResultError> {
        let mut made = None;
        for _ in 0..ATTEMPTS {
            let state = self.parts.lane.snapshot().await?;
            let Some(named) = self.named(&state, result).await.map_err(unread)? else {
                tracing::debug!("job {} was overtaken: its pages are not there any more", result.job);
                return Ok(());
            };
            if is_late(result, now) {
                tracing::warn!("the segments of job {} were named too long ago: it is sent again", result.job);
                return Ok(());
            }
            let page = match made {
                Some(page) => page,
                None => self.compacted_page(&state, result, &named.leaves, now).await?,
            };
            let Some(change) = self.placed(&state, result, &named, &page, now).await.map_err(unread)? else {
                tracing::debug!("job {} was overtaken: its page has no place any more", result.job);
                return Ok(());
            };
            for page in change.pages {
                let created = self.parts.store.create(&page.entry.object, vec![page.bytes]).await;
                created.map_err(|error| ResultError::Unavailable(error.to_string()))?;
            }
            failpoint!("compacted-page-created");
            match self.parts.lane.propose(Command::ReplacePages(change.replace)).await {
                Err(LaneError::Gone(gone)) => return Err(gone.into()),
                Err(LaneError::Refused(refused)) => tracing::debug!("a compaction was overtaken: {refused}"),
                Err(error) => return Err(ResultError::Unavailable(error.to_string())),
                Ok(()) => {
                    let (pages, bounds) = (result.pages.len(), &page.page.entry.bounds);
                    tracing::info!(pages, bytes = bounds.bytes, runs = bounds.runs, "pages are compacted");
                    self.parts.metrics.compactions.inc();
                    self.parts.metrics.bytes.inc_by(bounds.bytes);
                    failpoint!("pages-replaced");
                    return Ok(());
                }
            }
            made = Some(page);
        }
        Err(ResultError::Unavailable("other pages were replaced beside its own each time".to_owned()))
    }

    /// The page over the segments of a result, if these hold just what the old leaves do.
    async fn compacted_page(
        &self,
        state: &LaneState,
        result: &CompactResult,
        old: &[Arc<PageEntry>],
        now: Timestamp,
    ) -> Result<CompactedPage, ResultError> {
        if let Some(failure) = &result.failure {
            return Err(ResultError::Invalid(failure.clone()));
        }
        let mut pages = Vec::with_capacity(old.len());
        for page in old {
            pages.push(self.runs_of(result.topic_id, page).await?);
        }
        let level = old.iter().map(|page| page.bounds.level).min().unwrap_or_default().saturating_add(1);
        let mut segments = Vec::with_capacity(result.segments.len());
        for made in &result.segments {
            segments.push(self.opened(result.topic_id, made, level).await?);
        }
        let topic = state.topics.get(&result.topic_id);
        let is_deleted = |partition, offset| {
            topic.and_then(|topic| topic.partition(partition)).is_some_and(|partition| partition.is_deleted(offset))
        };
        let runs = compacted(result.topic_id, &pages, segments, is_deleted).map_err(|reason| {
            ResultError::Invalid(format!("the segments of job {} are not what the pages hold: {reason}", result.job))
        })?;
        let kept: HashSet<&str> = runs.archives.iter().map(|archive| archive.key.as_str()).collect();
        let archives = pages.iter().flat_map(|page| page.archives.iter().map(|archive| archive.key.clone()));
        let archives = archives.filter(|archive| !kept.contains(archive.as_str()));
        let gone = pages.iter().flat_map(|page| page.own_segments()).chain(archives).collect();
        let page = self.page(result.topic_id, old, &runs, now);
        let page = page.map_err(|error| ResultError::Invalid(error.to_string()))?;
        Ok(CompactedPage { page, gone })
    }

    async fn runs_of(&self, topic: TopicId, page: &PageEntry) -> Result<Arc<TopicRuns>, ResultError> {
        match self.parts.catalog.page(topic, page).await {
            Ok(Page::Runs(runs)) => Ok(runs),
            Ok(Page::Pages(_)) => Err(ResultError::Invalid(format!("{} is no leaf", page.object))),
            Err(error) => Err(unread(error)),
        }
    }

    /// A segment counts once its object is there in full, by size and directory, and only for the topic that its name
    /// says.
    async fn opened(&self, topic: TopicId, made: &SegmentMade, level: u8) -> Result<CompactedSegment, ResultError> {
        let SegmentMade { key, size, crc, directory_position } = made.clone();
        let invalid = |reason: String| ResultError::Invalid(reason);
        let name: TopicSegmentName = key.parse().map_err(|error| invalid(format!("{error}")))?;
        if name.topic != topic {
            return Err(invalid(format!("segment {key} is not of topic {topic}")));
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
        let builder = PageBuilder { origin: self.parts.origin, topic, written_at: now };
        let (last, closed_at) = old.last().map_or((0, now), |page| (page.bounds.last, page.closed_at));
        let mut page = builder.leaf(page_name(builder), runs, last)?;
        page.entry.closed_at = closed_at;
        Ok(page)
    }
}

/// Whether a segment was named so long ago that it may be taken for an orphan before a page names it.
fn is_late(result: &CompactResult, now: Timestamp) -> bool {
    let named_at = |made: &SegmentMade| {
        let name: TopicSegmentName = made.key.parse().ok()?;
        Some(Timestamp::try_from(name.ulid.timestamp_ms()).unwrap_or(Timestamp::MAX))
    };
    result.segments.iter().filter_map(named_at).any(|named_at| now.saturating_sub(named_at) >= NAMED_AGO_MS_MAX)
}

fn unread(error: CatalogError) -> ResultError {
    match error {
        CatalogError::Store(StoreError::Unavailable { .. }) => ResultError::Unavailable(error.to_string()),
        _ => ResultError::Invalid(error.to_string()),
    }
}
