//! What is to be rewritten, in the order in which it is written: by partition, then by offset.

use std::collections::HashMap;
use std::ops::Range;

use chronik_format::catalog::{SegmentEntry, TopicRuns};
use chronik_format::ids::{Offset, PartitionId};
use chronik_format::job::RecordPlace;
use chronik_format::span::{ByteSpan, OffsetSpan};

/// Bytes that are read at a time, unless a run alone has more.
const READ_BYTES: u64 = 8 << 20;

/// The runs of adjacent pages.
#[derive(Debug, Default)]
pub(super) struct CompactSources {
    pub segments: Vec<SegmentEntry>,
    /// By partition, then by offset.
    pub runs: Vec<SourceRun>,
}

/// One run, and where its batches are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceRun {
    pub partition: PartitionId,
    pub offsets: OffsetSpan,
    /// Index into [`CompactSources::segments`].
    pub segment: usize,
    /// Where they are in the segment.
    pub bytes: ByteSpan,
}

/// One read of a segment, and the runs that it brings, by their numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SourceRead {
    pub segment: usize,
    pub range: Range<u64>,
    pub runs: Vec<usize>,
}

impl CompactSources {
    /// The runs of pages, the oldest page first, but for those that end before their log starts; says why they can't be
    /// rewritten as one.
    pub fn of<P: AsRef<TopicRuns>>(pages: &[P], log_starts: &[RecordPlace]) -> Result<Self, String> {
        let mut sources = Self::default();
        for page in pages.iter().map(AsRef::as_ref) {
            let before = sources.segments.len();
            for partition in &page.partitions {
                sources.runs.extend(partition.runs.iter().map(|run| SourceRun {
                    partition: partition.partition,
                    offsets: run.offsets,
                    segment: before + run.segment as usize,
                    bytes: run.bytes,
                }));
            }
            sources.segments.extend_from_slice(&page.segments);
        }
        sources.runs.sort_by_key(|run| run.partition);
        let follows = |a: &SourceRun, b: &SourceRun| a.partition < b.partition || a.offsets.last < b.offsets.first;
        if let Some(pair) = sources.runs.windows(2).find(|pair| !follows(&pair[0], &pair[1])) {
            let SourceRun { partition, offsets, .. } = pair[1];
            return Err(format!("the pages don't follow one another: partition {partition} at {}", offsets.first));
        }
        sources.leave_out(log_starts);
        match sources.runs.is_empty() {
            true => Err("the pages have no runs".to_owned()),
            false => Ok(sources),
        }
    }

    /// Leaves out what ends before its log starts, if what is left begins no later: a page may begin at any offset up
    /// to the log's start, and where no record has that one, not behind it.
    fn leave_out(&mut self, log_starts: &[RecordPlace]) {
        let mut kept_from: HashMap<PartitionId, Offset> = HashMap::new();
        for RecordPlace { partition, offset } in log_starts {
            let start = self.runs.partition_point(|run| run.partition < *partition);
            let end = self.runs.partition_point(|run| run.partition <= *partition);
            let runs = &self.runs[start..end];
            let first = runs.partition_point(|run| run.offsets.last < *offset);
            let begins_behind = runs.get(first).is_some_and(|run| run.offsets.first > *offset);
            let first = if begins_behind { first.saturating_sub(1) } else { first };
            kept_from.insert(*partition, runs.get(first).map_or(Offset::MAX, |run| run.offsets.first));
        }
        let from = |run: &SourceRun| kept_from.get(&run.partition).copied().unwrap_or(Offset::MIN);
        self.runs.retain(|run| run.offsets.first >= from(run));
    }

    /// Cuts the runs into parts of which at most `bytes_max` are held, or one run; `is_held` says which are.
    pub fn windows(&self, bytes_max: u64, is_held: impl Fn(&SourceRun) -> bool) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let mut held = 0_u64;
            let fits = |run: &&SourceRun| {
                held = held.saturating_add(if is_held(run) { run.bytes.length } else { 0 });
                held <= bytes_max
            };
            let count = self.runs[start..].iter().take_while(fits).count();
            let window = start..(start + count.max(1)).min(self.runs.len());
            start = window.end;
            (!window.is_empty()).then_some(window)
        })
    }

    /// The reads that bring some runs: what lies side by side in a segment comes in one.
    pub fn reads(&self, runs: impl Iterator<Item = usize>) -> Vec<SourceRead> {
        let mut runs: Vec<usize> = runs.collect();
        runs.sort_by_key(|at| (self.runs[*at].segment, self.runs[*at].bytes.position));
        let mut reads: Vec<SourceRead> = Vec::new();
        for at in runs {
            let SourceRun { segment, bytes, .. } = self.runs[at];
            match reads.last_mut() {
                Some(read)
                    if read.segment == segment
                        && read.range.end == bytes.position
                        && bytes.end() - read.range.start <= READ_BYTES =>
                {
                    read.range.end = bytes.end();
                    read.runs.push(at);
                }
                _ => reads.push(SourceRead { segment, range: bytes.range(), runs: vec![at] }),
            }
        }
        reads
    }

    /// Bytes of all runs.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().fold(0, |bytes, run| bytes.saturating_add(run.bytes.length))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chronik_format::batch::TimeSpan;
    use chronik_format::catalog::{PartitionRuns, RunEntry};

    use super::*;

    /// A page over segments of runs: (partition, offset, position, length).
    fn page(segments: &[&[(PartitionId, i64, u64, u64)]]) -> TopicRuns {
        let mut page = TopicRuns::default();
        for (number, runs) in (0..).zip(segments) {
            let key = format!("segment-{number}");
            page.segments.push(SegmentEntry { key, ..SegmentEntry::default() });
            for (partition, first, position, length) in *runs {
                let run = RunEntry {
                    offsets: OffsetSpan { first: *first, last: first + 9 },
                    segment: number,
                    bytes: ByteSpan { position: *position, length: *length },
                    times: TimeSpan::at(1),
                    unreadable: None,
                };
                match page.partitions.iter_mut().find(|runs| runs.partition == *partition) {
                    Some(runs) => runs.runs.push(run),
                    None => page.partitions.push(PartitionRuns { partition: *partition, runs: vec![run] }),
                }
            }
        }
        page
    }

    fn two_pages() -> CompactSources {
        let first = page(&[&[(0, 0, 56, 10), (1, 0, 66, 20)], &[(0, 10, 56, 30), (1, 10, 86, 5)]]);
        let second = page(&[&[(0, 20, 100, 7), (2, 0, 107, 3)]]);
        CompactSources::of(&[Box::new(first), Box::new(second)], &[]).unwrap()
    }

    #[test]
    fn runs_are_written_by_partition_and_offset() {
        let sources = two_pages();
        let order: Vec<_> = sources.runs.iter().map(|run| (run.partition, run.offsets.first, run.segment)).collect();
        assert_eq!(order, [(0, 0, 0), (0, 10, 1), (0, 20, 2), (1, 0, 0), (1, 10, 1), (2, 0, 2)]);
        assert_eq!((sources.bytes(), sources.segments.len()), (75, 3));
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let page = || page(&[&[(0, 0, 56, 10)]]);
        CompactSources::of(&[Box::new(page()), Box::new(page())], &[]).unwrap_err();
        CompactSources::of::<Box<TopicRuns>>(&[], &[]).unwrap_err();
    }

    #[test]
    fn what_is_deleted_is_left_out_up_to_where_its_log_starts() {
        // Offsets 20 to 29 of the first partition were never given to a record.
        let page = || page(&[&[(0, 0, 56, 1), (1, 0, 57, 1)], &[(0, 10, 56, 1), (1, 10, 57, 1)], &[(0, 30, 56, 1)]]);
        let left = |log_starts: &[(PartitionId, Offset)]| {
            let log_starts = log_starts.iter().map(|&(partition, offset)| RecordPlace { partition, offset });
            let sources = CompactSources::of(&[Box::new(page())], &log_starts.collect::<Vec<_>>());
            sources.map(|sources| sources.runs.iter().map(|run| (run.partition, run.offsets.first)).collect::<Vec<_>>())
        };
        let all = [(0, 0), (0, 10), (0, 30), (1, 0), (1, 10)];
        assert_eq!(left(&[(0, 9), (2, 5)]).unwrap(), all);
        assert_eq!(left(&[(0, 10)]).unwrap(), all[1..]);
        assert_eq!(left(&[(0, 25)]).unwrap(), all[1..], "nothing begins between the start and the next record");
        assert_eq!(left(&[(0, 30)]).unwrap(), all[2..]);
        assert_eq!(left(&[(0, 40), (1, 15)]).unwrap(), all[4..]);
        left(&[(0, 40), (1, 20)]).unwrap_err();
    }

    #[test]
    fn a_window_holds_no_more_than_it_may_or_one_run() {
        let sources = two_pages();
        let windows = |bytes, held: u64| -> Vec<_> { sources.windows(bytes, |run| run.bytes.length <= held).collect() };
        assert_eq!(windows(1000, 1000), vec![0..6; 1]);
        assert_eq!(windows(34, 1000), [0..1, 1..2, 2..5, 5..6]);
        assert_eq!(windows(1, 1000), [0..1, 1..2, 2..3, 3..4, 4..5, 5..6]);
        assert_eq!(windows(40, 10), vec![0..6; 1]);
    }

    #[test]
    fn neighbours_come_in_one_read_within_its_limit() {
        let sources = two_pages();
        let read = |segment, range, runs: &[usize]| SourceRead { segment, range, runs: runs.to_vec() };
        assert_eq!(
            sources.reads(0..6),
            [read(0, 56..86, &[0, 3]), read(1, 56..91, &[1, 4]), read(2, 100..110, &[2, 5])]
        );
        assert_eq!(
            sources.reads([0, 1, 5].into_iter()),
            [read(0, 56..66, &[0]), read(1, 56..86, &[1]), read(2, 107..110, &[5])]
        );
        let large = page(&[&[(0, 0, 56, READ_BYTES), (1, 0, 56 + READ_BYTES, 1), (2, 0, 57 + READ_BYTES, 1)]]);
        let ranges: Vec<_> = CompactSources::of(&[Box::new(large)], &[])
            .unwrap()
            .reads(0..3)
            .into_iter()
            .map(|read| read.range)
            .collect();
        assert_eq!(ranges, [56..56 + READ_BYTES, 56 + READ_BYTES..58 + READ_BYTES]);
    }
}
