//! The end of a segment, from which everything else is found.

use std::ops::Range;

use bytes::Bytes;

use super::directory::DIRECTORY_BYTES_MAX;
use super::layout::Trailer;
use super::{Directory, SegmentError, TRAILER_LENGTH, chunk, log};

/// The most bytes of a command log that a reader accepts.
const LOG_BYTES_MAX: u64 = 256 << 20;

/// Trailer and directory.
#[derive(Debug)]
pub(super) struct SegmentEnd {
    pub trailer: Trailer,
    pub directory: Directory,
}

impl SegmentEnd {
    /// Reads both from the last bytes of an object of `size` bytes; `Err(range)` inside says which bytes it takes
    /// if `end` does not reach back far enough.
    pub(super) fn decode(object: &str, size: u64, end: &[u8]) -> Result<Result<Self, Range<u64>>, SegmentError> {
        let trailer = Trailer::decode(object, size, end)?;
        if trailer.directory_length > DIRECTORY_BYTES_MAX {
            return Err(SegmentError::damaged(object, "its directory is longer than any can be"));
        }
        if trailer.log_length > LOG_BYTES_MAX {
            return Err(SegmentError::damaged(
                object,
                "its command log is longer than any can be",
            ));
        }
        let Some(start) = end.len().checked_sub((size - trailer.directory_position) as usize) else {
            return Ok(Err(trailer.directory_position..size));
        };
        let bytes = &end[start..end.len() - TRAILER_LENGTH as usize];
        let directory = Directory::decode(object, &trailer, bytes)?;
        Ok(Ok(Self { trailer, directory }))
    }
}

/// Opens any bytes as a segment and reads all of it, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_open(bytes: &[u8]) {
    let Ok(Ok(end)) = SegmentEnd::decode("fuzz", bytes.len() as u64, bytes) else {
        return;
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let slice = |range: Range<u64>| bytes.slice(range.start as usize..range.end as usize);
    for row in &end.directory.rows {
        let chunks = chunk::wanted(&end.directory, row, row.first, usize::MAX);
        let range = chunk::range(&end.directory, row, &chunks);
        let _ = chunk::batches("fuzz", &end.directory, row, chunks, slice(range));
    }
    let trailer = &end.trailer;
    let log_bytes = slice(trailer.log_position..trailer.directory_position);
    let _ = log::decode("fuzz", &trailer.header, trailer.log_entries, log_bytes);
}
