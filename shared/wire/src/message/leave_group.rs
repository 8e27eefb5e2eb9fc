//! LeaveGroup (13): members leave, or are removed by an operator.

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(LeaveGroup, 0..=5, LeaveGroupRequest => LeaveGroupResponse);

schema! {
    /// Takes members out of a group: one up to version 2, several from version 3 on.
    LeaveGroupRequest {
        group_id: String = String::new(), 0..;
        member_id: String = String::new(), 0..=2;
        members: Vec<MemberIdentity> = Vec::new(), 3..;
    }

    /// One member to take out.
    MemberIdentity {
        /// Empty if meant by `group_instance_id`.
        member_id: String = String::new(), 3..;
        /// Null for a dynamic member.
        group_instance_id: Option<String> = None, 3..;
        /// Why the member leaves, for people to read.
        reason: Option<String> = None, 5..;
    }

    /// What became of the members.
    LeaveGroupResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        /// Of the whole request; up to version 2 that of the member too.
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        members: Vec<MemberResponse> = Vec::new(), 3..;
    }

    /// What became of one member.
    MemberResponse {
        member_id: String = String::new(), 3..;
        group_instance_id: Option<String> = Some(String::new()), 3..;
        error_code: ErrorCode = ErrorCode::NONE, 3..;
    }
}
