//! Where in the log the batches lie that memory has no space for: not each, but stretches of the log, as few
//! as memory allows.

use std::collections::VecDeque;

use chronik_format::ids::{LogIndex, Offset};

use crate::log::FramePlace;

/// Neighbouring batches of a partition share a stretch as long as it takes no more of the log than this, bytes.
const STRETCH_BYTES: u64 = 256 << 10;

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSpan {
    pub index: LogIndex,
    /// Where it starts in its file, bytes.
    pub position: u64,
    /// Bytes of the log before it, counted from where this process began to count.
    pub start: u64,
    /// The same behind it.
    pub end: u64,
}

/// A part of the log that holds consecutive batches of a partition, and whatever lies between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStretch {
    /// First offset.
    pub base_offset: Offset,
    /// The frame of the first batch, or one before it.
    pub first: LogIndex,
    /// The frame of the last batch.
    pub last: LogIndex,
    /// Where `first` starts in its file, bytes; `None` if it has to be looked for.
    pub position: Option<u64>,
    start: u64,
    end: u64,
}

/// A partition's batches from one offset on, without a gap.
#[derive(Debug, Default)]
pub struct PartitionStretches {
    stretches: VecDeque<LogStretch>,
}

impl LogStretch {
    fn of(base_offset: Offset, frame: &FrameSpan) -> Self {
        Self {
            base_offset,
            first: frame.index,
            last: frame.index,
            position: Some(frame.position),
            start: frame.start,
            end: frame.end,
        }
    }

    /// Merges with the stretch that follows if both together are no longer than `bytes`, or nothing lies between them.
    fn absorb(&mut self, next: &LogStretch, bytes: u64) -> bool {
        let fits = next.end - self.start <= bytes || next.last == self.last;
        if fits {
            self.last = next.last;
            self.end = next.end;
        }
        fits
    }
}

impl PartitionStretches {
    /// Adds the batch that follows, in stretches of at most `bytes`.
    pub fn add(&mut self, base_offset: Offset, frame: &FrameSpan, bytes: u64) {
        let next = LogStretch::of(base_offset, frame);
        let newest = self.stretches.back_mut();
        if !newest.is_some_and(|newest| newest.absorb(&next, bytes)) {
            self.stretches.push_back(next);
        }
    }

    /// First offset.
    pub fn start(&self) -> Option<Offset> {
        self.stretches.front().map(|stretch| stretch.base_offset)
    }

    /// At most `count` stretches, the first one holding `from` unless that lies beyond them all.
    pub fn from(&self, from: Offset, count: usize) -> Vec<LogStretch> {
        let holding = self.stretches.partition_point(|stretch| stretch.base_offset <= from);
        let stretches = self.stretches.range(holding.saturating_sub(1)..);
        stretches.take(count).copied().collect()
    }

    /// Releases what lies at or below a log index, that is below `released_to`.
    pub fn release(&mut self, up_to: LogIndex, released_to: Offset) {
        while self.stretches.pop_front_if(|stretch| stretch.last <= up_to).is_some() {}
        if let Some(cut) = self.stretches.front_mut().filter(|stretch| stretch.first <= up_to) {
            cut.base_offset = cut.base_offset.max(released_to);
            cut.first = up_to + 1;
            cut.position = None;
        }
        if self.stretches.len() < self.stretches.capacity() / 4 {
            self.stretches.shrink_to(self.stretches.len() * 2);
        }
    }

    /// Makes one of neighbours that are together no longer than `bytes`.
    pub fn thin(&mut self, bytes: u64) {
        self.stretches = std::mem::take(&mut self.stretches).into_iter().fold(
            VecDeque::new(),
            |mut thinned: VecDeque<LogStretch>, next| {
                if !thinned.back_mut().is_some_and(|last| last.absorb(&next, bytes)) {
                    thinned.push_back(next);
                }
                thinned
            },
        );
        self.stretches.shrink_to_fit();
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.stretches.capacity() * size_of::<LogStretch>()
    }
}

/// The memory of all stretches.
#[derive(Debug)]
pub struct StretchMemory {
    /// How much of the log a stretch may take, bytes; grows as memory gets short.
    pub stretch_bytes: u64,
    log_bytes: u64,
    memory: usize,
    memory_max: usize,
    over_from: usize,
}

impl StretchMemory {
    /// Of no stretches, which are to take `memory_max` bytes at most; only where that would not do for one in each
    /// partition they take more.
    pub fn new(memory_max: usize) -> Self {
        Self { stretch_bytes: STRETCH_BYTES, log_bytes: 0, memory: 0, memory_max, over_from: memory_max }
    }

    /// The same with another limit.
    pub fn within(self, memory_max: usize) -> Self {
        Self { memory_max, over_from: memory_max, ..self }
    }

    /// Where the next frame of the log lies.
    pub fn next_frame(&mut self, place: &FramePlace) -> FrameSpan {
        let start = self.log_bytes;
        self.log_bytes += place.length;
        FrameSpan { index: place.index, position: place.position, start, end: self.log_bytes }
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Some stretches that took `before` bytes take `after` now.
    pub fn changed(&mut self, before: usize, after: usize) {
        self.memory = self.memory.saturating_sub(before) + after;
    }

    /// All were counted anew. Short stretches do again once there is room.
    pub fn counted(&mut self, memory: usize) {
        self.memory = memory;
        if memory <= self.memory_max / 4 {
            self.stretch_bytes = STRETCH_BYTES;
        }
    }

    /// If they take too much, has `thin` make one of neighbours up to a length that it is given, and return the memory
    /// that all take then, with longer and longer ones until that is half of the limit, so that the way to the limit is
    /// worth it. No stretch is longer than the log.
    pub fn thin(&mut self, mut thin: impl FnMut(u64) -> usize) {
        if self.memory <= self.over_from {
            return;
        }
        loop {
            self.memory = thin(self.stretch_bytes);
            if self.memory <= self.memory_max / 2 {
                self.over_from = self.memory_max;
                return;
            }
            if self.stretch_bytes >= self.log_bytes {
                // One for each partition: the least there is. A list that grows gets room for four.
                self.over_from = self.memory_max.max(4 * self.memory);
                return;
            }
            self.stretch_bytes *= 2;
        }
    }
}
