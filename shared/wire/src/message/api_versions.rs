//! ApiVersions (18): what the broker serves. The first request of most connections.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(ApiVersions, 0..=4, ApiVersionsRequest => ApiVersionsResponse);

schema! {
    /// Asks which APIs and versions the broker serves.
    ApiVersionsRequest {
        /// The client's library, such as `librdkafka`.
        client_software_name: String = String::new(), 3..;
        /// That library's version.
        client_software_version: String = String::new(), 3..;
    }

    /// The APIs and versions that the broker serves.
    ApiVersionsResponse {
        /// Of the whole request.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// One entry an API.
        api_keys: Vec<ApiVersion> = Vec::new(), 0..;
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        /// Features that the broker could have.
        supported_features: Vec<SupportedFeatureKey> = Vec::new(), 3.., tag 0;
        /// Raised with every change of the finalized features, -1 if unknown.
        finalized_features_epoch: i64 = -1, 3.., tag 1;
        /// Features that the cluster has.
        finalized_features: Vec<FinalizedFeatureKey> = Vec::new(), 3.., tag 2;
        /// Only of meaning while ZooKeeper is left.
        zk_migration_ready: bool = false, 3.., tag 3;
    }

    /// The versions of one API.
    ApiVersion {
        /// The API's number.
        api_key: i16 = 0, 0..;
        /// The lowest version.
        min_version: i16 = 0, 0..;
        /// The highest version.
        max_version: i16 = 0, 0..;
    }

    /// A feature that the broker could have.
    SupportedFeatureKey {
        /// Its name.
        name: String = String::new(), 3..;
        /// The lowest level.
        min_version: i16 = 0, 3..;
        /// The highest level.
        max_version: i16 = 0, 3..;
    }

    /// A feature that the cluster has.
    FinalizedFeatureKey {
        /// Its name.
        name: String = String::new(), 3..;
        /// The highest level.
        max_version_level: i16 = 0, 3..;
        /// The lowest level.
        min_version_level: i16 = 0, 3..;
    }
}
