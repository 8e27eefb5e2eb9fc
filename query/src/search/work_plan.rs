//! From where a topic's records are to the units of work of a search, pruned by partition, offset and time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use chronik_format::catalog::{ArchiveEntry, ArchiveRun, Page, PageBounds, PageEntry, TopicHead, TopicRuns};
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_format::job::IndexSettings;
use chronik_format::search::{Query, RecordMatcher};

use super::coverage::{MissingCause, subtract};
use super::order::Span;
use super::runs::{RunGroup, RunWork, neighbours};
use super::topic_layout::{PartitionLayout, TopicLayout};
use super::{CoveredRange, MissingRange, SearchRequest};
use crate::archive::CandidateBatch;

const NO_SEGMENT: &str = "the catalog names no segment for them";

/// A topic as far as it is searched, and what is looked for.
#[derive(Debug)]
pub(crate) struct TopicScope {
    pub(crate) topic: Arc<str>,
    pub(crate) id: TopicId,
    /// `None` if the topic is too new to be in the catalog.
    pub(crate) head: Option<Arc<TopicHead>>,
    pub(crate) settings: IndexSettings,
    pub(crate) query: Query,
    pub(crate) matcher: RecordMatcher,
    /// Inclusive.
    pub(crate) from: Timestamp,
    /// Exclusive; `None` is no bound.
    pub(crate) to: Option<Timestamp>,
    /// Per searched partition, the offsets that come from the bucket.
    bucket: BTreeMap<PartitionId, Range<Offset>>,
}

/// Something to be searched on its own.
#[derive(Debug)]
pub(crate) struct WorkUnit {
    pub(crate) scope: Arc<TopicScope>,
    /// Bounds of the timestamps in it.
    pub(crate) span: Span,
    pub(crate) work: UnitSource,
}

#[derive(Debug)]
pub(crate) enum UnitSource {
    /// Read a page of the topic's history for what is to be done in it, or below it.
    Page(Arc<PageEntry>),
    /// Ask an archive for candidates.
    Archive(ArchiveIn),
    /// Read candidates.
    Batches(BatchGroup),
    /// Read all batches of runs that no archive covers.
    Runs(RunGroup),
    /// Read the broker's tail.
    Tail { partition: PartitionId, offsets: Range<Offset> },
}

/// An archive, and the runs among which are those that it covers.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveIn {
    pub(crate) runs: Arc<TopicRuns>,
    /// Index into the archives.
    at: usize,
}

/// Candidate batches that lie close together in one segment.
#[derive(Debug)]
pub(crate) struct BatchGroup {
    pub(crate) segment: String,
    /// Bytes of the segment.
    pub(crate) range: Range<u64>,
    pub(crate) batches: Vec<CandidateBatch>,
    /// Records that match for sure, if that and their time are known without reading them.
    pub(crate) exact: Option<u64>,
}

/// All that a search has to do, and the ranges it will have answered for.
#[derive(Debug, Default)]
pub(crate) struct WorkPlan {
    /// Names the topics.
    pub(crate) topics: u32,
    pub(crate) units: Vec<WorkUnit>,
    pub(crate) ranges: Vec<CoveredRange>,
    pub(crate) missing: Vec<MissingRange>,
}

impl TopicScope {
    fn new(layout: &TopicLayout, partitions: &[PartitionLayout], request: &SearchRequest) -> Self {
        let settings = layout.settings;
        Self {
            topic: Arc::clone(&layout.name),
            id: layout.id,
            head: layout.head.clone(),
            settings,
            query: request.query.clone(),
            matcher: RecordMatcher::new(&request.query, settings),
            from: request.from.unwrap_or(Timestamp::MIN),
            to: request.to,
            bucket: partitions.iter().map(|layout| (layout.partition, layout.bucket.clone())).collect(),
        }
    }

    /// Whether a record of that time is wanted.
    pub(crate) fn admits(&self, timestamp: Timestamp) -> bool {
        timestamp >= self.from && self.to.is_none_or(|to| timestamp < to)
    }

    /// Whether a record within these bounds may be wanted.
    pub(crate) fn may_admit(&self, span: Span) -> bool {
        span.latest >= self.from && self.to.is_none_or(|to| span.earliest < to)
    }

    /// The offsets of a partition that come from the bucket.
    pub(crate) fn bucket(&self, partition: PartitionId) -> Range<Offset> {
        self.bucket.get(&partition).cloned().unwrap_or(0..0)
    }

    /// What of these offsets comes from the bucket; `None` if nothing does.
    fn clipped(&self, partition: PartitionId, first: Offset, last: Offset) -> Option<Range<Offset>> {
        let bucket = self.bucket(partition);
        let offsets = first.max(bucket.start)..last.saturating_add(1).min(bucket.end);
        (!offsets.is_empty()).then_some(offsets)
    }

    /// The offsets that a page stands for and that come from the bucket.
    fn offsets_in(&self, page: &PageBounds) -> impl Iterator<Item = (PartitionId, Range<Offset>)> {
        page.partitions.iter().filter_map(|bounds| {
            let offsets = self.clipped(bounds.partition, bounds.offsets.first, bounds.offsets.last)?;
            Some((bounds.partition, offsets))
        })
    }

    /// The offsets that an archive stands for and that come from the bucket.
    fn offsets_of(&self, archive: &ArchiveEntry) -> impl Iterator<Item = (PartitionId, Range<Offset>)> {
        archive.runs.iter().filter_map(|run| Some((run.partition, self.clipped(run.partition, run.first, run.last)?)))
    }

    /// Bounds of the records of an archive that may be wanted; `None` if there are none.
    fn span_of(&self, archive: &ArchiveEntry) -> Option<Span> {
        let wanted = |run: &ArchiveRun| {
            let span = Span { earliest: run.min_timestamp?, latest: run.max_timestamp? };
            (self.clipped(run.partition, run.first, run.last).is_some() && self.may_admit(span)).then_some(span)
        };
        archive.runs.iter().filter_map(wanted).reduce(Span::union)
    }

    /// The same of a page.
    fn span_in(&self, page: &PageBounds) -> Option<Span> {
        let times = page.partitions.iter().filter_map(|bounds| {
            let offsets = self.clipped(bounds.partition, bounds.offsets.first, bounds.offsets.last);
            (offsets.is_some() && self.may_admit(bounds.times)).then_some(bounds.times)
        });
        times.reduce(Span::union)
    }

    pub(crate) fn missing(
        &self,
        partition: PartitionId,
        offsets: Range<Offset>,
        reason: impl ToString,
        cause: MissingCause,
    ) -> MissingRange {
        let (from, to) = (offsets.start, Some(offsets.end));
        MissingRange { topic: Arc::clone(&self.topic), partition, from, to, reason: reason.to_string(), cause }
    }
}

impl WorkPlan {
    /// Adds what is to be done for the given partitions of a topic.
    pub(crate) fn add(&mut self, layout: &TopicLayout, partitions: &[PartitionLayout], request: &SearchRequest) {
        let scope = Arc::new(TopicScope::new(layout, partitions, request));
        for partition in partitions {
            let Range { start: from, end: to } = partition.range();
            self.ranges.push(CoveredRange {
                topic: Arc::clone(&scope.topic),
                partition: partition.partition,
                from,
                to,
            });
            if let Some(gap) = &partition.gap {
                let missing =
                    scope.missing(partition.partition, gap.from..Offset::MAX, &gap.reason, MissingCause::Failure);
                self.missing.push(MissingRange { to: gap.to, ..missing });
            }
            if !partition.tail.is_empty() {
                let work = UnitSource::Tail { partition: partition.partition, offsets: partition.tail.clone() };
                self.units.push(WorkUnit { scope: Arc::clone(&scope), span: Span::ANY, work });
            }
        }
        let Some(head) = &scope.head else { return };
        self.add_pages(&scope, &head.pages);
        let open = partitions.iter().map(|layout| {
            let Range { start, end } = layout.bucket;
            (layout.partition, start.max(head.closed_to(layout.partition))..end)
        });
        self.add_runs(&scope, &head.open, open.filter(|(_, offsets)| !offsets.is_empty()));
    }

    /// What is to be done in a page, or below it.
    pub(crate) fn within(scope: &Arc<TopicScope>, bounds: &PageBounds, page: &Page) -> Self {
        let mut plan = Self::default();
        match page {
            Page::Runs(runs) => plan.add_runs(scope, runs, scope.offsets_in(bounds)),
            Page::Pages(below) => plan.add_pages(scope, below),
        }
        plan
    }

    fn add_pages(&mut self, scope: &Arc<TopicScope>, pages: &[Arc<PageEntry>]) {
        for page in pages {
            if let Some(span) = scope.span_in(&page.bounds) {
                let work = UnitSource::Page(Arc::clone(page));
                self.units.push(WorkUnit { scope: Arc::clone(scope), span, work });
            }
        }
    }

    /// A page that can't be read: its offsets are not searched.
    pub(crate) fn without_offsets_in(
        scope: &Arc<TopicScope>,
        page: &PageBounds,
        reason: &str,
        cause: MissingCause,
    ) -> Self {
        let missing =
            scope.offsets_in(page).map(|(partition, offsets)| scope.missing(partition, offsets, reason, cause));
        Self { missing: missing.collect(), ..Self::default() }
    }

    /// Adds what is to be done for offsets of partitions whose runs are among these: their archives, and what no
    /// archive covers.
    fn add_runs(
        &mut self,
        scope: &Arc<TopicScope>,
        runs: &Arc<TopicRuns>,
        wanted: impl Iterator<Item = (PartitionId, Range<Offset>)>,
    ) {
        let mut archived: BTreeMap<PartitionId, Vec<(Offset, Offset)>> = BTreeMap::new();
        for (at, archive) in runs.archives.iter().enumerate() {
            for run in &archive.runs {
                archived.entry(run.partition).or_default().push((run.first, run.last.saturating_add(1)));
            }
            if let Some(span) = scope.span_of(archive) {
                let work = UnitSource::Archive(ArchiveIn { runs: Arc::clone(runs), at });
                self.units.push(WorkUnit { scope: Arc::clone(scope), span, work });
            }
        }
        let mut scanned = Vec::new();
        for (partition, offsets) in wanted {
            let covered = archived.get(&partition).map_or(&[][..], Vec::as_slice);
            for (from, to) in subtract(offsets, covered) {
                scanned.extend(self.runs(scope, runs, partition, from..to));
            }
        }
        self.scan(scope, scanned);
    }

    /// What to do instead of asking an archive: read all of its runs.
    pub(crate) fn without_archive(scope: &Arc<TopicScope>, archive: &ArchiveIn) -> Self {
        let mut plan = Self::default();
        let mut runs = Vec::new();
        for (partition, offsets) in archive.entry().into_iter().flat_map(|entry| scope.offsets_of(entry)) {
            runs.extend(plan.runs(scope, &archive.runs, partition, offsets));
        }
        plan.scan(scope, runs);
        plan
    }

    /// An archive that may be there the next time: its offsets are not searched.
    pub(crate) fn without_offsets_of(
        scope: &Arc<TopicScope>,
        archive: &ArchiveEntry,
        reason: &str,
        cause: MissingCause,
    ) -> Self {
        let missing = scope
            .offsets_of(archive)
            .map(|(partition, offsets)| scope.missing(partition, offsets, reason, cause))
            .collect();
        Self { missing, ..Self::default() }
    }

    /// Adds runs as units, those that lie close together in one.
    fn scan(&mut self, scope: &Arc<TopicScope>, runs: Vec<RunWork>) {
        self.units.extend(neighbours(runs).map(|group| WorkUnit {
            scope: Arc::clone(scope),
            span: group.span,
            work: UnitSource::Runs(group),
        }));
    }

    /// The runs to read offsets from. Between two runs may lie offsets that no record has; behind the last one,
    /// something is missing.
    fn runs(
        &mut self,
        scope: &TopicScope,
        among: &TopicRuns,
        partition: PartitionId,
        offsets: Range<Offset>,
    ) -> Vec<RunWork> {
        let mut found = Vec::new();
        let runs = among.of(partition);
        let from = runs.partition_point(|run| run.offsets.last < offsets.start);
        for run in runs[from..].iter().take_while(|run| run.offsets.first < offsets.end) {
            let offsets = run.offsets.first.max(offsets.start)..run.offsets.end().min(offsets.end);
            match among.segment_of(run) {
                None => self.missing.push(scope.missing(partition, offsets, NO_SEGMENT, MissingCause::Stale)),
                Some(_) if !scope.may_admit(run.times) => {}
                Some(segment) => {
                    found.push(RunWork {
                        segment: segment.key.clone(),
                        partition,
                        last: run.offsets.last,
                        range: run.bytes.range(),
                        offsets,
                        span: run.times,
                    });
                }
            }
        }
        let known = runs.last().map_or(offsets.start, |run| run.offsets.end().max(offsets.start));
        if known < offsets.end {
            self.missing.push(scope.missing(partition, known..offsets.end, NO_SEGMENT, MissingCause::Stale));
        }
        found
    }
}

impl ArchiveIn {
    pub(crate) fn entry(&self) -> Option<&ArchiveEntry> {
        self.runs.archives.get(self.at)
    }
}
