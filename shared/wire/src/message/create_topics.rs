//! CreateTopics (19).

use uuid::Uuid;

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(CreateTopics, 0..=7, CreateTopicsRequest => CreateTopicsResponse);

schema! {
    /// Creates topics.
    CreateTopicsRequest {
        /// The topics.
        topics: Vec<CreatableTopic> = Vec::new(), 0..;
        /// Milliseconds to wait.
        timeout_ms: i32 = 60_000, 0..;
        /// Whether to check only.
        validate_only: bool = false, 1..;
    }

    /// One topic to create.
    CreatableTopic {
        /// The name.
        name: String = String::new(), 0..;
        /// Partitions; -1 for the broker's default, or where `assignments` counts.
        num_partitions: i32 = 0, 0..;
        /// Replicas; -1 likewise.
        replication_factor: i16 = 0, 0..;
        /// Which brokers have which partition; empty to let the broker choose.
        assignments: Vec<CreatableReplicaAssignment> = Vec::new(), 0..;
        /// Its settings.
        configs: Vec<CreatableTopicConfig> = Vec::new(), 0..;
    }

    /// Where one partition goes.
    CreatableReplicaAssignment {
        /// The partition.
        partition_index: i32 = 0, 0..;
        /// The brokers.
        broker_ids: Vec<i32> = Vec::new(), 0..;
    }

    /// A setting of a topic.
    CreatableTopicConfig {
        /// Its name.
        name: String = String::new(), 0..;
        /// Its value.
        value: Option<String> = Some(String::new()), 0..;
    }

    /// What became of each topic.
    CreateTopicsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 2..;
        /// The topics.
        topics: Vec<CreatableTopicResult> = Vec::new(), 0..;
    }

    /// What became of one topic.
    CreatableTopicResult {
        /// The name.
        name: String = String::new(), 0..;
        /// The id it got.
        topic_id: Uuid = Uuid::nil(), 7..;
        /// Of the topic.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// Why it was refused.
        error_message: Option<String> = Some(String::new()), 1..;
        /// Why `configs` is missing, if it is.
        topic_config_error_code: ErrorCode = ErrorCode::NONE, 5.., tag 0;
        /// Partitions it has.
        num_partitions: i32 = -1, 5..;
        /// Replicas it has.
        replication_factor: i16 = -1, 5..;
        /// Its settings.
        configs: Option<Vec<CreatableTopicConfigs>> = Some(Vec::new()), 5..;
    }

    /// A setting as the topic has it.
    CreatableTopicConfigs {
        /// Its name.
        name: String = String::new(), 5..;
        /// Its value.
        value: Option<String> = Some(String::new()), 5..;
        /// Whether it can't be changed.
        read_only: bool = false, 5..;
        /// Where the value comes from: 1 the topic, 4 the broker, 5 a default.
        config_source: i8 = -1, 5..;
        /// Whether the value is a secret.
        is_sensitive: bool = false, 5..;
    }
}
