//! The wall clock, read in this one place.

use std::time::{SystemTime, UNIX_EPOCH};

use chronik_format::ids::Timestamp;

/// The time.
#[allow(clippy::disallowed_methods)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> Timestamp {
    now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Timestamp)
}
