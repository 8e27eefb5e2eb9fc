//! What is given back once bytes are dropped: memory is counted, and room taken, for as long as it lasts.

use bytes::Bytes;
use prometheus::IntGauge;

/// The same bytes, which keep `held` until the last of them is dropped.
pub fn holding<T: Send + 'static>(bytes: impl Into<Bytes>, held: T) -> Bytes {
    Bytes::from_owner(Holding { bytes: bytes.into(), _held: held })
}

struct Holding<T> {
    bytes: Bytes,
    _held: T,
}

impl<T> AsRef<[u8]> for Holding<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that a gauge shows as long as this lives.
#[derive(Debug)]
pub struct CountedBytes {
    gauge: IntGauge,
    bytes: i64,
}

impl CountedBytes {
    /// Adds them.
    pub fn new(gauge: &IntGauge, bytes: u64) -> Self {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        gauge.add(bytes);
        Self { gauge: gauge.clone(), bytes }
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.gauge.sub(self.bytes);
    }
}
