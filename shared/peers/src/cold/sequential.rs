//! Reads on through a partition's runs, some pieces ahead of what is asked for.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio_util::task::AbortOnDropHandle;

use super::ColdError;
use super::ahead_room::HeldAhead;
use super::cutter::{PlacedBatch, RunCutter};
use super::run::{LocatedRun, RunReader};
use super::shipped::ShippedPartition;
use chronik_format::catalog::TopicRuns;
use chronik_format::ids::Offset;
use chronik_store::StoreError;

/// What is read at a time: a run, or several that lie side by side, or as much of one that is larger.
const PIECE_BYTES: u64 = 2 << 20;
/// Reads that are out for one reader.
const PIECES_MAX: usize = 16;
/// What is read ahead for one reader, unless a batch is larger.
const WINDOW_BYTES_MAX: usize = 8 << 20;

/// A reader that goes on where its last answer ended. Where what it reads is not certain to be what was written, it
/// ends, and whoever wants to go on has to look closer.
#[derive(Debug)]
pub(super) struct SequentialReader {
    room: HeldAhead,
    plan: ReadPlan,
    /// Reads that are out, in the order of what they read.
    pieces: VecDeque<Piece>,
    cutter: RunCutter,
    /// What has come, in order.
    batches: VecDeque<PlacedBatch>,
    batches_bytes: usize,
    /// How much is read ahead; grows with every answer.
    window_bytes: usize,
}

/// What is to be read next.
#[derive(Debug)]
struct ReadPlan {
    /// Where the last run was found.
    known: Option<Arc<TopicRuns>>,
    run: Option<PlannedRun>,
    /// First offset behind the run.
    next: Offset,
}

/// What is left to read of a run, or of several that lie side by side in a segment.
#[derive(Debug)]
struct PlannedRun {
    segment: String,
    rest: Range<u64>,
    last: Offset,
}

#[derive(Debug)]
struct Piece {
    bytes: usize,
    /// The last offset of a run that ends with it.
    last: Option<Offset>,
    read: AbortOnDropHandle<Result<Bytes, StoreError>>,
}

impl SequentialReader {
    /// A reader that has come to `from`.
    pub(super) async fn begin(
        runs: &RunReader,
        room: HeldAhead,
        shipped: &ShippedPartition,
        from: Offset,
    ) -> Result<Self, ColdError> {
        let mut known = None;
        let located = runs.at(shipped, &mut known, from).await?;
        let located = located.ok_or_else(|| shipped.not_in_catalog(from))?;
        let place = runs.place_in(shipped, &located, from).await?;
        let LocatedRun { run, segment } = located;
        let rest = place.position..run.bytes.end();
        let planned = PlannedRun { segment: segment.key, rest, last: run.offsets.last };
        let mut plan = ReadPlan { known, run: Some(planned), next: run.offsets.end() };
        plan.extend(shipped);
        Ok(Self {
            room,
            plan,
            pieces: VecDeque::new(),
            cutter: RunCutter::new(place.offset),
            batches: VecDeque::new(),
            batches_bytes: 0,
            window_bytes: 0,
        })
    }

    /// Batches from the one that holds `from` on, which is where the last answer ended, at most about `max_bytes`; none
    /// if they can't be had here. The reader comes back if it can go on.
    pub(super) async fn read(
        mut self,
        runs: &RunReader,
        shipped: &ShippedPartition,
        from: Offset,
        max_bytes: usize,
    ) -> (Vec<PlacedBatch>, Option<Self>) {
        let wanted = max_bytes.saturating_mul(2).max(self.window_bytes * 2);
        self.window_bytes = wanted.clamp(PIECE_BYTES as usize, WINDOW_BYTES_MAX);
        let mut goes_on = true;
        while goes_on && !self.has_enough(max_bytes) {
            goes_on = self.read_ahead(runs, shipped).await.is_ok();
            if self.pieces.is_empty() {
                break;
            }
            goes_on &= self.next_piece(shipped, from).await;
        }
        let batches = self.take(max_bytes);
        if goes_on {
            // The answer does not wait for a page that names what follows.
            goes_on = self.read_ahead(runs, shipped).now_or_never().is_none_or(|begun| begun.is_ok());
        }
        // Parked readers hold no pages: the catalog's cache does, within its bound.
        self.plan.known = None;
        (batches, goes_on.then_some(self))
    }

    /// Half of what is asked for is worth an answer; what has come already goes along.
    fn has_enough(&self, max_bytes: usize) -> bool {
        let has_come = self.pieces.front().is_some_and(|piece| piece.read.is_finished());
        self.batches_bytes >= if has_come { max_bytes.max(1) } else { (max_bytes / 2).max(1) }
    }

    /// Begins to read what fits into the window.
    async fn read_ahead(&mut self, runs: &RunReader, shipped: &ShippedPartition) -> Result<(), ColdError> {
        while self.pieces.len() < PIECES_MAX && (self.bytes() < self.window_bytes || self.has_nothing()) {
            let Some(run) = self.plan.run(runs, shipped).await? else { break };
            let range = run.next_piece();
            let bytes = (range.end - range.start) as usize;
            if !self.room.grow(bytes) {
                break;
            }
            run.rest.start = range.end;
            let last = run.rest.is_empty().then_some(run.last);
            let read = runs.begin_read(&run.segment, range);
            self.pieces.push_back(Piece { bytes, last, read });
        }
        Ok(())
    }

    /// Waits for the next piece; false if it is not what was expected.
    async fn next_piece(&mut self, shipped: &ShippedPartition, from: Offset) -> bool {
        let Some(piece) = self.pieces.front_mut() else { return false };
        let read = (&mut piece.read).await;
        let last = piece.last;
        self.pieces.pop_front();
        let Ok(Ok(bytes)) = read else { return false };
        let has_epoch = |offset, epoch| shipped.may_have(offset, epoch);
        let Some(batches) = self.cutter.cut(bytes, last, has_epoch) else { return false };
        let wanted = batches.into_iter().filter(|(last, _)| *last >= from);
        for (last, batch) in wanted {
            self.batches_bytes += batch.len();
            self.batches.push_back((last, batch));
        }
        true
    }

    /// Takes an answer of what has come. It is copied: it may wait for its client for long, and would keep all that was
    /// read with it.
    fn take(&mut self, max_bytes: usize) -> Vec<PlacedBatch> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((_, batch)) = self.batches.front()
            && (taken.is_empty() || bytes + batch.len() <= max_bytes)
        {
            bytes += batch.len();
            taken.extend(self.batches.pop_front().map(|(last, batch)| (last, Bytes::copy_from_slice(&batch))));
        }
        self.batches_bytes -= bytes;
        self.room.keep(self.bytes());
        taken
    }

    /// What it holds, and what is being read for it.
    fn bytes(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| piece.bytes).sum();
        pieces + self.batches_bytes + self.cutter.begun_bytes()
    }

    /// A batch that is larger than the window comes piece by piece.
    fn has_nothing(&self) -> bool {
        self.pieces.is_empty() && self.batches.is_empty()
    }
}

impl ReadPlan {
    /// The run of which something is to be read; none behind the last one.
    async fn run(
        &mut self,
        runs: &RunReader,
        shipped: &ShippedPartition,
    ) -> Result<Option<&mut PlannedRun>, ColdError> {
        if self.run.as_ref().is_none_or(|run| run.rest.is_empty()) {
            let located = runs.at(shipped, &mut self.known, self.next).await?;
            // The next piece is expected to begin with this offset.
            self.run = located.filter(|located| located.run.offsets.first == self.next).map(|located| {
                let LocatedRun { run, segment } = located;
                self.next = run.offsets.end();
                PlannedRun { segment: segment.key, rest: run.bytes.range(), last: run.offsets.last }
            });
            self.extend(shipped);
        }
        Ok(self.run.as_mut())
    }

    /// Adds the runs that follow where the run ends, as they do in a segment of level 1.
    fn extend(&mut self, shipped: &ShippedPartition) {
        let (Some(planned), Some(runs)) = (&mut self.run, &self.known) else { return };
        while let Some(run) = runs.at(shipped.partition, self.next)
            && (run.offsets.first, run.bytes.position) == (self.next, planned.rest.end)
            && runs.segment_of(run).is_some_and(|segment| segment.key == planned.segment)
        {
            (planned.rest.end, planned.last) = (run.bytes.end(), run.offsets.last);
            self.next = run.offsets.end();
        }
    }
}

impl PlannedRun {
    fn next_piece(&self) -> Range<u64> {
        self.rest.start..self.rest.end.min(self.rest.start + PIECE_BYTES)
    }
}
