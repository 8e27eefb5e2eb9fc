//! DescribeConfigs (32): settings of topics and brokers, and where their values come from.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(DescribeConfigs, 0..=4, DescribeConfigsRequest => DescribeConfigsResponse);

schema! {
    /// Asks for settings.
    DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource> = Vec::new(), 0..;
        /// Whether to name the values that a setting would fall back upon.
        include_synonyms: bool = false, 1..;
        include_documentation: bool = false, 3..;
    }

    /// What is asked of one resource.
    DescribeConfigsResource {
        /// 2: topic, 4: broker, 8: a broker's log levels.
        resource_type: i8 = 0, 0..;
        /// The topic's name, or the broker's number; empty for what holds for all brokers.
        resource_name: String = String::new(), 0..;
        /// Null asks for all settings.
        configuration_keys: Option<Vec<String>> = Some(Vec::new()), 0..;
    }

    /// Settings.
    DescribeConfigsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        results: Vec<DescribeConfigsResult> = Vec::new(), 0..;
    }

    /// The settings of one resource.
    DescribeConfigsResult {
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        error_message: Option<String> = Some(String::new()), 0..;
        /// 2: topic, 4: broker, 8: a broker's log levels.
        resource_type: i8 = 0, 0..;
        resource_name: String = String::new(), 0..;
        configs: Vec<DescribeConfigsResourceResult> = Vec::new(), 0..;
    }

    /// One setting.
    DescribeConfigsResourceResult {
        name: String = String::new(), 0..;
        /// Null for a secret.
        value: Option<String> = Some(String::new()), 0..;
        /// Whether it can't be changed.
        read_only: bool = false, 0..;
        /// Whether the resource itself does not set it; from version 1 on `config_source` says so.
        is_default: bool = false, 0..=0;
        /// Where the value comes from: 1 the topic, 2 this broker, 3 all brokers, 4 the broker's start, 5 a default.
        config_source: i8 = -1, 1..;
        /// Whether the value is a secret.
        is_sensitive: bool = false, 0..;
        /// The values there are, the one that counts first; empty if not asked for.
        synonyms: Vec<DescribeConfigsSynonym> = Vec::new(), 1..;
        /// 1: boolean, 2: string, 3: i32, 4: i16, 5: i64, 6: f64, 7: list, 8: class, 9: password; 0 if unknown.
        config_type: i8 = 0, 3..;
        /// Null if not asked for.
        documentation: Option<String> = Some(String::new()), 3..;
    }

    /// A value that a setting has, or would fall back upon.
    DescribeConfigsSynonym {
        name: String = String::new(), 1..;
        /// Null for a secret.
        value: Option<String> = Some(String::new()), 1..;
        /// As `config_source`.
        source: i8 = 0, 1..;
    }
}
