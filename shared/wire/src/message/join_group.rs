//! JoinGroup (11): enters a group, or its next generation. The answer comes when all members have joined.

use bytes::Bytes;

use crate::ErrorCode;
use crate::schema::{api, schema};

api!(JoinGroup, 0..=9, JoinGroupRequest => JoinGroupResponse);

schema! {
    /// Joins a group.
    JoinGroupRequest {
        group_id: String = String::new(), 0..;
        /// Milliseconds without a heartbeat after which the member is taken for dead.
        session_timeout_ms: i32 = 0, 0..;
        /// Milliseconds that a rebalance waits for the member to join again; -1 in version 0, where the session timeout
        /// stands for it.
        rebalance_timeout_ms: i32 = -1, 1..;
        /// Empty for a member that has no id yet.
        member_id: String = String::new(), 0..;
        /// The name that a static member keeps through restarts; null for a dynamic member.
        group_instance_id: Option<String> = None, 5..;
        /// `consumer`, `connect`, or what else the members speak among themselves.
        protocol_type: String = String::new(), 0..;
        /// What the member could take part in, best first.
        protocols: Vec<JoinGroupRequestProtocol> = Vec::new(), 0..;
        /// Why the member joins, for people to read.
        reason: Option<String> = None, 8..;
    }

    /// One way of assignment that a member supports.
    JoinGroupRequestProtocol {
        name: String = String::new(), 0..;
        /// For the leader of the group; a consumer's subscription.
        metadata: Bytes = Bytes::new(), 0..;
    }

    /// The generation that the member is part of.
    JoinGroupResponse {
        /// Milliseconds that the client should hold back.
        throttle_time_ms: i32 = 0, 2..;
        error_code: ErrorCode = ErrorCode::NONE, 0..;
        /// -1 with an error.
        generation_id: i32 = -1, 0..;
        protocol_type: Option<String> = None, 7..;
        /// The protocol that all members support; null or, before version 7, empty with an error.
        protocol_name: Option<String> = Some(String::new()), 0.., null 7..;
        /// The id of the member that assigns.
        leader: String = String::new(), 0..;
        /// Whether the leader is to keep the assignment that the group has.
        skip_assignment: bool = false, 9..;
        /// With MEMBER_ID_REQUIRED the id to join with.
        member_id: String = String::new(), 0..;
        /// All members for the leader, none for others.
        members: Vec<JoinGroupResponseMember> = Vec::new(), 0..;
    }

    /// One member, as the leader gets to know it.
    JoinGroupResponseMember {
        member_id: String = String::new(), 0..;
        /// Null for a dynamic member.
        group_instance_id: Option<String> = None, 5..;
        /// What the member sent along with the protocol that was chosen.
        metadata: Bytes = Bytes::new(), 0..;
    }
}
