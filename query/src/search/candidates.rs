//! From an archive's candidates to reads of its segments.

use std::sync::Arc;

use chronik_format::archive::UndecodableBatches;

use super::order::Span;
use super::scan::{BATCH_BYTES_MAX, unreadable};
use super::work_plan::{BatchGroup, TopicScope, UnitSource, WorkPlan, WorkUnit};
use super::{MissingCause, MissingRange};
use crate::archive::{CandidateBatch, CandidateRecords};

/// Bytes of a segment that one read of candidates spans, unless a single batch is larger.
const GROUP_BYTES: u64 = 1 << 20;
/// Bytes between two batches that are rather read than left out with a second read.
const HOLE_BYTES: u64 = 64 << 10;

/// Candidates as units of work, and what can't be decoded as missing. `None` if the archive's positions can't be true.
pub(super) fn proposed(scope: &Arc<TopicScope>, candidates: CandidateRecords) -> Option<WorkPlan> {
    let missing = candidates.undecodable.iter().filter_map(|batches| undecodable(scope, batches)).collect();
    Some(WorkPlan { units: grouped(scope, candidates)?, missing, ..WorkPlan::default() })
}

/// The offsets that would have been searched.
fn undecodable(scope: &TopicScope, batches: &UndecodableBatches) -> Option<MissingRange> {
    let span = Span { earliest: batches.min_timestamp, latest: batches.max_timestamp };
    let bucket = scope.bucket(batches.partition);
    let offsets = batches.first.max(bucket.start)..batches.last.saturating_add(1).min(bucket.end);
    let is_wanted = !offsets.is_empty() && scope.may_admit(span);
    is_wanted.then(|| scope.missing(batches.partition, offsets, unreadable(&batches.reason), MissingCause::Unreadable))
}

/// Candidates as units of work, those that lie close together in one.
fn grouped(scope: &Arc<TopicScope>, candidates: CandidateRecords) -> Option<Vec<WorkUnit>> {
    let exact = candidates.exact;
    let mut batches = candidates.batches;
    batches.retain_mut(|batch| {
        let bucket = scope.bucket(batch.partition);
        batch.offsets.retain(|offset| bucket.contains(offset));
        !batch.offsets.is_empty() && scope.may_admit(span_of(batch))
    });
    if batches.iter().any(|batch| batch.length > BATCH_BYTES_MAX || batch.position.checked_add(batch.length).is_none())
    {
        return None;
    }
    batches.sort_by(|a, b| (&a.segment_key, a.position).cmp(&(&b.segment_key, b.position)));
    let mut units: Vec<WorkUnit> = Vec::new();
    for batch in batches {
        let span = span_of(&batch);
        let sure =
            (exact && scope.admits(span.earliest) && scope.admits(span.latest)).then_some(batch.offsets.len() as u64);
        let end = batch.position + batch.length;
        match units.last_mut() {
            Some(WorkUnit { span: spans, work: UnitSource::Batches(group), .. }) if fits(group, &batch) => {
                *spans = spans.union(span);
                group.range.end = group.range.end.max(end);
                group.exact = group.exact.zip(sure).map(|(before, more)| before + more);
                group.batches.push(batch);
            }
            _ => {
                let segment = batch.segment_key.clone();
                let group = BatchGroup { segment, range: batch.position..end, batches: vec![batch], exact: sure };
                units.push(WorkUnit { scope: Arc::clone(scope), span, work: UnitSource::Batches(group) });
            }
        }
    }
    Some(units)
}

fn fits(group: &BatchGroup, batch: &CandidateBatch) -> bool {
    group.segment == batch.segment_key
        && batch.position <= group.range.end.saturating_add(HOLE_BYTES)
        && batch.position + batch.length <= group.range.start.saturating_add(GROUP_BYTES)
}

fn span_of(batch: &CandidateBatch) -> Span {
    Span { earliest: batch.min_timestamp, latest: batch.max_timestamp }
}
