//! The one map from our errors to Kafka's codes.

use chronik_format::batch::BatchError;
use chronik_format::ids::Offset;
use chronik_wire::ErrorCode;

use super::fetch::session::SessionError;
use super::topic_name::TopicNameError;
use crate::groups::GroupError;
use crate::lane::{LaneError, LaneGone};
use crate::reading::ReadError;
use crate::state::producer::SequenceError;
use crate::state::refusal::CommandRefusal;
use crate::state::topic_config::ConfigError;

/// Why a request, or a part of it, was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The batch is not one that a producer may send.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The lane did not take the command.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// Acknowledged records could not be read now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The topic can't have such settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The topic can't have such a name.
    #[error(transparent)]
    TopicName(#[from] TopicNameError),
    /// The group does not do it.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The fetch is not one of a session.
    #[error(transparent)]
    FetchSession(#[from] SessionError),
    /// The client's words beside an offset are too long.
    #[error("an offset's metadata has up to {max} bytes, not {bytes}")]
    OffsetMetadata { bytes: usize, max: usize },
    /// No living topic has this name.
    #[error("no topic has this name")]
    UnknownTopic,
    /// No living topic has this id.
    #[error("no topic has this id")]
    UnknownTopicId,
    /// The topic has fewer partitions.
    #[error("the topic has no such partition")]
    UnknownPartition,
    /// The client believes in a leader of the past.
    #[error("leader epoch {believed} is over, now it is {current}")]
    FencedLeaderEpoch {
        /// The client's.
        believed: i32,
        /// The partition's.
        current: i32,
    },
    /// The client knows of a leader that the broker does not know.
    #[error("leader epoch {believed} is not known here, where it is {current}")]
    UnknownLeaderEpoch {
        /// The client's.
        believed: i32,
        /// The partition's.
        current: i32,
    },
    /// No record has this offset, nor will the next one have it.
    #[error("offset {offset} is not between {log_start} and {end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First offset that can be read.
        log_start: Offset,
        /// One past the last record.
        end: Offset,
    },
    /// Neither -1, 0 nor 1.
    #[error("acks can be -1, 0 or 1, not {acks}")]
    RequiredAcks {
        /// The request's.
        acks: i16,
    },
    /// The producer belongs to a transaction.
    #[error("transactions are not supported")]
    Transactional,
    /// A partition of a Produce request without a batch.
    #[error("a Produce request has one batch a partition, this one none")]
    NoBatch,
    /// The request's version is older than the codec.
    #[error("zstd needs version 7 of Produce")]
    ZstdTooEarly,
    /// A question that this version of the request does not know.
    #[error("timestamp {timestamp} has no meaning in this version of ListOffsets")]
    UnknownTimestamp {
        /// The negative number.
        timestamp: i64,
    },
    /// No topic can have so many partitions.
    #[error("a topic has 1 to {max} partitions, not {partitions}")]
    Partitions {
        /// The request's.
        partitions: i32,
        /// The most.
        max: i32,
    },
    /// All topics of the request together would have too many.
    #[error("a request creates up to {max} partitions")]
    PartitionsTogether {
        /// The most.
        max: i32,
    },
    /// No topic can have so many replicas.
    #[error("a replication factor is -1 or at least 1, not {factor}")]
    ReplicationFactor {
        /// The request's.
        factor: i16,
    },
    /// A manual assignment that is not one replica of each partition on this broker.
    #[error("a manual assignment names partitions 0, 1, ... and broker 1 for each of them, as it is the only one")]
    ReplicaAssignment,
    /// Controllers are asked for.
    #[error("this is the endpoint of a broker, which is its own controller")]
    ControllerEndpoint,
    /// Neither brokers nor controllers are asked for.
    #[error("endpoints are those of brokers (1) and of controllers (2), not {endpoint_type}")]
    EndpointType {
        /// The request's.
        endpoint_type: i8,
    },
    /// The request contradicts itself.
    #[error("{reason}")]
    Request {
        /// In words.
        reason: &'static str,
    },
}

impl ApiError {
    /// The code by which a client knows what it can do.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(BatchError::Corrupt { .. }) => ErrorCode::CORRUPT_MESSAGE,
            Self::Batch(BatchError::InvalidRecord { .. } | BatchError::UnsupportedMagic { .. }) | Self::NoBatch => {
                ErrorCode::INVALID_RECORD
            }
            Self::Batch(BatchError::TooLarge { .. } | BatchError::Inflates { .. }) => ErrorCode::MESSAGE_TOO_LARGE,
            Self::Batch(BatchError::InvalidTimestamp { .. }) => ErrorCode::INVALID_TIMESTAMP,
            Self::Batch(BatchError::UnsupportedCompression { .. }) | Self::ZstdTooEarly => {
                ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
            }
            Self::Lane(LaneError::Refused(refusal)) => refused(refusal),
            Self::Lane(LaneError::TooLarge { .. }) => ErrorCode::RECORD_LIST_TOO_LARGE,
            // Retriable, and nothing was written.
            Self::Lane(LaneError::NoSpace) | Self::Read(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            // Retriable, and it may have been written.
            Self::Lane(LaneError::Gone(LaneGone) | LaneError::Unconfirmed) => ErrorCode::REQUEST_TIMED_OUT,
            Self::Config(_) => ErrorCode::INVALID_CONFIG,
            Self::Group(error) => group_code(error),
            Self::FetchSession(SessionError::UnknownId { .. }) => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            Self::FetchSession(SessionError::Epoch { .. }) => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            Self::FetchSession(SessionError::Naming) => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
            Self::OffsetMetadata { .. } => ErrorCode::OFFSET_METADATA_TOO_LARGE,
            Self::TopicName(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            Self::UnknownTopic | Self::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::UnknownTopicId => ErrorCode::UNKNOWN_TOPIC_ID,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UNKNOWN_LEADER_EPOCH,
            Self::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::RequiredAcks { .. } => ErrorCode::INVALID_REQUIRED_ACKS,
            Self::Transactional => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Self::UnknownTimestamp { .. } => ErrorCode::UNSUPPORTED_VERSION,
            Self::Partitions { .. } => ErrorCode::INVALID_PARTITIONS,
            Self::PartitionsTogether { .. } => ErrorCode::POLICY_VIOLATION,
            Self::ReplicationFactor { .. } => ErrorCode::INVALID_REPLICATION_FACTOR,
            Self::ReplicaAssignment => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            Self::ControllerEndpoint => ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            Self::EndpointType { .. } => ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            Self::Request { .. } => ErrorCode::INVALID_REQUEST,
        }
    }

    /// The code for a client that learned of KAFKA_STORAGE_ERROR in version `storage_error_from` of the API at hand:
    /// an older one tries again for NOT_LEADER_OR_FOLLOWER, as with Kafka.
    pub fn code_in(&self, version: i16, storage_error_from: i16) -> ErrorCode {
        match self.code() {
            ErrorCode::KAFKA_STORAGE_ERROR if version < storage_error_from => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            code => code,
        }
    }
}

fn refused(refusal: &CommandRefusal) -> ErrorCode {
    match refusal {
        CommandRefusal::UnknownTopic | CommandRefusal::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CommandRefusal::HasPartitions { .. } => ErrorCode::INVALID_PARTITIONS,
        CommandRefusal::Config(_) => ErrorCode::INVALID_CONFIG,
        CommandRefusal::TopicExists => ErrorCode::TOPIC_ALREADY_EXISTS,
        // Another owner ordered records meanwhile; nothing of the batch counts, so the client can send it again.
        CommandRefusal::BelowEnd { .. } => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        CommandRefusal::BeyondEnd { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        CommandRefusal::Sequence(SequenceError::OldEpoch { .. }) => ErrorCode::INVALID_PRODUCER_EPOCH,
        CommandRefusal::Sequence(SequenceError::OutOfOrder { .. }) => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        CommandRefusal::Sequence(SequenceError::Duplicate { .. }) => ErrorCode::DUPLICATE_SEQUENCE_NUMBER,
        CommandRefusal::UnknownGroup => ErrorCode::GROUP_ID_NOT_FOUND,
        CommandRefusal::TooManyGroups => ErrorCode::GROUP_MAX_SIZE_REACHED,
        // No client's command can be refused with this.
        CommandRefusal::SegmentOutOfPlace
        | CommandRefusal::SegmentTooOld
        | CommandRefusal::PageOutOfPlace
        | CommandRefusal::PagesNotReplaceable
        | CommandRefusal::SegmentListOutOfPlace
        | CommandRefusal::SegmentsNeeded
        | CommandRefusal::SegmentsNotDropped => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

fn group_code(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::NoGroupId => ErrorCode::INVALID_GROUP_ID,
        GroupError::SessionTimeout { .. } => ErrorCode::INVALID_SESSION_TIMEOUT,
        GroupError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        GroupError::MemberIdRequired { .. } => ErrorCode::MEMBER_ID_REQUIRED,
        GroupError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        GroupError::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        GroupError::Rebalancing => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::Full | GroupError::TooManyGroups => ErrorCode::GROUP_MAX_SIZE_REACHED,
        // The one that every client takes for a reason to ask again.
        GroupError::NotSaved => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::UnknownGroup => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::NotEmpty => ErrorCode::NON_EMPTY_GROUP,
        GroupError::Subscribed => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_worth_another_try_for_clients_of_every_age() {
        let full = ApiError::Lane(LaneError::NoSpace);
        for (version, code) in [(3, ErrorCode::NOT_LEADER_OR_FOLLOWER), (4, ErrorCode::KAFKA_STORAGE_ERROR)] {
            assert_eq!(full.code_in(version, 4), code);
        }
        assert_eq!(ApiError::UnknownTopic.code_in(3, 4), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
}
