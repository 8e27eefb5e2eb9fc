//! AlterConfigs (33): replaces all settings of topics and brokers.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(AlterConfigs, 0..=2, AlterConfigsRequest => AlterConfigsResponse);

schema! {
    /// Replaces settings.
    AlterConfigsRequest {
        resources: Vec<AlterConfigsResource> = Vec::new(), 0..;
        /// Whether to check only.
        validate_only: bool = false, 0..;
    }

    /// The settings that one resource is to have. Those not named go back to their default.
    AlterConfigsResource {
        /// 2: topic, 4: broker.
        resource_type: i8 = 0, 0..;
        /// The topic's name, or the broker's number; empty for what holds for all brokers.
        resource_name: String = String::new(), 0..;
        configs: Vec<AlterableConfig> = Vec::new(), 0..;
    }

    /// One setting.
    AlterableConfig {
        name: String = String::new(), 0..;
        value: Option<String> = Some(String::new()), 0..;
    }

    /// What became of each resource.
    AlterConfigsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        responses: Vec<AlterConfigsResourceResponse> = Vec::new(), 0..;
    }

    /// What became of one resource, here and in IncrementalAlterConfigs.
    AlterConfigsResourceResponse {
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        error_message: Option<String> = Some(String::new()), 0..;
        /// 2: topic, 4: broker, 8: a broker's log levels.
        resource_type: i8 = 0, 0..;
        resource_name: String = String::new(), 0..;
    }
}
