//! Consumer groups: what of them outlives the broker. Who is joining, and until when, is soft state (`groups`).

use std::sync::Arc;

use bytes::Bytes;
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

/// One group. Bounded by its members, and by the partitions whose offsets it has committed; both go after a time without
/// use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// Its last generation that was complete; the default for one that only commits offsets.
    pub generation: Generation,
    /// By topic and partition. A topic that was deleted leaves its offsets behind until they expire: its id is gone.
    #[serde(deserialize_with = "super::decode::map")]
    pub offsets: OrdMap<(TopicId, PartitionId), CommittedOffset>,
}

/// Who shares the partitions, as of one rebalance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Raised by each rebalance; 0 before the first.
    pub id: i32,
    /// Such as `consumer` or `connect`; empty where members never joined.
    pub protocol_type: String,
    /// The assignor that all members know, if there are members.
    pub protocol: Option<String>,
    /// The member that assigned the partitions.
    pub leader: Option<String>,
    pub members: Vec<GroupMember>,
    /// Since when it is as it is, ms since the epoch: offsets expire by it once there are no members.
    pub since: Timestamp,
}

/// A member of a stable group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    pub client_id: String,
    /// Its address, as Kafka shows it: with a slash before it.
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// What it told of itself under the generation's protocol; for `consumer` its subscription. Not read here.
    pub metadata: Bytes,
    /// What the leader gave it. Not read here.
    pub assignment: Bytes,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// Of the next record to read.
    pub offset: Offset,
    /// Of the last record read, or -1.
    pub leader_epoch: i32,
    /// The client's own words.
    pub metadata: Arc<str>,
    /// When it was committed, ms since the epoch.
    pub at: Timestamp,
}
