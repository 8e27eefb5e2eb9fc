//! The memory of all tails: the batches that they hold, oldest first, and the stretches of the log where the others
//! lie.

use std::collections::VecDeque;
use std::sync::Arc;

use chronik_format::ids::{LogIndex, Offset};

use super::stretch::StretchMemory;
use super::tail::{PartitionTail, TailBatch, TopicTable};

/// What a batch takes besides its bytes: its entries in two queues, which may have room for twice as many, and what
/// tracks the two parts of its bytes, as the allocator rounds them.
const BATCH_OVERHEAD: usize = 2 * (size_of::<TailBatch>() + size_of::<Held>()) + 2 * 32;

/// Keeps all tails within a limit.
pub struct TailMemory {
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Of what the tails have forgotten.
    pub stretches: StretchMemory,
    bytes_max: usize,
}

struct Held {
    partition: Arc<PartitionTail>,
    index: LogIndex,
    base_offset: Offset,
    cost: usize,
}

impl TailMemory {
    /// No batch is held yet. At most `bytes_max` is taken, a quarter of it by stretches.
    pub fn new(bytes_max: usize, stretches: StretchMemory) -> Self {
        Self { held: VecDeque::new(), held_bytes: 0, stretches: stretches.within(bytes_max / 4), bytes_max }
    }

    /// Has a tail hold a batch.
    pub fn hold(&mut self, partition: &Arc<PartitionTail>, batch: TailBatch) {
        let cost = batch.bytes.length() + BATCH_OVERHEAD;
        self.held_bytes += cost;
        self.held.push_back(Held {
            partition: partition.clone(),
            index: batch.frame.index,
            base_offset: batch.base_offset,
            cost,
        });
        partition.push(batch);
    }

    /// Lets tails forget their oldest bytes, and where exactly these lie, until the limits are kept; returns the bytes
    /// of memory that all take.
    pub fn shrink(&mut self, topics: &TopicTable) -> usize {
        while self.held_bytes + self.stretches.memory() > self.bytes_max {
            let Some(oldest) = self.held.pop_front() else { break };
            self.held_bytes -= oldest.cost;
            let (before, after) = oldest.partition.forget(oldest.base_offset, self.stretches.stretch_bytes);
            self.stretches.changed(before, after);
            self.stretches.thin(|bytes| topics.partitions().map(|partition| partition.thin(bytes)).sum());
        }
        if self.held.len() < self.held.capacity() / 4 {
            self.held.shrink_to(self.held.len() * 2);
        }
        self.held_bytes + self.stretches.memory()
    }

    /// No longer counts what lies at or below an index: the tails have released it, and their stretches use so much
    /// memory now.
    pub fn release(&mut self, up_to: LogIndex, stretches: usize) {
        while let Some(batch) = self.held.pop_front_if(|batch| batch.index <= up_to) {
            self.held_bytes -= batch.cost;
        }
        self.stretches.counted(stretches);
    }
}
