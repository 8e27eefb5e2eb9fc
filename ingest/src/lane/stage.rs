//! What is in flight: offsets and sequence numbers that are taken by frames which are written but not yet applied.

use std::collections::HashMap;
use std::time::Duration;

use chronik_format::ids::{Offset, PartitionId, TopicId};

use crate::state::LaneState;
use crate::state::command::CommitOffsets;
use crate::state::partition::PartitionState;
use crate::state::producer::{NumberedBatch, ProducerStamp, ProducerWindow, Sequence};
use crate::state::refusal::CommandRefusal;

/// What is staged on top of the applied state. Only appends are, and that a group commits; everything else is decided when
/// it is applied.
#[derive(Debug, Default)]
pub struct StagedAppends {
    partitions: HashMap<(TopicId, PartitionId), Staged>,
    /// Commands in flight that change what a group has committed, by group.
    groups: HashMap<String, usize>,
}

#[derive(Debug)]
struct Staged {
    next_offset: Offset,
    in_flight: usize,
    /// Of the producers whose batches are in flight, by id.
    producers: HashMap<i64, ProducerWindow>,
}

/// What an append is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchStamp {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The partition's leader epoch.
    pub leader_epoch: i32,
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staging {
    /// To the partition's end.
    Append(BatchStamp),
    /// Nowhere: it was appended before, perhaps in a frame that is in flight.
    Duplicate(NumberedBatch),
}

impl StagedAppends {
    /// Where a batch of `records` would go now.
    pub fn place(
        &self,
        state: &LaneState,
        topic: TopicId,
        partition: PartitionId,
        records: i64,
        producer: Option<&ProducerStamp>,
    ) -> Result<Staging, CommandRefusal> {
        let applied = partition_of(state, topic, partition)?;
        let staged = self.partitions.get(&(topic, partition));
        let base_offset = staged.map_or(applied.next_offset, |staged| staged.next_offset);
        if let Some(stamp) = producer {
            let known = staged.and_then(|staged| staged.producers.get(&stamp.id)).or(applied.producers.get(stamp.id));
            let batch = NumberedBatch::new(stamp, base_offset, records);
            let may_be_forgotten = applied.producers.may_have_forgotten(stamp.id);
            let placed = ProducerWindow::place(known, may_be_forgotten, stamp.epoch, &batch)?;
            if let Sequence::Duplicate(before) = placed {
                return Ok(Staging::Duplicate(before));
            }
        }
        Ok(Staging::Append(BatchStamp { base_offset, leader_epoch: applied.leader_epoch() }))
    }

    /// Takes the offsets and numbers of a batch that was placed.
    pub fn take(
        &mut self,
        state: &LaneState,
        topic: TopicId,
        partition: PartitionId,
        records: i64,
        producer: Option<&ProducerStamp>,
    ) {
        let Ok(applied) = partition_of(state, topic, partition) else { return };
        let staged = self.partitions.entry((topic, partition)).or_insert_with(|| Staged {
            next_offset: applied.next_offset,
            in_flight: 0,
            producers: HashMap::new(),
        });
        if let Some(stamp) = producer {
            let known = staged.producers.get(&stamp.id).or(applied.producers.get(stamp.id));
            let batch = NumberedBatch::new(stamp, staged.next_offset, records);
            let window = ProducerWindow::with(known, stamp.epoch, batch);
            staged.producers.insert(stamp.id, window);
        }
        staged.next_offset += records;
        staged.in_flight += 1;
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

    /// Whether the offsets of a commit stand as they are, and nothing that changes them is in flight.
    pub fn is_committed(&self, state: &LaneState, commit: &CommitOffsets, refresh: Duration) -> bool {
        !self.groups.contains_key(&commit.group) && state.is_committed(commit, refresh)
    }

    /// A command that changes what a group has committed goes into a frame.
    pub fn take_group(&mut self, group: &str) {
        *self.groups.entry(group.into()).or_default() += 1;
    }

    /// It was applied.
    pub fn settle_group(&mut self, group: &str) {
        if let Some(in_flight) = self.groups.get_mut(group) {
            *in_flight -= 1;
            if *in_flight == 0 {
                self.groups.remove(group);
            }
        }
    }
}

fn partition_of(state: &LaneState, topic: TopicId, partition: PartitionId) -> Result<&PartitionState, CommandRefusal> {
    let topic = state.topics.get(&topic).ok_or(CommandRefusal::UnknownTopic)?;
    Ok(topic.partition(partition).ok_or(CommandRefusal::UnknownPartition)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chronik_format::ids::Incarnation;
    use uuid::Uuid;

    use super::*;
    use crate::state::command::{Command, CreateTopic};
    use crate::state::producer::SequenceError;
    use crate::state::topic_config::TopicConfig;

    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

    fn state() -> LaneState {
        let mut state = LaneState::new(Incarnation(3));
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions: 1, config: TopicConfig::default() };
        state.apply_frame(1, &[Command::CreateTopic(create)]);
        state
    }

    fn stamp(base_sequence: i32) -> Option<ProducerStamp> {
        Some(ProducerStamp { id: 9, epoch: 0, base_sequence, at: 0 })
    }

    /// Places a batch and takes its offsets; the first of them.
    fn take(stage: &mut StagedAppends, state: &LaneState, records: i64, producer: Option<ProducerStamp>) -> Offset {
        let placed = stage.place(state, TOPIC, 0, records, producer.as_ref()).unwrap();
        let Staging::Append(BatchStamp { base_offset, leader_epoch: 3 }) = placed else { panic!("{placed:?}") };
        stage.take(state, TOPIC, 0, records, producer.as_ref());
        base_offset
    }

    #[test]
    fn offsets_in_flight_are_not_taken_twice() {
        let (state, mut stage) = (state(), StagedAppends::default());
        assert_eq!(take(&mut stage, &state, 5, None), 0);
        stage.place(&state, TOPIC, 0, 2, None).unwrap();
        assert_eq!(take(&mut stage, &state, 1, None), 5, "what was only placed takes none");
        assert_eq!(take(&mut stage, &state, 1, None), 6);
    }

    #[test]
    fn what_was_staged_after_a_refused_append_stands() {
        let (state, mut stage) = (state(), StagedAppends::default());
        take(&mut stage, &state, 5, None);
        take(&mut stage, &state, 5, None);
        stage.settle(TOPIC, 0);
        assert_eq!(take(&mut stage, &state, 1, None), 10);
    }

    #[test]
    fn numbers_in_flight_count_like_those_applied() {
        let (state, mut stage) = (state(), StagedAppends::default());
        take(&mut stage, &state, 5, stamp(0));
        take(&mut stage, &state, 2, stamp(5));
        let placed = stage.place(&state, TOPIC, 0, 5, stamp(0).as_ref()).unwrap();
        assert!(matches!(placed, Staging::Duplicate(NumberedBatch { base_offset: 0, .. })));
        let gap = stage.place(&state, TOPIC, 0, 1, stamp(8).as_ref());
        assert_eq!(gap, Err(CommandRefusal::Sequence(SequenceError::OutOfOrder { sequence: 8, expected: 7 })));
        assert_eq!(take(&mut stage, &state, 1, stamp(7)), 7);
    }

    #[test]
    fn unknown_topics_and_partitions_take_no_offsets() {
        let (state, stage) = (state(), StagedAppends::default());
        assert_eq!(stage.place(&state, TOPIC, 1, 1, None), Err(CommandRefusal::UnknownPartition));
        assert_eq!(stage.place(&state, TOPIC, -1, 1, None), Err(CommandRefusal::UnknownPartition));
        assert_eq!(stage.place(&state, TopicId::default(), 0, 1, None), Err(CommandRefusal::UnknownTopic));
    }

    #[test]
    fn a_commit_in_flight_keeps_the_next_one_from_standing_as_it_is() {
        let (state, mut stage) = (state(), StagedAppends::default());
        let commit = CommitOffsets { group: "g".into(), offsets: Vec::new() };
        assert!(stage.is_committed(&state, &commit, Duration::from_secs(1)));
        stage.take_group(&commit.group);
        assert!(!stage.is_committed(&state, &commit, Duration::from_secs(1)));
        stage.settle_group(&commit.group);
        assert!(stage.is_committed(&state, &commit, Duration::from_secs(1)));
    }
}
