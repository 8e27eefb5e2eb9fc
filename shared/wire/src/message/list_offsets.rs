//! ListOffsets (2): the offset at a time, or at an end.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(ListOffsets, 0..=9, ListOffsetsRequest => ListOffsetsResponse);

/// Asks for the offset after the last record.
pub const LATEST_TIMESTAMP: i64 = -1;
/// Asks for the first offset.
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// Asks for the record with the largest timestamp.
pub const MAX_TIMESTAMP: i64 = -3;
/// Asks for the first offset on the broker's own disks.
pub const EARLIEST_LOCAL_TIMESTAMP: i64 = -4;
/// Asks for the last offset in remote storage.
pub const LATEST_TIERED_TIMESTAMP: i64 = -5;

schema! {
    /// Asks for offsets.
    ListOffsetsRequest {
        /// The follower that asks; -1 for a consumer.
        replica_id: i32 = -1, 0..;
        /// 0: read uncommitted, 1: read committed.
        isolation_level: i8 = 0, 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopic> = Vec::new(), 0..;
    }

    /// What is asked of one topic.
    ListOffsetsTopic {
        /// The topic.
        name: String = String::new(), 0..;
        /// The partitions.
        partitions: Vec<ListOffsetsPartition> = Vec::new(), 0..;
    }

    /// What is asked of one partition.
    ListOffsetsPartition {
        /// The partition.
        partition_index: i32 = 0, 0..;
        /// The leader's epoch as the client knows it, or -1.
        current_leader_epoch: i32 = -1, 4..;
        /// Epoch milliseconds, or one of the negative constants of this file.
        timestamp: i64 = 0, 0..;
        /// Offsets to answer with at most.
        max_num_offsets: i32 = 1, 0..=0;
    }

    /// Offsets.
    ListOffsetsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse> = Vec::new(), 0..;
    }

    /// The offsets of one topic.
    ListOffsetsTopicResponse {
        /// The topic.
        name: String = String::new(), 0..;
        /// The partitions.
        partitions: Vec<ListOffsetsPartitionResponse> = Vec::new(), 0..;
    }

    /// The offset of one partition.
    ListOffsetsPartitionResponse {
        /// The partition.
        partition_index: i32 = 0, 0..;
        /// Of the partition.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// The offset, and those below it where segments begin, largest first.
        old_style_offsets: Vec<i64> = Vec::new(), 0..=0;
        /// The timestamp of the record found, or -1.
        timestamp: i64 = -1, 1..;
        /// The offset, or -1 if no record is as young.
        offset: i64 = -1, 1..;
        /// The leader's epoch at that offset, or -1.
        leader_epoch: i32 = -1, 4..;
    }
}
