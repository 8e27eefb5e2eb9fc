//! Waiting for any of many partitions to change, at a cost that grows with those that did.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::tail::PartitionTail;

/// Gathers which of the partitions that it watches have changed: their records, their bounds, or that they are gone.
/// It holds a number for each watch at most.
#[derive(Debug, Default)]
pub struct TailWatcher {
    changed: Mutex<Vec<Arc<WatchMark>>>,
    woken: Notify,
}

/// A partition is watched until this is dropped. It keeps neither the partition nor the watcher.
#[derive(Debug)]
pub struct TailWatch {
    tail: Weak<PartitionTail>,
    id: u64,
}

/// Whether a partition has changed since its watcher was last asked.
#[derive(Debug)]
pub struct WatchMark {
    watcher: Weak<TailWatcher>,
    /// What the watcher knows the partition by.
    number: u64,
    is_set: AtomicBool,
}

impl TailWatcher {
    /// Watches a partition, known by `number` from now on. What happened before has to be looked at afterwards.
    pub fn watch(self: &Arc<Self>, tail: &Arc<PartitionTail>, number: u64) -> TailWatch {
        let mark = WatchMark { watcher: Arc::downgrade(self), number, is_set: AtomicBool::new(false) };
        TailWatch { tail: Arc::downgrade(tail), id: tail.add_mark(Arc::new(mark)) }
    }

    /// The partitions that have changed since the last call: look at them after it, so that nothing is missed.
    pub fn take(&self) -> BTreeSet<u64> {
        let changed = std::mem::take(&mut *self.changed());
        let numbers = changed.iter().map(|mark| {
            mark.is_set.store(false, Ordering::Release);
            mark.number
        });
        numbers.collect()
    }

    /// Ends once there may be something to take. Of several that wait, one is woken.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Wakes who waits, or who waits next.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    fn changed(&self) -> MutexGuard<'_, Vec<Arc<WatchMark>>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TailWatch {
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

impl WatchMark {
    /// The partition has changed. Called while nobody can look at it, so that who took the mark sees what changed.
    pub(super) fn set(self: &Arc<Self>) {
        if !self.is_set.swap(true, Ordering::AcqRel)
            && let Some(watcher) = self.watcher.upgrade()
        {
            watcher.changed().push(self.clone());
        }
    }

    /// Wakes the watcher.
    pub(super) fn wake(&self) {
        if let Some(watcher) = self.watcher.upgrade() {
            watcher.wake();
        }
    }
}
