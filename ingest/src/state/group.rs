//! Consumer groups: what of them outlives the broker. Who is joining, and until when, is soft state (`groups`).

use std::sync::Arc;

use bytes::Bytes;
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::LaneState;
use super::apply::CommandRefusal;
use super::command::{CommitOffsets, DeleteGroup, ForgetOffsets, PartitionOffset, SaveGroup};

/// An offset that is committed once more as it is, is written once more after so long, ms: it is in use.
const COMMIT_REFRESH_MS: Timestamp = 60 * 60 * 1000;

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

impl LaneState {
    pub(super) fn save_group(&mut self, save: &SaveGroup) -> Result<(), CommandRefusal> {
        self.group_mut(&save.group).generation = save.generation.clone();
        Ok(())
    }

    pub(super) fn commit_offsets(&mut self, commit: &CommitOffsets) -> Result<(), CommandRefusal> {
        for PartitionOffset { topic, partition, committed } in &commit.offsets {
            if self.topics.get(topic).is_some_and(|topic| topic.partition(*partition).is_some()) {
                self.group_mut(&commit.group).offsets.insert((*topic, *partition), committed.clone());
            }
        }
        Ok(())
    }

    pub(super) fn forget_offsets(&mut self, forget: &ForgetOffsets) -> Result<(), CommandRefusal> {
        let group =
            self.groups.get_mut(forget.group.as_str()).map(Arc::make_mut).ok_or(CommandRefusal::UnknownGroup)?;
        for forgotten in &forget.offsets {
            let partition = (forgotten.topic, forgotten.partition);
            let committed_at = group.offsets.get(&partition).map(|committed| committed.at);
            if committed_at.is_some() && forgotten.committed_at.is_none_or(|at| Some(at) == committed_at) {
                group.offsets.remove(&partition);
            }
        }
        if group.offsets.is_empty() && group.generation.members.is_empty() {
            self.groups.remove(forget.group.as_str());
        }
        Ok(())
    }

    pub(super) fn delete_group(&mut self, delete: &DeleteGroup) -> Result<(), CommandRefusal> {
        self.groups.remove(delete.group.as_str()).map(drop).ok_or(CommandRefusal::UnknownGroup)
    }

    /// Whether all offsets of a commit stand as they are, and were written lately: consumers that read nothing commit the
    /// same every few seconds, and write nothing by it.
    pub fn is_committed(&self, commit: &CommitOffsets) -> bool {
        let group = self.groups.get(commit.group.as_str());
        commit.offsets.iter().all(|PartitionOffset { topic, partition, committed: new }| {
            let known = group.and_then(|group| group.offsets.get(&(*topic, *partition)));
            known.is_some_and(|known| {
                let same = CommittedOffset { at: known.at, ..new.clone() } == *known;
                same && (0..COMMIT_REFRESH_MS).contains(&new.at.saturating_sub(known.at))
            })
        })
    }

    /// Moves offsets back to the ends of partitions, where records that a group had read were lost with a disk: it reads
    /// what comes in their place.
    pub(super) fn clamp_committed_offsets(&mut self) {
        let topics = &self.topics;
        let end =
            |(topic, partition): &(TopicId, PartitionId)| Some(topics.get(topic)?.partition(*partition)?.next_offset);
        let groups = std::mem::take(&mut self.groups).into_iter().map(|(id, mut group)| {
            let beyond = |(at, committed): (&(TopicId, PartitionId), &CommittedOffset)| {
                end(at).filter(|end| committed.offset > *end).map(|end| (*at, end))
            };
            let beyond: Vec<_> = group.offsets.iter().filter_map(beyond).collect();
            for (at, end) in beyond {
                if let Some(committed) = Arc::make_mut(&mut group).offsets.get_mut(&at) {
                    committed.offset = end;
                }
            }
            (id, group)
        });
        self.groups = groups.collect();
    }

    fn group_mut(&mut self, id: &str) -> &mut GroupState {
        Arc::make_mut(self.groups.entry(id.into()).or_default())
    }
}
