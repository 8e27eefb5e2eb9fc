//! What goes across connections.

use std::sync::Arc;

use crate::admission::RequestAdmission;
use crate::{NetLimits, NetStats};

/// What all connections of a server share.
pub struct ServerContext {
    pub limits: NetLimits,
    pub stats: Arc<NetStats>,
    /// Of [`NetLimits::in_flight_bytes_max`].
    pub admission: Arc<RequestAdmission>,
}
