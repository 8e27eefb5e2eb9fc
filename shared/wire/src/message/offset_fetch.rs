//! OffsetFetch (9): how far groups have read. Kafka names the structs of both forms, with one group and with several,
//! apart; their fields are the same.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(OffsetFetch, 0..=9, OffsetFetchRequest => OffsetFetchResponse);

schema! {
    /// Asks for committed offsets: of one group up to version 7, of several from version 8 on.
    OffsetFetchRequest {
        group_id: String = String::new(), 0..=7;
        /// Null asks for all that the group has committed.
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()), 0..=7, null 2..;
        groups: Vec<OffsetFetchRequestGroup> = Vec::new(), 8..;
        /// Whether a partition with an undecided transactional offset is answered with UNSTABLE_OFFSET_COMMIT.
        require_stable: bool = false, 7..;
    }

    /// What is asked of one group.
    OffsetFetchRequestGroup {
        group_id: String = String::new(), 8..;
        /// Null from a client that is no member of the group.
        member_id: Option<String> = None, 9..;
        /// -1 from a client that is no member of the group, and from a member of a classic group.
        member_epoch: i32 = -1, 9..;
        /// Null asks for all that the group has committed.
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()), 8..;
    }

    /// What is asked of one topic.
    OffsetFetchRequestTopic {
        name: String = String::new(), 0..;
        partition_indexes: Vec<i32> = Vec::new(), 0..;
    }

    /// Committed offsets.
    OffsetFetchResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 3..;
        topics: Vec<OffsetFetchResponseTopic> = Vec::new(), 0..=7;
        /// Of the group. Versions 0 and 1 have it in the partitions instead.
        error_code: ErrorCode = ErrorCode::NONE, 2..=7;
        groups: Vec<OffsetFetchResponseGroup> = Vec::new(), 8..;
    }

    /// The offsets of one group.
    OffsetFetchResponseGroup {
        group_id: String = String::new(), 8..;
        topics: Vec<OffsetFetchResponseTopic> = Vec::new(), 8..;
        error_code: ErrorCode = ErrorCode::NONE, 8..;
    }

    /// The offsets in one topic.
    OffsetFetchResponseTopic {
        name: String = String::new(), 0..;
        partitions: Vec<OffsetFetchResponsePartition> = Vec::new(), 0..;
    }

    /// The offset in one partition.
    OffsetFetchResponsePartition {
        partition_index: i32 = 0, 0..;
        /// The offset of the next record to read; -1 if none was committed, which is no error.
        committed_offset: i64 = 0, 0..;
        /// The leader's epoch of the last record read, or -1.
        committed_leader_epoch: i32 = -1, 5..;
        /// What the client left beside the offset.
        metadata: Option<String> = Some(String::new()), 0..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
    }
}
