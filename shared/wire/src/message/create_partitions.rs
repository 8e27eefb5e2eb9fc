//! CreatePartitions (37): adds partitions to topics.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(CreatePartitions, 0..=3, CreatePartitionsRequest => CreatePartitionsResponse);

schema! {
    /// Adds partitions to topics.
    CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic> = Vec::new(), 0..;
        /// Milliseconds to wait.
        timeout_ms: i32 = 0, 0..;
        /// Whether to check only.
        validate_only: bool = false, 0..;
    }

    /// One topic to add partitions to.
    CreatePartitionsTopic {
        name: String = String::new(), 0..;
        /// The partitions that the topic is to have, those it has included.
        count: i32 = 0, 0..;
        /// Which brokers have which new partition; null to let the broker choose.
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new()), 0..;
    }

    /// Where one new partition goes.
    CreatePartitionsAssignment {
        broker_ids: Vec<i32> = Vec::new(), 0..;
    }

    /// What became of each topic.
    CreatePartitionsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        results: Vec<CreatePartitionsTopicResult> = Vec::new(), 0..;
    }

    /// What became of one topic.
    CreatePartitionsTopicResult {
        name: String = String::new(), 0..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        error_message: Option<String> = None, 0..;
    }
}
