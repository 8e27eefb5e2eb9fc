//! What the broker checks of a batch on arrival, and what it writes into it.

use super::header::CRC_FROM;
use super::{BatchError, BatchHeader, CONTROL, HEADER_LENGTH, LOG_APPEND_TIME};
use crate::ids::{Offset, Timestamp};

/// Checks a partition's records of a Produce request as Kafka's `UnifiedLog.analyzeAndValidateRecords` and
/// `LogValidator` do, as far as header and CRC show: exactly one batch of magic 2, at most `max_message_bytes`
/// (`max.message.bytes`). The records are not opened; who does later finds out whether they decompress.
pub fn check_produced(batch: &[u8], max_message_bytes: usize) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let length = header.total_length();
    if length > max_message_bytes {
        return Err(BatchError::TooLarge { bytes: length, limit: max_message_bytes });
    }
    if length > batch.len() {
        return Err(BatchError::CUT_OFF);
    }
    if length < batch.len() {
        return Err(BatchError::InvalidRecord { reason: "a request has one batch a partition" });
    }
    if crc32c::crc32c(&batch[CRC_FROM..]) != header.crc {
        return Err(BatchError::Corrupt { reason: "its CRC does not fit" });
    }
    header.codec()?;
    if header.record_count <= 0 || i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        return Err(BatchError::InvalidRecord { reason: "its record count and last offset do not agree" });
    }
    if header.attributes & CONTROL != 0 {
        return Err(BatchError::InvalidRecord { reason: "clients may not write control batches" });
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        return Err(BatchError::InvalidRecord { reason: "a producer id needs a sequence number" });
    }
    if header.is_log_append_time() {
        return Err(BatchError::InvalidTimestamp { reason: "only the broker sets the time of the append" });
    }
    Ok(header)
}

/// Writes base offset and leader epoch, which the CRC does not cover, into a checked batch.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: i32) {
    debug_assert!(batch.len() >= HEADER_LENGTH);
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Gives all records of a checked batch the time of the append (`message.timestamp.type=LogAppendTime`), and the batch
/// its new CRC.
pub fn stamp_log_append_time(batch: &mut [u8], now: Timestamp) {
    debug_assert!(batch.len() >= HEADER_LENGTH);
    let attributes = i16::from_be_bytes([batch[21], batch[22]]) | LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&now.to_be_bytes());
    write_crc(batch);
}

/// A batch with other bytes in it and the CRC that fits them: what a producer may send and the broker does not
/// notice on arrival.
#[cfg(any(test, feature = "testing"))]
pub fn forged(batch: &[u8], change: impl FnOnce(&mut [u8])) -> bytes::Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    write_crc(&mut bytes);
    bytes.into()
}

pub(super) fn write_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use bytes::Bytes;

    use super::*;
    use crate::batch::{BatchBuilder, Codec, records, verify};

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::Gzip);
        for at in 0..3 {
            builder.push(1_000 + at, Some(b"key"), None, &[]);
        }
        builder.finish().to_vec()
    }

    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<BatchHeader, BatchError> {
        let mut bytes = batch();
        change(&mut bytes);
        write_crc(&mut bytes);
        check_produced(&bytes, 1_048_588)
    }

    #[test]
    fn each_rule_of_the_broker_has_its_error() {
        assert!(check_produced(&batch(), batch().len()).is_ok());
        assert!(matches!(check_produced(&batch(), batch().len() - 1), Err(BatchError::TooLarge { .. })));
        assert!(matches!(check_produced(&batch()[..batch().len() - 1], 1_000), Err(BatchError::Corrupt { .. })));
        assert!(matches!(check_produced(&batch()[..60], 1_000), Err(BatchError::Corrupt { .. })));
        assert!(matches!(check_produced(&[], 1_000), Err(BatchError::Corrupt { .. })));
        assert!(matches!(changed(|b| b[16] = 1), Err(BatchError::UnsupportedMagic { magic: 1 })));
        assert!(matches!(changed(|b| b.push(0)), Err(BatchError::InvalidRecord { .. })));
        assert!(matches!(changed(|b| b[22] |= 7), Err(BatchError::UnsupportedCompression { codec: 7 })));
        assert!(matches!(changed(|b| b[26] = 7), Err(BatchError::InvalidRecord { .. })));
        assert!(matches!(changed(|b| b[57..61].fill(0)), Err(BatchError::InvalidRecord { .. })));
        assert!(matches!(changed(|b| b[22] |= 0x20), Err(BatchError::InvalidRecord { .. })));
        assert!(matches!(changed(|b| b[43..51].fill(0)), Err(BatchError::InvalidRecord { .. })));
        assert!(matches!(changed(|b| b[22] |= 0x08), Err(BatchError::InvalidTimestamp { .. })));
        let mut damaged = batch();
        damaged[30] ^= 1;
        assert!(matches!(check_produced(&damaged, 1_000), Err(BatchError::Corrupt { .. })));
    }

    #[test]
    fn the_time_of_the_append_is_that_of_every_record() {
        let mut bytes = batch();
        stamp_log_append_time(&mut bytes, 99);
        assert!(verify(&bytes).unwrap().is_log_append_time());
        let times: Vec<_> =
            records(&Bytes::from(bytes), 1_000).unwrap().map(|record| record.unwrap().timestamp).collect();
        assert_eq!(times, [99, 99, 99]);
    }
}
