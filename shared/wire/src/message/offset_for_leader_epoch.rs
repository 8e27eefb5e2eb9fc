//! OffsetForLeaderEpoch (23): where an epoch ends in the leader's log, so that a client finds out whether what it read
//! is still there.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(OffsetForLeaderEpoch, 0..=4, OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse);

schema! {
    /// Asks where epochs end.
    OffsetForLeaderEpochRequest {
        /// The follower that asks; -1 for a consumer, -2 for a tool.
        replica_id: i32 = -2, 3..;
        /// The topics.
        topics: Vec<OffsetForLeaderTopic> = Vec::new(), 0..;
    }

    /// What is asked of one topic.
    OffsetForLeaderTopic {
        /// The topic.
        topic: String = String::new(), 0..;
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartition> = Vec::new(), 0..;
    }

    /// What is asked of one partition.
    OffsetForLeaderPartition {
        /// The partition.
        partition: i32 = 0, 0..;
        /// The leader's epoch as the client knows it, or -1.
        current_leader_epoch: i32 = -1, 2..;
        /// The epoch whose end is asked for.
        leader_epoch: i32 = 0, 0..;
    }

    /// Where epochs end.
    OffsetForLeaderEpochResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 2..;
        /// The topics.
        topics: Vec<OffsetForLeaderTopicResult> = Vec::new(), 0..;
    }

    /// Where epochs end in one topic.
    OffsetForLeaderTopicResult {
        /// The topic.
        topic: String = String::new(), 0..;
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartitionResult> = Vec::new(), 0..;
    }

    /// Where the epoch ends in one partition. Kafka calls it `EpochEndOffset`.
    OffsetForLeaderPartitionResult {
        /// Of the partition.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// The partition.
        partition: i32 = 0, 0..;
        /// The largest epoch up to the one asked for, or -1.
        leader_epoch: i32 = -1, 1..;
        /// The offset after that epoch's last record, or -1.
        end_offset: i64 = -1, 0..;
    }
}
