//! The container of a lane's state as of one log index; what is in its sections belongs to the lane's owner.
//!
//! Integers little-endian, checksums CRC-32C.
//!
//! ```text
//! header  58  magic "CHRNKCKP" | version u16 | cluster 16 | incarnation u32 | lane u32 | index u64 | sections u32
//!             | length of the whole u64 | crc u32 of what precedes
//! section     kind u16 | version u16 | length u64 | crc u32 | bytes
//! trailer 12  crc u32 of everything before | magic "CKPCHRNK"
//! ```
//!
//! Each kind of section has versions of its own, so that a new field in one does not touch the others. Kinds and
//! versions are handed to the caller as they are, who refuses what it does not know.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::LogIndex;
use crate::origin::Origin;

/// The container's format version that this program writes and reads; 0 is unreleased.
pub const VERSION: u16 = 0;

const MAGIC: [u8; 8] = *b"CHRNKCKP";
const END_MAGIC: [u8; 8] = *b"CKPCHRNK";
const HEADER_LENGTH: usize = 58;
const SECTION_HEADER_LENGTH: usize = 16;
const TRAILER_LENGTH: usize = 12;

/// Why a checkpoint can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes do not start as a checkpoint does.
    #[error("{object} is not a checkpoint")]
    NotCheckpoint {
        /// The file's or object's name.
        object: String,
    },
    /// It was written by a later program.
    #[error("checkpoint {object} has format version {version}, this program reads {VERSION}")]
    UnknownVersion {
        /// The file's or object's name.
        object: String,
        /// The version found.
        version: u16,
    },
    /// The bytes are not those that were written.
    #[error("checkpoint {object} is damaged: {reason}")]
    Damaged {
        /// The file's or object's name.
        object: String,
        /// What does not fit.
        reason: &'static str,
    },
}

/// Whose state a checkpoint holds, and as of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointHeader {
    pub origin: Origin,
    /// The last index applied.
    pub index: LogIndex,
}

/// A lane's state as of one log index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose state, and as of when.
    pub header: CheckpointHeader,
    /// The state, in the owner's order.
    pub sections: Vec<StateSection>,
}

/// A part of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSection {
    /// What it is.
    pub kind: u16,
    /// Of its shape.
    pub version: u16,
    /// The part itself.
    pub bytes: Bytes,
}

/// The bytes of the file or object.
pub fn encode(checkpoint: &Checkpoint) -> Bytes {
    let Checkpoint { header, sections } = checkpoint;
    let section_bytes: usize = sections.iter().map(|section| SECTION_HEADER_LENGTH + section.bytes.len()).sum();
    let length = HEADER_LENGTH + section_bytes + TRAILER_LENGTH;
    let mut out = BytesMut::with_capacity(length);
    out.put_slice(&MAGIC);
    out.put_u16_le(VERSION);
    header.origin.encode(&mut out);
    out.put_u64_le(header.index);
    out.put_u32_le(sections.len() as u32);
    out.put_u64_le(length as u64);
    out.put_u32_le(crc32c::crc32c(&out));
    for section in sections {
        section.encode(&mut out);
    }
    out.put_u32_le(crc32c::crc32c(&out));
    out.put_slice(&END_MAGIC);
    out.freeze()
}

/// Reads the whole of the file or object named `object`. Sections share its memory.
pub fn decode(object: &str, bytes: Bytes) -> Result<Checkpoint, CheckpointError> {
    let damaged = |reason| CheckpointError::Damaged { object: object.to_owned(), reason };
    if bytes.len() < HEADER_LENGTH + TRAILER_LENGTH || bytes[..MAGIC.len()] != MAGIC {
        return Err(CheckpointError::NotCheckpoint { object: object.to_owned() });
    }
    let mut fields = &bytes[MAGIC.len()..HEADER_LENGTH];
    let version = fields.get_u16_le();
    if version != VERSION {
        return Err(CheckpointError::UnknownVersion { object: object.to_owned(), version });
    }
    let header = CheckpointHeader { origin: Origin::decode(&mut fields), index: fields.get_u64_le() };
    let (count, length, header_crc) = (fields.get_u32_le(), fields.get_u64_le(), fields.get_u32_le());
    if header_crc != crc32c::crc32c(&bytes[..HEADER_LENGTH - 4]) {
        return Err(damaged("the header's checksum does not fit"));
    }
    if length != bytes.len() as u64 {
        return Err(damaged("it is cut off, or has grown"));
    }
    let body_end = bytes.len() - TRAILER_LENGTH;
    let mut trailer = &bytes[body_end..];
    if trailer.get_u32_le() != crc32c::crc32c(&bytes[..body_end]) || trailer != END_MAGIC {
        return Err(damaged("the trailer's checksum does not fit"));
    }
    let mut rest = bytes.slice(HEADER_LENGTH..body_end);
    let mut sections = Vec::new();
    for _ in 0..count {
        sections.push(StateSection::decode(&mut rest).map_err(damaged)?);
    }
    if !rest.is_empty() {
        return Err(damaged("bytes are left over"));
    }
    Ok(Checkpoint { header, sections })
}

impl StateSection {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.kind);
        out.put_u16_le(self.version);
        out.put_u64_le(self.bytes.len() as u64);
        out.put_u32_le(crc32c::crc32c(&self.bytes));
        out.put_slice(&self.bytes);
    }

    fn decode(rest: &mut Bytes) -> Result<Self, &'static str> {
        if rest.len() < SECTION_HEADER_LENGTH {
            return Err("a section is cut off");
        }
        let (kind, version) = (rest.get_u16_le(), rest.get_u16_le());
        let (length, crc) = (rest.get_u64_le(), rest.get_u32_le());
        if length > rest.len() as u64 {
            return Err("a section is cut off");
        }
        let bytes = rest.split_to(length as usize);
        if crc32c::crc32c(&bytes) != crc {
            return Err("a section's checksum does not fit");
        }
        Ok(Self { kind, version, bytes })
    }
}

/// Reads any bytes as a checkpoint, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_checkpoint(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let _ = decode("fuzz", bytes.clone().into());
    // Checksums would keep the fuzzer out of what they guard.
    if bytes.len() >= HEADER_LENGTH + TRAILER_LENGTH {
        let (length, end) = (bytes.len() as u64, bytes.len() - TRAILER_LENGTH);
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[46..54].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..54]);
        bytes[54..58].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        bytes[end + 4..].copy_from_slice(&END_MAGIC);
        let _ = decode("fuzz", bytes.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::ids::{Incarnation, LaneId};

    fn example() -> Checkpoint {
        let section = |kind, bytes: &'static [u8]| StateSection { kind, version: 2, bytes: Bytes::from_static(bytes) };
        let origin = Origin { cluster: Uuid::from_u128(7), incarnation: Incarnation(3), lane: LaneId(0) };
        let header = CheckpointHeader { origin, index: 99 };
        Checkpoint { header, sections: vec![section(1, b"topics"), section(0xffff, b""), section(2, b"groups")] }
    }

    #[test]
    fn golden_file() {
        crate::golden::check("checkpoint-v0.ckpt", &encode(&example()));
    }

    #[test]
    fn unknown_kinds_are_handed_on() {
        let read = decode("x", encode(&example())).unwrap();
        assert_eq!(read, example());
        assert_eq!(read.sections[1].kind, 0xffff);
    }

    #[test]
    fn another_file_or_version_is_named() {
        let mut later = encode(&example()).to_vec();
        later[8] = 1;
        let error = decode("a.ckpt", later.into()).unwrap_err();
        assert_eq!(error.to_string(), "checkpoint a.ckpt has format version 1, this program reads 0");
        for other in [vec![], vec![0; 100], MAGIC.to_vec()] {
            let error = decode("a.ckpt", other.into()).unwrap_err();
            assert!(matches!(error, CheckpointError::NotCheckpoint { object } if object == "a.ckpt"));
        }
    }

    proptest! {
        #[test]
        fn any_checkpoint_reads_back(
            sections in prop::collection::vec((any::<u16>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..200)), 0..9),
            index: u64,
        ) {
            let section = |(kind, version, bytes): (u16, u16, Vec<u8>)| StateSection { kind, version, bytes: bytes.into() };
            let header = CheckpointHeader { index, ..example().header };
            let checkpoint = Checkpoint { header, sections: sections.into_iter().map(section).collect() };
            prop_assert_eq!(decode("x", encode(&checkpoint)).unwrap(), checkpoint);
        }

        #[test]
        fn a_flipped_bit_or_a_cut_is_an_error(at: prop::sample::Index, bit in 0..8u8) {
            let good = encode(&example());
            let at = at.index(good.len());
            let mut bytes = good.to_vec();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(decode("x", bytes.into()).is_err());
            prop_assert!(decode("x", good.slice(..at)).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_checkpoint(&bytes);
        }
    }
}
