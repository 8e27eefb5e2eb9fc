//! The messages, one API a file. Names, versions and defaults are those of Apache Kafka's definitions.
//!
//! Versions in a table: `4..` from 4 on, `4..=14` up to 14.

mod alter_configs;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;

pub use alter_configs::*;
pub use api_versions::*;
pub use create_partitions::*;
pub use create_topics::*;
pub use delete_groups::*;
pub use delete_records::*;
pub use delete_topics::*;
pub use describe_cluster::*;
pub use describe_configs::*;
pub use describe_groups::*;
pub use fetch::*;
pub use find_coordinator::*;
pub use heartbeat::*;
pub use incremental_alter_configs::*;
pub use init_producer_id::*;
pub use join_group::*;
pub use leave_group::*;
pub use list_groups::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offset_commit::*;
pub use offset_delete::*;
pub use offset_fetch::*;
pub use offset_for_leader_epoch::*;
pub use produce::*;
pub use sync_group::*;

/// Authorized operations that were not asked for.
pub const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

crate::schema::schema! {
    /// Who leads a partition, where the sender believed in another broker.
    LeaderIdAndEpoch {
        /// The broker, or -1 if it is not known.
        leader_id: i32 = -1, 0..;
        /// The leader's epoch, or -1.
        leader_epoch: i32 = -1, 0..;
    }

    /// Where a broker named as leader is found.
    NodeEndpoint {
        /// The broker.
        node_id: i32 = 0, 0..;
        /// Its host.
        host: String = String::new(), 0..;
        /// Its port.
        port: i32 = 0, 0..;
        /// Its rack.
        rack: Option<String> = None, 0..;
    }
}
