//! IncrementalAlterConfigs (44): changes single settings of topics and brokers. Kafka gives the structs in it the names
//! of those in AlterConfigs.

use super::AlterConfigsResourceResponse;
use crate::schema::{api, schema};

api!(IncrementalAlterConfigs, 0..=1, IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse);

schema! {
    /// Changes settings.
    IncrementalAlterConfigsRequest {
        resources: Vec<IncrementalAlterConfigsResource> = Vec::new(), 0..;
        /// Whether to check only.
        validate_only: bool = false, 0..;
    }

    /// What changes in one resource.
    IncrementalAlterConfigsResource {
        /// 2: topic, 4: broker, 8: a broker's log levels.
        resource_type: i8 = 0, 0..;
        /// The topic's name, or the broker's number; empty for what holds for all brokers.
        resource_name: String = String::new(), 0..;
        configs: Vec<IncrementalAlterableConfig> = Vec::new(), 0..;
    }

    /// What changes in one setting.
    IncrementalAlterableConfig {
        name: String = String::new(), 0..;
        /// 0: set, 1: back to the default, 2: add to a list, 3: take from a list.
        config_operation: i8 = 0, 0..;
        /// Null to go back to the default.
        value: Option<String> = Some(String::new()), 0..;
    }

    /// What became of each resource.
    IncrementalAlterConfigsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        responses: Vec<AlterConfigsResourceResponse> = Vec::new(), 0..;
    }
}
