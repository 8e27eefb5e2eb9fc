//! What stands at the start of a place that is written again and again: of several, the whole one with the highest
//! number is the newest.
//!
//! ```text
//! magic [8] | version u32 | lane u32 | incarnation u32 | number u64 | fields 3 × u64 | crc u32 of what precedes
//! ```
//! Integers little-endian, the checksum CRC-32C. What the fields mean is said where the magic is.

use std::io;

use bytes::Buf;
use chronik_format::ids::{Incarnation, LaneId};

use super::{ReadAt, read_full_at};

/// Bytes of a head.
pub const HEAD_BYTES: usize = 56;
const CRC_AT: usize = HEAD_BYTES - 4;
/// The version that this program writes and reads; 0 is unreleased.
pub const VERSION: u32 = 0;

/// Whose place it is, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceHead {
    pub lane: LaneId,
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    /// Counts the writes.
    pub number: u64,
    /// What the place is for.
    pub fields: [u64; 3],
}

/// A head that a later program wrote, of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownVersion(pub u32);

impl PlaceHead {
    /// The bytes of a head.
    pub fn encode(&self, magic: &[u8; 8]) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(magic);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.lane.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.number.to_le_bytes());
        for (at, field) in self.fields.iter().enumerate() {
            bytes[28 + 8 * at..][..8].copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if these bytes are not a whole head.
    pub fn decode(magic: &[u8; 8], bytes: &[u8; HEAD_BYTES]) -> Result<Option<Self>, UnknownVersion> {
        let (checked, mut crc) = bytes.split_at(CRC_AT);
        let Some(mut rest) = checked.strip_prefix(magic).filter(|_| crc32c::crc32c(checked) == crc.get_u32_le()) else {
            return Ok(None);
        };
        match rest.get_u32_le() {
            VERSION => Ok(Some(Self {
                lane: LaneId(rest.get_u32_le()),
                incarnation: Incarnation(rest.get_u32_le()),
                number: rest.get_u64_le(),
                fields: std::array::from_fn(|_| rest.get_u64_le()),
            })),
            other => Err(UnknownVersion(other)),
        }
    }

    /// The head at `position` of a file, which may be shorter.
    pub fn read(magic: &[u8; 8], file: &dyn ReadAt, position: u64) -> io::Result<Result<Option<Self>, UnknownVersion>> {
        let mut bytes = [0; HEAD_BYTES];
        let filled = read_full_at(file, position, &mut bytes)?;
        Ok(if filled == HEAD_BYTES { Self::decode(magic, &bytes) } else { Ok(None) })
    }
}

/// Reads any bytes as a head, also with a checksum that fits, and writes what comes out again; for fuzzing.
pub fn fuzz_head(bytes: &[u8]) {
    let Some((magic, _)) = bytes.split_first_chunk::<8>() else { return };
    let mut head = [0; HEAD_BYTES];
    let length = bytes.len().min(HEAD_BYTES);
    head[..length].copy_from_slice(&bytes[..length]);
    let _ = PlaceHead::decode(magic, &head);
    let crc = crc32c::crc32c(&head[..CRC_AT]);
    head[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    if let Ok(Some(decoded)) = PlaceHead::decode(magic, &head) {
        assert_eq!(decoded.encode(magic), head);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    const MAGIC: [u8; 8] = *b"ChronikX";

    #[test]
    fn golden_file() {
        let head = PlaceHead {
            lane: LaneId(1),
            incarnation: Incarnation(2),
            number: 3,
            fields: [4, 0x0102_0304_0506_0708, u64::MAX],
        };
        let bytes = head.encode(&MAGIC);
        chronik_format::golden::check("place-head-v0.bin", &bytes);
        assert_eq!(PlaceHead::decode(&MAGIC, &bytes), Ok(Some(head)));
    }

    #[test]
    fn another_version_is_not_damage_and_another_kind_of_place_is_none_of_ours() {
        let head = PlaceHead { lane: LaneId(0), incarnation: Incarnation(1), number: 1, fields: [0; 3] };
        let mut bytes = head.encode(&MAGIC);
        assert_eq!(PlaceHead::decode(b"ChronikY", &bytes), Ok(None));
        bytes[8] = 1;
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(PlaceHead::decode(&MAGIC, &bytes), Err(UnknownVersion(1)));
    }

    proptest! {
        #[test]
        fn a_head_is_read_back_and_any_flipped_bit_is_noticed(
            lane: u32, incarnation: u32, number: u64, fields: [u64; 3], bit in 0..HEAD_BYTES * 8,
        ) {
            let head = PlaceHead { lane: LaneId(lane), incarnation: Incarnation(incarnation), number, fields };
            let mut bytes = head.encode(&MAGIC);
            prop_assert_eq!(PlaceHead::decode(&MAGIC, &bytes), Ok(Some(head)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(PlaceHead::decode(&MAGIC, &bytes), Ok(None));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            fuzz_head(&bytes);
        }
    }
}
