//! How long an invocation may take.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The part of the time that is kept for the answer, and its bounds.
const MARGIN_PART: u32 = 10;
const MARGIN_MIN: Duration = Duration::from_millis(300);
const MARGIN_MAX: Duration = Duration::from_secs(5);

/// Two moments of an invocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct InvocationDeadline {
    /// From here on nothing is begun that can be left for another time: what follows takes about as long as what was.
    pub enough: Instant,
    /// Here all work is left, so that the answer still goes out.
    pub end: Instant,
}

impl InvocationDeadline {
    /// For an invocation that begins now and is ended by force at `time`.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn until(time: SystemTime) -> Self {
        Self::of(time.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// For an invocation that has so much time from now on.
    pub(super) fn of(time: Duration) -> Self {
        let work = time.saturating_sub((time / MARGIN_PART).clamp(MARGIN_MIN, MARGIN_MAX));
        let now = Instant::now();
        Self { enough: now + work / 2, end: now + work }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_is_kept_for_the_answer() {
        let now = Instant::now();
        for (seconds, end) in [(0.1, 0.0), (1.0, 0.7), (20.0, 18.0), (900.0, 895.0)] {
            let deadline = InvocationDeadline::of(Duration::from_secs_f64(seconds));
            assert_eq!((deadline.end - now).as_secs_f64(), end);
            assert_eq!((deadline.enough - now).as_secs_f64(), end / 2.0);
        }
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_leaves_no_time() {
        assert!(InvocationDeadline::until(SystemTime::UNIX_EPOCH).end <= Instant::now());
    }
}
