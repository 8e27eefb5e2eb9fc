//! A lane's way back from its local files: the newest checkpoint, then the frames of the log.

use std::collections::HashMap;

use bytes::Bytes;
use chronik_format::ids::{LogIndex, PartitionId, TopicId};

use super::ship_policy::FrameWeight;
use super::stretch::{PartitionStretches, StretchMemory};
use super::tail::TopicTable;
use crate::log::{Frame, FramePlace};
use crate::state::LaneState;
use crate::state::command::{Command, CommandError};

/// Memory for where the log has which batches, bytes, until the owner sets its own limit.
const STRETCHES_MEMORY_MAX: usize = 8 << 20;
/// Frames that are weighed one by one. Beyond so many, neighbours are weighed together.
const WEIGHTS_MAX: usize = 1 << 16;
/// Bytes of frames that are weighed together, little beside a segment's.
const WEIGHED_BYTES_MAX: u64 = 4 << 20;

/// What an owner starts from.
pub struct ReplayedLane {
    /// The state at the last good frame.
    pub state: LaneState,
    /// The living topics and where the log has their batches.
    pub topics: TopicTable,
    /// The memory that this takes.
    pub stretches: StretchMemory,
    /// The frames beyond the last registered segment, in order; of a long log several in one, under the first index.
    pub unshipped: Vec<(LogIndex, FrameWeight)>,
}

/// Applies the frames of a log, oldest first. What it keeps of them is bounded, however many there are.
pub struct LaneReplay {
    state: LaneState,
    tails: HashMap<(TopicId, PartitionId), PartitionStretches>,
    stretches: StretchMemory,
    weights: Weights,
}

impl LaneReplay {
    /// Starts at a checkpoint, or at the beginning.
    pub fn new(state: LaneState) -> Self {
        Self {
            state,
            tails: HashMap::new(),
            stretches: StretchMemory::new(STRETCHES_MEMORY_MAX),
            weights: Weights::default(),
        }
    }

    /// Applies one frame. The state of a frame at or below the checkpoint is known already; its batches are not.
    pub fn take(&mut self, frame: Frame, place: FramePlace) -> Result<(), CommandError> {
        let commands = Command::decode_all(&frame.commands)?;
        if frame.index > self.state.applied {
            self.state.apply_frame(frame.index, &commands);
        }
        let batch_bytes: usize = frame.batches.iter().map(Bytes::len).sum();
        let weight =
            FrameWeight::of(commands.iter().map(Command::urgency), frame.commands.len() as u64, batch_bytes as u64);
        let span = self.stretches.next_frame(&place);
        for command in &commands {
            if let Command::Append(append) = command {
                let tail = self.tails.entry((append.topic, append.partition)).or_default();
                let before = tail.memory();
                tail.add(append.base_offset, &span, self.stretches.stretch_bytes);
                self.stretches.changed(before, tail.memory());
            }
        }
        let tails = &mut self.tails;
        self.stretches.thin(|bytes| {
            let thinned = tails.values_mut().map(|tail| {
                tail.thin(bytes);
                tail.memory()
            });
            thinned.sum()
        });
        self.weights.add(place.index, weight, self.state.shipped_index());
        Ok(())
    }

    /// The end of the log. Batches of topics that live are published; those of others have no reader.
    pub fn finish(mut self) -> ReplayedLane {
        let topics = TopicTable::of(&self.state);
        let mut memory = 0;
        for ((topic, partition), tail) in self.tails {
            if let Some(partition) = topics.partition(topic, partition) {
                memory += tail.memory();
                partition.recall(tail);
            }
        }
        self.stretches.counted(memory);
        self.weights.release(self.state.shipped_index());
        ReplayedLane { state: self.state, topics, stretches: self.stretches, unshipped: self.weights.frames }
    }
}

/// What frames mean for shipping, each under its index.
#[derive(Default)]
struct Weights {
    frames: Vec<(LogIndex, FrameWeight)>,
    last: LogIndex,
    /// As many were left when there were too many.
    left: usize,
}

impl Weights {
    /// Adds a frame, when everything up to `shipped` is in registered segments.
    fn add(&mut self, index: LogIndex, weight: FrameWeight, shipped: LogIndex) {
        self.frames.push((index, weight));
        self.last = index;
        if self.frames.len() > WEIGHTS_MAX.max(2 * self.left) {
            self.release(shipped);
            self.frames.dedup_by(|next, kept| kept.1.absorb(&next.1, WEIGHED_BYTES_MAX));
            self.left = self.frames.len();
        }
    }

    /// Releases the frames up to an index. Where that lies between frames that are weighed together, these still count.
    fn release(&mut self, shipped: LogIndex) {
        if self.last <= shipped {
            self.frames.clear();
            return;
        }
        let beyond = self.frames.partition_point(|(first, _)| *first <= shipped + 1);
        self.frames.drain(..beyond.saturating_sub(1));
        if let Some((first, _)) = self.frames.first_mut() {
            *first = (*first).max(shipped + 1);
        }
    }
}
