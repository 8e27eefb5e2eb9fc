//! OffsetCommit (8): stores how far a group has read.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(OffsetCommit, 0..=9, OffsetCommitRequest => OffsetCommitResponse);

schema! {
    /// Stores offsets of a group.
    OffsetCommitRequest {
        group_id: String = String::new(), 0..;
        /// Below 0 from a client that is no member of the group.
        generation_id_or_member_epoch: i32 = -1, 1..;
        /// Empty from a client that is no member of the group.
        member_id: String = String::new(), 1..;
        /// Null for a dynamic member.
        group_instance_id: Option<String> = None, 7..;
        /// Milliseconds to keep the offsets; -1 for the broker's default.
        retention_time_ms: i64 = -1, 2..=4;
        topics: Vec<OffsetCommitRequestTopic> = Vec::new(), 0..;
    }

    /// Offsets in one topic.
    OffsetCommitRequestTopic {
        name: String = String::new(), 0..;
        partitions: Vec<OffsetCommitRequestPartition> = Vec::new(), 0..;
    }

    /// The offset in one partition.
    OffsetCommitRequestPartition {
        partition_index: i32 = 0, 0..;
        /// The offset of the next record to read.
        committed_offset: i64 = 0, 0..;
        /// The leader's epoch of the last record read, or -1.
        committed_leader_epoch: i32 = -1, 6..;
        /// Epoch milliseconds; -1 for the broker's time.
        commit_timestamp: i64 = -1, 1..=1;
        /// What the client wants to find beside the offset.
        committed_metadata: Option<String> = Some(String::new()), 0..;
    }

    /// What became of each offset.
    OffsetCommitResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 3..;
        topics: Vec<OffsetCommitResponseTopic> = Vec::new(), 0..;
    }

    /// What became of the offsets in one topic.
    OffsetCommitResponseTopic {
        name: String = String::new(), 0..;
        partitions: Vec<OffsetCommitResponsePartition> = Vec::new(), 0..;
    }

    /// What became of the offset in one partition.
    OffsetCommitResponsePartition {
        partition_index: i32 = 0, 0..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
    }
}
