//! Builds a segment around batches that are not copied.

use std::panic::AssertUnwindSafe;

use bytes::{Bytes, BytesMut};

use super::directory::{DirectoryRow, SegmentChunk, SegmentDirectory};
use super::layout::SegmentTrailer;
use super::{HEADER_LENGTH, LogEntry, SegmentError, SegmentHeader, log};
use crate::batch::{BatchHeader, BatchUnpacker, TimeSpan, time_span};
use crate::ids::{Offset, PartitionId, TopicId};
use crate::span::{ByteSpan, OffsetSpan};

/// A chunk ends with the batch that makes it at least this long.
const CHUNK_BYTES: u64 = 64 << 10;

/// One partition's batches, stamped, in offset order without overlap. Offsets that were used up by a refused append
/// may be missing between two batches.
#[derive(Clone, Debug)]
pub struct PartitionBatches {
    pub topic: TopicId,
    /// The partition's number.
    pub partition: PartitionId,
    /// Whole batches.
    pub batches: Vec<Bytes>,
}

/// A segment, ready to be created as an object.
#[derive(Clone, Debug)]
pub struct BuiltSegment {
    /// The object's bytes, in order.
    pub parts: Vec<Bytes>,
    /// Bytes of the object.
    pub size: u64,
    /// What is in it, and where.
    pub directory: SegmentDirectory,
    /// Where the directory starts.
    pub directory_position: u64,
    /// CRC-32C of the directory.
    pub directory_crc: u32,
}

/// Builds a segment. The log has one entry for each index of the header's range; partitions come in any order, and
/// those without batches are left out. Every batch is unpacked to see when its records happened.
pub fn build(
    header: SegmentHeader,
    mut partitions: Vec<PartitionBatches>,
    log: &[LogEntry],
) -> Result<BuiltSegment, SegmentError> {
    let log_bytes = log::encode(&header, log)?;
    partitions.retain(|batches| !batches.batches.is_empty());
    partitions.sort_unstable_by_key(|batches| (batches.topic, batches.partition));
    if partitions.windows(2).any(|pair| (pair[0].topic, pair[0].partition) == (pair[1].topic, pair[1].partition)) {
        return Err(SegmentError::unbuildable("a partition comes twice"));
    }

    let mut start = BytesMut::with_capacity(HEADER_LENGTH as usize);
    header.encode(&mut start);
    let mut parts = vec![start.freeze()];
    let mut directory = SegmentDirectory::default();
    let mut unpacker = BatchUnpacker::default();
    let mut log_position = HEADER_LENGTH;
    for PartitionBatches { topic, partition, batches } in partitions {
        let row = list_batches(topic, partition, log_position, &batches, &mut directory.chunks, &mut unpacker)
            .map_err(|reason| SegmentError::unbuildable(format!("partition {partition} of topic {topic}: {reason}")))?;
        log_position = row.bytes.end();
        directory.rows.push(row);
        parts.extend(batches);
    }

    let mut end = BytesMut::new();
    let topics = directory.encode(&mut end);
    let trailer = SegmentTrailer {
        header,
        log_position,
        log_length: log_bytes.len() as u64,
        directory_position: log_position + log_bytes.len() as u64,
        directory_length: end.len() as u64,
        log_entries: count(log.len()).map_err(SegmentError::unbuildable)?,
        topics,
        rows: count(directory.rows.len()).map_err(SegmentError::unbuildable)?,
        chunks: count(directory.chunks.len()).map_err(SegmentError::unbuildable)?,
        log_crc: crc32c::crc32c(&log_bytes),
        directory_crc: crc32c::crc32c(&end),
    };
    trailer.encode(&mut end);
    let size = trailer.directory_position + end.len() as u64;
    parts.extend([log_bytes, end.freeze()]);
    let SegmentTrailer { directory_position, directory_crc, .. } = trailer;
    Ok(BuiltSegment { parts, size, directory, directory_position, directory_crc })
}

/// Makes a partition's row and appends its chunks.
fn list_batches(
    topic: TopicId,
    partition: PartitionId,
    position: u64,
    batches: &[Bytes],
    chunks: &mut Vec<SegmentChunk>,
    unpacker: &mut BatchUnpacker,
) -> Result<DirectoryRow, String> {
    let first_chunk = chunks.len();
    let mut row: Option<DirectoryRow> = None;
    let mut chunk_length = CHUNK_BYTES;
    for batch in batches {
        let header = BatchHeader::parse(batch).map_err(|error| error.to_string())?;
        let BatchHeader { base_offset, leader_epoch, .. } = header;
        if header.total_length() != batch.len() {
            return Err(format!("the batch at offset {base_offset} is not one whole batch"));
        }
        let lowest = row.as_ref().map_or(0, |row| row.offsets.end());
        if base_offset < lowest || header.last_offset_delta < 0 || header.last_offset() == Offset::MAX {
            return Err(format!("the batch at offset {base_offset} is out of order"));
        }
        let times = span_of(batch, unpacker);
        let row = row.get_or_insert(DirectoryRow {
            topic,
            partition,
            offsets: OffsetSpan { first: base_offset, last: base_offset },
            bytes: ByteSpan { position, length: 0 },
            times,
            first_epoch: leader_epoch,
            last_epoch: leader_epoch,
            batches: 0,
            first_chunk: count(first_chunk)?,
            chunks: 0,
        });
        if chunk_length >= CHUNK_BYTES {
            chunks.push(SegmentChunk {
                offset: base_offset,
                position: row.bytes.end(),
                max_timestamp: times.latest,
                crc: 0,
            });
            chunk_length = 0;
            row.chunks += 1;
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.crc = crc32c::crc32c_append(chunk.crc, batch);
            chunk.max_timestamp = chunk.max_timestamp.max(times.latest);
        }
        chunk_length += batch.len() as u64;
        row.offsets.last = header.last_offset();
        row.bytes.length += batch.len() as u64;
        row.times = row.times.union(times);
        row.last_epoch = leader_epoch;
        row.batches += 1;
    }
    row.ok_or_else(|| "it has no batches".to_owned())
}

/// When a batch's records happened. A decoder that panics over a producer's bytes must not keep the log from being
/// shipped.
fn span_of(batch: &Bytes, unpacker: &mut BatchUnpacker) -> TimeSpan {
    let span = std::panic::catch_unwind(AssertUnwindSafe(|| time_span(batch, unpacker)));
    span.ok().flatten().unwrap_or(TimeSpan::ANY)
}

fn count(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|_| format!("{length} entries are too many"))
}
