use super::HEADER_LENGTH;

/// Why a batch is refused or can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes are not what was written: cut off, a wrong CRC, a body that does not decompress or does not parse.
    #[error("the batch is corrupt: {reason}")]
    Corrupt {
        /// What does not fit.
        reason: &'static str,
    },
    /// The batch is whole, but no producer may send it like this.
    #[error("the batch is invalid: {reason}")]
    InvalidRecord {
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The batch is larger than `max.message.bytes`.
    #[error("the batch has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// Bytes of the whole batch.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The producer set a timestamp, or a type of timestamp, that only the broker may set.
    #[error("the batch has an invalid timestamp: {reason}")]
    InvalidTimestamp {
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The codec's number is not one of 0 to 4, or it is 4 where it can't be.
    #[error("compression {codec} is unknown")]
    UnsupportedCompression {
        /// The number, 4 to 7.
        codec: i16,
    },
    /// The batch is not of magic 2, or a message not of 0 or 1.
    #[error("magic {magic} is not supported here")]
    UnsupportedMagic {
        /// The magic found.
        magic: i8,
    },
    /// The records are larger, uncompressed, than the reader is ready to hold.
    #[error("the batch decompresses to more than {limit} bytes")]
    Inflates {
        /// Bytes allowed.
        limit: usize,
    },
}

impl BatchError {
    pub(super) const CUT_OFF: Self = Self::Corrupt { reason: "it is cut off" };
    pub(super) const SHORT: Self = Self::Corrupt { reason: "its length is less than a header's" };

    /// Refuses what can't even hold a header.
    pub(super) fn check_header_fits(bytes: &[u8]) -> Result<(), Self> {
        if bytes.len() < HEADER_LENGTH { Err(Self::CUT_OFF) } else { Ok(()) }
    }
}
