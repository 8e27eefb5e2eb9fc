use std::sync::{Arc, Weak};

use super::tail::PartitionTail;
use super::watcher::{TailWatcher, WatchMark};

/// A partition is watched until this is dropped. It keeps neither the partition nor the watcher.
#[derive(Debug)]
pub struct TailWatch {
    tail: Weak<PartitionTail>,
    id: u64,
}

impl TailWatch {
    /// Has a partition watched, known by `number` to the watcher. What happened before has to be looked at afterwards.
    pub fn new(watcher: &Arc<TailWatcher>, tail: &Arc<PartitionTail>, number: u64) -> Self {
        Self { tail: Arc::downgrade(tail), id: tail.add_mark(WatchMark::new(watcher, number)) }
    }

    /// Whether it is this partition that is watched, and not another one of the same name.
    pub fn is_of(&self, tail: &Arc<PartitionTail>) -> bool {
        std::ptr::eq(self.tail.as_ptr(), Arc::as_ptr(tail))
    }
}

impl Drop for TailWatch {
    fn drop(&mut self) {
        if let Some(tail) = self.tail.upgrade() {
            tail.remove_mark(self.id);
        }
    }
}
