//! From pages, and the segments of level 1 that their batches were written into, to the page that takes their place.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use super::runs::ArchivedOffsets;
use super::{ArchiveEntry, ArchiveRun, PartitionRuns, RunEntry, SegmentEntry, TopicRuns};
use crate::batch::TimeSpan;
use crate::ids::{Offset, PartitionId, TopicId};
use crate::segment::{DirectoryRow, SegmentDirectory};
use crate::span::{ByteSpan, OffsetSpan};

/// Bytes that a run has, unless one alone has more: what is scanned or indexed as one.
const RUN_BYTES_MAX: u64 = 64 << 20;

/// A segment of level 1, opened.
#[derive(Clone, Debug)]
pub struct CompactedSegment {
    pub entry: SegmentEntry,
    pub directory: SegmentDirectory,
}

/// What adjacent pages of a topic, the oldest first, hold once their batches lie in `segments`, or why these are not
/// just their batches: offsets, bytes and times of every partition must be the same, but for oldest runs that are left
/// out, whose last record `is_deleted`. Archives stay, as long as one of their runs does; their runs and those of a
/// partition become as few as there may be without one that is archived in part.
pub fn compacted(
    topic: TopicId,
    pages: &[impl AsRef<TopicRuns>],
    segments: Vec<CompactedSegment>,
    is_deleted: impl Fn(PartitionId, Offset) -> bool,
) -> Result<TopicRuns, String> {
    let archives: Vec<&ArchiveEntry> = pages.iter().flat_map(|page| &page.as_ref().archives).collect();
    let archived = ArchivedOffsets::of(archives.iter().copied());
    let mut old: BTreeMap<PartitionId, Vec<&RunEntry>> = BTreeMap::new();
    for runs in pages.iter().flat_map(|page| &page.as_ref().partitions) {
        old.entry(runs.partition).or_default().extend(&runs.runs);
    }
    let mut partitions = Vec::with_capacity(old.len());
    for (partition, old) in &old {
        let rows =
            (0..).zip(&segments).filter_map(|(at, segment)| Some((at, segment.directory.row(topic, *partition)?)));
        let kept = left(old, rows.clone().next(), |run| is_deleted(*partition, run.offsets.last));
        let runs = kept.and_then(|kept| moved(kept, rows, |run| archived.hold(*partition, run.offsets)));
        let runs = runs.map_err(|reason| format!("partition {partition}: {reason}"))?;
        if !runs.is_empty() {
            partitions.push(PartitionRuns { partition: *partition, runs });
        }
    }
    let listed: usize = segments.iter().map(|segment| segment.directory.rows.len()).sum();
    let held = partitions.iter().map(|runs| rows_of(&runs.runs)).sum::<usize>();
    if listed != held {
        return Err(format!("they hold {listed} stretches of partitions instead of {held}"));
    }
    let segments = segments.into_iter().map(|segment| segment.entry).collect();
    let mut new = TopicRuns { segments, partitions, archives: Vec::new() };
    let is_kept = |run: &ArchiveRun| new.of(run.partition).first().is_some_and(|first| first.offsets.first <= run.last);
    let archives = archives.into_iter().filter(|archive| archive.runs.iter().any(is_kept));
    new.archives = archives.map(|archive| widened(archive, &old)).collect();
    match new.partitions.is_empty() {
        true => Err("no record of the pages is left".to_owned()),
        false => Ok(new),
    }
}

/// The runs of a partition from its first row on, if those before are deleted.
fn left<'a, 'b>(
    old: &'a [&'b RunEntry],
    first: Option<(u32, &DirectoryRow)>,
    is_deleted: impl Fn(&RunEntry) -> bool,
) -> Result<&'a [&'b RunEntry], String> {
    let is_before = |run: &&RunEntry| first.is_none_or(|(_, row)| run.offsets.last < row.offsets.first);
    let (missing, kept) = old.split_at(old.partition_point(is_before));
    match missing.iter().find(|run| !is_deleted(run)) {
        Some(run) => Err(is_missing(run)),
        None => Ok(kept),
    }
}

fn is_missing(run: &RunEntry) -> String {
    format!("offset {} is in none of them", run.offsets.first)
}

/// How many segments runs of a partition lie in.
fn rows_of(runs: &[RunEntry]) -> usize {
    runs.chunk_by(|a, b| a.segment == b.segment).count()
}

/// The runs of a partition where they are now: those that follow one another in a row become one.
fn moved<'a>(
    mut old: &[&RunEntry],
    rows: impl Iterator<Item = (u32, &'a DirectoryRow)>,
    is_archived: impl Fn(&RunEntry) -> bool,
) -> Result<Vec<RunEntry>, String> {
    let mut runs = Vec::new();
    for (segment, row) in rows {
        let (within, behind) = old.split_at(old.partition_point(|run| run.offsets.first <= row.offsets.last));
        check_row(row, within)?;
        let mut position = row.bytes.position;
        let alike = |run: &RunEntry| (is_archived(run), run.unreadable.clone());
        for together in stretches(within, alike) {
            let moved = joined(&within[together], segment, position);
            position = moved.bytes.end();
            runs.push(moved);
        }
        old = behind;
    }
    match old.first() {
        None => Ok(runs),
        Some(run) => Err(is_missing(run)),
    }
}

/// Whether a row is just these runs.
fn check_row(row: &DirectoryRow, runs: &[&RunEntry]) -> Result<(), String> {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
        return Err(format!("offset {} was not there before", row.offsets.first));
    };
    let offsets = OffsetSpan { first: first.offsets.first, last: last.offsets.last };
    let length = runs.iter().fold(0_u64, |length, run| length.saturating_add(run.bytes.length));
    let times = runs.iter().fold(TimeSpan::NONE, |times, run| times.union(run.times));
    match (row.offsets, row.bytes.length, row.times) == (offsets, length, times) {
        true => Ok(()),
        false => Err(format!("it is not what it was from offset {} on", row.offsets.first)),
    }
}

/// Divides runs into those that may become one.
fn stretches<A: PartialEq>(runs: &[&RunEntry], alike: impl Fn(&RunEntry) -> A) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = runs.get(start)?;
        let kind = alike(first);
        let mut length = 0_u64;
        let goes_on = |run: &&&RunEntry| {
            length = length.saturating_add(run.bytes.length);
            length <= RUN_BYTES_MAX && alike(run) == kind
        };
        let end = start + runs[start..].iter().take_while(goes_on).count().max(1);
        let range = start..end;
        start = end;
        Some(range)
    })
}

/// Runs that lie side by side from `position` on, at least one, as one.
fn joined(runs: &[&RunEntry], segment: u32, position: u64) -> RunEntry {
    let (first, last) = (runs[0], runs[runs.len() - 1]);
    RunEntry {
        offsets: OffsetSpan { first: first.offsets.first, last: last.offsets.last },
        segment,
        bytes: ByteSpan { position, length: runs.iter().map(|run| run.bytes.length).sum() },
        times: runs.iter().fold(TimeSpan::NONE, |times, run| times.union(run.times)),
        unreadable: first.unreadable.clone(),
    }
}

/// An archive over the same runs, of which each reaches up to the one behind it: no record has the offsets in between,
/// which may lie within a run now. What follows one another then is one.
fn widened(archive: &ArchiveEntry, runs: &BTreeMap<PartitionId, Vec<&RunEntry>>) -> ArchiveEntry {
    let mut wide: Vec<ArchiveRun> = archive.runs.clone();
    for run in &mut wide {
        let others = runs.get(&run.partition).map_or(&[][..], Vec::as_slice);
        let ends = others.partition_point(|other| other.offsets.last < run.last);
        let is_end = others.get(ends).is_some_and(|other| other.offsets.last == run.last);
        if let Some(behind) = others.get(ends + 1).filter(|_| is_end) {
            run.last = behind.offsets.first - 1;
        }
    }
    ArchiveEntry { runs: ArchiveRun::joined(wide), ..archive.clone() }
}
