//! From runs to reads of their segments: the partitions of a topic lie side by side, so that one read serves many.

use std::ops::Range;

use chronik_format::ids::{Offset, PartitionId};

use super::order::Span;

/// Bytes of a segment that one read of runs spans, unless a single run is larger, which is read in pieces.
pub(super) const READ_BYTES: u64 = 4 << 20;
/// Bytes between two runs that are rather read than left out with a second read.
const HOLE_BYTES: u64 = 256 << 10;

/// The offsets of a run that are searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunWork {
    pub(crate) segment: String,
    pub(crate) partition: PartitionId,
    /// The run's last offset, inclusive.
    pub(crate) last: Offset,
    /// Bytes of the segment.
    pub(crate) range: Range<u64>,
    pub(crate) offsets: Range<Offset>,
    /// Bounds of its timestamps.
    pub(crate) span: Span,
}

/// Runs that lie close together in one segment, in their order there; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunGroup {
    pub(crate) segment: String,
    /// Bytes of the segment.
    pub(crate) range: Range<u64>,
    pub(crate) runs: Vec<RunWork>,
    pub(crate) span: Span,
}

/// Brings together the runs that are read at a time.
pub(super) fn neighbours(mut runs: Vec<RunWork>) -> impl Iterator<Item = RunGroup> {
    runs.sort_by(|a, b| (&a.segment, a.range.start).cmp(&(&b.segment, b.range.start)));
    let mut groups: Vec<RunGroup> = Vec::new();
    for run in runs {
        match groups.last_mut() {
            Some(group) if fits(group, &run) => {
                group.range.end = group.range.end.max(run.range.end);
                group.span = group.span.union(run.span);
                group.runs.push(run);
            }
            _ => groups.push(RunGroup {
                segment: run.segment.clone(),
                range: run.range.clone(),
                span: run.span,
                runs: vec![run],
            }),
        }
    }
    groups.into_iter()
}

fn fits(group: &RunGroup, run: &RunWork) -> bool {
    group.segment == run.segment
        && run.range.start <= group.range.end.saturating_add(HOLE_BYTES)
        && run.range.end.max(group.range.end) - group.range.start <= READ_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of partition `n` in a segment at a place, and which of these are read together.
    fn grouped(list: &[(&str, u64, u64)]) -> Vec<(String, Range<u64>, Vec<PartitionId>)> {
        let runs = (0..).zip(list).map(|(partition, (segment, position, length))| RunWork {
            segment: (*segment).to_owned(),
            partition,
            last: 0,
            range: *position..position + length,
            offsets: 0..1,
            span: Span::ANY,
        });
        let partitions = |group: &RunGroup| group.runs.iter().map(|run| run.partition).collect();
        neighbours(runs.collect())
            .map(|group| (group.segment.clone(), group.range.clone(), partitions(&group)))
            .collect()
    }

    #[test]
    fn runs_that_lie_close_together_are_read_at_once() {
        let read = |segment: &str, range, partitions: &[PartitionId]| (segment.to_owned(), range, partitions.to_vec());
        assert_eq!(
            grouped(&[("a", 50, 10), ("b", 0, 5), ("a", 10, 20), ("a", 60 + HOLE_BYTES, 1)]),
            [read("a", 10..61 + HOLE_BYTES, &[2, 0, 3]), read("b", 0..5, &[1])]
        );
        assert_eq!(
            grouped(&[("a", 0, 1), ("a", 2 + HOLE_BYTES, 1)]),
            [read("a", 0..1, &[0]), read("a", 2 + HOLE_BYTES..3 + HOLE_BYTES, &[1])]
        );
    }

    #[test]
    fn a_read_is_bounded_unless_a_run_alone_is_larger() {
        let half = READ_BYTES / 2;
        let places: Vec<_> =
            grouped(&[("a", 0, half), ("a", half, half), ("a", 2 * half, 1), ("a", 2 * half + 1, 9 * half)])
                .into_iter()
                .map(|(_, range, _)| range)
                .collect();
        assert_eq!(places, [0..READ_BYTES, READ_BYTES..READ_BYTES + 1, READ_BYTES + 1..READ_BYTES + 1 + 9 * half]);
    }
}
