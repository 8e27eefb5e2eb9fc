//! The Kafka APIs, one a file, and the one table of what is served.

use std::sync::Arc;

use chronik_net::ApiTable;
use uuid::Uuid;

use crate::lane::LaneHandle;
use crate::reading::RecordReader;

/// What the handlers share.
pub struct Broker {
    /// The way to the lane.
    pub lane: LaneHandle,
    /// Reads records wherever they lie.
    pub reader: RecordReader,
    /// The cluster's identity.
    pub cluster: Uuid,
    /// Where clients are told to connect.
    pub advertised_host: String,
    /// Where clients are told to connect.
    pub advertised_port: u16,
    /// Whether asking for an unknown topic creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created without saying how many.
    pub num_partitions: i32,
}

/// The table of what is served.
pub fn table(broker: Broker) -> ApiTable<Broker> {
    ApiTable::new(Arc::new(broker), [])
}
