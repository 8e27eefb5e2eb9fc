//! How many may do something costly at a time, and how many may wait for it.

use std::sync::Arc;

use bytes::Bytes;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::held::{CountedBytes, holding};
use crate::problem::HttpProblem;

/// Hands out turns.
#[derive(Clone, Debug)]
pub struct TurnLimit {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// The right to go on; given back when dropped.
#[derive(Debug)]
pub struct HeldTurn {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting; try again later")]
pub struct TurnRefused;

impl TurnLimit {
    /// `most` at a time; `waiting` more wait, others are refused.
    pub fn new(most: usize, waiting: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(most)), places: Arc::new(Semaphore::new(most + waiting)) }
    }

    /// Waits for a turn.
    pub async fn take(&self) -> Result<HeldTurn, TurnRefused> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| TurnRefused)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| TurnRefused)?;
        Ok(HeldTurn { _place: place, _turn: turn })
    }
}

impl HeldTurn {
    /// Bytes that keep the turn until they are dropped, and are counted in `held`: a body that its client does not take
    /// counts as long as it takes memory.
    pub fn hold(self, bytes: Bytes, held: &IntGauge) -> Bytes {
        let counted = CountedBytes::new(held, bytes.len() as u64);
        holding(bytes, (self, counted))
    }
}

impl From<TurnRefused> for HttpProblem {
    fn from(busy: TurnRefused) -> Self {
        HttpProblem::new(503, "busy", busy.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn some_go_on_some_wait_and_the_rest_is_refused() {
        let turns = TurnLimit::new(1, 1);
        let first = turns.take().await.unwrap();
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await }
        });
        while turns.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(turns.take().await.unwrap_err(), TurnRefused);
        drop(first);
        let second = second.await.unwrap().unwrap();
        let bytes = IntGauge::new("held", "bytes held").unwrap();
        let held = second.hold(Bytes::from_static(b"body"), &bytes);
        assert_eq!((&held[..], bytes.get()), (&b"body"[..], 4));
        assert_eq!(turns.turns.available_permits(), 0);
        drop(held);
        assert_eq!(bytes.get(), 0);
        turns.take().await.unwrap();
    }
}
