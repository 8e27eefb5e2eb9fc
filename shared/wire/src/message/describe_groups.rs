//! DescribeGroups (15): the state of groups and their members.

use bytes::Bytes;

use super::OPERATIONS_NOT_ASKED;
use crate::ErrorCode;
use crate::schema::{api, schema};

api!(DescribeGroups, 0..=5, DescribeGroupsRequest => DescribeGroupsResponse);

schema! {
    /// Asks for the state of groups.
    DescribeGroupsRequest {
        groups: Vec<String> = Vec::new(), 0..;
        include_authorized_operations: bool = false, 3..;
    }

    /// The groups.
    DescribeGroupsResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        groups: Vec<DescribedGroup> = Vec::new(), 0..;
    }

    /// One group.
    DescribedGroup {
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        group_id: String = String::new(), 0..;
        /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`; empty with an error.
        group_state: String = String::new(), 0..;
        protocol_type: String = String::new(), 0..;
        /// The protocol that was chosen; empty unless the group is stable.
        protocol_data: String = String::new(), 0..;
        members: Vec<DescribedGroupMember> = Vec::new(), 0..;
        /// A bit an operation that the client may do with the group.
        authorized_operations: i32 = OPERATIONS_NOT_ASKED, 3..;
    }

    /// One member.
    DescribedGroupMember {
        member_id: String = String::new(), 0..;
        /// Null for a dynamic member.
        group_instance_id: Option<String> = None, 4..;
        /// What the member called itself when it joined.
        client_id: String = String::new(), 0..;
        /// Where the member joined from, such as `/10.0.0.7`.
        client_host: String = String::new(), 0..;
        /// What the member sent along with the protocol that was chosen.
        member_metadata: Bytes = Bytes::new(), 0..;
        /// As the leader made it.
        member_assignment: Bytes = Bytes::new(), 0..;
    }
}
