//! The walk of a search through its units.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::catalog::{CatalogError, PageEntry};
use chronik_format::segment::SegmentError;
use chronik_service::admission::{HeldTurn, TurnLimit};
use chronik_service::failpoint;
use futures::future::try_join_all;

use super::candidates::proposed;
use super::coverage::covered;
use super::cursor::PageCursor;
use super::moved::MovedBatches;
use super::patience::patiently;
use super::scan::{RecordScanner, UnitHits, cause_of};
use super::top_hits::TopHits;
use super::topic_layout::{LayoutSources, TopicLayout};
use super::work_plan::{ArchiveIn, TopicScope, UnitSource, WorkPlan, WorkUnit};
use super::{CoveredRange, Hit, MissingCause, MissingRange, SearchError, SearchRequest};
use crate::archive::{ArchiveLeaf, LeafError};

/// Bytes of records that a page holds, and that each of the units being searched at a time may hold for it.
const PAGE_BYTES: usize = 8 << 20;
/// How far matches are counted that don't get onto the page.
const COUNT_MAX: u64 = 10_000;

/// Answers searches.
pub(crate) struct SearchExecutor {
    pub(crate) sources: LayoutSources,
    pub(crate) leaf: ArchiveLeaf,
    pub(crate) moved: MovedBatches,
    pub(crate) scanner: RecordScanner,
    /// Units of one search that are searched at a time.
    pub(crate) breadth: usize,
    /// Searches at work, and waiting.
    pub(crate) turns: TurnLimit,
}

/// What a search found.
pub(crate) struct SearchAnswer {
    pub(crate) hits: Vec<Hit>,
    /// Matching records: so many, or, unless `counted`, at least so many.
    pub(crate) total: u64,
    pub(crate) counted: bool,
    pub(crate) coverage: Vec<CoveredRange>,
    pub(crate) missing: Vec<MissingRange>,
    /// `None` if there is nothing more.
    pub(crate) cursor: Option<PageCursor>,
}

/// Units that wait, the most urgent first.
#[derive(Default)]
struct Agenda {
    units: BTreeMap<(i128, u64), WorkUnit>,
    added: u64,
}

/// What came of a unit.
enum Outcome {
    Found(UnitHits),
    /// A page or an archive was opened, or given up: this is to be done now.
    More(WorkPlan),
}

impl SearchExecutor {
    /// Runs a search whose turn it is. If the catalog turns out to be older than the bucket, it is refreshed once and
    /// all is done again.
    pub(crate) async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchError> {
        let metrics = &self.scanner.metrics;
        metrics.searches.inc();
        let mut answer = self.attempt(request).await?;
        if answer.missing.iter().any(|missing| missing.cause == MissingCause::Stale) {
            self.sources.catalog.refresh().await?;
            answer = self.attempt(request).await?;
        }
        if !answer.missing.iter().all(MissingRange::is_permanent) {
            metrics.incomplete.inc();
            if !request.partial {
                return Err(SearchError::Incomplete { missing: answer.missing });
            }
        }
        Ok(answer)
    }

    /// Waits for a turn, unless too many wait already. Every search that reads from the bucket takes one.
    pub(crate) async fn turn(&self) -> Result<HeldTurn, SearchError> {
        self.turns.take().await.map_err(|_| {
            self.scanner.metrics.refused.inc();
            SearchError::Busy
        })
    }

    async fn attempt(&self, request: &SearchRequest) -> Result<SearchAnswer, SearchError> {
        let plan = self.plan(request).await?;
        failpoint!("search-planned");
        let after = request.cursor.as_ref().map(PageCursor::place);
        let mut page = TopHits::new(request.sort, request.limit, PAGE_BYTES, after);
        let mut missing = plan.missing;
        let counted = self.walk(request, plan.units, &mut page, &mut missing).await?;
        Ok(answer(request, plan.topics, page, counted, plan.ranges, missing))
    }

    async fn plan(&self, request: &SearchRequest) -> Result<WorkPlan, SearchError> {
        let mut plan = WorkPlan::default();
        let mut known_partition = false;
        for layout in self.layouts(request).await? {
            let wanted =
                |partition| request.partitions.is_empty() || request.partitions.binary_search(partition).is_ok();
            let partitions: Vec<_> =
                layout.partitions.iter().filter(|layout| wanted(&layout.partition)).cloned().collect();
            known_partition |= !partitions.is_empty();
            plan.topics = crc32c::crc32c_append(plan.topics, layout.id.0.as_bytes());
            plan.add(&layout, &partitions, request);
        }
        match (request.partitions.first(), request.topics.is_empty()) {
            (Some(&partition), false) if !known_partition => {
                Err(SearchError::UnknownPartition { topic: request.topics.join(", "), partition })
            }
            _ => Ok(plan),
        }
    }

    /// Where the topics to be searched stand. Those that are named have to exist and be searchable.
    async fn layouts(&self, request: &SearchRequest) -> Result<Vec<TopicLayout>, SearchError> {
        let mut layouts = Vec::new();
        if request.topics.is_empty() {
            for topic in self.sources.topics().await? {
                let layout = self.sources.layout(&topic).await?;
                layouts.extend(layout.filter(|layout| layout.search_enabled));
            }
        }
        for topic in &request.topics {
            match self.sources.layout(topic).await? {
                Some(layout) if layout.search_enabled => layouts.push(layout),
                Some(_) => return Err(SearchError::SearchDisabled { topic: topic.clone() }),
                None => return Err(SearchError::UnknownTopic { topic: topic.clone() }),
            }
        }
        Ok(layouts)
    }

    /// Takes units in the order of their timestamps. What can't get onto the page any more is only counted, as long as
    /// that needs no records (a page without hits wants nothing but the count). Whether all matches were counted.
    async fn walk(
        &self,
        request: &SearchRequest,
        units: Vec<WorkUnit>,
        page: &mut TopHits,
        missing: &mut Vec<MissingRange>,
    ) -> Result<bool, SearchError> {
        let mut agenda = Agenda::default();
        agenda.add(request, units);
        let mut counted = true;
        loop {
            let mut wave = Vec::new();
            while wave.len() < self.breadth
                && let Some(unit) = agenda.next()
            {
                if page.has_passed(unit.span) {
                    continue;
                }
                if !page.is_closed_to(unit.span) {
                    wave.push(unit);
                } else if let Some(matches) = unit.countable(page) {
                    page.count(matches);
                } else if request.limit == 0 || (counted && unit.leads_to_more() && page.matched() < COUNT_MAX) {
                    wave.push(unit);
                } else {
                    counted = false;
                }
            }
            if wave.is_empty() {
                return Ok(counted);
            }
            for outcome in try_join_all(wave.into_iter().map(|unit| self.work(unit, page.fork()))).await? {
                match outcome {
                    Outcome::Found(found) => {
                        page.merge(found.page);
                        missing.extend(found.missing);
                    }
                    Outcome::More(plan) => {
                        agenda.add(request, plan.units);
                        missing.extend(plan.missing);
                    }
                }
            }
        }
    }

    async fn work(&self, unit: WorkUnit, page: TopHits) -> Result<Outcome, SearchError> {
        let scope = unit.scope;
        let found = match unit.work {
            UnitSource::Page(entry) => return Ok(Outcome::More(self.open_page(&scope, &entry).await)),
            UnitSource::Archive(archive) => return Ok(Outcome::More(self.open(&scope, &archive).await)),
            UnitSource::Batches(group) => self.scanner.batches(scope, group, page).await?,
            UnitSource::Runs(group) => self.scanner.runs(scope, group, page).await?,
            UnitSource::Tail { partition, offsets } => self.scanner.tail(scope, partition, offsets, page).await?,
        };
        Ok(Outcome::Found(found))
    }

    /// What is to be done in a page; nothing, if the store does not give it.
    async fn open_page(&self, scope: &Arc<TopicScope>, entry: &PageEntry) -> WorkPlan {
        let read = || self.sources.catalog.page(scope.id, entry);
        let may_pass = |error: &CatalogError| matches!(error, CatalogError::Store(_)) && !error.is_missing();
        match patiently(read, may_pass).await {
            Ok(page) => WorkPlan::within(scope, &entry.bounds, &page),
            Err(error) => {
                let cause = if error.is_missing() { MissingCause::Stale } else { MissingCause::Failure };
                WorkPlan::without_offsets_in(scope, &entry.bounds, &error.to_string(), cause)
            }
        }
    }

    /// The candidates of an archive and what can't be decoded; its runs, if it is of no use; nothing, if the store does
    /// not give it now. Reading all of its records instead would then only ask more of a store that fails.
    async fn open(&self, scope: &Arc<TopicScope>, archive: &ArchiveIn) -> WorkPlan {
        let Some(entry) = archive.entry() else {
            return WorkPlan::default();
        };
        self.scanner.metrics.archives.inc();
        let ask = || self.leaf.candidates(entry, &scope.query, scope.settings);
        let may_pass = |error: &LeafError| matches!(error, LeafError::Store { .. });
        let mut candidates = match patiently(ask, may_pass).await {
            Ok(candidates) => candidates,
            Err(error @ LeafError::Store { .. }) => {
                return WorkPlan::without_offsets_of(scope, entry, &error.to_string(), MissingCause::Failure);
            }
            Err(error) => return self.without(scope, archive, &error.to_string()),
        };
        match self.moved.locate(scope.id, &archive.runs, &mut candidates.batches).await {
            Ok(()) => {}
            Err(SegmentError::Store(error)) => {
                return WorkPlan::without_offsets_of(scope, entry, &error.to_string(), cause_of(&error));
            }
            Err(error) => return self.without(scope, archive, &error.to_string()),
        }
        proposed(scope, candidates).unwrap_or_else(|| {
            self.without(scope, archive, &format!("archive {} names batches that are too large", entry.key))
        })
    }

    fn without(&self, scope: &Arc<TopicScope>, archive: &ArchiveIn, reason: &str) -> WorkPlan {
        self.scanner.metrics.archives_failed.inc();
        tracing::warn!("an archive is not used, its records are read instead: {reason}");
        WorkPlan::without_archive(scope, archive)
    }
}

impl Agenda {
    fn add(&mut self, request: &SearchRequest, units: Vec<WorkUnit>) {
        for unit in units {
            self.units.insert((request.sort.urgency(unit.span), self.added), unit);
            self.added += 1;
        }
    }

    fn next(&mut self) -> Option<WorkUnit> {
        self.units.pop_first().map(|(_, unit)| unit)
    }
}

impl WorkUnit {
    /// Whether it reads no records itself.
    fn leads_to_more(&self) -> bool {
        matches!(self.work, UnitSource::Page(_) | UnitSource::Archive(_))
    }

    /// Matches in it, all behind the page's cursor, if that is known without reading.
    fn countable(&self, page: &TopHits) -> Option<u64> {
        match &self.work {
            UnitSource::Batches(group) if page.is_all_ahead(self.span) => group.exact,
            _ => None,
        }
    }
}

fn answer(
    request: &SearchRequest,
    topics: u32,
    page: TopHits,
    counted: bool,
    ranges: Vec<CoveredRange>,
    missing: Vec<MissingRange>,
) -> SearchAnswer {
    // What was seen of topics that are gone since counts no more: what is from here on is at least there.
    let seen = request.cursor.as_ref().map_or(Some(0), |cursor| cursor.seen_of(topics));
    let more = !counted || page.matched() > page.len() as u64;
    let behind = seen.map(|seen| seen + page.len() as u64);
    let cursor = page.last().filter(|_| more).map(|last| PageCursor::behind(last, behind, topics, request.fingerprint));
    SearchAnswer {
        total: seen.unwrap_or(0) + page.matched(),
        counted: counted && seen.is_some(),
        coverage: covered(ranges, &missing),
        missing,
        cursor,
        hits: page.into_hits().collect(),
    }
}
