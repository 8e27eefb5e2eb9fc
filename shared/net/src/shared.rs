//! What goes across connections.

use std::sync::Arc;

use crate::admission::Admission;
use crate::{Limits, NetStats};

/// What all connections of a server share.
pub struct Shared {
    pub limits: Limits,
    pub stats: Arc<NetStats>,
    /// Of [`Limits::in_flight_bytes_max`].
    pub admission: Arc<Admission>,
}
