//! From an archive's candidates to reads of its segments.

use std::sync::Arc;

use chronik_format::archive::Undecodable;

use super::order::Span;
use super::scan::{BATCH_BYTES_MAX, unreadable};
use super::work_plan::{BatchGroup, Plan, Scope, Unit, Work};
use super::{Cause, Missing};
use crate::archive::{CandidateBatch, Candidates};

/// Bytes of a segment that one read of candidates spans, unless a single batch is larger.
const GROUP_BYTES: u64 = 1 << 20;
/// Bytes between two batches that are rather read than left out with a second read.
const HOLE_BYTES: u64 = 64 << 10;

/// Candidates as units of work, and what can't be decoded as missing. `None` if the archive's positions can't be true.
pub(super) fn proposed(scope: &Arc<Scope>, candidates: Candidates) -> Option<Plan> {
    let missing = candidates.undecodable.iter().filter_map(|batches| undecodable(scope, batches)).collect();
    Some(Plan { units: grouped(scope, candidates)?, missing, ..Plan::default() })
}

/// The offsets that would have been searched.
fn undecodable(scope: &Scope, batches: &Undecodable) -> Option<Missing> {
    let span = Span { earliest: batches.min_timestamp, latest: batches.max_timestamp };
    let bucket = scope.bucket(batches.partition);
    let offsets = batches.first.max(bucket.start)..batches.last.saturating_add(1).min(bucket.end);
    let is_wanted = !offsets.is_empty() && scope.may_admit(span);
    is_wanted.then(|| scope.missing(batches.partition, offsets, unreadable(&batches.reason), Cause::Unreadable))
}

/// Candidates as units of work, those that lie close together in one.
fn grouped(scope: &Arc<Scope>, candidates: Candidates) -> Option<Vec<Unit>> {
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
    let mut units: Vec<Unit> = Vec::new();
    for batch in batches {
        let span = span_of(&batch);
        let sure =
            (exact && scope.admits(span.earliest) && scope.admits(span.latest)).then_some(batch.offsets.len() as u64);
        let end = batch.position + batch.length;
        match units.last_mut() {
            Some(Unit { span: spans, work: Work::Batches(group), .. }) if fits(group, &batch) => {
                *spans = spans.union(span);
                group.range.end = group.range.end.max(end);
                group.exact = group.exact.zip(sure).map(|(before, more)| before + more);
                group.batches.push(batch);
            }
            _ => {
                let segment = batch.segment_key.clone();
                let group = BatchGroup { segment, range: batch.position..end, batches: vec![batch], exact: sure };
                units.push(Unit { scope: Arc::clone(scope), span, work: Work::Batches(group) });
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
