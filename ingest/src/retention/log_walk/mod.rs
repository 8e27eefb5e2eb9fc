//! How far retention lets a topic's partitions go: whole runs, from the oldest on, as with Kafka's segments.
//!
//! A run goes once its latest record is too old, or as long as enough bytes are left behind it, and none goes before
//! those below it. A page goes at once where its bounds show that all of it goes. Otherwise the walk asks for it: of
//! each partition that is the page in which its log is to begin.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use chronik_format::batch::TimeSpan;
use chronik_format::catalog::{Page, PageBounds, PageEntry, PartitionBounds};
use chronik_format::ids::{Offset, PartitionId, Timestamp};
use chronik_format::span::OffsetSpan;

use crate::state::segments::RegisteredSegments;
use crate::state::topic::TopicState;

/// What a topic keeps, as of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Runs go whose latest record is earlier, ms since the epoch; `None`: none.
    pub before: Option<Timestamp>,
    /// Runs go as long as so many bytes of the partition are left behind them; `None`: none.
    pub bytes: Option<u64>,
}

/// Oldest records of a partition, which are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredRecords {
    pub partition: PartitionId,
    /// The first offset to keep.
    pub log_start: Offset,
    /// How many offsets lie below it and can still be read.
    pub offsets: i64,
    /// Of the runs below it.
    pub bytes: u64,
}

/// A walk through a topic's history from the oldest on, as far as something goes.
pub struct LogWalk<'a> {
    topic: &'a TopicState,
    segments: &'a RegisteredSegments,
    limits: RetentionLimits,
    /// By number.
    partitions: Vec<PartitionWalk>,
    /// Pages that the walk has not come to; the next one last.
    ahead: Vec<Arc<PageEntry>>,
}

/// How far the walk has come in a partition.
struct PartitionWalk {
    old_start: Offset,
    new_start: Offset,
    /// Bytes of what lies ahead, if they count.
    ahead: u64,
    /// Bytes of what goes.
    gone: u64,
    /// Whether all that goes is known.
    is_decided: bool,
}

/// Consecutive batches of a partition: a run's, or all that lies in a page.
#[derive(Clone, Copy)]
struct Piece {
    offsets: OffsetSpan,
    times: TimeSpan,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Goes,
    Stays,
    /// A part of it may go.
    Unclear,
}

impl<'a> LogWalk<'a> {
    /// A walk that leaves some partitions as they are.
    pub fn new(
        topic: &'a TopicState,
        segments: &'a RegisteredSegments,
        limits: RetentionLimits,
        left: &BTreeSet<PartitionId>,
    ) -> Self {
        let partitions = (0..).zip(&topic.partitions).map(|(number, partition)| PartitionWalk {
            old_start: partition.log_start,
            new_start: partition.log_start,
            ahead: match limits.bytes {
                Some(_) => partition.runs.iter().map(|run| run.bytes.length).fold(0, u64::saturating_add),
                None => 0,
            },
            gone: 0,
            is_decided: left.contains(&number),
        });
        let ahead = topic.pages.iter().rev().cloned().collect();
        let mut walk = Self { topic, segments, limits, partitions: partitions.collect(), ahead };
        for bounds in topic.pages.iter().flat_map(|page| &page.bounds.partitions) {
            if let Some(partition) = walk.partition(bounds.partition) {
                partition.ahead = partition.ahead.saturating_add(bounds.bytes);
            }
        }
        walk
    }

    /// Goes on to the next page that has to be [entered](Self::enter); `None` at the end.
    pub fn next_page(&mut self) -> Option<Arc<PageEntry>> {
        while let Some(entry) = self.ahead.pop() {
            if !self.pass(&entry.bounds) {
                return Some(entry);
            }
        }
        self.pass_open_runs();
        None
    }

    /// Goes on with what a page holds that was asked for.
    pub fn enter(&mut self, entry: &PageEntry, page: &Page) {
        let runs = match page {
            Page::Pages(below) => return self.ahead.extend(below.iter().rev().cloned()),
            Page::Runs(runs) => runs,
        };
        let limits = self.limits;
        for runs in &runs.partitions {
            if let Some(partition) = self.partition(runs.partition) {
                for run in &runs.runs {
                    let run = Piece { offsets: run.offsets, times: run.times, bytes: run.bytes.length };
                    partition.pass_run(run, entry.written_at, limits);
                }
            }
        }
    }

    /// What goes, as far as the walk has come.
    pub fn expired(&self) -> Vec<ExpiredRecords> {
        let walked = (0..).zip(&self.partitions).filter(|(_, walk)| walk.new_start > walk.old_start);
        let expired = walked.map(|(partition, walk)| ExpiredRecords {
            partition,
            log_start: walk.new_start,
            offsets: walk.new_start - walk.old_start,
            bytes: walk.gone,
        });
        expired.collect()
    }

    /// The partitions of which all is known that goes, and those that were left as they are.
    pub fn decided(&self) -> BTreeSet<PartitionId> {
        (0..).zip(&self.partitions).filter(|(_, walk)| walk.is_decided).map(|(number, _)| number).collect()
    }

    /// Passes by a page whose bounds say what becomes of all of it; `false` if they don't.
    fn pass(&mut self, bounds: &PageBounds) -> bool {
        let limits = self.limits;
        let mut is_clear = true;
        for bounds in &bounds.partitions {
            let Some(partition) = self.partition(bounds.partition) else { continue };
            match partition.verdict_on(bounds.into(), limits) {
                Verdict::Stays => partition.stay(bounds.offsets),
                Verdict::Unclear => is_clear = false,
                Verdict::Goes => {}
            }
        }
        if is_clear {
            for bounds in &bounds.partitions {
                if let Some(partition) = self.partition(bounds.partition) {
                    partition.go(bounds.into());
                }
            }
        }
        is_clear
    }

    fn pass_open_runs(&mut self) {
        for (partition, walk) in self.topic.partitions.iter().zip(&mut self.partitions) {
            for run in &partition.runs {
                if walk.is_decided {
                    break;
                }
                let shipped_at = self.segments.get(run.segment).map_or(Timestamp::MAX, |segment| segment.registered_at);
                let run = Piece { offsets: run.offsets, times: run.times, bytes: run.bytes.length };
                walk.pass_run(run, shipped_at, self.limits);
            }
            walk.is_decided = true;
        }
    }

    /// A partition that is not decided yet.
    fn partition(&mut self, number: PartitionId) -> Option<&mut PartitionWalk> {
        let partition = self.partitions.get_mut(usize::try_from(number).ok()?)?;
        (!partition.is_decided).then_some(partition)
    }
}

impl PartitionWalk {
    /// A run that was shipped by `shipped_at`, which counts where its records don't say when they happened.
    fn pass_run(&mut self, run: Piece, shipped_at: Timestamp, limits: RetentionLimits) {
        if self.is_decided {
            return;
        }
        let is_dated = run.times != TimeSpan::ANY && run.times.latest >= 0;
        let latest = if is_dated { run.times.latest } else { shipped_at };
        let is_old = limits.before.is_some_and(|before| latest < before);
        match run.offsets.last < self.old_start || is_old || self.is_too_much(run.bytes, limits) {
            true => self.go(run),
            false => self.stay(run.offsets),
        }
    }

    /// The verdict on all that a page holds.
    fn verdict_on(&self, all: Piece, limits: RetentionLimits) -> Verdict {
        if all.offsets.last < self.old_start {
            return Verdict::Goes;
        }
        let TimeSpan { earliest, latest } = all.times;
        // Otherwise the times of some of its runs are not known.
        let is_dated = (0..=latest).contains(&earliest);
        let all_old = is_dated && limits.before.is_some_and(|before| latest < before);
        let some_old = limits.before.is_some_and(|before| !is_dated || earliest < before);
        let some_too_much = limits.bytes.is_some_and(|bytes| self.ahead > bytes);
        // What of it lies below the log's start is told by its runs alone.
        let is_whole = all.offsets.first >= self.old_start;
        match (all_old || self.is_too_much(all.bytes, limits), some_old || some_too_much) {
            (true, _) if is_whole => Verdict::Goes,
            (false, false) => Verdict::Stays,
            _ => Verdict::Unclear,
        }
    }

    /// Whether enough is left behind the next `bytes`.
    fn is_too_much(&self, bytes: u64, limits: RetentionLimits) -> bool {
        limits.bytes.is_some_and(|kept| self.ahead.saturating_sub(bytes) >= kept)
    }

    fn go(&mut self, piece: Piece) {
        self.ahead = self.ahead.saturating_sub(piece.bytes);
        if piece.offsets.last >= self.old_start {
            self.new_start = piece.offsets.end();
            self.gone = self.gone.saturating_add(piece.bytes);
        }
    }

    /// The log begins here. Offsets in between were used up by appends that were refused.
    fn stay(&mut self, first_kept: OffsetSpan) {
        if self.new_start > self.old_start {
            self.new_start = self.new_start.max(first_kept.first);
        }
        self.is_decided = true;
    }
}

impl From<&PartitionBounds> for Piece {
    fn from(bounds: &PartitionBounds) -> Self {
        Self { offsets: bounds.offsets, times: bounds.times, bytes: bounds.bytes }
    }
}
