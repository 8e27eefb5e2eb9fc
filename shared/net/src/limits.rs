//! What a client can cost.

use std::time::Duration;

const MIB: usize = 1 << 20;

/// Bounds on connections and on what they hold.
#[derive(Debug, Clone)]
pub struct NetLimits {
    /// Bytes of one frame after its length field. A longer one closes the connection.
    pub frame_bytes_max: usize,
    /// Bytes of all frames being read or answered, as far as they have arrived, over all connections. Beyond it only
    /// one request is read on, the oldest, and what fits into the 16 KiB that every connection has of its own.
    pub in_flight_bytes_max: usize,
    /// Connections at a time, over all listeners: they take from one store of file handles. Another one is closed at
    /// once.
    pub connections_max: usize,
    /// Requests in progress on one connection. Beyond it the connection is not read.
    pub connection_requests_max: usize,
    /// Bytes of requests in progress on one connection, and apart from them of answers that wait for an
    /// earlier one. Reaching it stops the reading, or the work on what is not the oldest request.
    pub connection_bytes_max: usize,
    /// A connection without request is closed after this time.
    pub idle_timeout: Duration,
    /// A frame of which nothing more comes for this time closes its connection; so does a client that takes nothing
    /// of an answer for this time.
    pub stall_timeout: Duration,
    /// Bytes a second that a frame must come with, once it has used up [`Self::stall_timeout`].
    pub frame_rate_min: usize,
    /// How long answers may take once the client or the server has ended the connection.
    pub drain_timeout: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            // socket.request.max.bytes, connections.max.idle.ms of Kafka
            frame_bytes_max: 100 * MIB,
            idle_timeout: Duration::from_secs(600),
            in_flight_bytes_max: 256 * MIB,
            connections_max: 16_384,
            connection_requests_max: 1000,
            connection_bytes_max: 16 * MIB,
            stall_timeout: Duration::from_secs(30),
            frame_rate_min: MIB,
            drain_timeout: Duration::from_secs(10),
        }
    }
}
