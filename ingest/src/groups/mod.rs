//! Consumer groups, by Kafka's classic protocol (`ClassicGroup` and `GroupMetadataManager` of Apache Kafka): members join,
//! one of them assigns the partitions, all are told, and go on as long as they give signs of life.
//!
//! A [`group`] is a pure machine: requests and time go in, answers go to those who wait for them, and what must outlive the
//! broker is a [`save`](group::Save). The [`coordinator`] is the one task that owns all groups: it puts what is to be saved
//! into the lane, and tells the machine when it is durable. Committed offsets are the lane's alone.

mod clock;
mod coordinator;
mod group;
mod member;
mod request;
mod retention;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::coordinator::{Coordinator, Groups, OffsetToForget};
pub use self::group::GroupView;
pub use self::request::{GroupProtocol, JoinAnswer, JoinRequest, LeavingMember, MemberClaim, SyncRequest};

/// What groups are held to; Kafka's names and defaults.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// `group.min.session.timeout.ms`.
    pub session_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_max: Duration,
    /// `group.initial.rebalance.delay.ms`: how long the first member of an empty group waits for others.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`, members.
    pub members_max: usize,
    /// Bytes of what the members of a group tell of themselves and are assigned, together: it is one command of the log.
    pub bytes_max: usize,
    /// The same of all groups together, and their ids.
    pub all_bytes_max: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            session_min: Duration::from_secs(6),
            session_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_secs(3),
            members_max: 10_000,
            bytes_max: 16 << 20,
            all_bytes_max: 256 << 20,
        }
    }
}

/// A timeout as members tell it; a negative one is none.
pub fn millis(millis: i32) -> Duration {
    Duration::from_millis(millis.max(0).unsigned_abs().into())
}

/// Why a group does not do what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the id of a group with members can't be empty, nor can its offsets be deleted one by one")]
    NoGroupId,
    #[error("a session timeout is between {} s and {} s, not {asked_ms} ms", min.as_secs(), max.as_secs())]
    SessionTimeout { asked_ms: i32, min: Duration, max: Duration },
    #[error("the group has no such member")]
    UnknownMember,
    /// The member joins again under the id that it is given.
    #[error("a member joins again with the id that it is given, {member_id}")]
    MemberIdRequired { member_id: String },
    #[error("another member has this group.instance.id")]
    FencedInstance,
    #[error("the group is in another generation")]
    IllegalGeneration,
    #[error("the group's members have another protocol type, or no protocol in common with this one")]
    InconsistentProtocol,
    #[error("the group is rebalancing")]
    Rebalancing,
    #[error("the group has as many members as it may have, or they tell as much of themselves as they may")]
    Full,
    #[error("there are as many groups as there may be")]
    TooManyGroups,
    /// What was to outlive the broker could not be written; the client tries again.
    #[error("the group could not be saved")]
    NotSaved,
    #[error("there is no such group")]
    UnknownGroup,
    #[error("the group has members")]
    NotEmpty,
    #[error("members of the group are subscribed to the topic")]
    Subscribed,
}
