//! Batches on their way from one service to another over HTTP.
//!
//! ```text
//! magic "CHRB" | version u16 | flags u16, 0 | batches u32 | crc32c u32 of what follows | length u64 of what follows | batches
//! ```
//! Integers are little-endian. The checksum is there because a batch's own CRC leaves out its offset.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{BatchError, split, verify};
use crate::ids::Offset;

/// The media type.
pub const CONTENT_TYPE_BATCHES: &str = "application/vnd.chronik.batches";
/// Bytes before the first batch.
pub const TRANSFER_HEADER_LENGTH: usize = 24;
/// Bytes that a batch may have. `max.message.bytes` is at most 32 MiB.
pub const BATCH_BYTES_MAX: usize = 40 << 20;

const MAGIC: [u8; 4] = *b"CHRB";
const VERSION: u16 = 0;

/// What came is not what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// It does not begin like batches do.
    #[error("the answer does not hold batches")]
    NotBatches,
    /// A later program sent it.
    #[error("the answer has format version {version}, this program reads {VERSION}")]
    UnknownVersion {
        /// The version found.
        version: u16,
    },
    /// Bytes are missing, or others than were sent.
    #[error("the answer is damaged: {reason}")]
    Damaged {
        /// What does not fit.
        reason: &'static str,
    },
    /// A batch is not one.
    #[error("the answer holds a bad batch: {0}")]
    Batch(#[from] BatchError),
    /// The batches are others than were asked for.
    #[error("the answer holds other offsets than were asked for")]
    Elsewhere,
}

/// Puts whole batches into one body.
pub fn pack(batches: &[Bytes]) -> Bytes {
    let length: usize = batches.iter().map(Bytes::len).sum();
    let crc = batches.iter().fold(0, |crc, batch| crc32c::crc32c_append(crc, batch));
    let mut body = BytesMut::with_capacity(TRANSFER_HEADER_LENGTH + length);
    body.put_slice(&MAGIC);
    body.put_u16_le(VERSION);
    body.put_u16_le(0);
    body.put_u32_le(batches.len() as u32);
    body.put_u32_le(crc);
    body.put_u64_le(length as u64);
    for batch in batches {
        body.put_slice(batch);
    }
    body.freeze()
}

/// Takes the batches out again: each one is checked, their offsets ascend, and none lies wholly before `from`. The
/// batches share the body's memory.
pub fn unpack(mut body: Bytes, from: Offset) -> Result<Vec<Bytes>, TransferError> {
    if !body.starts_with(&MAGIC) || body.len() < TRANSFER_HEADER_LENGTH {
        return Err(TransferError::NotBatches);
    }
    let mut header = body.split_to(TRANSFER_HEADER_LENGTH);
    header.advance(MAGIC.len());
    let version = header.get_u16_le();
    if version != VERSION {
        return Err(TransferError::UnknownVersion { version });
    }
    if header.get_u16_le() != 0 {
        return Err(TransferError::Damaged { reason: "it has unknown flags" });
    }
    let (count, crc, length) = (header.get_u32_le(), header.get_u32_le(), header.get_u64_le());
    if length != body.len() as u64 {
        return Err(TransferError::Damaged { reason: "it has another length than its header says" });
    }
    if crc32c::crc32c(&body) != crc {
        return Err(TransferError::Damaged { reason: "its checksum does not fit" });
    }
    let mut batches = Vec::new();
    let mut next = Offset::MIN;
    for batch in split(body) {
        let batch = batch?;
        let header = verify(&batch)?;
        if header.last_offset_delta < 0 || header.base_offset < next || header.last_offset() < from {
            return Err(TransferError::Elsewhere);
        }
        next = header.last_offset().saturating_add(1);
        batches.push(batch);
    }
    if batches.len() as u64 != u64::from(count) {
        return Err(TransferError::Damaged { reason: "it has another number of batches than its header says" });
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::batch::{BatchBuilder, Codec, stamp};

    fn batch_at(offset: Offset) -> Bytes {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(7, None, Some(b"some value"), &[]);
        builder.push(8, None, Some(b"another"), &[]);
        let mut batch = BytesMut::from(&builder.finish()[..]);
        stamp(&mut batch, offset, 1);
        batch.freeze()
    }

    #[test]
    fn what_was_packed_comes_out() {
        for batches in [vec![], vec![batch_at(4)], vec![batch_at(4), batch_at(6), batch_at(20)]] {
            assert_eq!(unpack(pack(&batches), 5).unwrap(), batches);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let body = pack(&[batch_at(4), batch_at(6)]);
        for at in 0..body.len() {
            let mut damaged = body.to_vec();
            damaged[at] ^= 0x10;
            assert!(unpack(damaged.into(), 4).is_err(), "byte {at}");
            assert!(unpack(body.slice(..at), 4).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_batch_that_was_damaged_before_it_was_packed_is_noticed() {
        let mut damaged = batch_at(4).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let error = unpack(pack(&[damaged.into()]), 4).unwrap_err();
        assert!(matches!(error, TransferError::Batch(_)), "{error}");
    }

    #[test]
    fn other_offsets_are_refused() {
        for batches in [vec![batch_at(4)], vec![batch_at(8), batch_at(8)], vec![batch_at(9), batch_at(6)]] {
            assert_eq!(unpack(pack(&batches), 6), Err(TransferError::Elsewhere));
        }
    }
}
