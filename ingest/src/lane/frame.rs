//! Frames on their way: one that is being put together, and those between log and application.

use bytes::{Bytes, BytesMut};
use chronik_format::batch;
use chronik_format::ids::{Incarnation, LogIndex, PartitionId, Timestamp, TopicId};

use super::ship_policy::FrameWeight;
use super::stage::BatchStamp;
use super::tail::BatchBytes;
use super::{AppendedBatch, LaneError, ProducedBatch, Reply};
use crate::log::Frame;
use crate::state::apply::LogStarts;
use crate::state::command::{Append, Command, DeleteRecords, Urgency};
use crate::state::producer::ProducerStamp;

/// Bytes of commands and batches that go into one frame; what is larger has one of its own.
const FRAME_BYTES: usize = 1 << 20;

/// A frame that is being put together.
#[derive(Default)]
pub struct OpenFrame {
    commands: Vec<InFlightCommand>,
    encoded: Vec<u8>,
    batch_bytes: usize,
    /// See [`InFlight::duplicates`].
    pub duplicates: Vec<Duplicate>,
}

/// A frame between log and application.
pub struct InFlight {
    pub index: LogIndex,
    pub commands: Vec<InFlightCommand>,
    /// Batches that were sent again and lie in this frame or before it.
    pub duplicates: Vec<Duplicate>,
    /// Bytes of its commands.
    pub command_bytes: u64,
    /// What it means for shipping.
    pub weight: FrameWeight,
}

/// A batch that was appended before, and who has sent it again.
pub struct Duplicate {
    pub topic: TopicId,
    pub partition: PartitionId,
    /// As it was appended.
    pub before: AppendedBatch,
    pub reply: Reply<Result<AppendedBatch, LaneError>>,
}

/// A command of a frame, with who waits for its outcome: each that answers with a value has a variant of its own.
pub enum InFlightCommand {
    /// A producer waits.
    Append(InFlightAppend),
    /// Who asked wants to know where the logs start.
    DeleteRecords(DeleteRecords, Reply<Result<LogStarts, LaneError>>),
    /// It is done or refused.
    Propose(Command, Reply<Result<(), LaneError>>),
}

/// An append and what belongs to it.
pub struct InFlightAppend {
    pub append: Append,
    pub bytes: BatchBytes,
    /// The timestamp that the broker set, if it did.
    pub log_append_time: Option<Timestamp>,
    pub reply: Reply<Result<AppendedBatch, LaneError>>,
}

impl InFlight {
    /// Whether readers of the catalog may see something of it.
    pub fn changes_catalog(&self) -> bool {
        self.commands.iter().any(|command| command.urgency().changes_catalog())
    }
}

impl InFlightCommand {
    /// How soon the command asks for a segment.
    fn urgency(&self) -> Urgency {
        match self {
            Self::Append(_) => Urgency::Records,
            Self::DeleteRecords(..) => Urgency::Topics,
            Self::Propose(command, _) => command.urgency(),
        }
    }
}

impl OpenFrame {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Whether a batch, or a command that is no append, of so many bytes should still go into it.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.is_empty() || self.encoded.len() + self.batch_bytes + bytes <= FRAME_BYTES
    }

    /// Adds a deletion of records.
    pub fn delete_records(
        &mut self,
        delete: DeleteRecords,
        encoded: &[u8],
        reply: Reply<Result<LogStarts, LaneError>>,
    ) {
        self.encoded.extend_from_slice(encoded);
        self.commands.push(InFlightCommand::DeleteRecords(delete, reply));
    }

    /// Adds a command that answers with nothing.
    pub fn propose(&mut self, command: Command, encoded: &[u8], reply: Reply<Result<(), LaneError>>) {
        self.encoded.extend_from_slice(encoded);
        self.commands.push(InFlightCommand::Propose(command, reply));
    }

    /// Adds a batch.
    pub fn append(
        &mut self,
        produced: &ProducedBatch,
        stamp: BatchStamp,
        producer: Option<ProducerStamp>,
        log_append_time: Option<Timestamp>,
        reply: Reply<Result<AppendedBatch, LaneError>>,
    ) {
        let append = Append {
            topic: produced.topic,
            partition: produced.partition,
            base_offset: stamp.base_offset,
            last_offset: stamp.base_offset + i64::from(produced.header.last_offset_delta),
            position: self.batch_bytes as u32,
            length: produced.bytes.len() as u32,
            producer,
        };
        self.encoded.extend_from_slice(&Command::Append(append).encoded());
        self.batch_bytes += produced.bytes.len();
        let bytes = stamped(&produced.bytes, stamp, log_append_time);
        self.commands.push(InFlightCommand::Append(InFlightAppend { append, bytes, log_append_time, reply }));
    }

    /// The frame for the log, and what is needed once it is committed.
    pub fn close(self, index: LogIndex, incarnation: Incarnation) -> (Frame, InFlight) {
        let command_bytes = self.encoded.len() as u64;
        let batches = self.commands.iter().filter_map(|command| match command {
            InFlightCommand::Append(append) => Some(&append.bytes),
            InFlightCommand::DeleteRecords(..) | InFlightCommand::Propose(..) => None,
        });
        let parts = |batch: &BatchBytes| [batch.head.clone(), batch.body.clone()];
        let frame = Frame {
            index,
            incarnation,
            epoch: u64::from(incarnation.0),
            kind: 0,
            flags: 0,
            commands: Bytes::from(self.encoded),
            batches: batches.flat_map(parts).collect(),
        };
        let urgencies = self.commands.iter().map(InFlightCommand::urgency);
        let in_flight = InFlight {
            index,
            weight: FrameWeight::of(urgencies, command_bytes, self.batch_bytes as u64),
            commands: self.commands,
            duplicates: self.duplicates,
            command_bytes,
        };
        (frame, in_flight)
    }
}

/// A batch with offset and epoch in its header. The records are shared with the request, not copied, unless the
/// broker's timestamp changes what the CRC covers.
fn stamped(bytes: &Bytes, stamp: BatchStamp, append_time: Option<Timestamp>) -> BatchBytes {
    let Some(now) = append_time else {
        let mut head = BytesMut::from(&bytes[..batch::HEADER_LENGTH]);
        batch::stamp(&mut head, stamp.base_offset, stamp.leader_epoch);
        return BatchBytes { head: head.freeze(), body: bytes.slice(batch::HEADER_LENGTH..) };
    };
    let mut whole = BytesMut::from(&bytes[..]);
    batch::stamp(&mut whole, stamp.base_offset, stamp.leader_epoch);
    batch::stamp_log_append_time(&mut whole, now);
    let body = whole.split_off(batch::HEADER_LENGTH).freeze();
    BatchBytes { head: whole.freeze(), body }
}
