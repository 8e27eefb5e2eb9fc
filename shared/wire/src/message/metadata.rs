//! Metadata (3): brokers, topics, and who leads which partition.

use uuid::Uuid;

use super::OPERATIONS_NOT_ASKED;
use crate::ErrorCode;
use crate::schema::{api, schema};

api!(Metadata, 0..=12, MetadataRequest => MetadataResponse);

schema! {
    /// Asks for brokers and topics.
    MetadataRequest {
        /// Null asks for all topics (in version 0 an empty list does), an empty list for none.
        topics: Option<Vec<MetadataRequestTopic>> = Some(Vec::new()), 0.., null 1..;
        /// Whether a missing topic may be created. Older versions always allow it.
        allow_auto_topic_creation: bool = true, 4..;
        /// Whether to say what the client may do with the cluster.
        include_cluster_authorized_operations: bool = false, 8..=10;
        /// Whether to say what the client may do with each topic.
        include_topic_authorized_operations: bool = false, 8..;
    }

    /// One topic asked for, by name or by id.
    MetadataRequestTopic {
        /// The id, nil if asked for by name. Kafka honours it from version 12 on.
        topic_id: Uuid = Uuid::nil(), 10..;
        /// The name, null if asked for by id.
        name: Option<String> = Some(String::new()), 0.., null 10..;
    }

    /// Brokers and topics.
    MetadataResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 3..;
        /// The brokers.
        brokers: Vec<MetadataResponseBroker> = Vec::new(), 0..;
        /// The cluster.
        cluster_id: Option<String> = None, 2..;
        /// The broker that admin requests go to.
        controller_id: i32 = -1, 1..;
        /// The topics.
        topics: Vec<MetadataResponseTopic> = Vec::new(), 0..;
        /// A bit an operation that the client may do with the cluster.
        cluster_authorized_operations: i32 = OPERATIONS_NOT_ASKED, 8..=10;
    }

    /// One broker.
    MetadataResponseBroker {
        /// The broker.
        node_id: i32 = 0, 0..;
        /// Its host.
        host: String = String::new(), 0..;
        /// Its port.
        port: i32 = 0, 0..;
        /// Its rack.
        rack: Option<String> = None, 1..;
    }

    /// One topic.
    MetadataResponseTopic {
        /// Of the topic.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// Null for a topic asked for by an unknown id.
        name: Option<String> = Some(String::new()), 0.., null 12..;
        /// Nil for a topic asked for by an unknown name.
        topic_id: Uuid = Uuid::nil(), 10..;
        /// Whether the topic is the broker's own.
        is_internal: bool = false, 1..;
        /// The partitions.
        partitions: Vec<MetadataResponsePartition> = Vec::new(), 0..;
        /// A bit an operation that the client may do with the topic.
        topic_authorized_operations: i32 = OPERATIONS_NOT_ASKED, 8..;
    }

    /// One partition.
    MetadataResponsePartition {
        /// Of the partition.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// The partition.
        partition_index: i32 = 0, 0..;
        /// The broker that leads it.
        leader_id: i32 = 0, 0..;
        /// The leader's epoch.
        leader_epoch: i32 = -1, 7..;
        /// The brokers that have it.
        replica_nodes: Vec<i32> = Vec::new(), 0..;
        /// Those of them that are in sync.
        isr_nodes: Vec<i32> = Vec::new(), 0..;
        /// Those of them that are down.
        offline_replicas: Vec<i32> = Vec::new(), 5..;
    }
}
