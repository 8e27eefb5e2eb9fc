//! DeleteGroups (42): deletes groups without members, and their offsets.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(DeleteGroups, 0..=2, DeleteGroupsRequest => DeleteGroupsResponse);

schema! {
    /// Deletes groups.
    DeleteGroupsRequest {
        groups_names: Vec<String> = Vec::new(), 0..;
    }

    /// What became of each group.
    DeleteGroupsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 0..;
        results: Vec<DeletableGroupResult> = Vec::new(), 0..;
    }

    /// What became of one group.
    DeletableGroupResult {
        group_id: String = String::new(), 0..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
    }
}
