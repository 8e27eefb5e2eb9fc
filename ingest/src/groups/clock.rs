//! The time of groups: it stands still while the broker does.
//!
//! A process can be stopped, and a machine be out of breath. Signs of life that came in time then lie in the sockets,
//! unread, and so do the requests of members that a rebalance waits for. If that time counted, they would be thrown out
//! before they are heard.

use std::time::{Duration, Instant};

/// How often the coordinator takes a turn at least, so that a gap is one.
pub const TURN_EVERY: Duration = Duration::from_secs(1);
/// A longer gap between two turns does not count. A third of the shortest session: no client waits longer for its next
/// sign of life.
const GAP_MAX: Duration = Duration::from_secs(2);
/// By how much time is set back after a gap: until then what lies in the sockets is read, and clients that gave up
/// their connections are back.
const HEARING: Duration = Duration::from_secs(5);

/// A clock that is told of the coordinator's turns.
#[derive(Debug)]
pub struct GroupClock {
    turn: Instant,
    /// By how much groups are behind.
    behind: Duration,
}

impl GroupClock {
    /// One that goes with the time, so far.
    pub fn new(now: Instant) -> Self {
        Self { turn: now, behind: Duration::ZERO }
    }

    /// The coordinator takes a turn at `now`; returns the time as groups see it.
    pub fn turn(&mut self, now: Instant) -> Instant {
        let gap = now.saturating_duration_since(self.turn);
        self.turn = now;
        if gap > GAP_MAX {
            self.behind += gap + HEARING;
            tracing::info!("consumer groups were not looked after for {} s: no session ends for that", gap.as_secs());
        }
        now.checked_sub(self.behind).unwrap_or(now)
    }

    /// When it will be `time` for groups, if there is no gap until then.
    pub fn when(&self, time: Instant) -> Instant {
        time + self.behind
    }
}
