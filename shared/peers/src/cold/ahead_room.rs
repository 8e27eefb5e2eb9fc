//! Room for what is read ahead, which all readers of a process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chronik_service::telemetry::Metrics;
use prometheus::{IntCounter, IntGauge};

/// A reader that has something gets at most this part of what is free.
const SHARES: usize = 4;

/// Room for so many bytes.
#[derive(Debug)]
pub(super) struct AheadRoom(Arc<SharedRoom>);

#[derive(Debug)]
struct SharedRoom {
    bytes_max: usize,
    held: AtomicUsize,
    held_bytes: IntGauge,
    read_bytes: IntCounter,
    unused_bytes: IntCounter,
}

impl AheadRoom {
    pub(super) fn new(bytes_max: usize, metrics: &Metrics) -> Self {
        Self(Arc::new(SharedRoom {
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
        }))
    }

    /// Whether anything may be read ahead.
    pub(super) fn has_any(&self) -> bool {
        self.0.bytes_max > 0
    }

    /// No bytes yet.
    pub(super) fn hold(&self) -> HeldAhead {
        HeldAhead { room: self.0.clone(), bytes: 0 }
    }
}

/// Room that a reader has for what it reads ahead; given back when it is dropped.
#[derive(Debug)]
pub(super) struct HeldAhead {
    room: Arc<SharedRoom>,
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
        let room = AheadRoom::new(100, &Metrics::new());
        let held = || room.0.held_bytes.get();
        let (mut first, mut second) = (room.hold(), room.hold());
        assert!(!first.grow(101) && first.grow(60));
        assert!(!first.grow(11) && first.grow(10), "a quarter of what is free");
        assert!(!second.grow(31) && second.grow(30) && held() == 100);
        first.keep(20);
        assert!(held() == 50 && second.grow(12));
        drop(first);
        assert_eq!((held(), room.0.unused_bytes.get()), (42, 20));
        drop(second);
        assert_eq!((held(), room.0.read_bytes.get()), (0, 112));
    }
}
