//! The wall clock, read in this one place.

use std::time::{SystemTime, UNIX_EPOCH};

use chronik_core::ids::Timestamp;

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)]
pub fn now_ms() -> Timestamp {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as Timestamp)
}
