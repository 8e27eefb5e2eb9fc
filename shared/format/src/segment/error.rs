use crate::ids::{Offset, PartitionId, TopicId};
use chronik_store::StoreError;

/// Why a segment can't be built or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// What was to be written breaks a rule of the format: a fault of the writer.
    #[error("the segment can't be built: {reason}")]
    Unbuildable {
        /// The rule.
        reason: String,
    },
    /// The object does not end as a segment does.
    #[error("object {object} is not a segment")]
    NotSegment {
        /// The object's name.
        object: String,
    },
    /// The segment was written by a later program.
    #[error("segment {object} has format version {version}, this program reads {}", super::VERSION)]
    UnknownVersion {
        /// The object's name.
        object: String,
        /// The version found.
        version: u16,
    },
    /// The bytes are not those that were written.
    #[error("segment {object} is damaged: {reason}")]
    Damaged {
        /// The object's name.
        object: String,
        /// What does not fit.
        reason: String,
    },
    /// The segment holds other offsets of the partition, or none.
    #[error("segment {object} does not hold offset {offset} of partition {partition} of topic {topic}")]
    NotHere {
        /// The object's name.
        object: String,
        /// The topic asked for.
        topic: TopicId,
        /// The partition asked for.
        partition: PartitionId,
        /// The offset asked for.
        offset: Offset,
    },
    /// The store could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SegmentError {
    /// Whether the object is not what was once written, or was never written whole.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NotSegment { .. } | Self::Damaged { .. } | Self::Store(StoreError::BeyondEnd { .. }))
    }

    pub(super) fn damaged(object: &str, reason: impl Into<String>) -> Self {
        Self::Damaged { object: object.to_owned(), reason: reason.into() }
    }

    pub(super) fn unbuildable(reason: impl Into<String>) -> Self {
        Self::Unbuildable { reason: reason.into() }
    }
}
