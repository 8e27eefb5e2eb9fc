//! Batches that no program can read, known by name after the first time.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chronik_format::batch::{BatchError, BatchHeader};
use chronik_format::ids::{Offset, PartitionId, TopicId};
use lru::LruCache;
use prometheus::IntCounter;

/// Batches that are remembered, about 128 bytes each.
const BATCHES_MAX: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// Remembers, for all searches, which batches give no records, and why: to unpack one may take as long as to search a
/// hundred others. The longest unasked are forgotten first.
#[derive(Clone, Debug)]
pub(crate) struct UnreadableBatches {
    known: Arc<Mutex<LruCache<BatchName, BatchError>>>,
    /// How often a batch was tried in vain.
    tried: IntCounter,
}

/// A batch whose checksum fits, wherever it was read: from the tail or from any segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BatchName {
    topic: TopicId,
    partition: PartitionId,
    base_offset: Offset,
    crc: u32,
    length: usize,
}

impl BatchName {
    /// The name of a batch that was [verified](chronik_format::batch::verify).
    pub(crate) fn new(topic: TopicId, partition: PartitionId, header: &BatchHeader) -> Self {
        Self { topic, partition, base_offset: header.base_offset, crc: header.crc, length: header.total_length() }
    }
}

impl UnreadableBatches {
    /// Knows none yet.
    pub(crate) fn new(tried: IntCounter) -> Self {
        Self::of_at_most(BATCHES_MAX, tried)
    }

    fn of_at_most(batches: NonZeroUsize, tried: IntCounter) -> Self {
        let known = Arc::new(Mutex::new(LruCache::new(batches)));
        Self { known, tried }
    }

    /// What `read` makes of a batch, unless it is known that nothing can be made of it.
    pub(crate) fn read<T>(
        &self,
        batch: BatchName,
        read: impl FnOnce() -> Result<T, BatchError>,
    ) -> Result<T, BatchError> {
        if let Some(error) = self.known().get(&batch) {
            return Err(error.clone());
        }
        read().inspect_err(|error| {
            self.tried.inc();
            self.known().put(batch, error.clone());
        })
    }

    fn known(&self) -> MutexGuard<'_, LruCache<BatchName, BatchError>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ERROR: BatchError = BatchError::Inflates { limit: 7 };

    fn name(base_offset: Offset, crc: u32) -> BatchName {
        BatchName { topic: TopicId::default(), partition: 0, base_offset, crc, length: 61 }
    }

    #[test]
    fn an_unreadable_batch_is_tried_once_and_others_as_often_as_they_are_asked_for() {
        let tried = IntCounter::new("tried", "tried").unwrap();
        let unreadable = UnreadableBatches::new(tried.clone());
        for _ in 0..3 {
            assert_eq!(unreadable.clone().read::<()>(name(1, 1), || Err(ERROR)), Err(ERROR));
            for readable in [name(1, 2), name(2, 1)] {
                assert_eq!(unreadable.read(readable, || Ok(5)), Ok(5));
            }
        }
        assert_eq!(tried.get(), 1);
    }

    #[test]
    fn the_longest_unasked_are_forgotten() {
        let tried = IntCounter::new("tried", "tried").unwrap();
        let unreadable = UnreadableBatches::of_at_most(NonZeroUsize::new(2).unwrap(), tried.clone());
        let ask = |offset| {
            unreadable.read::<()>(name(offset, 0), || Err(ERROR)).unwrap_err();
            tried.get()
        };
        assert_eq!([1, 2, 1, 3, 1, 2].map(ask), [1, 2, 2, 3, 3, 4]);
    }
}
