//! From bytes of chunks to batches that are certain to be those written.

use std::ops::Range;

use bytes::Bytes;

use super::{DirectoryRow, SegmentDirectory, SegmentError};
use crate::batch::{self, BatchHeader};
use crate::ids::Offset;

/// The chunks of `row` to read for batches from `from` on: from the chunk that holds it until `max_bytes` are
/// reached, at least one.
pub(super) fn wanted(directory: &SegmentDirectory, row: &DirectoryRow, from: Offset, max_bytes: usize) -> Range<usize> {
    let chunks = directory.chunks(row);
    let first = chunks.partition_point(|chunk| chunk.offset <= from).saturating_sub(1);
    let start = chunks[first].position;
    let more = (first + 1..chunks.len()).find(|&at| chunks[at].position - start >= max_bytes as u64);
    first..more.unwrap_or(chunks.len())
}

/// Where chunks lie in the object.
pub(super) fn range(directory: &SegmentDirectory, row: &DirectoryRow, chunks: &Range<usize>) -> Range<u64> {
    directory.chunk_range(row, chunks.start).start..directory.chunk_range(row, chunks.end - 1).end
}

/// Batches up to the first one that is damaged or not all there, and what is wrong from there on.
pub(super) struct IntactBatches {
    pub batches: Vec<(BatchHeader, Bytes)>,
    pub damage: Option<SegmentError>,
}

/// Cuts `bytes`, which are those of `chunks`, into batches; checksums, order and borders are checked.
pub(super) fn cut(
    object: &str,
    directory: &SegmentDirectory,
    row: &DirectoryRow,
    chunks: Range<usize>,
    bytes: Bytes,
) -> IntactBatches {
    let mut batches = Vec::new();
    let damage = cut_into(&mut batches, object, directory, row, chunks, bytes).err();
    IntactBatches { batches, damage }
}

fn cut_into(
    batches: &mut Vec<(BatchHeader, Bytes)>,
    object: &str,
    directory: &SegmentDirectory,
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
        let chunk_bytes = bytes.split_to(length.min(bytes.len()));
        if chunk_bytes.len() < length || crc32c::crc32c(&chunk_bytes) != chunk.crc {
            let has_epoch = |_, epoch: i32| (row.first_epoch..=row.last_epoch).contains(&epoch);
            let before: Vec<_> = certain(chunk_bytes.clone(), chunk.offset, has_epoch).collect();
            // If each batch is good by itself, it is not known where the damage is.
            if before.iter().map(|(_, batch)| batch.len()).sum::<usize>() < length {
                batches.extend(before);
            }
            return Err(damaged(if chunk_bytes.len() < length {
                "bytes are missing"
            } else {
                "the checksum does not fit"
            }));
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
        let end = directory.chunks(row).get(at + 1).map_or(row.offsets.end(), |next| next.offset);
        if found.first().is_none_or(|(header, _)| header.base_offset != chunk.offset) || lowest > end {
            return Err(damaged("offsets are not those of the directory"));
        }
        batches.append(&mut found);
    }
    Ok(())
}

/// The batches at the start of `bytes` that are certain to be those written without any other evidence: whole by their
/// own checksum, which leaves out offset and epoch, without a gap from offset `next` on, each of an epoch that its
/// first offset may have, as `has_epoch` says.
pub fn certain(
    bytes: Bytes,
    mut next: Offset,
    has_epoch: impl Fn(Offset, i32) -> bool,
) -> impl Iterator<Item = (BatchHeader, Bytes)> {
    batch::split(bytes).map_while(move |batch| {
        let batch = batch.ok()?;
        let header = batch::verify(&batch).ok()?;
        let fits = header.base_offset == next && header.last_offset_delta >= 0;
        let fits = fits && has_epoch(next, header.leader_epoch);
        next = header.last_offset().saturating_add(1);
        fits.then_some((header, batch))
    })
}
