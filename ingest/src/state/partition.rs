//! A partition: where its records begin and end, and the runs of segments that hold them.

use std::sync::Arc;

use chronik_format::batch::TimeSpan;
use chronik_format::catalog::PartitionBounds;
use chronik_format::ids::{LogIndex, Offset};
use chronik_format::span::{ByteSpan, OffsetSpan};
use imbl::Vector;
use serde::{Deserialize, Serialize};

use super::command::SegmentRun;
use super::producer::Producers;
use super::refusal::CommandRefusal;
use super::segments::SegmentId;

/// One partition of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// First offset that can be read. Never moves back.
    pub log_start: Offset,
    /// One past the last applied record: also the high watermark.
    pub next_offset: Offset,
    /// One past the last record in a registered segment. Never moves back, never above `next_offset`; below `log_start`
    /// if records were deleted before they were shipped.
    pub shipped_to: Offset,
    /// (leader epoch, its first offset), ascending; the first one is that of `log_start`.
    #[serde(deserialize_with = "super::decode::vector")]
    pub epochs: Vector<(i32, Offset)>,
    /// Those whose batches are numbered, as far as they are remembered.
    pub producers: Producers,
    /// What of it lies in pages.
    pub closed: ClosedHistory,
    /// What the segments hold of it behind that and from `log_start` on, ascending; ends at `shipped_to`.
    #[serde(deserialize_with = "super::decode::vector")]
    pub runs: Vector<PartitionRun>,
}

/// How far a partition's history lies in its topic's pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedHistory {
    /// One past the last offset in them.
    pub to: Offset,
    /// First offset in them that no archive covers.
    pub scanned_from: Option<Offset>,
}

/// Consecutive batches of the partition in one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRun {
    pub offsets: OffsetSpan,
    /// The segment that holds them.
    pub segment: SegmentId,
    /// Where the batches are in the segment.
    pub bytes: ByteSpan,
    /// Of the records; [`TimeSpan::ANY`] if not all can be read.
    pub times: TimeSpan,
    /// How a search finds what is in it.
    pub indexed: IndexStatus,
}

/// How a search finds the records of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexStatus {
    /// By scanning it, until an archive is there.
    Pending,
    /// By the archive of this object name.
    Archive(Arc<str>),
    /// By scanning it, for good; the reason is for the operator.
    Unreadable(Arc<str>),
}

impl PartitionState {
    /// A partition without records.
    pub fn new(leader_epoch: i32, producers: Producers) -> Self {
        Self { epochs: Vector::unit((leader_epoch, 0)), producers, ..Self::default() }
    }

    /// The current leader epoch.
    pub fn leader_epoch(&self) -> i32 {
        self.epochs.last().map_or(0, |(epoch, _)| *epoch)
    }

    /// Starts a leader epoch at the partition's end. An epoch in which nothing was written is replaced.
    pub fn begin_epoch(&mut self, epoch: i32) {
        if self.epochs.last().is_some_and(|(_, start)| *start == self.next_offset) {
            self.epochs.pop_back();
        }
        self.epochs.push_back((epoch, self.next_offset));
    }

    /// Whether a run goes on where the last one ended and holds only applied records.
    pub fn continues(&self, run: &SegmentRun) -> bool {
        self.shipped_to <= run.offsets.first
            && run.offsets.first <= run.offsets.last
            && run.offsets.last < self.next_offset
    }

    /// Adds a run of a newly registered segment, unless all of its records were deleted before: then `false`.
    pub fn add_run(&mut self, segment: SegmentId, run: &SegmentRun) -> bool {
        self.shipped_to = run.offsets.end();
        if self.is_deleted(run.offsets.last) {
            return false;
        }
        self.runs.push_back(PartitionRun {
            offsets: run.offsets,
            segment,
            bytes: run.bytes,
            times: run.times,
            indexed: IndexStatus::Pending,
        });
        true
    }

    /// Whether a record of this offset lies below the log's start.
    pub fn is_deleted(&self, offset: Offset) -> bool {
        offset < self.log_start
    }

    /// Where the log starts once what lies below an offset is deleted, or all that there is; never before it does now.
    pub fn log_start_after(&self, offset: Option<Offset>) -> Result<Offset, CommandRefusal> {
        let next_offset = self.next_offset;
        let offset = offset.unwrap_or(next_offset);
        match (0..=next_offset).contains(&offset) {
            true => Ok(offset.max(self.log_start)),
            false => Err(CommandRefusal::BeyondEnd { offset, next_offset }),
        }
    }

    /// Has the log start later; returns the runs that lie wholly below the start now.
    pub fn start_at(&mut self, log_start: Offset) -> Vector<PartitionRun> {
        self.log_start = log_start;
        while self.epochs.get(1).is_some_and(|(_, start)| *start <= log_start) {
            self.epochs.pop_front();
        }
        if let Some((_, start)) = self.epochs.front_mut() {
            *start = log_start;
        }
        let ends_at_start = self.runs.binary_search_by_key(&log_start, |run| run.offsets.end());
        let kept = self.runs.split_off(ends_at_start.map_or_else(|at| at, |at| at + 1));
        std::mem::replace(&mut self.runs, kept)
    }

    /// One past the last record in the registered segments up to the one that ends at a log index; 0 if there is none.
    /// If these were deleted, the log's start: nobody reads from below it. Only what was released is closed.
    pub fn shipped_by(&self, up_to: LogIndex) -> Offset {
        let newest = self.runs.iter().rev().find(|run| run.segment <= SegmentId(up_to));
        newest.map_or(self.closed.to, |run| run.offsets.end()).max(self.log_start.min(self.shipped_to))
    }

    /// The run that starts at `first`.
    pub fn run_at(&self, first: Offset) -> Option<&PartitionRun> {
        self.runs.get(self.position_of(first)?)
    }

    /// The run that starts at `first`, to be changed.
    pub fn run_at_mut(&mut self, first: Offset) -> Option<&mut PartitionRun> {
        self.runs.get_mut(self.position_of(first)?)
    }

    fn position_of(&self, first: Offset) -> Option<usize> {
        self.runs.binary_search_by_key(&first, |run| run.offsets.first).ok()
    }

    /// The open runs in segments up to `last`.
    pub fn runs_up_to(&self, last: SegmentId) -> impl Iterator<Item = &PartitionRun> {
        self.runs.iter().take_while(move |run| run.segment <= last)
    }

    /// Leaves to a page the runs that it has taken, and returns them.
    pub fn close(&mut self, bounds: &PartitionBounds) -> Vector<PartitionRun> {
        let open = self.runs.iter().position(|run| run.offsets.first > bounds.offsets.last);
        let open = self.runs.split_off(open.unwrap_or(self.runs.len()));
        self.closed.to = bounds.offsets.end();
        self.closed.scanned_from = self.closed.scanned_from.or(bounds.scanned_from);
        std::mem::replace(&mut self.runs, open)
    }

    /// One past the last offset below which every run has an archive.
    pub fn archived_to(&self) -> Offset {
        if let Some(scanned) = self.closed.scanned_from {
            return scanned.max(self.log_start);
        }
        self.runs
            .iter()
            .find(|run| !matches!(run.indexed, IndexStatus::Archive(_)))
            .map_or(self.shipped_to, |run| run.offsets.first)
    }
}
