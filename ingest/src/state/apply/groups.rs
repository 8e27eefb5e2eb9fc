//! What consumer groups save and commit.

use std::sync::Arc;
use std::time::Duration;

use chronik_format::ids::{PartitionId, TopicId};

use crate::state::LaneState;
use crate::state::command::{CommitOffsets, DeleteGroup, ForgetOffsets, PartitionOffset, SaveGroup};
use crate::state::group::{CommittedOffset, GroupState};
use crate::state::refusal::CommandRefusal;

/// Groups that there may be; they are in every checkpoint.
const GROUPS_MAX: usize = 100_000;
/// More rebalances than a group can have had between its last command in the bucket and the loss of the disk.
const GENERATIONS_LOST_MAX: i32 = 1 << 16;

impl LaneState {
    pub(super) fn save_group(&mut self, save: &SaveGroup) -> Result<(), CommandRefusal> {
        self.group_mut(&save.group)?.generation = save.generation.clone();
        Ok(())
    }

    pub(super) fn commit_offsets(&mut self, commit: &CommitOffsets) -> Result<(), CommandRefusal> {
        for PartitionOffset { topic, partition, committed } in &commit.offsets {
            if self.topics.get(topic).is_some_and(|topic| topic.partition(*partition).is_some()) {
                self.group_mut(&commit.group)?.offsets.insert((*topic, *partition), committed.clone());
            }
        }
        Ok(())
    }

    pub(super) fn forget_offsets(&mut self, forget: &ForgetOffsets) -> Result<(), CommandRefusal> {
        let group =
            self.groups.get_mut(forget.group.as_str()).map(Arc::make_mut).ok_or(CommandRefusal::UnknownGroup)?;
        // As with Kafka, a group of which a client has deleted the last offset stays until the next look for what is
        // out of use, which says of each offset when it was committed.
        let is_look = forget.offsets.iter().all(|forgotten| forgotten.committed_at.is_some());
        for forgotten in &forget.offsets {
            let partition = (forgotten.topic, forgotten.partition);
            let committed_at = group.offsets.get(&partition).map(|committed| committed.at);
            if committed_at.is_some() && forgotten.committed_at.is_none_or(|at| Some(at) == committed_at) {
                group.offsets.remove(&partition);
            }
        }
        if is_look && group.offsets.is_empty() && group.generation.members.is_empty() {
            self.groups.remove(forget.group.as_str());
        }
        Ok(())
    }

    pub(super) fn delete_group(&mut self, delete: &DeleteGroup) -> Result<(), CommandRefusal> {
        self.groups.remove(delete.group.as_str()).map(drop).ok_or(CommandRefusal::UnknownGroup)
    }

    /// Whether all offsets of a commit stand as they are, and were written less than `refresh` ago: consumers that read
    /// nothing commit the same every few seconds, and write nothing by it.
    pub fn is_committed(&self, commit: &CommitOffsets, refresh: Duration) -> bool {
        let group = self.groups.get(commit.group.as_str());
        commit.offsets.iter().all(|PartitionOffset { topic, partition, committed: new }| {
            let known = group.and_then(|group| group.offsets.get(&(*topic, *partition)));
            known.is_some_and(|known| {
                let same = CommittedOffset { at: known.at, ..new.clone() } == *known;
                let age = u64::try_from(new.at.saturating_sub(known.at));
                same && age.is_ok_and(|age| Duration::from_millis(age) < refresh)
            })
        })
    }

    /// After records and commands were lost with a disk. Offsets move back to the ends of partitions: a group reads
    /// what comes in the place of what it had read. Generations go far ahead: one whose number was given out again
    /// would have members of the lost one, with other partitions, take themselves for its own.
    pub(in crate::state) fn recover_groups(&mut self) {
        let topics = &self.topics;
        let end =
            |(topic, partition): &(TopicId, PartitionId)| Some(topics.get(topic)?.partition(*partition)?.next_offset);
        let groups = std::mem::take(&mut self.groups).into_iter().map(|(id, mut group)| {
            let beyond = |(at, committed): (&(TopicId, PartitionId), &CommittedOffset)| {
                end(at).filter(|end| committed.offset > *end).map(|end| (*at, end))
            };
            let beyond: Vec<_> = group.offsets.iter().filter_map(beyond).collect();
            let generation = &mut Arc::make_mut(&mut group).generation;
            if generation.id > 0 {
                generation.id = generation.id.checked_add(GENERATIONS_LOST_MAX).unwrap_or(1);
            }
            for (at, end) in beyond {
                if let Some(committed) = Arc::make_mut(&mut group).offsets.get_mut(&at) {
                    committed.offset = end;
                }
            }
            (id, group)
        });
        self.groups = groups.collect();
    }

    fn group_mut(&mut self, id: &str) -> Result<&mut GroupState, CommandRefusal> {
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(id) {
            return Err(CommandRefusal::TooManyGroups);
        }
        Ok(Arc::make_mut(self.groups.entry(id.into()).or_default()))
    }
}
