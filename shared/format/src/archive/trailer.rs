//! The last member: where the table of contents is.

use super::{ArchiveError, VERSION};
use crate::ids::{Incarnation, LaneId};

/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"CHRNKCKX";

/// ```text
/// magic 8 | version u32 | incarnation u32 | lane u32 | toc length u32 | toc position u64 | toc crc u32
/// | crc u32 of the 36 bytes before | zeros up to 512
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveTrailer {
    /// Of the lane's owner when it asked for the archive.
    pub incarnation: Incarnation,
    /// The lane whose segments were indexed.
    pub lane: LaneId,
    /// Where the table of contents starts, bytes.
    pub toc_position: u64,
    /// Bytes of the table of contents.
    pub toc_length: u32,
    /// CRC-32C of the table of contents.
    pub toc_crc: u32,
}

impl ArchiveTrailer {
    /// The trailer's bytes.
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.lane.0.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.toc_length.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.toc_position.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.toc_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a trailer; `archive` is the object's name, for errors.
    pub fn parse(archive: &str, bytes: &[u8]) -> Result<Self, ArchiveError> {
        let bytes: &[u8; TRAILER_BYTES] = bytes
            .try_into()
            .map_err(|_| ArchiveError::damaged(archive, format!("a trailer has 512 bytes, not {}", bytes.len())))?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[0..8] != MAGIC {
            return Err(ArchiveError::damaged(archive, "it does not end in an archive's trailer"));
        }
        let version = u32_at(8);
        if version != VERSION {
            return Err(ArchiveError::Unsupported { archive: archive.to_owned(), version });
        }
        if crc32c::crc32c(&bytes[..36]) != u32_at(36) {
            return Err(ArchiveError::damaged(archive, "the trailer's checksum does not fit"));
        }
        Ok(Self {
            incarnation: Incarnation(u32_at(12)),
            lane: LaneId(u32_at(16)),
            toc_length: u32_at(20),
            toc_position: u64::from(u32_at(24)) | u64::from(u32_at(28)) << 32,
            toc_crc: u32_at(32),
        })
    }
}
