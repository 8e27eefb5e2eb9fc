//! The clocks, read in this one place. Only proposers of commands look at the time of day; applying one never does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chronik_format::ids::Timestamp;

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)]
pub fn now_ms() -> Timestamp {
    millis(SystemTime::now())
}

/// A clock that can't be set, and that goes on while the process is stopped or the machine suspended.
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Waits until a time; for ever without one.
pub async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A time as milliseconds since the Unix epoch.
pub fn millis(time: SystemTime) -> Timestamp {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The time of so many milliseconds since the Unix epoch.
pub fn time_at(millis: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
