//! How jobs reach indexers. The queue is a hint: what is pending is known from the lane's state, and a lost or
//! doubled message is harmless.

mod embedded;
mod sqs;
#[cfg(any(test, feature = "testing"))]
pub mod suite;

pub use embedded::{DeadLetter, EmbeddedQueue};
pub use sqs::{QueueAddress, QueueAddressError, QueueEndpoint, RedrivePolicy, SqsError, SqsQueue, sqs_client};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

/// The largest message, bytes.
pub const MESSAGE_BYTES_MAX: usize = 200 << 10;

/// A job that is handed out this often ended none of the tries before: it is reported as failed without another try. A
/// queue that moves messages to its dead letters by itself must not do so before.
pub const RECEIVES_MAX: u32 = 5;

/// A handle on the queue that services share.
pub type SharedQueue = Arc<dyn Queue>;

/// A message handed out; it comes again unless it is acknowledged before its visibility time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDelivery {
    /// Names this hand-out, not the message. One that is no longer valid is never an error; whether it still has its
    /// effect is up to the queue.
    pub receipt: String,
    /// The message, JSON: a job.
    pub body: String,
    /// How often the message has been handed out, this time included.
    pub receives: u32,
}

/// How many messages wait and how many are being worked on; SQS counts approximately, and up to a minute late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Ready to be received, or soon.
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
        limit: usize,
    },
    /// The message is larger than any job.
    #[error("a message of {bytes} bytes is larger than a job may be, {limit}")]
    TooLarge {
        /// Bytes of the message.
        bytes: usize,
        limit: usize,
    },
    /// The queue has nowhere to put dead letters, so the message stays in it.
    #[error("{queue} has no dead-letter queue; give it one by a redrive policy")]
    NoDeadLetters {
        /// The queue's URL.
        queue: String,
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
    /// Adds a message of at most [`MESSAGE_BYTES_MAX`].
    async fn send(&self, body: String) -> Result<(), QueueError>;
    /// Waits up to `wait` for a message and hands out at most `most`, hidden from others for `visibility`. SQS knows
    /// whole seconds, waits at most 20 and hands out at most ten. To drop the future ends the wait; what was handed out
    /// at that moment comes again when `visibility` is over.
    async fn receive(
        &self,
        most: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<QueueDelivery>, QueueError>;
    /// Whether [`receive`](Self::receive) waits at a server, which hands out messages after the wait was dropped too.
    fn waits_at_server(&self) -> bool {
        false
    }
    /// Keeps a message hidden for `visibility` from now; nothing happens if the receipt is no longer valid.
    async fn extend(&self, receipt: &str, visibility: Duration) -> Result<(), QueueError>;
    /// Removes a message: its work is done, or another receiver's.
    async fn acknowledge(&self, receipt: &str) -> Result<(), QueueError>;
    /// Makes a message visible again at once.
    async fn release(&self, receipt: &str) -> Result<(), QueueError>;
    /// Moves a message that can't be worked on to the dead letters, with the reason.
    async fn bury(&self, delivery: &QueueDelivery, reason: &str) -> Result<(), QueueError>;
    /// How full the queue is.
    async fn depth(&self) -> Result<QueueDepth, QueueError>;
}

/// Refuses what no lane's owner sends.
fn check_size(body: &str) -> Result<(), QueueError> {
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(QueueError::TooLarge { bytes: body.len(), limit: MESSAGE_BYTES_MAX });
    }
    Ok(())
}
