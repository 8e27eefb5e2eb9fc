//! SyncGroup (14): the leader hands in the assignment of a generation, and every member gets its own part.

use bytes::Bytes;

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(SyncGroup, 0..=5, SyncGroupRequest => SyncGroupResponse);

schema! {
    /// Asks for the member's assignment, and from the leader brings everybody's.
    SyncGroupRequest {
        group_id: String = String::new(), 0..;
        generation_id: i32 = 0, 0..;
        member_id: String = String::new(), 0..;
        /// Null for a dynamic member.
        group_instance_id: Option<String> = None, 3..;
        /// Null where the member doesn't hold the group to it.
        protocol_type: Option<String> = None, 5..;
        /// Null where the member doesn't hold the group to it.
        protocol_name: Option<String> = None, 5..;
        /// From the leader, one a member; empty from others.
        assignments: Vec<SyncGroupRequestAssignment> = Vec::new(), 0..;
    }

    /// What the leader assigns to one member.
    SyncGroupRequestAssignment {
        member_id: String = String::new(), 0..;
        assignment: Bytes = Bytes::new(), 0..;
    }

    /// The member's assignment.
    SyncGroupResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 1..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        protocol_type: Option<String> = None, 5..;
        protocol_name: Option<String> = None, 5..;
        /// As the leader made it; empty if it made none for this member.
        assignment: Bytes = Bytes::new(), 0..;
    }
}
