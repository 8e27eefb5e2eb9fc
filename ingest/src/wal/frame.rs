//! One frame on disk. All integers little-endian:
//!
//! ```text
//! magic u32 | crc u32 | length u32 | header length u32 | incarnation u32 | epoch u64 | first index u64
//!           | durable index u64 | kind u16 | flags u16 | commands | batch bytes
//! ```
//! `crc` is CRC-32C, seeded with the file's salt, over everything behind it: a frame of the file's earlier life, or
//! one inside a record's value, never verifies. `length` counts from the magic on, `header length` too, up to the
//! first batch byte. `durable index` is the last index known to be synced when the frame was written.

use bytes::Bytes;
use chronik_format::ids::{Incarnation, LogIndex};

use super::error::FrameDamage;
use crate::log::Frame;

/// A frame's bytes before its commands.
pub const FRAME_HEADER_BYTES: usize = 48;
/// The largest frame, all included: the largest batch (32 MiB) and its commands.
pub const FRAME_BYTES_MAX: usize = 40 << 20;
pub(super) const FRAME_MAGIC: [u8; 4] = *b"ChkF";
/// The checksum covers what is behind it.
pub(super) const CHECKED_FROM: usize = 8;

impl Frame {
    /// Its bytes on disk.
    pub fn length(&self) -> u64 {
        let batches: usize = self.batches.iter().map(Bytes::len).sum();
        (FRAME_HEADER_BYTES + self.commands.len() + batches) as u64
    }

    /// The fixed part, to be followed by commands and batches as they are.
    pub(super) fn encode_header(&self, durable: LogIndex, salt: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut header = [0; FRAME_HEADER_BYTES];
        let mut rest = &mut header[..];
        let mut put = |bytes: &[u8]| {
            let (field, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            field.copy_from_slice(bytes);
            rest = behind;
        };
        put(&FRAME_MAGIC);
        put(&[0; 4]);
        put(&(self.length() as u32).to_le_bytes());
        put(&((FRAME_HEADER_BYTES + self.commands.len()) as u32).to_le_bytes());
        put(&self.incarnation.0.to_le_bytes());
        put(&self.epoch.to_le_bytes());
        put(&self.index.to_le_bytes());
        put(&durable.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&self.flags.to_le_bytes());
        let mut crc = crc32c::crc32c_append(salt, &header[CHECKED_FROM..]);
        for part in std::iter::once(&self.commands).chain(&self.batches) {
            crc = crc32c::crc32c_append(crc, part);
        }
        header[4..CHECKED_FROM].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

/// The fixed part of a frame as it stands on disk; its lengths are sound, its checksum is not verified yet.
#[derive(Clone, Debug)]
pub(super) struct FrameHeader {
    bytes: [u8; FRAME_HEADER_BYTES],
}

impl FrameHeader {
    pub(super) fn parse(bytes: [u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameDamage> {
        if bytes[..4] != FRAME_MAGIC {
            return Err(FrameDamage::Magic);
        }
        let header = Self { bytes };
        let (length, commands_end) = (header.length() as usize, header.commands_end() as usize);
        if length > FRAME_BYTES_MAX || commands_end > length || commands_end < FRAME_HEADER_BYTES {
            return Err(FrameDamage::Length);
        }
        Ok(header)
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.bytes[at + i])
    }

    pub(super) fn crc(&self) -> u32 {
        u32::from_le_bytes(self.field(4))
    }

    pub(super) fn length(&self) -> u64 {
        u32::from_le_bytes(self.field(8)).into()
    }

    /// Counted from the frame's first byte.
    pub(super) fn commands_end(&self) -> u64 {
        u32::from_le_bytes(self.field(12)).into()
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation(u32::from_le_bytes(self.field(16)))
    }

    pub(super) fn index(&self) -> LogIndex {
        u64::from_le_bytes(self.field(28))
    }

    pub(super) fn durable(&self) -> LogIndex {
        u64::from_le_bytes(self.field(36))
    }

    /// The frame, if `body` (all behind the fixed part) belongs to it in a file with this salt.
    pub(super) fn with_body(&self, body: Bytes, salt: u32) -> Result<Frame, FrameDamage> {
        let crc = crc32c::crc32c_append(salt, &self.bytes[CHECKED_FROM..]);
        if crc32c::crc32c_append(crc, &body) != self.crc() {
            return Err(FrameDamage::Checksum);
        }
        let commands = body.slice(..self.commands_end() as usize - FRAME_HEADER_BYTES);
        let batches = body.slice(commands.len()..);
        Ok(Frame {
            index: self.index(),
            incarnation: self.incarnation(),
            epoch: u64::from_le_bytes(self.field(20)),
            kind: u16::from_le_bytes(self.field(44)),
            flags: u16::from_le_bytes(self.field(46)),
            commands,
            batches: if batches.is_empty() { Vec::new() } else { vec![batches] },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back_and_only_with_its_salt(
            index: u64, incarnation: u32, epoch: u64, kind: u16, flags: u16, durable: u64, salt: u32, other: u32,
            commands in prop::collection::vec(any::<u8>(), 0..200),
            batches in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
        ) {
            let frame = Frame {
                index, incarnation: Incarnation(incarnation), epoch, kind, flags, commands: commands.into(),
                batches: batches.into_iter().map(Bytes::from).collect(),
            };
            let header = FrameHeader::parse(frame.encode_header(durable, salt)).unwrap();
            let body: Vec<u8> = frame.commands.iter().chain(frame.batches.iter().flatten()).copied().collect();
            prop_assert_eq!(header.length(), frame.length());
            prop_assert_eq!(header.durable(), durable);
            let read = header.with_body(body.clone().into(), salt).unwrap();
            prop_assert_eq!(read.batches.concat(), frame.batches.concat());
            prop_assert_eq!(Frame { batches: frame.batches.clone(), ..read }, frame);
            if other != salt {
                prop_assert_eq!(header.with_body(body.into(), other), Err(FrameDamage::Checksum));
            }
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_anything_is_allocated() {
        let frame = Frame {
            index: 1,
            incarnation: Incarnation(1),
            epoch: 1,
            kind: 0,
            flags: 0,
            commands: Bytes::new(),
            batches: vec![],
        };
        let good = frame.encode_header(0, 1);
        for (at, value) in [(8, FRAME_BYTES_MAX as u32 + 1), (8, 47), (12, 47), (12, 49)] {
            let mut bytes = good;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(FrameHeader::parse(bytes).unwrap_err(), FrameDamage::Length);
        }
    }
}
