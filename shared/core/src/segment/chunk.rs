//! From bytes of chunks to batches that are certain to be those written.

use std::ops::Range;

use bytes::Bytes;

use super::{Directory, DirectoryRow, SegmentError};
use crate::batch::{self, BatchHeader};
use crate::ids::Offset;

/// The chunks of `row` to read for batches from `from` on: from the chunk that holds it until `max_bytes` are
/// reached, at least one.
pub(super) fn wanted(directory: &Directory, row: &DirectoryRow, from: Offset, max_bytes: usize) -> Range<usize> {
    let chunks = directory.chunks(row);
    let first = chunks.partition_point(|chunk| chunk.offset <= from).saturating_sub(1);
    let start = chunks[first].position;
    let more = (first + 1..chunks.len()).find(|&at| chunks[at].position - start >= max_bytes as u64);
    first..more.unwrap_or(chunks.len())
}

/// Where chunks lie in the object.
pub(super) fn range(directory: &Directory, row: &DirectoryRow, chunks: &Range<usize>) -> Range<u64> {
    directory.chunk_range(row, chunks.start).start..directory.chunk_range(row, chunks.end - 1).end
}

/// Batches of chunks up to the first one that is damaged, and what is wrong with that one.
pub(super) struct Cut {
    pub batches: Vec<(BatchHeader, Bytes)>,
    pub damage: Option<SegmentError>,
}

/// Cuts `bytes`, which are those of `chunks`, into batches; checksums, order and borders are checked.
pub(super) fn cut(object: &str, directory: &Directory, row: &DirectoryRow, chunks: Range<usize>, bytes: Bytes) -> Cut {
    let mut batches = Vec::new();
    let damage = cut_into(&mut batches, object, directory, row, chunks, bytes).err();
    Cut { batches, damage }
}

fn cut_into(
    batches: &mut Vec<(BatchHeader, Bytes)>,
    object: &str,
    directory: &Directory,
    row: &DirectoryRow,
    chunks: Range<usize>,
    mut bytes: Bytes,
) -> Result<(), SegmentError> {
    for at in chunks {
        let chunk = &directory.chunks(row)[at];
        let range = directory.chunk_range(row, at);
        let damaged = |reason: &str| {
            let (position, partition, topic) = (chunk.position, row.partition, row.topic);
            let place = format!("at byte {position}, partition {partition} of topic {topic}");
            SegmentError::damaged(object, format!("{reason} {place}"))
        };
        let length = (range.end - range.start) as usize;
        if bytes.len() < length {
            return Err(damaged("bytes are missing"));
        }
        let chunk_bytes = bytes.split_to(length);
        if crc32c::crc32c(&chunk_bytes) != chunk.crc {
            return Err(damaged("the checksum does not fit"));
        }
        let mut lowest = chunk.offset;
        let mut found = Vec::new();
        for batch in batch::split(chunk_bytes) {
            let batch = batch.map_err(|error| damaged(&error.to_string()))?;
            let header = batch::verify(&batch).map_err(|error| damaged(&error.to_string()))?;
            if header.base_offset < lowest || header.last_offset() < header.base_offset {
                return Err(damaged("offsets are out of order"));
            }
            lowest = header.last_offset().saturating_add(1);
            found.push((header, batch));
        }
        let end = directory.chunks(row).get(at + 1).map_or(row.last.saturating_add(1), |next| next.offset);
        if found.first().is_none_or(|(header, _)| header.base_offset != chunk.offset) || lowest > end {
            return Err(damaged("offsets are not those of the directory"));
        }
        batches.append(&mut found);
    }
    Ok(())
}
