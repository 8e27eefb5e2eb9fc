//! ListGroups (16): the groups that the broker coordinates.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(ListGroups, 0..=5, ListGroupsRequest => ListGroupsResponse);

schema! {
    /// Asks for groups.
    ListGroupsRequest {
        /// States as in DescribeGroups, in any case; empty for all.
        states_filter: Vec<String> = Vec::new(), 4..;
        /// `classic`, `consumer` and others, in any case; empty for all.
        types_filter: Vec<String> = Vec::new(), 5..;
    }

    /// The groups.
    ListGroupsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        groups: Vec<ListedGroup> = Vec::new(), 0..;
    }

    /// One group.
    ListedGroup {
        group_id: String = String::new(), 0..;
        /// Empty for a group that only has offsets.
        protocol_type: String = String::new(), 0..;
        group_state: String = String::new(), 4..;
        group_type: String = String::new(), 5..;
    }
}
