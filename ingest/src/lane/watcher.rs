//! Waiting for any of many partitions to change, at a cost that grows with those that did.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// Gathers which of the partitions that it watches have changed: their records, their bounds, or that they are gone.
/// It holds a number for each watch at most.
#[derive(Debug, Default)]
pub struct TailWatcher {
    changed: Mutex<Vec<Arc<WatchMark>>>,
    woken: Notify,
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

impl WatchMark {
    /// Of a partition that the watcher knows by `number`.
    pub(super) fn new(watcher: &Arc<TailWatcher>, number: u64) -> Arc<Self> {
        Arc::new(Self { watcher: Arc::downgrade(watcher), number, is_set: AtomicBool::new(false) })
    }

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
