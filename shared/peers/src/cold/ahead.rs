//! Who goes on where an answer ended is read ahead for.
//!
//! A reader is known by the place where its last answer ended. One that comes back there once is a
//! [`SequentialReader`] from then on, which is parked between its answers with what it has read ahead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::time::Instant;

use super::sequential::SequentialReader;
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_service::telemetry::Metrics;

/// Places that are remembered.
const PLACES_MAX: usize = 1024;
/// How long what was read ahead is kept for a reader that does not come back.
const IDLE: Duration = Duration::from_secs(10);
/// A reader that has something gets at most this part of what is free.
const SHARES: usize = 4;

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
    room: Arc<AheadRoom>,
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
        let room = AheadRoom {
            bytes_max,
            held: AtomicUsize::new(0),
            held_bytes: metrics
                .gauge("chronik_cold_ahead_bytes", "Bytes of old records that are read ahead, or being read."),
            read_bytes: metrics
                .counter("chronik_cold_ahead_read_bytes_total", "Bytes of old records that were read ahead."),
            unused_bytes: metrics.counter(
                "chronik_cold_ahead_unused_bytes_total",
                "Bytes of old records that were read ahead and not asked for.",
            ),
        };
        Self { room: Arc::new(room), parked: Mutex::default() }
    }

    /// No bytes yet.
    pub(super) fn hold(&self) -> HeldAhead {
        HeldAhead { room: self.room.clone(), bytes: 0 }
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
        if self.room.bytes_max == 0 {
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

#[derive(Debug)]
struct AheadRoom {
    bytes_max: usize,
    held: AtomicUsize,
    held_bytes: IntGauge,
    read_bytes: IntCounter,
    unused_bytes: IntCounter,
}

/// Room that a reader has for what it reads ahead; given back when it is dropped.
#[derive(Debug)]
pub(super) struct HeldAhead {
    room: Arc<AheadRoom>,
    bytes: usize,
}

impl HeldAhead {
    /// Takes room for so many bytes more, if there is some.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let room = &self.room;
        let fits = |held: usize| {
            let free = room.bytes_max.saturating_sub(held);
            let share = if self.bytes == 0 { free } else { free / SHARES };
            (bytes <= share).then_some(held + bytes)
        };
        if room.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        self.bytes += bytes;
        room.held_bytes.add(bytes as i64);
        room.read_bytes.inc_by(bytes as u64);
        true
    }

    /// Gives back what is beyond so many bytes.
    pub(super) fn keep(&mut self, bytes: usize) {
        let given_back = self.bytes.saturating_sub(bytes);
        self.bytes -= given_back;
        self.room.held.fetch_sub(given_back, Ordering::Relaxed);
        self.room.held_bytes.sub(given_back as i64);
    }
}

impl Drop for HeldAhead {
    fn drop(&mut self) {
        self.room.unused_bytes.inc_by(self.bytes as u64);
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_and_given_back() {
        let ahead = ReadAhead::new(100, &Metrics::new());
        let held = || ahead.room.held_bytes.get();
        let (mut first, mut second) = (ahead.hold(), ahead.hold());
        assert!(!first.grow(101) && first.grow(60));
        assert!(!first.grow(11) && first.grow(10), "a quarter of what is free");
        assert!(!second.grow(31) && second.grow(30) && held() == 100);
        first.keep(20);
        assert!(held() == 50 && second.grow(12));
        drop(first);
        assert_eq!((held(), ahead.room.unused_bytes.get()), (42, 20));
        drop(second);
        assert_eq!((held(), ahead.room.read_bytes.get()), (0, 112));
    }

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
