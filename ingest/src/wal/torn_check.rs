//! Behind a bad frame: is there a good one that was written when the bad one was already durable? Then the bad one
//! is damage, not a torn write.

use std::io;

use chronik_format::ids::{Incarnation, LogIndex};

use super::frame::{CHECKED_FROM, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader};
use crate::disk::{ReadAt, read_full_at};

const WINDOW_BYTES: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 4096;

/// Where a bad frame stands.
pub(super) struct BadFrame<'a> {
    pub file: &'a dyn ReadAt,
    pub salt: u32,
    pub position: u64,
    pub end: u64,
    pub index: LogIndex,
    pub incarnation: Incarnation,
}

impl BadFrame<'_> {
    /// The durable index that a later good frame of the same file states, if it is at or above the bad frame's.
    ///
    /// The bad frame's length can't be trusted, so a later one may begin anywhere. Record values may be full of
    /// forged frames; each costs two reads of less than a block, however long it claims to be.
    pub(super) fn durable_later(&self) -> io::Result<Option<LogIndex>> {
        let window_bytes = self.end.saturating_sub(self.position).min(WINDOW_BYTES);
        let zeros = vec![0; window_bytes as usize];
        let mut window = zeros.clone();
        let mut checksums = None;
        let mut position = self.position + 1;
        while position + FRAME_HEADER_BYTES as u64 <= self.end {
            let wanted = window_bytes.min(self.end - position) as usize;
            let read = read_full_at(self.file, position, &mut window[..wanted])?;
            if read < FRAME_HEADER_BYTES {
                break;
            }
            let candidates = read - FRAME_HEADER_BYTES + 1;
            if window[..read] != zeros[..read] {
                for at in 0..candidates {
                    let start = position + at as u64;
                    let Some(header) = self.plausible(start, &window[at..read]) else {
                        continue;
                    };
                    let checksums = match &mut checksums {
                        Some(checksums) => checksums,
                        none => none.insert(Checksums::new(self.file, self.end)?),
                    };
                    let checked = start + CHECKED_FROM as u64..start + header.length();
                    if checksums.append(self.salt, checked)? == header.crc() {
                        return Ok(Some(header.durable()));
                    }
                }
            }
            position += candidates as u64;
        }
        Ok(None)
    }

    /// Whether the frame's beginning stands where it should: a write that was under way, not the end of the log.
    pub(super) fn was_begun(&self) -> io::Result<bool> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let read = read_full_at(self.file, self.position, &mut bytes)?;
        let header = FrameHeader::parse(bytes);
        Ok(read == bytes.len() && header.is_ok_and(|header| header.index() == self.index))
    }

    /// A fixed part that would be evidence, were its checksum right.
    fn plausible(&self, position: u64, bytes: &[u8]) -> Option<FrameHeader> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES).filter(|bytes| bytes.starts_with(&FRAME_MAGIC))?;
        let header = FrameHeader::parse(bytes.try_into().ok()?).ok()?;
        let states = (self.index..header.index()).contains(&header.durable());
        let stands = position + header.length() <= self.end && header.incarnation() == self.incarnation;
        (states && stands).then_some(header)
    }
}

/// CRC-32C of any stretch of a file, from the checksums of its beginnings up to each block.
struct Checksums<'a> {
    file: &'a dyn ReadAt,
    blocks: Vec<u32>,
}

impl<'a> Checksums<'a> {
    fn new(file: &'a dyn ReadAt, end: u64) -> io::Result<Self> {
        let mut checksums = Self { file, blocks: vec![0] };
        let mut crc = 0;
        for block in 0..end / BLOCK_BYTES {
            crc = checksums.extend(crc, block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES)?;
            checksums.blocks.push(crc);
        }
        Ok(checksums)
    }

    /// Goes on from a checksum over a stretch of at most one block, by reading it.
    fn extend(&self, crc: u32, range: std::ops::Range<u64>) -> io::Result<u32> {
        let mut bytes = [0; BLOCK_BYTES as usize];
        let bytes = &mut bytes[..(range.end - range.start) as usize];
        let read = read_full_at(self.file, range.start, bytes)?;
        Ok(crc32c::crc32c_append(crc, &bytes[..read]))
    }

    /// The checksum of the file up to `position`.
    fn up_to(&self, position: u64) -> io::Result<u32> {
        let block = position / BLOCK_BYTES;
        let crc = self.blocks.get(block as usize).copied().unwrap_or_default();
        self.extend(crc, block * BLOCK_BYTES..position)
    }

    /// `crc32c_append(seed, the bytes of range)`.
    fn append(&self, seed: u32, range: std::ops::Range<u64>) -> io::Result<u32> {
        if range.is_empty() {
            return Ok(seed);
        }
        let before = self.up_to(range.start)?;
        let after = self.up_to(range.end)?;
        Ok(crc32c::crc32c_combine(seed ^ before, after, (range.end - range.start) as usize))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_stretch_is_summed_as_if_it_were_read(
            bytes in prop::collection::vec(any::<u8>(), 1..20_000), seed: u32, a: prop::sample::Index, b: prop::sample::Index,
        ) {
            let (a, b) = (a.index(bytes.len() + 1), b.index(bytes.len() + 1));
            let (start, end) = (a.min(b), a.max(b));
            let checksums = Checksums::new(&bytes, bytes.len() as u64).unwrap();
            let sum = checksums.append(seed, start as u64..end as u64).unwrap();
            prop_assert_eq!(sum, crc32c::crc32c_append(seed, &bytes[start..end]));
        }
    }
}
