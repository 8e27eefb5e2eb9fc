//! DeleteRecords (21): deletes the records below an offset.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(DeleteRecords, 0..=2, DeleteRecordsRequest => DeleteRecordsResponse);

schema! {
    /// Deletes records.
    DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic> = Vec::new(), 0..;
        /// Milliseconds to wait.
        timeout_ms: i32 = 0, 0..;
    }

    /// What is deleted of one topic.
    DeleteRecordsTopic {
        name: String = String::new(), 0..;
        partitions: Vec<DeleteRecordsPartition> = Vec::new(), 0..;
    }

    /// What is deleted of one partition.
    DeleteRecordsPartition {
        partition_index: i32 = 0, 0..;
        /// The first offset to keep; -1 for the high watermark.
        offset: i64 = 0, 0..;
    }

    /// What became of each partition.
    DeleteRecordsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        topics: Vec<DeleteRecordsTopicResult> = Vec::new(), 0..;
    }

    /// What became of one topic's partitions.
    DeleteRecordsTopicResult {
        name: String = String::new(), 0..;
        partitions: Vec<DeleteRecordsPartitionResult> = Vec::new(), 0..;
    }

    /// What became of one partition.
    DeleteRecordsPartitionResult {
        partition_index: i32 = 0, 0..;
        /// The partition's first offset now; -1 with an error.
        low_watermark: i64 = 0, 0..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
    }
}
