//! Why commands are refused.

use chronik_format::ids::Offset;

use super::producer::SequenceError;
use super::topic_config::ConfigError;

/// Why a command changed nothing. Part of the log's meaning: every replay refuses the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    /// No such topic (any more).
    #[error("the topic does not exist")]
    UnknownTopic,
    /// The topic has no such partition.
    #[error("the partition does not exist")]
    UnknownPartition,
    /// The name is taken.
    #[error("the topic exists already")]
    TopicExists,
    /// Partitions are only ever added.
    #[error("the topic has {partitions} partitions already")]
    HasPartitions {
        /// Their number.
        partitions: usize,
    },
    /// The topic can't have such settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The batch would go below the partition's end.
    #[error("offset {base_offset} lies below the partition's end {next_offset}")]
    BelowEnd {
        /// First offset of the batch.
        base_offset: Offset,
        /// The partition's end.
        next_offset: Offset,
    },
    /// There are no records between such an offset and the partition's end to be kept.
    #[error("offset {offset} is not between 0 and the partition's end {next_offset}")]
    BeyondEnd {
        /// The first offset that was to be kept.
        offset: Offset,
        /// The partition's end.
        next_offset: Offset,
    },
    /// The batch is not the next one of its producer.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// No such group (any more).
    #[error("the group does not exist")]
    UnknownGroup,
    /// No group can come into being.
    #[error("there are as many groups as there may be")]
    TooManyGroups,
    /// The segment does not go on where the last one ended, or is another owner's.
    #[error("the segment does not follow the last registered one, or is another owner's")]
    SegmentOutOfPlace,
    /// The page does not hold just what is open up to its last index, as it is now.
    #[error("the page is not what is open of the topic up to its last index")]
    PageOutOfPlace,
    /// The pages to be replaced are not those at the top any more, or others would not hold the same.
    #[error("the pages to be replaced are not there as they were, or the new ones do not hold the same")]
    PagesNotReplaceable,
    /// The list does not hold just the registered segments that follow those of the lists before.
    #[error("the list does not hold just the registered segments that follow those of the lists before")]
    SegmentListOutOfPlace,
    /// A segment that was to go is needed, or others are on their way out.
    #[error("segments below that index are needed, or others were dropped and are not forgotten yet")]
    SegmentsNeeded,
    /// No such segments were dropped.
    #[error("segments below that index were not dropped, or are forgotten")]
    SegmentsNotDropped,
    /// The segment was named so long ago that it may be taken for an orphan: it must be uploaded under a new name.
    #[error("the segment was named too long ago")]
    SegmentTooOld,
}
