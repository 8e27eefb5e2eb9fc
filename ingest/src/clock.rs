//! The wall clock, read in this one place. Only proposers of commands look at it; applying one never does.

use std::time::{SystemTime, UNIX_EPOCH};

use chronik_core::ids::Timestamp;

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)]
pub fn now_ms() -> Timestamp {
    millis(SystemTime::now())
}

/// A time as milliseconds since the Unix epoch.
pub fn millis(time: SystemTime) -> Timestamp {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
