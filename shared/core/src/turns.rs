//! How many may do something costly at a time, and how many may wait for it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// Hands out turns.
#[derive(Clone, Debug)]
pub struct Turns {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// The right to go on; given back when dropped.
#[derive(Debug)]
pub struct Turn {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting; try again later")]
pub struct Busy;

impl Turns {
    /// `most` at a time; `waiting` more wait, others are refused.
    pub fn new(most: usize, waiting: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(most)), places: Arc::new(Semaphore::new(most + waiting)) }
    }

    /// Waits for a turn.
    pub async fn take(&self) -> Result<Turn, Busy> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Busy)?;
        Ok(Turn { _place: place, _turn: turn })
    }
}

impl Turn {
    /// Bytes that keep the turn until they are dropped: a body that nobody takes counts as long as it takes memory.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _turn: self })
    }
}

struct Held {
    bytes: Bytes,
    _turn: Turn,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Self {
        Problem::new(503, "busy", busy.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn some_go_on_some_wait_and_the_rest_is_refused() {
        let turns = Turns::new(1, 1);
        let first = turns.take().await.unwrap();
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take().await }
        });
        while turns.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(turns.take().await.unwrap_err(), Busy);
        drop(first);
        let second = second.await.unwrap().unwrap();
        let held = second.hold(Bytes::from_static(b"body"));
        assert_eq!(&held[..], b"body");
        assert_eq!(turns.turns.available_permits(), 0);
        drop(held);
        turns.take().await.unwrap();
    }
}
