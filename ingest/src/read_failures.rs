//! Failures of reads in the log, each once a minute: what a lost object held is asked for again and again, partition by
//! partition.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After how long a failure is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// Failures that are remembered; at more, all are forgotten.
const REMEMBERED_MAX: usize = 1000;

/// What was told lately.
#[derive(Debug, Default)]
pub struct ReadFailures {
    told: Mutex<HashMap<String, Instant>>,
}

impl ReadFailures {
    /// Whether a failure, in the words that name its object, is to be told at `now`.
    pub fn is_news(&self, failure: &str, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(failure).is_some_and(|at| now.duration_since(*at) < TOLD_AGAIN) {
            return false;
        }
        if told.len() >= REMEMBERED_MAX {
            told.clear();
        }
        told.insert(failure.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_a_minute_and_each_of_several() {
        let (failures, start) = (ReadFailures::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (failure, seconds, is_news) in [("a", 0, true), ("a", 59, false), ("b", 59, true), ("a", 60, true)] {
            assert_eq!(failures.is_news(failure, at(seconds)), is_news, "{failure} {seconds}");
        }
        for number in 0..2 * REMEMBERED_MAX {
            assert!(failures.is_news(&format!("other {number}"), at(61)));
        }
        assert!(failures.told.lock().is_ok_and(|told| told.len() <= REMEMBERED_MAX));
    }
}
