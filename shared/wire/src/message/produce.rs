//! Produce (0): appends record batches; up to version 2, message sets of magic 0 and 1.

use bytes::Bytes;

use super::{LeaderIdAndEpoch, NodeEndpoint};
use crate::ErrorCode;
use crate::schema::{api, schema};

api!(Produce, 0..=11, ProduceRequest => ProduceResponse);

schema! {
    /// Appends record batches to partitions.
    ProduceRequest {
        /// Null unless the producer is transactional.
        transactional_id: Option<String> = None, 3..;
        /// -1 and 1: answer when the batch is durable; 0: do not answer.
        acks: i16 = 0, 0..;
        /// Milliseconds to wait.
        timeout_ms: i32 = 0, 0..;
        /// The topics.
        topic_data: Vec<TopicProduceData> = Vec::new(), 0..;
    }

    /// What goes to one topic.
    TopicProduceData {
        /// The topic.
        name: String = String::new(), 0..;
        /// The partitions.
        partition_data: Vec<PartitionProduceData> = Vec::new(), 0..;
    }

    /// What goes to one partition.
    PartitionProduceData {
        /// The partition.
        index: i32 = 0, 0..;
        /// One record batch of magic 2, up to version 2 a message set: a slice of the request's frame.
        records: Option<Bytes> = Some(Bytes::new()), 0..;
    }

    /// What became of each batch.
    ProduceResponse {
        /// The topics.
        responses: Vec<TopicProduceResponse> = Vec::new(), 0..;
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        /// Where the leaders named in the partitions are found.
        node_endpoints: Vec<NodeEndpoint> = Vec::new(), 10.., tag 0;
    }

    /// What became of one topic's batches.
    TopicProduceResponse {
        /// The topic.
        name: String = String::new(), 0..;
        /// The partitions.
        partition_responses: Vec<PartitionProduceResponse> = Vec::new(), 0..;
    }

    /// What became of one partition's batch.
    PartitionProduceResponse {
        /// The partition.
        index: i32 = 0, 0..;
        /// Of the partition.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// The offset of the batch's first record.
        base_offset: i64 = 0, 0..;
        /// The broker's time in the batch, or -1 if the topic keeps the producer's.
        log_append_time_ms: i64 = -1, 2..;
        /// The partition's first offset.
        log_start_offset: i64 = -1, 5..;
        /// The records that the batch was refused for.
        record_errors: Vec<BatchIndexAndErrorMessage> = Vec::new(), 8..;
        /// Why the batch was refused.
        error_message: Option<String> = None, 8..;
        /// With NOT_LEADER_OR_FOLLOWER: who leads.
        current_leader: LeaderIdAndEpoch = LeaderIdAndEpoch::default(), 10.., tag 0;
    }

    /// A record that a batch was refused for.
    BatchIndexAndErrorMessage {
        /// The record's place in the batch.
        batch_index: i32 = 0, 8..;
        /// What is wrong with it.
        batch_index_error_message: Option<String> = None, 8..;
    }
}
