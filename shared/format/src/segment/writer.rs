//! Builds a segment around batches that are not copied: as a whole, or batch by batch.

use std::panic::AssertUnwindSafe;

use bytes::{Bytes, BytesMut};

use super::directory::{DirectoryRow, SegmentChunk, SegmentDirectory};
use super::layout::SegmentTrailer;
use super::{HEADER_LENGTH, LogEntry, SegmentError, SegmentHeader, log};
use crate::batch::{BatchHeader, BatchUnpacker, TimeSpan, time_span};
use crate::ids::{Offset, PartitionId, TopicId};
use crate::origin::Origin;
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

/// A segment of level 1 that is written batch by batch, so that it never lies in memory as a whole.
#[derive(Debug)]
pub struct TopicSegmentWriter {
    header: SegmentHeader,
    topic: TopicId,
    list: DirectoryBuilder,
}

/// How a segment of level 1 ends.
#[derive(Clone, Debug)]
pub struct TopicSegmentEnd {
    /// What follows the batches.
    pub bytes: Bytes,
    /// Bytes of the object.
    pub size: u64,
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

    let mut parts = vec![start(&header)];
    let mut list = DirectoryBuilder::default();
    for PartitionBatches { topic, partition, batches } in partitions {
        batches.iter().try_for_each(|batch| list.add(topic, partition, batch))?;
        parts.extend(batches);
    }
    let (directory, trailer, end) = list.finish(header, &log_bytes, log.len())?;
    let size = trailer.directory_position + end.len() as u64;
    parts.extend([log_bytes, end]);
    let SegmentTrailer { directory_position, directory_crc, .. } = trailer;
    Ok(BuiltSegment { parts, size, directory, directory_position, directory_crc })
}

impl TopicSegmentWriter {
    /// Begins a segment; gives what the object starts with.
    pub fn begin(origin: Origin, topic: TopicId) -> (Self, Bytes) {
        let header = SegmentHeader::of_topic(origin);
        (Self { header, topic, list: DirectoryBuilder::default() }, start(&header))
    }

    /// Lists the batch that follows in the object. Partitions ascend, offsets within one do; the batch is unpacked to
    /// see when its records happened.
    pub fn add(&mut self, partition: PartitionId, batch: &Bytes) -> Result<(), SegmentError> {
        self.list.add(self.topic, partition, batch)
    }

    /// Bytes of the object so far.
    pub fn length(&self) -> u64 {
        self.list.position()
    }

    /// What follows the last batch, of which there is at least one.
    pub fn finish(self) -> Result<TopicSegmentEnd, SegmentError> {
        if self.list.directory.rows.is_empty() {
            return Err(SegmentError::unbuildable("it has no batches"));
        }
        let (_, trailer, bytes) = self.list.finish(self.header, &[], 0)?;
        let SegmentTrailer { directory_position, directory_crc, .. } = trailer;
        let size = directory_position + bytes.len() as u64;
        Ok(TopicSegmentEnd { bytes, size, directory_position, directory_crc })
    }
}

fn start(header: &SegmentHeader) -> Bytes {
    let mut start = BytesMut::with_capacity(HEADER_LENGTH as usize);
    header.encode(&mut start);
    start.freeze()
}

/// Lists batches as they come: by topic, partition and offset.
#[derive(Debug, Default)]
struct DirectoryBuilder {
    directory: SegmentDirectory,
    /// Bytes of the newest chunk.
    chunk_length: u64,
    unpacker: BatchUnpacker,
}

impl DirectoryBuilder {
    /// Where the next batch lies.
    fn position(&self) -> u64 {
        self.directory.rows.last().map_or(HEADER_LENGTH, |row| row.bytes.end())
    }

    fn add(&mut self, topic: TopicId, partition: PartitionId, batch: &Bytes) -> Result<(), SegmentError> {
        self.list(topic, partition, batch)
            .map_err(|reason| SegmentError::unbuildable(format!("partition {partition} of topic {topic}: {reason}")))
    }

    fn list(&mut self, topic: TopicId, partition: PartitionId, batch: &Bytes) -> Result<(), String> {
        let header = BatchHeader::parse(batch).map_err(|error| error.to_string())?;
        let BatchHeader { base_offset, leader_epoch, .. } = header;
        if header.total_length() != batch.len() {
            return Err(format!("the batch at offset {base_offset} is not one whole batch"));
        }
        let is_known = |row: &&DirectoryRow| row.key() == (topic, partition);
        let lowest = self.directory.rows.last().filter(is_known).map_or(0, |row| row.offsets.end());
        if base_offset < lowest || header.last_offset_delta < 0 || header.last_offset() == Offset::MAX {
            return Err(format!("the batch at offset {base_offset} is out of order"));
        }
        let times = span_of(batch, &mut self.unpacker);
        let position = self.position();
        let SegmentDirectory { rows, chunks } = &mut self.directory;
        let row = match rows.last() {
            Some(row) if row.key() > (topic, partition) => return Err("it is out of order".to_owned()),
            Some(row) if row.key() == (topic, partition) => rows.last_mut(),
            _ => {
                self.chunk_length = CHUNK_BYTES;
                rows.push(DirectoryRow {
                    topic,
                    partition,
                    offsets: OffsetSpan { first: base_offset, last: base_offset },
                    bytes: ByteSpan { position, length: 0 },
                    times,
                    first_epoch: leader_epoch,
                    last_epoch: leader_epoch,
                    batches: 0,
                    first_chunk: count(chunks.len())?,
                    chunks: 0,
                });
                rows.last_mut()
            }
        };
        let row = row.ok_or("it has no row")?;
        if self.chunk_length >= CHUNK_BYTES {
            chunks.push(SegmentChunk { offset: base_offset, position, max_timestamp: times.latest, crc: 0 });
            self.chunk_length = 0;
            row.chunks += 1;
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.crc = crc32c::crc32c_append(chunk.crc, batch);
            chunk.max_timestamp = chunk.max_timestamp.max(times.latest);
        }
        self.chunk_length += batch.len() as u64;
        row.offsets.last = header.last_offset();
        row.bytes.length += batch.len() as u64;
        row.times = row.times.union(times);
        row.last_epoch = leader_epoch;
        row.batches += 1;
        Ok(())
    }

    /// Directory and trailer of a segment whose log has so many entries; with what they say.
    fn finish(
        self,
        header: SegmentHeader,
        log: &[u8],
        log_entries: usize,
    ) -> Result<(SegmentDirectory, SegmentTrailer, Bytes), SegmentError> {
        let log_position = self.position();
        let directory = self.directory;
        let mut end = BytesMut::new();
        let topics = directory.encode(&mut end);
        let trailer = SegmentTrailer {
            header,
            log_position,
            log_length: log.len() as u64,
            directory_position: log_position + log.len() as u64,
            directory_length: end.len() as u64,
            log_entries: count(log_entries).map_err(SegmentError::unbuildable)?,
            topics,
            rows: count(directory.rows.len()).map_err(SegmentError::unbuildable)?,
            chunks: count(directory.chunks.len()).map_err(SegmentError::unbuildable)?,
            log_crc: crc32c::crc32c(log),
            directory_crc: crc32c::crc32c(&end),
        };
        trailer.encode(&mut end);
        Ok((directory, trailer, end.freeze()))
    }
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
