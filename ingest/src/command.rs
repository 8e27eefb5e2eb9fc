//! What a lane orders. In a frame, commands stand one after the other, each as `kind u16, version u16` and then
//! its fields in bincode 2 (standard configuration); a changed shape is a new version.
//!
//! Times and ids are inside the command: applying it reads no clock and draws no random number.

use bytes::Bytes;
use chronik_core::ids::{Incarnation, LogIndex, Offset, PartitionId, Timestamp, TopicId};
use chronik_core::job::CoveredRun;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::topic_config::TopicConfig;

/// The version of every command's shape.
const VERSION: u16 = 0;

/// One change of a lane's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Adds one batch to a partition.
    Append(Append),
    /// Creates a topic.
    CreateTopic(CreateTopic),
    /// Deletes a topic.
    DeleteTopic(DeleteTopic),
    /// Makes a verified object the home of a range of the log.
    RegisterSegment(RegisterSegment),
    /// Takes in what an indexer made of a job.
    RegisterResult(RegisterResult),
    /// Gives up on indexing runs that were sent several times without any result.
    GiveUp(GiveUp),
    /// Forgets results whose objects are deleted.
    ForgetResults(ForgetResults),
    /// Forgets tombstones whose objects are deleted.
    ForgetTombstones(ForgetTombstones),
}

/// A batch as it was staged: stamped, and placed in the frame's batch bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Where the batch starts in the frame's batch bytes.
    pub position: u32,
    /// Bytes of the batch.
    pub length: u32,
}

/// See [`Command::CreateTopic`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    /// The new topic's identity.
    pub id: TopicId,
    /// Its name; refused if taken.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: i32,
    /// Its settings.
    pub config: TopicConfig,
}

/// See [`Command::DeleteTopic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    /// The topic.
    pub id: TopicId,
    /// When the command was proposed, ms since the epoch.
    pub at: Timestamp,
}

/// A segment in the bucket that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterSegment {
    /// Of the owner that wrote the object.
    pub incarnation: Incarnation,
    /// First index in it.
    pub first: LogIndex,
    /// Last index in it.
    pub last: LogIndex,
    /// The object's name.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its directory.
    pub crc: u32,
    /// Where its directory starts, bytes.
    pub directory_position: u64,
    /// When the object was named, ms since the epoch.
    pub named_at: Timestamp,
    /// When the command was proposed, ms since the epoch.
    pub at: Timestamp,
    /// What lies in it.
    pub runs: Vec<SegmentRun>,
}

/// Consecutive batches of one partition in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRun {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// First offset.
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// Where the batches start in the segment, bytes.
    pub position: u64,
    /// Bytes of the batches.
    pub length: u64,
    /// Earliest timestamp of the records, ms; the least there is if not all can be read.
    pub min_timestamp: Timestamp,
    /// Latest timestamp of the records, ms; the greatest there is if not all can be read.
    pub max_timestamp: Timestamp,
}

/// The verified content of an object in `inbox/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterResult {
    /// The result's object name.
    pub result: String,
    /// The topic that was indexed.
    pub topic: TopicId,
    /// The topic's index epoch when the job was made.
    pub index_epoch: u32,
    /// When the command was proposed, ms since the epoch.
    pub at: Timestamp,
    /// The archives, each named by its object.
    pub archives: Vec<ArchiveFacts>,
    /// Runs without an archive, and why.
    pub unreadable: Vec<Unreadable>,
}

/// An archive in the bucket that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFacts {
    /// The object's name.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of its table of contents.
    pub crc: u32,
    /// Records in it.
    pub records: u64,
    /// When the object was named, ms since the epoch.
    pub named_at: Timestamp,
    /// The runs it covers, each whole.
    pub runs: Vec<CoveredRun>,
}

/// A run that is scanned instead of being looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// The segment's object name.
    pub segment: String,
    /// The partition.
    pub partition: PartitionId,
    /// First offset.
    pub first: Offset,
    /// Why, for the operator.
    pub reason: String,
}

/// See [`Command::GiveUp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveUp {
    /// The topic.
    pub topic: TopicId,
    /// The runs.
    pub runs: Vec<Unreadable>,
}

/// See [`Command::ForgetResults`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetResults {
    /// Object names in `inbox/`.
    pub results: Vec<String>,
}

/// See [`Command::ForgetTombstones`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetTombstones {
    /// Object names.
    pub objects: Vec<String>,
}

/// Why bytes are not commands that this program knows.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Written by a newer program, or not a command at all.
    #[error("command kind {kind} version {version} at byte {position} is not known to this version of Chronik")]
    Unknown {
        /// The kind.
        kind: u16,
        /// The version.
        version: u16,
        /// Where it starts in the commands' bytes.
        position: usize,
    },
    /// The fields can't be read.
    #[error("command at byte {position} can't be decoded: {reason}")]
    Malformed {
        /// Where it starts in the commands' bytes.
        position: usize,
        /// The decoder's own words.
        reason: String,
    },
}

impl Command {
    fn kind(&self) -> u16 {
        match self {
            Command::Append(_) => 1,
            Command::CreateTopic(_) => 2,
            Command::DeleteTopic(_) => 3,
            Command::RegisterSegment(_) => 4,
            Command::RegisterResult(_) => 5,
            Command::GiveUp(_) => 6,
            Command::ForgetResults(_) => 7,
            Command::ForgetTombstones(_) => 8,
        }
    }

    /// Whether the command only books shipping, indexing and deletion: alone it is no reason to ship.
    pub fn is_bookkeeping(&self) -> bool {
        match self {
            Command::Append(_) | Command::CreateTopic(_) | Command::DeleteTopic(_) => false,
            Command::RegisterSegment(_)
            | Command::RegisterResult(_)
            | Command::GiveUp(_)
            | Command::ForgetResults(_)
            | Command::ForgetTombstones(_) => true,
        }
    }

    /// The command as it stands in a frame's command bytes.
    pub fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        let out = &mut bytes;
        out.extend_from_slice(&self.kind().to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        let written = match self {
            Command::Append(c) => encode_fields(c, out),
            Command::CreateTopic(c) => encode_fields(c, out),
            Command::DeleteTopic(c) => encode_fields(c, out),
            Command::RegisterSegment(c) => encode_fields(c, out),
            Command::RegisterResult(c) => encode_fields(c, out),
            Command::GiveUp(c) => encode_fields(c, out),
            Command::ForgetResults(c) => encode_fields(c, out),
            Command::ForgetTombstones(c) => encode_fields(c, out),
        };
        debug_assert!(written.is_ok(), "plain data always serialises");
        bytes
    }

    /// All commands of a frame, in order.
    pub fn decode_all(bytes: &Bytes) -> Result<Vec<Command>, CommandError> {
        let mut commands = Vec::new();
        let mut position = 0;
        while position < bytes.len() {
            let (command, length) = Self::decode(&bytes[position..], position)?;
            commands.push(command);
            position += length;
        }
        Ok(commands)
    }

    fn decode(bytes: &[u8], position: usize) -> Result<(Command, usize), CommandError> {
        let Some((head, fields)) = bytes.split_first_chunk::<4>() else {
            return Err(CommandError::Malformed { position, reason: "cut short".into() });
        };
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let version = u16::from_le_bytes([head[2], head[3]]);
        let (command, length) = match (kind, version) {
            (1, VERSION) => decode_fields(fields, position).map(|(c, n)| (Command::Append(c), n))?,
            (2, VERSION) => decode_fields(fields, position).map(|(c, n)| (Command::CreateTopic(c), n))?,
            (3, VERSION) => decode_fields(fields, position).map(|(c, n)| (Command::DeleteTopic(c), n))?,
            (4, VERSION) => decode_fields(fields, position).map(|(c, n)| (Command::RegisterSegment(c), n))?,
            (5, VERSION) => decode_fields(fields, position).map(|(c, n)| (Command::RegisterResult(c), n))?,
            (6, VERSION) => decode_fields(fields, position).map(|(c, n)| (Command::GiveUp(c), n))?,
            (7, VERSION) => decode_fields(fields, position).map(|(c, n)| (Command::ForgetResults(c), n))?,
            (8, VERSION) => decode_fields(fields, position).map(|(c, n)| (Command::ForgetTombstones(c), n))?,
            _ => {
                return Err(CommandError::Unknown { kind, version, position });
            }
        };
        Ok((command, head.len() + length))
    }
}

fn encode_fields<T: Serialize>(fields: &T, out: &mut Vec<u8>) -> Result<usize, bincode::error::EncodeError> {
    bincode::serde::encode_into_std_write(fields, out, bincode::config::standard())
}

/// Allocations are bounded by the limit: bincode charges every collection's announced length against it.
fn decode_fields<T: DeserializeOwned>(fields: &[u8], position: usize) -> Result<(T, usize), CommandError> {
    const FIELD_BYTES_MAX: usize = 64 << 20;
    let config = bincode::config::standard().with_limit::<FIELD_BYTES_MAX>();
    bincode::serde::decode_from_slice(fields, config)
        .map_err(|error| CommandError::Malformed { position, reason: error.to_string() })
}

/// Reads any bytes as the commands of a frame, and writes what comes out again; for fuzzing.
pub fn fuzz_commands(bytes: &[u8]) {
    if let Ok(commands) = Command::decode_all(&Bytes::copy_from_slice(bytes)) {
        for command in commands {
            let decoded = Command::decode_all(&command.encoded().into());
            assert!(decoded.is_ok_and(|again| again == [command]));
        }
    }
}
