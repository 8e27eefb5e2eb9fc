//! The directory: which partitions are in a segment, and where.

use std::ops::Range;

use bytes::{Buf, BufMut, BytesMut};
use uuid::Uuid;

use super::layout::SegmentTrailer;
use super::{HEADER_LENGTH, SegmentError};
use crate::batch::TimeSpan;
use crate::ids::{Offset, PartitionId, Timestamp, TopicId};
use crate::span::{ByteSpan, OffsetSpan};

/// The most bytes of a directory, and of a chunk, that a reader accepts.
pub(super) const DIRECTORY_BYTES_MAX: u64 = 64 << 20;
const CHUNK_BYTES_MAX: u64 = 64 << 20;

const TOPIC_LENGTH: u64 = 24;
const ROW_LENGTH: u64 = 88;
const CHUNK_LENGTH: u64 = 28;

/// One partition's batches in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryRow {
    pub topic: TopicId,
    /// The partition's number.
    pub partition: PartitionId,
    pub offsets: OffsetSpan,
    /// Where the batches are in the segment.
    pub bytes: ByteSpan,
    /// Of the records; [`TimeSpan::ANY`] if not all can be read.
    pub times: TimeSpan,
    /// Leader epoch of the first batch.
    pub first_epoch: i32,
    /// Leader epoch of the last batch.
    pub last_epoch: i32,
    /// How many batches.
    pub batches: u32,
    pub(super) first_chunk: u32,
    pub(super) chunks: u32,
}

impl DirectoryRow {
    pub(super) fn key(&self) -> (TopicId, PartitionId) {
        (self.topic, self.partition)
    }
}

/// Whole batches of one partition, some 64 KiB; the unit that is read and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentChunk {
    /// Base offset of its first batch.
    pub offset: Offset,
    /// Where it starts.
    pub position: u64,
    /// Latest timestamp of the records, ms; [`TimeSpan::ANY`]'s if not all can be read.
    pub max_timestamp: Timestamp,
    /// CRC-32C of its bytes.
    pub crc: u32,
}

/// Which partitions are in a segment, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentDirectory {
    /// By (topic id, partition), ascending.
    pub rows: Vec<DirectoryRow>,
    pub(super) chunks: Vec<SegmentChunk>,
}

impl SegmentDirectory {
    /// The row of a partition, if it is in the segment.
    pub fn row(&self, topic: TopicId, partition: PartitionId) -> Option<&DirectoryRow> {
        let at = self.rows.binary_search_by_key(&(topic, partition), DirectoryRow::key).ok()?;
        self.rows.get(at)
    }

    /// The rows of a topic, by partition.
    pub fn rows_of(&self, topic: TopicId) -> &[DirectoryRow] {
        let start = self.rows.partition_point(|row| row.topic < topic);
        let end = self.rows.partition_point(|row| row.topic <= topic);
        &self.rows[start..end]
    }

    /// The chunks of a row, at least one.
    pub fn chunks(&self, row: &DirectoryRow) -> &[SegmentChunk] {
        let start = row.first_chunk as usize;
        self.chunks.get(start..start + row.chunks as usize).unwrap_or_default()
    }

    /// Whether both list the same batches, by their checksums.
    pub fn lists_the_same(&self, other: &Self) -> bool {
        let rows = |directory: &Self| {
            let of_row = |row: &DirectoryRow| {
                let chunks = directory.chunks(row).iter().map(|chunk| (chunk.offset, chunk.crc));
                (row.key(), row.offsets, row.bytes.length, chunks.collect::<Vec<_>>())
            };
            directory.rows.iter().map(of_row).collect::<Vec<_>>()
        };
        rows(self) == rows(other)
    }

    /// Bytes of memory that it uses.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.rows.as_slice()) + size_of_val(self.chunks.as_slice())
    }

    /// Where the `at`th chunk of a row lies.
    pub(super) fn chunk_range(&self, row: &DirectoryRow, at: usize) -> Range<u64> {
        let chunks = self.chunks(row);
        chunks[at].position..chunks.get(at + 1).map_or(row.bytes.end(), |next| next.position)
    }

    /// The directory of a segment of one topic with so many bytes of batches of each partition, by partition and
    /// offset: a row for those of a partition, and no chunks. For tests that have no batches.
    #[cfg(any(test, feature = "testing"))]
    pub fn claimed(
        topic: TopicId,
        batches: impl IntoIterator<Item = (PartitionId, OffsetSpan, u64, TimeSpan)>,
    ) -> Self {
        let mut rows: Vec<DirectoryRow> = Vec::new();
        let mut position = HEADER_LENGTH;
        for (partition, offsets, length, times) in batches {
            match rows.last_mut().filter(|row| row.partition == partition) {
                Some(row) => {
                    row.offsets.last = offsets.last;
                    row.bytes.length += length;
                    row.times = row.times.union(times);
                }
                None => rows.push(DirectoryRow {
                    topic,
                    partition,
                    offsets,
                    bytes: ByteSpan { position, length },
                    times,
                    first_epoch: 1,
                    last_epoch: 1,
                    batches: 1,
                    first_chunk: 0,
                    chunks: 0,
                }),
            }
            position += length;
        }
        Self { rows, chunks: Vec::new() }
    }

    /// Topics and the numbers of their rows, in order.
    fn topics(&self) -> impl Iterator<Item = (TopicId, u32)> {
        self.rows.chunk_by(|a, b| a.topic == b.topic).map(|rows| (rows[0].topic, rows.len() as u32))
    }

    /// Writes it; gives the number of topics.
    pub(super) fn encode(&self, out: &mut BytesMut) -> u32 {
        let (mut topics, mut first_row) = (0, 0);
        for (topic, rows) in self.topics() {
            out.put_slice(topic.0.as_bytes());
            out.put_u32_le(first_row);
            out.put_u32_le(rows);
            topics += 1;
            first_row += rows;
        }
        for row in &self.rows {
            out.put_slice(row.topic.0.as_bytes());
            out.put_i32_le(row.partition);
            out.put_i64_le(row.offsets.first);
            out.put_i64_le(row.offsets.last);
            out.put_u64_le(row.bytes.position);
            out.put_u64_le(row.bytes.length);
            out.put_i64_le(row.times.earliest);
            out.put_i64_le(row.times.latest);
            out.put_i32_le(row.first_epoch);
            out.put_i32_le(row.last_epoch);
            out.put_u32_le(row.batches);
            out.put_u32_le(row.first_chunk);
            out.put_u32_le(row.chunks);
        }
        for chunk in &self.chunks {
            out.put_i64_le(chunk.offset);
            out.put_u64_le(chunk.position);
            out.put_i64_le(chunk.max_timestamp);
            out.put_u32_le(chunk.crc);
        }
        topics
    }

    /// Bytes of a directory.
    pub(super) fn encoded_length(topics: u32, rows: u32, chunks: u32) -> u64 {
        u64::from(topics) * TOPIC_LENGTH + u64::from(rows) * ROW_LENGTH + u64::from(chunks) * CHUNK_LENGTH
    }

    /// Reads it from exactly its bytes.
    pub(super) fn decode(object: &str, trailer: &SegmentTrailer, mut bytes: &[u8]) -> Result<Self, SegmentError> {
        let damaged = |reason: &str| SegmentError::damaged(object, reason);
        let (topics, rows, chunks) = (trailer.topics, trailer.rows, trailer.chunks);
        if bytes.len() as u64 != Self::encoded_length(topics, rows, chunks) {
            return Err(damaged("its directory is not as long as its rows"));
        }
        if crc32c::crc32c(bytes) != trailer.directory_crc {
            return Err(damaged("the directory's checksum does not fit"));
        }
        let topic_index: Vec<_> =
            (0..topics).map(|_| (decode_topic(&mut bytes), bytes.get_u32_le(), bytes.get_u32_le())).collect();
        let directory = Self {
            rows: (0..rows).map(|_| decode_row(&mut bytes)).collect(),
            chunks: (0..chunks).map(|_| decode_chunk(&mut bytes)).collect(),
        };
        let mut first_row = 0;
        let expected_index = directory.topics().map(|(topic, rows)| {
            first_row += rows;
            (topic, first_row - rows, rows)
        });
        if !expected_index.eq(topic_index) {
            return Err(damaged("its topic index does not fit its partition table"));
        }
        directory.check(trailer.log_position).map_err(damaged)?;
        Ok(directory)
    }

    /// Checks that rows and chunks are in order and lie side by side between header and log.
    fn check(&self, log_position: u64) -> Result<(), &'static str> {
        let (mut position, mut first_chunk) = (HEADER_LENGTH, 0);
        for row in &self.rows {
            if !row.offsets.is_possible() || row.batches == 0 {
                return Err("a partition in its directory has no offsets");
            }
            if row.bytes.position != position || row.bytes.length == 0 || row.bytes.length > log_position - position {
                return Err("a partition's batches lie outside of their place");
            }
            if row.chunks == 0 || row.first_chunk != first_chunk {
                return Err("a partition's chunks are not its own");
            }
            first_chunk = first_chunk.saturating_add(row.chunks);
            position += row.bytes.length;
            let chunks = self.chunks(row);
            let starts_right =
                |chunk: &SegmentChunk| chunk.offset == row.offsets.first && chunk.position == row.bytes.position;
            let ascend = |pair: &[SegmentChunk]| pair[0].offset < pair[1].offset && pair[0].position < pair[1].position;
            let ends_right =
                |chunk: &SegmentChunk| chunk.offset <= row.offsets.last && chunk.position < row.bytes.end();
            if !chunks.first().is_some_and(starts_right)
                || !chunks.windows(2).all(ascend)
                || !chunks.last().is_some_and(ends_right)
            {
                return Err("a partition's chunks are out of order");
            }
            let too_long = |at| {
                let range = self.chunk_range(row, at);
                range.end - range.start > CHUNK_BYTES_MAX
            };
            if (0..chunks.len()).any(too_long) {
                return Err("a chunk is longer than any batch may be");
            }
        }
        if !self.rows.is_sorted_by(|a, b| a.key() < b.key()) {
            return Err("the partitions in its directory are out of order");
        }
        if position != log_position || first_chunk as usize != self.chunks.len() {
            return Err("its directory does not cover its batches");
        }
        Ok(())
    }
}

fn decode_topic(bytes: &mut &[u8]) -> TopicId {
    let mut id = [0; 16];
    bytes.copy_to_slice(&mut id);
    TopicId(Uuid::from_bytes(id))
}

fn decode_row(bytes: &mut &[u8]) -> DirectoryRow {
    DirectoryRow {
        topic: decode_topic(bytes),
        partition: bytes.get_i32_le(),
        offsets: OffsetSpan { first: bytes.get_i64_le(), last: bytes.get_i64_le() },
        bytes: ByteSpan { position: bytes.get_u64_le(), length: bytes.get_u64_le() },
        times: TimeSpan { earliest: bytes.get_i64_le(), latest: bytes.get_i64_le() },
        first_epoch: bytes.get_i32_le(),
        last_epoch: bytes.get_i32_le(),
        batches: bytes.get_u32_le(),
        first_chunk: bytes.get_u32_le(),
        chunks: bytes.get_u32_le(),
    }
}

fn decode_chunk(bytes: &mut &[u8]) -> SegmentChunk {
    SegmentChunk {
        offset: bytes.get_i64_le(),
        position: bytes.get_u64_le(),
        max_timestamp: bytes.get_i64_le(),
        crc: bytes.get_u32_le(),
    }
}
