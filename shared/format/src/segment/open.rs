//! The end of a segment, from which everything else is found.

use std::ops::Range;

use bytes::{Buf, Bytes};
use uuid::Uuid;

use super::directory::DIRECTORY_BYTES_MAX;
use super::layout::SegmentTrailer;
use super::{HEADER_LENGTH, SegmentDirectory, SegmentError, SegmentHeader, TRAILER_LENGTH, chunk, log};
use crate::ids::{Incarnation, LaneId};
use crate::origin::Origin;

/// The most bytes of a command log that a reader accepts.
const LOG_BYTES_MAX: u64 = 256 << 20;

/// Trailer and directory.
#[derive(Debug)]
pub(super) struct SegmentEnd {
    pub trailer: SegmentTrailer,
    pub directory: SegmentDirectory,
}

impl SegmentEnd {
    /// Reads both from the last bytes of an object of `size` bytes; `Err(range)` inside says which bytes it takes
    /// if `end` does not reach back far enough.
    pub(super) fn decode(object: &str, size: u64, end: &[u8]) -> Result<Result<Self, Range<u64>>, SegmentError> {
        let trailer = SegmentTrailer::decode(object, size, end)?;
        if trailer.directory_length > DIRECTORY_BYTES_MAX {
            return Err(SegmentError::damaged(object, "its directory is longer than any can be"));
        }
        if trailer.log_length > LOG_BYTES_MAX {
            return Err(SegmentError::damaged(object, "its command log is longer than any can be"));
        }
        let Some(start) = end.len().checked_sub((size - trailer.directory_position) as usize) else {
            return Ok(Err(trailer.directory_position..size));
        };
        let bytes = &end[start..end.len() - TRAILER_LENGTH as usize];
        let directory = SegmentDirectory::decode(object, &trailer, bytes)?;
        if trailer.header.level() > 0 && trailer.topics != 1 {
            return Err(SegmentError::damaged(object, format!("at level 1 it holds {} topics", trailer.topics)));
        }
        Ok(Ok(Self { trailer, directory }))
    }
}

/// Opens any bytes as a segment and reads all of it, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_open(bytes: &[u8]) {
    fuzz_directory(bytes);
    let Ok(Ok(end)) = SegmentEnd::decode("fuzz", bytes.len() as u64, bytes) else {
        return;
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let slice = |range: Range<u64>| bytes.slice(range.start as usize..range.end as usize);
    for row in &end.directory.rows {
        let chunks = chunk::wanted(&end.directory, row, row.offsets.first, usize::MAX);
        let range = chunk::range(&end.directory, row, &chunks);
        let _ = chunk::cut("fuzz", &end.directory, row, chunks, slice(range));
    }
    let trailer = &end.trailer;
    let log_bytes = slice(trailer.log_position..trailer.directory_position);
    let _ = log::decode("fuzz", &trailer.header, trailer.log_entries, log_bytes);
}

/// Reads any bytes as a directory whose checksum fits, which would keep the fuzzer out otherwise.
fn fuzz_directory(mut bytes: &[u8]) {
    let mut count = || bytes.try_get_u8().map_or(0, |count| u32::from(count % 32));
    let (topics, rows, chunks) = (count(), count(), count());
    let log_position = u64::from(bytes.try_get_u32_le().unwrap_or(0)) + HEADER_LENGTH;
    let Some(bytes) = bytes.get(..SegmentDirectory::encoded_length(topics, rows, chunks) as usize) else {
        return;
    };
    let origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };
    let header = SegmentHeader { origin, first: 1, last: 1 };
    let trailer = SegmentTrailer {
        header,
        log_position,
        log_length: 0,
        directory_position: log_position,
        directory_length: bytes.len() as u64,
        log_entries: 0,
        topics,
        rows,
        chunks,
        log_crc: 0,
        directory_crc: crc32c::crc32c(bytes),
    };
    let Ok(directory) = SegmentDirectory::decode("fuzz", &trailer, bytes) else {
        return;
    };
    for row in &directory.rows {
        let range = chunk::range(&directory, row, &chunk::wanted(&directory, row, row.offsets.last, 0));
        assert!(
            range.start >= row.bytes.position && range.end <= row.bytes.end(),
            "a chunk lies in its partition's batches"
        );
    }
}
