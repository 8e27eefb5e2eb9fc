//! What the connections do, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one [`KafkaServer`](crate::KafkaServer), for metrics. Gauges go up and down, all else only up.
#[derive(Debug, Default)]
pub struct NetStats {
    /// Gauge: connections that are open.
    pub connections_open: AtomicU64,
    /// Connections that were served.
    pub connections_accepted: AtomicU64,
    /// Connections that were closed at once because there were too many.
    pub connections_refused: AtomicU64,
    /// Connections closed for what came over them: a frame too large, no request, an API not served.
    pub connections_faulty: AtomicU64,
    /// Requests given to the service.
    pub requests: AtomicU64,
    /// Gauge: bytes of frames being read or answered.
    pub in_flight_bytes: AtomicU64,
    /// Bytes of requests.
    pub bytes_read: AtomicU64,
    /// Bytes of answers.
    pub bytes_written: AtomicU64,
    /// Handlers that panicked. Each has cost its connection.
    pub panics: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}

pub(crate) fn uncount(gauge: &AtomicU64, amount: usize) {
    gauge.fetch_sub(amount as u64, Ordering::Relaxed);
}
