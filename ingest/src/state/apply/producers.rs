//! What idempotent producers number.

use std::sync::Arc;

use crate::state::LaneState;
use crate::state::command::{Append, ForgetProducers, NewProducerId};
use crate::state::partition::PartitionState;
use crate::state::producer::{NumberedBatch, ProducerWindow, Sequence, SequenceError, producer_id};
use crate::state::refusal::CommandRefusal;

impl PartitionState {
    /// Whether a batch is the next one of its producer; and remembers that it was appended.
    pub(super) fn number(&mut self, append: &Append) -> Result<(), SequenceError> {
        let Some(stamp) = append.producer else { return Ok(()) };
        let records = append.last_offset - append.base_offset + 1;
        let batch = NumberedBatch::new(&stamp, append.base_offset, records);
        let known = self.producers.get(stamp.id);
        let may_be_forgotten = self.producers.may_have_forgotten(stamp.id);
        match ProducerWindow::place(known, may_be_forgotten, stamp.epoch, &batch)? {
            Sequence::Next => {
                let window = ProducerWindow::with(known, stamp.epoch, batch);
                self.producers.remember(stamp.id, window);
                Ok(())
            }
            Sequence::Duplicate(before) => Err(SequenceError::Duplicate { base_offset: before.base_offset }),
        }
    }
}

impl LaneState {
    pub(super) fn new_producer_id(&mut self, new: &NewProducerId) -> Result<(), CommandRefusal> {
        self.producer_ids = self.producer_ids.max(new.number + 1);
        Ok(())
    }

    /// Producers that have an id may have written to what is gone now.
    pub(in crate::state) fn forget_known_producers(&mut self) {
        self.forgotten_producers = producer_id(self.incarnation, self.producer_ids) - 1;
    }

    pub(super) fn forget_producers(&mut self, forget: &ForgetProducers) -> Result<(), CommandRefusal> {
        let topic = self.topics.get_mut(&forget.topic).map(Arc::make_mut).ok_or(CommandRefusal::UnknownTopic)?;
        let partition = topic.partition_mut(forget.partition).ok_or(CommandRefusal::UnknownPartition)?;
        for silent in &forget.producers {
            if partition.producers.get(silent.id).is_some_and(|window| window.last_at() == silent.last_at) {
                partition.producers.forget(silent.id);
            }
        }
        Ok(())
    }
}
