//! The Kafka APIs, one a file, and the one table of what is served.
//!
//! A handler turns a decoded request into a response: [`live_partition`] finds the partitions it names, [`error`] is
//! the one map from our errors to Kafka's codes. There is one broker, so it leads everything, and every topic has one
//! replica.

mod configs;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod epochs;
mod error;
mod fetch;
mod groups;
mod init_producer_id;
mod list_offsets;
mod live_partition;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
#[cfg(test)]
mod tests;
mod topic_name;

use std::sync::Arc;

use chronik_format::catalog::CatalogReader;
use chronik_net::{ApiRow, ApiTable, KafkaRequest, RequestOutcome};
use chronik_wire::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, FetchRequest,
    FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use uuid::Uuid;

pub use self::configs::broker_config::BrokerConfig;
pub use self::fetch::{FetchRoom, FetchSessions, SessionLimits};
pub use self::init_producer_id::ProducerIds;
use crate::groups::Groups;
use crate::lane::Lane;
use crate::listener::{Address, BoundListener};
use crate::reading::RecordReader;

/// The number that clients know the broker by.
const BROKER_ID: i32 = 1;

/// What the handlers share.
pub struct BrokerContext {
    /// The way to the lane.
    pub lane: Lane,
    /// Reads records wherever they lie.
    pub reader: RecordReader,
    /// Reads what of topics' history is closed.
    pub catalog: Arc<CatalogReader>,
    /// Room for the records of answers.
    pub answers: Arc<FetchRoom>,
    /// What is remembered of clients from fetch to fetch.
    pub sessions: FetchSessions,
    /// Consumer groups.
    pub groups: Groups,
    /// Of idempotent producers.
    pub producer_ids: ProducerIds,
    /// The cluster's identity.
    pub cluster: Uuid,
    /// Where clients come in, in the order of the server's listeners.
    pub listeners: Arc<[BoundListener]>,
    /// Whether asking for an unknown topic creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created without saying how many.
    pub num_partitions: i32,
    /// What it tells of its settings.
    pub config: BrokerConfig,
}

impl BrokerContext {
    /// Where the client of a request is told to connect: the address of its own network's listener.
    fn advertised_to(&self, request: &KafkaRequest) -> Address {
        self.listeners[request.listener].advertised.clone()
    }
}

/// What is served, and by what.
pub fn table(broker: BrokerContext) -> ApiTable<BrokerContext> {
    let rows = [
        // From version 0 on: librdkafka before 2.11 takes it as a sign that it may compress.
        ApiRow::of::<ProduceRequest>(produce::handle),
        ApiRow::of::<FetchRequest>(fetch::handle),
        ApiRow::of::<ListOffsetsRequest>(list_offsets::handle),
        ApiRow::of::<MetadataRequest>(metadata::handle),
        ApiRow::of::<OffsetCommitRequest>(groups::offset_commit::handle),
        ApiRow::of::<OffsetFetchRequest>(groups::offset_fetch::handle),
        ApiRow::of::<FindCoordinatorRequest>(groups::find_coordinator::handle),
        ApiRow::of::<JoinGroupRequest>(groups::join_group::handle),
        ApiRow::of::<HeartbeatRequest>(groups::heartbeat::handle),
        ApiRow::of::<LeaveGroupRequest>(groups::leave_group::handle),
        ApiRow::of::<SyncGroupRequest>(groups::sync_group::handle),
        ApiRow::of::<DescribeGroupsRequest>(groups::describe_groups::handle),
        ApiRow::of::<ListGroupsRequest>(groups::list_groups::handle),
        ApiRow::of::<DeleteGroupsRequest>(groups::delete_groups::handle),
        ApiRow::of::<OffsetDeleteRequest>(groups::offset_delete::handle),
        ApiRow::of::<CreateTopicsRequest>(create_topics::handle),
        ApiRow::of::<DeleteTopicsRequest>(delete_topics::handle),
        ApiRow::of::<DeleteRecordsRequest>(delete_records::handle),
        ApiRow::of::<InitProducerIdRequest>(init_producer_id::handle),
        ApiRow::of::<OffsetForLeaderEpochRequest>(offset_for_leader_epoch::handle),
        ApiRow::of::<DescribeConfigsRequest>(configs::describe_configs::handle),
        ApiRow::of::<AlterConfigsRequest>(configs::alter_configs::handle),
        ApiRow::of::<IncrementalAlterConfigsRequest>(configs::incremental_alter_configs::handle),
        ApiRow::of::<CreatePartitionsRequest>(create_partitions::handle),
        ApiRow::of::<DescribeClusterRequest>(describe_cluster::handle),
    ];
    ApiTable::new(Arc::new(broker), rows)
}

/// Decodes a request and answers with the response that `respond` makes of it.
fn answer<M, F>(request: &KafkaRequest, respond: impl FnOnce(M) -> F) -> BoxFuture<'static, RequestOutcome>
where
    M: chronik_wire::RequestMessage,
    F: Future<Output = M::Response> + Send + 'static,
{
    let version = request.version();
    match request.decode() {
        Ok(asked) => respond(asked).map(move |response| RequestOutcome::answer(&response, version)).boxed(),
        Err(error) => ready(error.into()).boxed(),
    }
}
