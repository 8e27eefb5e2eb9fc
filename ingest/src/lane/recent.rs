//! The batches whose bytes are held in memory, oldest first, within a limit.

use std::collections::VecDeque;
use std::sync::Arc;

use chronik_core::ids::{LogIndex, Offset};

use super::tail::PartitionTail;

/// Keeps count of the bytes that the tails hold.
pub struct RecentBytes {
    held: VecDeque<Held>,
    bytes: usize,
    bytes_max: usize,
}

struct Held {
    partition: Arc<PartitionTail>,
    index: LogIndex,
    base_offset: Offset,
    length: usize,
}

impl RecentBytes {
    /// Nothing is held yet; at most `bytes_max` is.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            held: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Counts a batch that a tail is about to hold.
    pub fn hold(&mut self, partition: &Arc<PartitionTail>, index: LogIndex, base_offset: Offset, length: usize) {
        self.bytes += length;
        self.held.push_back(Held {
            partition: partition.clone(),
            index,
            base_offset,
            length,
        });
    }

    /// Lets tails forget their oldest bytes until the limit is kept; returns what is held.
    pub fn shrink(&mut self) -> usize {
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.held.pop_front() else { break };
            self.bytes -= oldest.length;
            oldest.partition.forget_bytes(oldest.base_offset);
        }
        self.bytes
    }

    /// No longer counts what lies at or below an index: the tails have let go of it.
    pub fn release(&mut self, up_to: LogIndex) {
        while self.held.front().is_some_and(|batch| batch.index <= up_to) {
            self.bytes -= self.held.pop_front().map_or(0, |batch| batch.length);
        }
    }
}
