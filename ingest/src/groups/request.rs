//! What members ask a group for, and what they are told.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::GroupError;

/// The way back to who waits for an answer.
pub type Reply<T> = oneshot::Sender<Result<T, GroupError>>;

/// Who a member says it is.
#[derive(Clone, Debug, Default)]
pub struct MemberClaim {
    /// Empty before it was given one.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The generation that it believes in; negative if it does not know one.
    pub generation: i32,
}

/// A way of assigning partitions that a member knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProtocol {
    pub name: String,
    /// What the assigning member has to know of this one under this protocol.
    pub metadata: Bytes,
}

/// Asks to be a member in the next generation.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Empty for a new member.
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The id that a new member gets. Drawn by the caller, so that the group draws no random numbers.
    pub new_member_id: String,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// Those preferred first.
    pub protocols: Vec<GroupProtocol>,
    /// A new member is told its id first and joins with it, so that a lost answer leaves no member behind (KIP-394).
    pub needs_id: bool,
    /// A leader can be told that the assignment stands (KIP-814).
    pub can_skip_assignment: bool,
}

/// A member of the next generation.
#[derive(Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    pub member_id: String,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub leader: String,
    /// Only for the leader: whom it assigns partitions to.
    pub members: Vec<JoinedMember>,
    pub skip_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

/// Asks for the assignment; the leader brings it.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub who: MemberClaim,
    /// Compared if given.
    pub protocol_type: Option<String>,
    /// Compared if given.
    pub protocol: Option<String>,
    /// By member id; empty unless the leader asks.
    pub assignments: Vec<(String, Bytes)>,
}

/// An assignment.
#[derive(Debug, PartialEq, Eq)]
pub struct SyncAnswer {
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

/// A member that goes.
#[derive(Clone, Debug)]
pub struct LeavingMember {
    /// Empty if an operator removes a static member by its instance alone.
    pub member_id: String,
    pub instance_id: Option<String>,
}
