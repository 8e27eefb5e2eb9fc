//! How jobs reach indexers. The queue is a hint: what is pending is known from the lane's state, and a lost or
//! doubled message is harmless.

mod embedded;
#[cfg(any(test, feature = "testing"))]
pub mod suite;

pub use embedded::{DeadLetter, EmbeddedQueue};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

/// A handle on the queue that services share.
pub type SharedQueue = Arc<dyn Queue>;

/// A message handed out; it comes again unless it is acknowledged before its visibility time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Names this hand-out, not the message: an older receipt of the same message has no effect.
    pub receipt: String,
    /// The message, JSON (see [`crate::job::Job`]).
    pub body: String,
    /// How often the message has been handed out, this time included.
    pub receives: u32,
}

/// How many messages wait and how many are being worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be received.
    pub visible: usize,
    /// Handed out and neither acknowledged nor due again.
    pub in_flight: usize,
}

/// Why the queue did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The message would not fit in.
    #[error("the queue is full: {bytes} bytes waiting, limit {limit}")]
    Full {
        /// Bytes of the messages that wait.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The queue could not be reached, or failed.
    #[error("the queue is unavailable: {message}")]
    Unavailable {
        /// The queue's own words.
        message: String,
    },
}

/// The job queue, at least once.
#[async_trait]
pub trait Queue: std::fmt::Debug + Send + Sync {
    /// Adds a message.
    async fn send(&self, body: String) -> Result<(), QueueError>;
    /// Waits up to `wait` for a message and hands out at most `most`, hidden from others for `visibility`.
    async fn receive(&self, most: usize, visibility: Duration, wait: Duration) -> Result<Vec<Delivery>, QueueError>;
    /// Keeps a message hidden for `visibility` from now; nothing happens if the receipt is no longer valid.
    async fn extend(&self, receipt: &str, visibility: Duration) -> Result<(), QueueError>;
    /// Removes a message: its work is done, or somebody else's.
    async fn acknowledge(&self, receipt: &str) -> Result<(), QueueError>;
    /// Makes a message visible again at once.
    async fn release(&self, receipt: &str) -> Result<(), QueueError>;
    /// Moves a message that can't be worked on to the dead letters.
    async fn bury(&self, receipt: &str, reason: &str) -> Result<(), QueueError>;
    /// How full the queue is.
    async fn depth(&self) -> Result<Depth, QueueError>;
}
