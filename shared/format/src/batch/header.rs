use bytes::{Buf, Bytes};

use super::{BatchError, Codec};
use crate::ids::{Offset, Timestamp};

/// Bytes of a batch before its records.
pub const HEADER_LENGTH: usize = 61;
/// Attribute bit: all records have the batch's `max_timestamp`, the time of the append.
pub const LOG_APPEND_TIME: i16 = 0x08;
/// Attribute bit: the batch belongs to a transaction.
pub const TRANSACTIONAL: i16 = 0x10;
/// Attribute bit: the batch is a marker that ends a transaction, not data.
pub const CONTROL: i16 = 0x20;

/// Base offset and length, which `batch_length` does not count.
const PREFIX_LENGTH: usize = 12;
/// Where the part begins that the CRC covers.
pub(super) const CRC_FROM: usize = 21;

/// The fixed part of a batch.
///
/// | at | field | | at | field |
/// |---|---|---|---|---|
/// | 0 | base offset i64 | | 27 | base timestamp i64 |
/// | 8 | batch length i32, from 12 on | | 35 | max timestamp i64 |
/// | 12 | leader epoch i32 | | 43 | producer id i64 |
/// | 16 | magic i8 | | 51 | producer epoch i16 |
/// | 17 | CRC-32C u32, from 21 on | | 53 | base sequence i32 |
/// | 21 | attributes i16 | | 57 | record count i32 |
/// | 23 | last offset delta i32 | | 61 | records, compressed as one if the attributes name a codec |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub leader_epoch: i32,
    /// 2.
    pub magic: i8,
    /// CRC-32C of everything after this field.
    pub crc: u32,
    /// Codec (bits 0 to 2), [`LOG_APPEND_TIME`], [`TRANSACTIONAL`], [`CONTROL`].
    pub attributes: i16,
    /// Last offset, relative to `base_offset`.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, ms.
    pub base_timestamp: Timestamp,
    /// Latest timestamp of the records, ms.
    pub max_timestamp: Timestamp,
    /// -1 without idempotence.
    pub producer_id: i64,
    /// -1 without idempotence.
    pub producer_epoch: i16,
    /// Sequence number of the first record; -1 without idempotence.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may be cut off anywhere behind it. Checks magic and that the
    /// length is possible.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if let Some(&magic) = bytes.get(16)
            && magic != 2
        {
            return Err(BatchError::UnsupportedMagic { magic: magic as i8 });
        }
        BatchError::check_header_fits(bytes)?;
        let mut field = bytes;
        let header = Self {
            base_offset: field.get_i64(),
            batch_length: field.get_i32(),
            leader_epoch: field.get_i32(),
            magic: field.get_i8(),
            crc: field.get_u32(),
            attributes: field.get_i16(),
            last_offset_delta: field.get_i32(),
            base_timestamp: field.get_i64(),
            max_timestamp: field.get_i64(),
            producer_id: field.get_i64(),
            producer_epoch: field.get_i16(),
            base_sequence: field.get_i32(),
            record_count: field.get_i32(),
        };
        if header.total_length() < HEADER_LENGTH {
            return Err(BatchError::SHORT);
        }
        Ok(header)
    }

    /// Bytes of the whole batch, header included.
    pub fn total_length(&self) -> usize {
        usize::try_from(self.batch_length).map_or(0, |length| length + PREFIX_LENGTH)
    }

    /// Offset of the last record, or of where it was if the batch was compacted.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_attributes(self.attributes)
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a marker that ends a transaction, not data.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether the broker set the timestamps.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }
}

/// Checks that `batch` is exactly one batch of magic 2 whose CRC fits.
pub fn verify(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.total_length() != batch.len() {
        return Err(BatchError::Corrupt { reason: "its length is not the one in its header" });
    }
    if crc32c::crc32c(&batch[CRC_FROM..]) != header.crc {
        return Err(BatchError::Corrupt { reason: "its CRC does not fit" });
    }
    Ok(header)
}

/// Cuts consecutive batches apart without copying. Each is whole by its own length; nothing else is checked. After an
/// error (a batch that is cut off, another magic) nothing more comes.
pub fn split(bytes: Bytes) -> impl Iterator<Item = Result<Bytes, BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let batch = BatchHeader::parse(&rest).and_then(|header| {
            let length = header.total_length();
            if length > rest.len() { Err(BatchError::CUT_OFF) } else { Ok(rest.split_to(length)) }
        });
        if batch.is_err() {
            rest = Bytes::new();
        }
        Some(batch)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::batch::{BatchBuilder, stamp};

    fn batch(value: &str) -> Bytes {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(7, None, Some(value.as_bytes()), &[]);
        builder.finish()
    }

    #[test]
    fn offset_and_epoch_lie_outside_of_the_crc() {
        let mut bytes = batch("a").to_vec();
        stamp(&mut bytes, 1 << 40, 5);
        let header = verify(&bytes).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch, header.last_offset()), (1 << 40, 5, 1 << 40));
    }

    #[test]
    fn every_flipped_byte_behind_the_crc_is_noticed() {
        let bytes = batch("some value");
        for at in (8..12).chain(16..bytes.len()) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x41;
            assert!(verify(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for length in [i32::MIN, -1, 0, 48] {
            let mut bytes = batch("a").to_vec();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            assert_eq!(BatchHeader::parse(&bytes), Err(BatchError::SHORT), "{length}");
        }
    }

    #[test]
    fn a_run_is_cut_into_its_batches_and_ends_at_the_first_error() {
        let run: Vec<Bytes> = ["a", "bb", "ccc"].map(batch).to_vec();
        let whole = Bytes::from(run.concat());
        assert_eq!(split(whole.clone()).collect::<Result<Vec<_>, _>>().unwrap(), run);
        let cut: Vec<_> = split(whole.slice(..whole.len() - 1)).collect();
        assert_eq!(cut, [Ok(run[0].clone()), Ok(run[1].clone()), Err(BatchError::CUT_OFF)]);
    }
}
