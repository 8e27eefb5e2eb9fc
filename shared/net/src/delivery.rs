//! How a client takes its answers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The way of a connection's answers to its client, for those who know what is kept in memory meanwhile.
#[derive(Debug, Default)]
pub struct AnswerDelivery {
    /// When the client last took something, or the first byte was offered to it; `None` while it has taken everything.
    untaken_since: Mutex<Option<Instant>>,
    given_up: CancellationToken,
}

impl AnswerDelivery {
    /// Since when the client has taken nothing of what is there for it.
    pub fn untaken_since(&self) -> Option<Instant> {
        *self.lock()
    }

    /// Closes the connection: what it has not sent is thrown away.
    pub fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Whether it was given up.
    pub fn is_given_up(&self) -> bool {
        self.given_up.is_cancelled()
    }

    /// Waits until it is given up.
    pub(crate) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// Bytes are offered to the client, which has taken all before them.
    pub fn offered(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// The client took all that was there.
    pub fn finished(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.untaken_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
