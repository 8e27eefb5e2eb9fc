//! Appends in flight: which offsets are taken by frames that are written but not yet applied.

use std::collections::HashMap;

use chronik_format::ids::{Offset, PartitionId, TopicId};

use crate::state::LaneState;
use crate::state::apply::CommandRefusal;

/// What is staged on top of the applied state. Only appends are; everything else is decided when it is applied.
#[derive(Debug, Default)]
pub struct StagedAppends {
    partitions: HashMap<(TopicId, PartitionId), Staged>,
}

#[derive(Debug)]
struct Staged {
    next_offset: Offset,
    in_flight: usize,
}

/// What an append is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchStamp {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The partition's leader epoch.
    pub leader_epoch: i32,
}

impl StagedAppends {
    /// Takes the next `records` offsets of a partition.
    pub fn take(
        &mut self,
        state: &LaneState,
        topic: TopicId,
        partition: PartitionId,
        records: i64,
    ) -> Result<BatchStamp, CommandRefusal> {
        let topic_state = state.topics.get(&topic).ok_or(CommandRefusal::UnknownTopic)?;
        let applied = topic_state.partition(partition).ok_or(CommandRefusal::UnknownPartition)?;
        let staged = self
            .partitions
            .entry((topic, partition))
            .or_insert(Staged { next_offset: applied.next_offset, in_flight: 0 });
        let base_offset = staged.next_offset;
        staged.next_offset += records;
        staged.in_flight += 1;
        Ok(BatchStamp { base_offset, leader_epoch: applied.leader_epoch() })
    }

    /// Takes back the last [`StagedAppends::take`] of a partition: the batch was not written after all.
    pub fn give_back(&mut self, topic: TopicId, partition: PartitionId, records: i64) {
        if let Some(staged) = self.partitions.get_mut(&(topic, partition)) {
            staged.next_offset -= records;
        }
        self.settle(topic, partition);
    }

    /// An append was applied or refused; either way its offsets are used up, and what was staged after it stands.
    pub fn settle(&mut self, topic: TopicId, partition: PartitionId) {
        if let Some(staged) = self.partitions.get_mut(&(topic, partition)) {
            staged.in_flight -= 1;
            if staged.in_flight == 0 {
                self.partitions.remove(&(topic, partition));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chronik_format::ids::Incarnation;
    use uuid::Uuid;

    use super::*;
    use crate::state::command::{Command, CreateTopic};
    use crate::state::topic_config::TopicConfig;

    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

    fn state() -> LaneState {
        let mut state = LaneState::new(Incarnation(3));
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions: 1, config: TopicConfig::default() };
        state.apply_frame(1, &[Command::CreateTopic(create)]);
        state
    }

    #[test]
    fn offsets_in_flight_are_not_taken_twice() {
        let (state, mut stage) = (state(), StagedAppends::default());
        let first = stage.take(&state, TOPIC, 0, 5).unwrap();
        assert_eq!(first, BatchStamp { base_offset: 0, leader_epoch: 3 });
        assert_eq!(stage.take(&state, TOPIC, 0, 2).unwrap().base_offset, 5);
        stage.give_back(TOPIC, 0, 2);
        assert_eq!(stage.take(&state, TOPIC, 0, 1).unwrap().base_offset, 5);
    }

    #[test]
    fn what_was_staged_after_a_refused_append_stands() {
        let (state, mut stage) = (state(), StagedAppends::default());
        stage.take(&state, TOPIC, 0, 5).unwrap();
        stage.take(&state, TOPIC, 0, 5).unwrap();
        stage.settle(TOPIC, 0);
        assert_eq!(stage.take(&state, TOPIC, 0, 1).unwrap().base_offset, 10);
    }

    #[test]
    fn unknown_topics_and_partitions_take_no_offsets() {
        let (state, mut stage) = (state(), StagedAppends::default());
        assert_eq!(stage.take(&state, TOPIC, 1, 1), Err(CommandRefusal::UnknownPartition));
        assert_eq!(stage.take(&state, TOPIC, -1, 1), Err(CommandRefusal::UnknownPartition));
        assert_eq!(stage.take(&state, TopicId::default(), 0, 1), Err(CommandRefusal::UnknownTopic));
    }
}
