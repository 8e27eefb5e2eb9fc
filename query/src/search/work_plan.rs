//! From where a topic's records are to the units of work of a search, pruned by partition, offset and time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use chronik_format::catalog::{ArchiveEntry, ArchiveRun, TopicPage};
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
    pub(crate) page: Option<Arc<TopicPage>>,
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
    /// Ask an archive (an index into the page's) for candidates.
    Archive(usize),
    /// Read candidates.
    Batches(BatchGroup),
    /// Read all batches of runs that no archive covers.
    Runs(RunGroup),
    /// Read the broker's tail.
    Tail { partition: PartitionId, offsets: Range<Offset> },
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
            page: layout.page.clone(),
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

    /// The offsets that an archive stands for and that come from the bucket.
    fn offsets_of(&self, archive: &ArchiveEntry) -> impl Iterator<Item = (PartitionId, Range<Offset>)> {
        archive.runs.iter().filter_map(|run| {
            let bucket = self.bucket(run.partition);
            let offsets = run.first.max(bucket.start)..run.last.saturating_add(1).min(bucket.end);
            (!offsets.is_empty()).then_some((run.partition, offsets))
        })
    }

    pub(crate) fn archive(&self, at: usize) -> Option<&ArchiveEntry> {
        self.page.as_ref()?.archives.get(at)
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
        let Some(page) = &scope.page else { return };
        let mut archived: BTreeMap<PartitionId, Vec<(Offset, Offset)>> = BTreeMap::new();
        for (at, archive) in page.archives.iter().enumerate() {
            for run in &archive.runs {
                archived.entry(run.partition).or_default().push((run.first, run.last.saturating_add(1)));
            }
            if let Some(span) = span_of(&scope, archive) {
                self.units.push(WorkUnit { scope: Arc::clone(&scope), span, work: UnitSource::Archive(at) });
            }
        }
        let mut runs = Vec::new();
        for partition in partitions {
            let covered = archived.get(&partition.partition).map_or(&[][..], Vec::as_slice);
            for (from, to) in subtract(partition.bucket.clone(), covered) {
                runs.extend(self.runs(&scope, partition.partition, from..to));
            }
        }
        self.scan(&scope, runs);
    }

    /// What to do instead of asking an archive: read all of its runs.
    pub(crate) fn without_archive(scope: &Arc<TopicScope>, archive: &ArchiveEntry) -> Self {
        let mut plan = Self::default();
        let mut runs = Vec::new();
        for (partition, offsets) in scope.offsets_of(archive) {
            runs.extend(plan.runs(scope, partition, offsets));
        }
        plan.scan(scope, runs);
        plan
    }

    /// An archive that may be there the next time: its offsets are not searched.
    pub(crate) fn without_offsets_of(scope: &Arc<TopicScope>, archive: &ArchiveEntry, reason: &str) -> Self {
        let missing = scope
            .offsets_of(archive)
            .map(|(partition, offsets)| scope.missing(partition, offsets, reason, MissingCause::Failure))
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
    fn runs(&mut self, scope: &TopicScope, partition: PartitionId, offsets: Range<Offset>) -> Vec<RunWork> {
        let mut found = Vec::new();
        let Some(page) = scope.page.as_deref() else {
            return found;
        };
        let runs = page.partitions.iter().find(|page| page.partition == partition).map_or(&[][..], |page| &page.runs);
        let from = runs.partition_point(|run| run.offsets.last < offsets.start);
        for run in runs[from..].iter().take_while(|run| run.offsets.first < offsets.end) {
            let offsets = run.offsets.first.max(offsets.start)..run.offsets.end().min(offsets.end);
            match page.segments.get(run.segment as usize) {
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

/// Bounds of the records of an archive that may be wanted; `None` if there are none.
fn span_of(scope: &TopicScope, archive: &ArchiveEntry) -> Option<Span> {
    let wanted = |run: &ArchiveRun| {
        let bucket = scope.bucket(run.partition);
        let span = Span { earliest: run.min_timestamp?, latest: run.max_timestamp? };
        (run.first < bucket.end && run.last >= bucket.start && scope.may_admit(span)).then_some(span)
    };
    archive.runs.iter().filter_map(wanted).reduce(Span::union)
}
