//! The fixed parts: header and trailer.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, BytesMut};

use super::SegmentError;
use crate::ids::LogIndex;
use crate::origin::Origin;

/// The format version that this program writes and reads; 0 is unreleased.
pub const VERSION: u16 = 0;
/// Bytes of the header.
pub const HEADER_LENGTH: u64 = 56;
/// Bytes of the trailer.
pub const TRAILER_LENGTH: u64 = 124;

const MAGIC: [u8; 8] = *b"CHRNKSEG";
const END_MAGIC: [u8; 8] = *b"SEGCHRNK";
/// Whose a segment is, and which part of the lane's log it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub origin: Origin,
    /// First index of the log; 0 in a segment of level 1, which holds none of it.
    pub first: LogIndex,
    /// Last index of the log, inclusive; 0 like the first.
    pub last: LogIndex,
}

impl SegmentHeader {
    /// That of a segment of level 1: records of one topic that were in others before, and no log.
    pub fn of_topic(origin: Origin) -> Self {
        Self { origin, first: 0, last: 0 }
    }

    /// 0: what the broker ships; 1: what compaction writes.
    pub fn level(&self) -> u16 {
        u16::from(self.first == 0)
    }

    /// The indices of the log that it holds.
    pub(super) fn indices(&self) -> RangeInclusive<LogIndex> {
        if self.level() == 0 { self.first..=self.last } else { RangeInclusive::new(1, 0) }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(self.level());
        self.origin.encode(out);
        out.put_u64_le(self.first);
        out.put_u64_le(self.last);
        out.put_u32_le(crc32c::crc32c(&out[start..]));
    }

    /// Reads the header at the start of `bytes`.
    pub(super) fn decode(object: &str, bytes: &[u8]) -> Result<Self, SegmentError> {
        let not_segment = || SegmentError::NotSegment { object: object.to_owned() };
        let header = bytes.get(..HEADER_LENGTH as usize).ok_or_else(not_segment)?;
        let (mut fields, mut crc) = header.split_at(header.len() - 4);
        if fields[..8] != MAGIC {
            return Err(not_segment());
        }
        let crc_holds = crc32c::crc32c(fields) == crc.get_u32_le();
        fields.advance(8);
        let (version, level) = (fields.get_u16_le(), fields.get_u16_le());
        if version != VERSION {
            return Err(SegmentError::UnknownVersion { object: object.to_owned(), version });
        }
        if !crc_holds {
            return Err(SegmentError::damaged(object, "the header's checksum does not fit"));
        }
        let header =
            Self { origin: Origin::decode(&mut fields), first: fields.get_u64_le(), last: fields.get_u64_le() };
        if level > 1 {
            return Err(SegmentError::damaged(object, format!("level {level} is unknown")));
        }
        if header.first > header.last || level != header.level() || (level > 0 && header.last > 0) {
            let Self { first, last, .. } = header;
            return Err(SegmentError::damaged(
                object,
                format!("at level {level} it can't hold the log {first}..={last}"),
            ));
        }
        Ok(header)
    }
}

/// Where everything else is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentTrailer {
    pub header: SegmentHeader,
    pub log_position: u64,
    pub log_length: u64,
    pub directory_position: u64,
    pub directory_length: u64,
    pub log_entries: u32,
    pub topics: u32,
    pub rows: u32,
    pub chunks: u32,
    pub log_crc: u32,
    pub directory_crc: u32,
}

impl SegmentTrailer {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        self.header.encode(out);
        out.put_u64_le(self.log_position);
        out.put_u64_le(self.log_length);
        out.put_u64_le(self.directory_position);
        out.put_u64_le(self.directory_length);
        out.put_u32_le(self.log_entries);
        out.put_u32_le(self.topics);
        out.put_u32_le(self.rows);
        out.put_u32_le(self.chunks);
        out.put_u32_le(self.log_crc);
        out.put_u32_le(self.directory_crc);
        out.put_u32_le(crc32c::crc32c(&out[start..]));
        out.put_slice(&END_MAGIC);
    }

    /// Reads the trailer at the end of an object of `size` bytes, of which `end` are the last ones.
    pub(super) fn decode(object: &str, size: u64, end: &[u8]) -> Result<Self, SegmentError> {
        let not_segment = || SegmentError::NotSegment { object: object.to_owned() };
        if size < HEADER_LENGTH + TRAILER_LENGTH {
            return Err(not_segment());
        }
        let start = end.len().checked_sub(TRAILER_LENGTH as usize).ok_or_else(not_segment)?;
        let (fields, mut checks) = end[start..].split_at(TRAILER_LENGTH as usize - 12);
        let crc = checks.get_u32_le();
        if checks != END_MAGIC {
            return Err(not_segment());
        }
        let header = SegmentHeader::decode(object, fields)?;
        if crc32c::crc32c(fields) != crc {
            return Err(SegmentError::damaged(object, "the trailer's checksum does not fit"));
        }
        let mut fields = &fields[HEADER_LENGTH as usize..];
        let trailer = Self {
            header,
            log_position: fields.get_u64_le(),
            log_length: fields.get_u64_le(),
            directory_position: fields.get_u64_le(),
            directory_length: fields.get_u64_le(),
            log_entries: fields.get_u32_le(),
            topics: fields.get_u32_le(),
            rows: fields.get_u32_le(),
            chunks: fields.get_u32_le(),
            log_crc: fields.get_u32_le(),
            directory_crc: fields.get_u32_le(),
        };
        let log_end = trailer.log_position.checked_add(trailer.log_length);
        let directory_end = trailer.directory_position.checked_add(trailer.directory_length);
        if trailer.log_position < HEADER_LENGTH
            || log_end != Some(trailer.directory_position)
            || directory_end != Some(size - TRAILER_LENGTH)
        {
            return Err(SegmentError::damaged(object, format!("its parts do not fill its {size} bytes")));
        }
        Ok(trailer)
    }
}
