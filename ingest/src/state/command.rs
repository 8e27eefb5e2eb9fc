//! What a lane orders. In a frame, commands stand one after the other, each as `kind u16, version u16` and then
//! its fields in bincode 2 (standard configuration); a changed shape is a new version.
//!
//! Times and ids are inside the command: applying it reads no clock and draws no random number.

use bincode::error::DecodeError;
use bytes::Bytes;
use chronik_format::batch::TimeSpan;
use chronik_format::catalog::PageEntry;
use chronik_format::ids::{Incarnation, LogIndex, Offset, PartitionId, Timestamp, TopicId};
use chronik_format::job::CoveredRun;
use chronik_format::segment::{DirectoryRow, SegmentDirectory};
use chronik_format::segment_list::SegmentListEntry;
use chronik_format::span::{ByteSpan, OffsetSpan};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::group::{CommittedOffset, Generation};
use super::producer::ProducerStamp;
use super::topic_config::{ConfigChange, TopicConfig};

/// One change of a lane's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Adds one batch to a partition.
    Append(Append),
    /// Creates a topic.
    CreateTopic(CreateTopic),
    /// Deletes a topic.
    DeleteTopic(DeleteTopic),
    /// Changes a topic's settings.
    AlterTopicConfig(AlterTopicConfig),
    /// Adds partitions to a topic.
    AddPartitions(AddPartitions),
    /// Deletes the oldest records of partitions.
    DeleteRecords(DeleteRecords),
    /// Makes a verified object the home of a range of the log.
    RegisterSegment(RegisterSegment),
    /// Registers the result of a job.
    RegisterResult(RegisterResult),
    /// Gives up indexing runs that were sent several times without any result.
    GiveUp(GiveUp),
    /// Makes a page the home of what is open of a topic up to a log index.
    ClosePage(ClosePage),
    /// Puts pages of a topic in the place of others that hold the same.
    ReplacePages(ReplacePages),
    /// Makes a list the place where the oldest segments that are in none are named.
    ListSegments(ListSegments),
    /// Lets go of the oldest segments, which nothing needs any more.
    DropSegments(DropSegments),
    /// Forgets the oldest segments, whose objects are deleted.
    ForgetSegments(ForgetSegments),
    /// Forgets results whose objects are deleted.
    ForgetResults(ForgetResults),
    /// Forgets tombstones whose objects are deleted.
    ForgetTombstones(ForgetTombstones),
    /// Makes a group's generation the one that outlives the broker.
    SaveGroup(SaveGroup),
    /// Commits offsets of a group; one that is not there comes into being.
    CommitOffsets(CommitOffsets),
    /// Forgets offsets of a group, and the group if nothing is left of it.
    ForgetOffsets(ForgetOffsets),
    /// Deletes a group with its offsets.
    DeleteGroup(DeleteGroup),
    /// Gives out an id for an idempotent producer.
    NewProducerId(NewProducerId),
    /// Forgets producers that have been silent for long enough.
    ForgetProducers(ForgetProducers),
}

/// How soon a command asks for a segment, the least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Never: a broker without clients would ship for ever.
    #[default]
    Bookkeeping,
    /// It is worth one once much of its kind is together.
    Clients,
    /// Within a minute.
    Topics,
    /// As soon as records do.
    Records,
}

/// A batch as it was staged: stamped, and placed in the frame's batch bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    pub topic: TopicId,
    pub partition: PartitionId,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Where the batch starts in the frame's batch bytes.
    pub position: u32,
    /// Bytes of the batch.
    pub length: u32,
    /// Who wrote it, if the producer numbers its batches.
    pub producer: Option<ProducerStamp>,
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
    pub id: TopicId,
    /// When the command was proposed, ms since the epoch.
    pub at: Timestamp,
}

/// See [`Command::AlterTopicConfig`]. It is the change, not what comes of it: of two at once, neither is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterTopicConfig {
    pub topic: TopicId,
    pub change: ConfigChange,
}

/// See [`Command::AddPartitions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddPartitions {
    pub topic: TopicId,
    /// Number of partitions there are to be; refused unless there are fewer.
    pub count: i32,
}

/// See [`Command::DeleteRecords`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRecords {
    pub topic: TopicId,
    /// Each is done or refused by itself.
    pub partitions: Vec<FirstKept>,
    /// When the command was proposed, ms since the epoch.
    pub at: Timestamp,
}

/// Where a partition's log is to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstKept {
    pub partition: PartitionId,
    /// Records below it are deleted; `None`: all that there are when the command is applied.
    pub offset: Option<Offset>,
}

/// A segment in the bucket that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterSegment {
    /// Of the owner that wrote the object.
    pub incarnation: Incarnation,
    pub first: LogIndex,
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
    pub topic: TopicId,
    pub partition: PartitionId,
    pub offsets: OffsetSpan,
    /// Where the batches are in the segment.
    pub bytes: ByteSpan,
    /// Of the records; [`TimeSpan::ANY`] if not all can be read.
    pub times: TimeSpan,
}

impl SegmentRun {
    /// What a segment's directory says of its runs.
    pub fn all_of(directory: &SegmentDirectory) -> Vec<Self> {
        let run = |row: &DirectoryRow| Self {
            topic: row.topic,
            partition: row.partition,
            offsets: row.offsets,
            bytes: row.bytes,
            times: row.times,
        };
        directory.rows.iter().map(run).collect()
    }
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
    pub unreadable: Vec<ScannedRun>,
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
    pub records: u64,
    /// When the object was named, ms since the epoch.
    pub named_at: Timestamp,
    /// The runs it covers, each whole.
    pub runs: Vec<CoveredRun>,
}

/// A run that is scanned instead of being looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScannedRun {
    /// The segment's object name.
    pub segment: String,
    pub partition: PartitionId,
    pub first: Offset,
    /// Why, for the operator.
    pub reason: String,
}

/// See [`Command::GiveUp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveUp {
    pub topic: TopicId,
    pub runs: Vec<ScannedRun>,
}

/// See [`Command::ClosePage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosePage {
    pub topic: TopicId,
    /// An object that is in the bucket.
    pub page: PageEntry,
}

/// See [`Command::ReplacePages`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacePages {
    pub topic: TopicId,
    /// Object names of pages at the top that follow one another, all of them as they were when `new` was made.
    pub old: Vec<String>,
    /// Objects that are in the bucket, or are among the old ones.
    pub new: Vec<PageEntry>,
    /// Names of objects that nothing refers to any more. What these name themselves may live on.
    pub gone: Vec<String>,
    /// Names of pages below the old ones whose records are all deleted: they go with all that they name.
    pub deleted: Vec<String>,
    /// When the command was proposed, ms since the epoch.
    pub at: Timestamp,
}

/// See [`Command::ListSegments`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSegments {
    /// An object that is in the bucket.
    pub list: SegmentListEntry,
}

/// See [`Command::DropSegments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropSegments {
    /// Segments that end before this log index; refused if one of them is needed.
    pub below: LogIndex,
    /// When the command was proposed, ms since the epoch.
    pub at: Timestamp,
}

/// See [`Command::ForgetSegments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetSegments {
    /// Segments that end before this log index; no others than were dropped.
    pub below: LogIndex,
    /// When the command was proposed, ms since the epoch.
    pub at: Timestamp,
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

/// See [`Command::SaveGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveGroup {
    /// The group's id.
    pub group: String,
    pub generation: Generation,
}

/// See [`Command::CommitOffsets`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffsets {
    /// The group's id.
    pub group: String,
    /// Those of topics that are gone count for nothing.
    pub offsets: Vec<PartitionOffset>,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionOffset {
    pub topic: TopicId,
    pub partition: PartitionId,
    pub committed: CommittedOffset,
}

/// See [`Command::ForgetOffsets`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetOffsets {
    /// The group's id.
    pub group: String,
    pub offsets: Vec<ForgottenOffset>,
}

/// A partition of which a group forgets how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenOffset {
    pub topic: TopicId,
    pub partition: PartitionId,
    /// Only if it was committed then, ms since the epoch: what was committed since is kept.
    pub committed_at: Option<Timestamp>,
}

/// See [`Command::DeleteGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteGroup {
    /// The group's id.
    pub group: String,
}

/// See [`Command::NewProducerId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewProducerId {
    /// The producer's number in this incarnation.
    pub number: i64,
}

/// See [`Command::ForgetProducers`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetProducers {
    pub topic: TopicId,
    pub partition: PartitionId,
    pub producers: Vec<SilentProducer>,
}

/// A producer that is forgotten unless it wrote again meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilentProducer {
    pub id: i64,
    /// When its last batch arrived, ms since the epoch.
    pub last_at: Timestamp,
}

/// Why bytes are not commands that this program knows.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Written by a newer program, or not a command at all.
    #[error("command kind {kind} version {version} at byte {position} is not known to this version of Chronik")]
    Unknown {
        kind: u16,
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

/// Gives every command its kind and the version of its fields' shape, in one table.
macro_rules! commands {
    ($($kind:literal version $version:literal: $name:ident,)*) => {
        impl Command {
            /// Kind and version, as they stand before the fields.
            fn tag(&self) -> (u16, u16) {
                match self {
                    $(Command::$name(_) => ($kind, $version),)*
                }
            }

            fn encode_fields(&self, out: &mut Vec<u8>) -> Result<usize, bincode::error::EncodeError> {
                match self {
                    $(Command::$name(fields) => encode_fields(fields, out),)*
                }
            }

            /// The command and the length of its fields; `None` if the tag is not known.
            fn decode_fields(tag: (u16, u16), fields: &[u8]) -> Option<Result<(Command, usize), DecodeError>> {
                match tag {
                    $(($kind, $version) => {
                        Some(decode_fields(fields).map(|(fields, length)| (Command::$name(fields), length)))
                    })*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    1 version 0: Append,
    2 version 0: CreateTopic,
    3 version 0: DeleteTopic,
    4 version 0: RegisterSegment,
    5 version 0: RegisterResult,
    6 version 0: GiveUp,
    7 version 0: ForgetResults,
    8 version 0: ForgetTombstones,
    9 version 0: SaveGroup,
    10 version 0: CommitOffsets,
    11 version 0: ForgetOffsets,
    12 version 0: DeleteGroup,
    13 version 0: NewProducerId,
    14 version 0: ForgetProducers,
    15 version 0: AlterTopicConfig,
    16 version 0: AddPartitions,
    17 version 0: DeleteRecords,
    18 version 0: ClosePage,
    19 version 0: ReplacePages,
    20 version 0: ListSegments,
    21 version 0: DropSegments,
    22 version 0: ForgetSegments,
}

impl Urgency {
    /// Whether readers of the catalog may see something of such a command.
    pub fn changes_catalog(self) -> bool {
        matches!(self, Self::Topics | Self::Bookkeeping)
    }
}

impl Command {
    /// How soon the command asks for a segment.
    pub fn urgency(&self) -> Urgency {
        match self {
            Command::Append(_) => Urgency::Records,
            Command::CreateTopic(_)
            | Command::DeleteTopic(_)
            | Command::AlterTopicConfig(_)
            | Command::AddPartitions(_)
            | Command::DeleteRecords(_) => Urgency::Topics,
            Command::SaveGroup(_)
            | Command::CommitOffsets(_)
            | Command::ForgetOffsets(_)
            | Command::DeleteGroup(_)
            | Command::NewProducerId(_) => Urgency::Clients,
            Command::RegisterSegment(_)
            | Command::RegisterResult(_)
            | Command::GiveUp(_)
            | Command::ClosePage(_)
            | Command::ReplacePages(_)
            | Command::ListSegments(_)
            | Command::DropSegments(_)
            | Command::ForgetSegments(_)
            | Command::ForgetResults(_)
            | Command::ForgetTombstones(_)
            | Command::ForgetProducers(_) => Urgency::Bookkeeping,
        }
    }

    /// Whether the command only books shipping, indexing, deletion and expiry.
    pub fn is_bookkeeping(&self) -> bool {
        self.urgency() == Urgency::Bookkeeping
    }

    /// The group whose committed offsets the command changes.
    pub fn commits_for(&self) -> Option<&str> {
        match self {
            Command::CommitOffsets(commit) => Some(&commit.group),
            Command::ForgetOffsets(forget) => Some(&forget.group),
            Command::DeleteGroup(delete) => Some(&delete.group),
            _ => None,
        }
    }

    /// The command as it stands in a frame's command bytes.
    pub fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        let (kind, version) = self.tag();
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&version.to_le_bytes());
        let written = self.encode_fields(&mut bytes);
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
        let decoded = Self::decode_fields((kind, version), fields);
        let (command, length) = decoded
            .ok_or(CommandError::Unknown { kind, version, position })?
            .map_err(|error| CommandError::Malformed { position, reason: error.to_string() })?;
        Ok((command, head.len() + length))
    }
}

fn encode_fields<T: Serialize>(fields: &T, out: &mut Vec<u8>) -> Result<usize, bincode::error::EncodeError> {
    bincode::serde::encode_into_std_write(fields, out, bincode::config::standard())
}

/// Allocations are bounded by the limit: bincode charges every collection's announced length against it.
fn decode_fields<T: DeserializeOwned>(fields: &[u8]) -> Result<(T, usize), DecodeError> {
    const FIELD_BYTES_MAX: usize = 64 << 20;
    bincode::serde::decode_from_slice(fields, bincode::config::standard().with_limit::<FIELD_BYTES_MAX>())
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
