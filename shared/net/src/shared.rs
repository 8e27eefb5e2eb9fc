//! What goes across connections.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{Limits, NetStats};

/// What all connections of a server share.
pub struct Shared {
    pub limits: Limits,
    pub stats: Arc<NetStats>,
    /// A permit a byte of [`Limits::in_flight_bytes_max`].
    pub in_flight: Arc<Semaphore>,
}
