//! OffsetDelete (47): deletes offsets of a group in topics that it does not read.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(OffsetDelete, 0..=0, OffsetDeleteRequest => OffsetDeleteResponse);

schema! {
    /// Deletes offsets of a group.
    OffsetDeleteRequest {
        group_id: String = String::new(), 0..;
        topics: Vec<OffsetDeleteRequestTopic> = Vec::new(), 0..;
    }

    /// Offsets in one topic.
    OffsetDeleteRequestTopic {
        name: String = String::new(), 0..;
        partitions: Vec<OffsetDeleteRequestPartition> = Vec::new(), 0..;
    }

    /// The offset in one partition.
    OffsetDeleteRequestPartition {
        partition_index: i32 = 0, 0..;
    }

    /// What became of each offset.
    OffsetDeleteResponse {
        /// Of the whole request.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        topics: Vec<OffsetDeleteResponseTopic> = Vec::new(), 0..;
    }

    /// What became of the offsets in one topic.
    OffsetDeleteResponseTopic {
        name: String = String::new(), 0..;
        partitions: Vec<OffsetDeleteResponsePartition> = Vec::new(), 0..;
    }

    /// What became of the offset in one partition.
    OffsetDeleteResponsePartition {
        partition_index: i32 = 0, 0..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
    }
}
