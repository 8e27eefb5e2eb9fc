//! DeleteTopics (20).

use uuid::Uuid;

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(DeleteTopics, 0..=6, DeleteTopicsRequest => DeleteTopicsResponse);

schema! {
    /// Deletes topics.
    DeleteTopicsRequest {
        /// The topics, by name or by id.
        topics: Vec<DeleteTopicState> = Vec::new(), 6..;
        /// The topics' names, up to version 5.
        topic_names: Vec<String> = Vec::new(), 0..=5;
        /// Milliseconds to wait.
        timeout_ms: i32 = 0, 0..;
    }

    /// One topic to delete.
    DeleteTopicState {
        /// The name, null if meant by id.
        name: Option<String> = None, 6..;
        /// The id, nil if meant by name.
        topic_id: Uuid = Uuid::nil(), 6..;
    }

    /// What became of each topic.
    DeleteTopicsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        /// The topics.
        responses: Vec<DeletableTopicResult> = Vec::new(), 0..;
    }

    /// What became of one topic.
    DeletableTopicResult {
        /// The name; null for an unknown id.
        name: Option<String> = Some(String::new()), 0.., null 6..;
        /// The id.
        topic_id: Uuid = Uuid::nil(), 6..;
        /// Of the topic.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// Why it was refused.
        error_message: Option<String> = None, 5..;
    }
}
