//! When a second request is sent because the first is slow, and how many of them there may be.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Latencies that are remembered.
const REMEMBERED: usize = 128;
/// Latencies from which the delay is derived; with fewer it is [`FIRST_DELAY`].
const ENOUGH: usize = 16;
const FIRST_DELAY: Duration = Duration::from_millis(300);
/// Bounds of the delay.
const DELAY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// One request in so many may be sent a second time.
const ONE_IN: u32 = 20;
/// Second requests that may be saved up.
const SAVED_MAX: u32 = 5;

/// Decides on second requests.
#[derive(Debug, Default)]
pub(super) struct HedgePolicy {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    latencies: VecDeque<Duration>,
    /// [`ONE_IN`] of them pay for a second request.
    saved: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { latencies: VecDeque::new(), saved: SAVED_MAX * ONE_IN }
    }
}

impl HedgePolicy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins: how long to wait for it before a second one is sent. All but the slowest twentieth of the last
    /// requests were faster.
    pub(super) fn begin(&self) -> Duration {
        let mut state = self.state();
        state.saved = (state.saved + 1).min(SAVED_MAX * ONE_IN);
        if state.latencies.len() < ENOUGH {
            return FIRST_DELAY;
        }
        let mut sorted: Vec<Duration> = state.latencies.iter().copied().collect();
        sorted.sort_unstable();
        sorted[(sorted.len() * 19 / 20).min(sorted.len() - 1)].clamp(DELAY.0, DELAY.1)
    }

    /// Whether a second request may be sent; it is counted if so.
    pub(super) fn may_send(&self) -> bool {
        let mut state = self.state();
        let may = state.saved >= ONE_IN;
        if may {
            state.saved -= ONE_IN;
        }
        may
    }

    /// A worker answered.
    pub(super) fn answered(&self, latency: Duration) {
        let mut state = self.state();
        if state.latencies.len() == REMEMBERED {
            state.latencies.pop_front();
        }
        state.latencies.push_back(latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_follows_what_was_seen() {
        let hedge = HedgePolicy::default();
        assert_eq!(hedge.begin(), FIRST_DELAY);
        for millis in 1..=100 {
            hedge.answered(Duration::from_millis(millis));
        }
        assert_eq!(hedge.begin(), Duration::from_millis(96));
        for _ in 0..REMEMBERED {
            hedge.answered(Duration::from_micros(1));
        }
        assert_eq!(hedge.begin(), DELAY.0);
        for _ in 0..REMEMBERED {
            hedge.answered(Duration::from_secs(9));
        }
        assert_eq!(hedge.begin(), DELAY.1);
    }

    #[test]
    fn one_request_in_twenty_may_be_sent_twice() {
        let hedge = HedgePolicy::default();
        let sent = (0..10_000).filter(|_| {
            hedge.begin();
            hedge.may_send()
        });
        let sent = sent.count();
        assert!((500..=500 + SAVED_MAX as usize).contains(&sent), "{sent}");
        for _ in 0..10_000 {
            hedge.begin();
        }
        assert_eq!((0..100).filter(|_| hedge.may_send()).count(), 5, "few are saved up");
    }
}
