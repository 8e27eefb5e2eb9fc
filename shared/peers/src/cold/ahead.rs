//! Who goes on where an answer ended is read ahead for.
//!
//! A reader is known by the place where its last answer ended. One that comes back there once is a
//! [`SequentialReader`] from then on, which is parked between its answers with what it has read ahead.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ahead_room::{AheadRoom, HeldAhead};
use super::sequential::SequentialReader;
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_service::telemetry::Metrics;

/// Places that are remembered.
const PLACES_MAX: usize = 1024;
/// How long what was read ahead is kept for a reader that does not come back.
const IDLE: Duration = Duration::from_secs(10);

/// Where an answer ended, and the next one may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReaderPlace {
    pub topic: TopicId,
    pub partition: PartitionId,
    pub offset: Offset,
}

/// The readers of a process, and the room for what is read ahead for them.
#[derive(Debug)]
pub(super) struct ReadAhead {
    room: AheadRoom,
    /// The last one parked last.
    parked: Mutex<VecDeque<Parked>>,
}

#[derive(Debug)]
struct Parked {
    place: ReaderPlace,
    since: Instant,
    reader: Option<SequentialReader>,
}

/// A reader that came back to where its last answer ended.
#[derive(Debug)]
pub(super) enum Returned {
    /// For the first time.
    Once,
    Again(SequentialReader),
}

impl ReadAhead {
    /// Room for `bytes_max` bytes; without any, no place is remembered.
    pub(super) fn new(bytes_max: usize, metrics: &Metrics) -> Self {
        Self { room: AheadRoom::new(bytes_max, metrics), parked: Mutex::default() }
    }

    /// Room for one more reader.
    pub(super) fn hold(&self) -> HeldAhead {
        self.room.hold()
    }

    /// The reader whose last answer ended here.
    pub(super) fn resume(&self, place: ReaderPlace) -> Option<Returned> {
        let mut parked = self.parked();
        let at = parked.iter().rposition(|parked| parked.place == place)?;
        let reader = parked.remove(at)?.reader;
        Some(reader.map_or(Returned::Once, Returned::Again))
    }

    /// Remembers where an answer ended.
    pub(super) fn park(&self, place: ReaderPlace, reader: Option<SequentialReader>) {
        if !self.room.has_any() {
            return;
        }
        let mut parked = self.parked();
        let since = Instant::now();
        parked.iter_mut().take_while(|parked| parked.since + IDLE < since).for_each(|idle| idle.reader = None);
        if parked.len() == PLACES_MAX {
            parked.pop_front();
        }
        parked.push_back(Parked { place, since, reader });
    }

    fn parked(&self) -> MutexGuard<'_, VecDeque<Parked>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_places_that_were_left_last_are_remembered() {
        let ahead = ReadAhead::new(1, &Metrics::new());
        let place = |offset| ReaderPlace { topic: TopicId::default(), partition: 0, offset };
        (0..=PLACES_MAX as Offset).for_each(|offset| ahead.park(place(offset), None));
        assert!(ahead.resume(place(0)).is_none());
        assert!(ahead.resume(place(1)).is_some());
        assert!(ahead.resume(place(1)).is_none(), "it has gone on");
    }
}
