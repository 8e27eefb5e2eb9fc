//! Reads a segment by ranges.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::chunk::IntactBatches;
use super::layout::SegmentTrailer;
use super::open::SegmentEnd;
use super::{
    BuiltSegment, DirectoryRow, LogEntry, SegmentDirectory, SegmentError, SegmentHeader, TRAILER_LENGTH, chunk, log,
};
use crate::batch::{self, BatchHeader};
use crate::ids::{Offset, PartitionId, Timestamp, TopicId};
use crate::span::ByteSpan;
use chronik_store::{SharedStore, Store, StoreError};

/// What is read of an object whose directory's place is not known.
const END_BYTES: u64 = 64 << 10;
/// How much of a segment a lookup by time reads at once.
const TIME_BYTES: usize = 1 << 20;

/// A segment whose directory has been read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SegmentReader {
    store: SharedStore,
    key: Arc<str>,
    end: Arc<SegmentEnd>,
}

impl SegmentReader {
    /// Opens a segment of which only the name is known: asks for its size, then reads its end.
    pub async fn open(store: SharedStore, key: &str) -> Result<Self, SegmentError> {
        let size = store.info(key).await?.size;
        let bytes = store.read(key, Some(size.saturating_sub(END_BYTES)..size)).await?;
        let end = match SegmentEnd::decode(key, size, &bytes)? {
            Ok(end) => end,
            Err(range) => whole_end(key, size, &store.read(key, Some(range)).await?)?,
        };
        Ok(Self { store, key: key.into(), end: Arc::new(end) })
    }

    /// Opens a segment that the catalog describes, with one ranged read.
    pub async fn open_known(
        store: SharedStore,
        key: &str,
        size: u64,
        directory_position: u64,
        directory_crc: u32,
    ) -> Result<Self, SegmentError> {
        if directory_position > size {
            return Err(SegmentError::damaged(key, "its directory would start beyond its end"));
        }
        let end = whole_end(key, size, &store.read(key, Some(directory_position..size)).await?)?;
        check_is_known(key, &end.trailer, directory_position, directory_crc)?;
        Ok(Self { store, key: key.into(), end: Arc::new(end) })
    }

    /// The object's name.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Bytes of the object.
    pub fn size(&self) -> u64 {
        self.end.trailer.directory_position + self.end.trailer.directory_length + TRAILER_LENGTH
    }

    /// Where the directory starts.
    pub fn directory_position(&self) -> u64 {
        self.end.trailer.directory_position
    }

    /// CRC-32C of the directory.
    pub fn directory_crc(&self) -> u32 {
        self.end.trailer.directory_crc
    }

    /// Whose log it holds, and which part of it.
    pub fn header(&self) -> &SegmentHeader {
        &self.end.trailer.header
    }

    /// What is in it, and where.
    pub fn directory(&self) -> &SegmentDirectory {
        &self.end.directory
    }

    /// The row of a partition, if it is in the segment.
    pub fn row(&self, topic: TopicId, partition: PartitionId) -> Option<&DirectoryRow> {
        self.directory().row(topic, partition)
    }

    /// Bytes of memory that it uses.
    pub fn memory_bytes(&self) -> usize {
        size_of::<SegmentEnd>() + self.key.len() + self.directory().memory_bytes()
    }

    /// The command log: one entry for each index of the header's range.
    pub async fn log(&self) -> Result<Vec<LogEntry>, SegmentError> {
        let SegmentTrailer { header, log_position, directory_position, log_entries, log_crc, .. } = self.end.trailer;
        let bytes = self.store.read(&self.key, Some(log_position..directory_position)).await?;
        if crc32c::crc32c(&bytes) != log_crc {
            return Err(SegmentError::damaged(&self.key, "the command log's checksum does not fit"));
        }
        log::decode(&self.key, &header, log_entries, bytes)
    }

    /// Whole batches in offset order, the first one that ends at or after `from` first, at most about `max_bytes`
    /// but at least one. Nothing that was written in between is left out; every checksum has been checked. What can be
    /// read before damage is returned: only damage where the batches begin is an error.
    pub async fn batches(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, SegmentError> {
        let row = self.row_holding(topic, partition, from)?;
        let chunks = chunk::wanted(self.directory(), row, from, max_bytes);
        let mut bytes = 0;
        let mut batches = Vec::new();
        let IntactBatches { batches: cut, damage } = self.cut(row, chunks.clone()).await?;
        for (header, batch) in cut {
            if header.last_offset() < from {
                continue;
            }
            bytes += batch.len();
            if bytes > max_bytes && !batches.is_empty() {
                return Ok(batches);
            }
            batches.push(batch);
        }
        if batches.is_empty()
            && let Some(damage) = damage
        {
            return Err(damage);
        }
        if batches.is_empty() && chunks.end < row.chunks as usize {
            // `from` was used up without a batch between two chunks.
            let next = self.directory().chunks(row)[chunks.end].offset;
            return Box::pin(self.batches(topic, partition, next, max_bytes)).await;
        }
        Ok(batches)
    }

    /// Offset and timestamp of the first record at or after `from` whose timestamp is at least `timestamp`, by
    /// [`batch::find_time`].
    pub async fn find_time(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, SegmentError> {
        let row = self.row_holding(topic, partition, from)?;
        let mut at = chunk::wanted(self.directory(), row, from, 0).start;
        while at < row.chunks as usize {
            let chunks = self.directory().chunks(row);
            if chunks[at].max_timestamp < timestamp {
                at += 1;
                continue;
            }
            let some = chunk::wanted(self.directory(), row, chunks[at].offset, TIME_BYTES);
            at = some.end;
            let batches = self.chunk_batches(row, some).await?;
            // Decompression leaves the runtime's threads.
            let find = move || {
                let mut batches = batches.iter();
                batches.find_map(|(_, batch)| batch::find_time(batch, from, timestamp))
            };
            let found = tokio::task::spawn_blocking(find).await;
            if let Some(found) =
                found.map_err(|_| SegmentError::damaged(&self.key, "its records can't be looked at"))?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Where the chunk with an offset of a partition lies: whole batches, one of which would hold it.
    pub fn chunk_holding(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<ByteSpan, SegmentError> {
        let row = self.row_holding(topic, partition, offset)?;
        let chunk = chunk::wanted(self.directory(), row, offset, 0).start;
        let range = self.directory().chunk_range(row, chunk);
        Ok(ByteSpan { position: range.start, length: range.end - range.start })
    }

    pub(super) fn trailer(&self) -> &SegmentTrailer {
        &self.end.trailer
    }

    pub(super) async fn chunk_batches(
        &self,
        row: &DirectoryRow,
        chunks: Range<usize>,
    ) -> Result<Vec<(BatchHeader, Bytes)>, SegmentError> {
        let IntactBatches { batches, damage } = self.cut(row, chunks).await?;
        damage.map_or(Ok(batches), Err)
    }

    async fn cut(&self, row: &DirectoryRow, chunks: Range<usize>) -> Result<IntactBatches, SegmentError> {
        let range = chunk::range(self.directory(), row, &chunks);
        let bytes = match self.store.read(&self.key, Some(range.clone())).await {
            Err(StoreError::BeyondEnd { size, .. }) if size > range.start => {
                self.store.read(&self.key, Some(range.start..size)).await
            }
            read => read,
        }?;
        Ok(chunk::cut(&self.key, self.directory(), row, chunks, bytes))
    }

    pub(super) async fn stored_header(&self) -> Result<SegmentHeader, SegmentError> {
        let bytes = self.store.read(&self.key, Some(0..super::HEADER_LENGTH)).await?;
        SegmentHeader::decode(&self.key, &bytes)
    }

    fn row_holding(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<&DirectoryRow, SegmentError> {
        let row = self.row(topic, partition).filter(|row| (row.offsets.first..=row.offsets.last).contains(&offset));
        row.ok_or_else(|| SegmentError::NotHere { object: self.key.to_string(), topic, partition, offset })
    }
}

/// Checks that the store holds what was built, before it is registered: size, then the trailer read back.
pub async fn verify_stored(store: &dyn Store, key: &str, built: &BuiltSegment) -> Result<(), SegmentError> {
    let (stored, size) = (store.info(key).await?.size, built.size);
    if stored != size {
        return Err(SegmentError::damaged(key, format!("it has {stored} bytes instead of {size}")));
    }
    let trailer = SegmentTrailer::decode(key, size, &store.read(key, Some(size - TRAILER_LENGTH..size)).await?)?;
    check_is_known(key, &trailer, built.directory_position, built.directory_crc)
}

fn check_is_known(key: &str, trailer: &SegmentTrailer, position: u64, crc: u32) -> Result<(), SegmentError> {
    if (trailer.directory_position, trailer.directory_crc) == (position, crc) {
        return Ok(());
    }
    Err(SegmentError::damaged(key, "its directory is not the one that was registered"))
}

fn whole_end(key: &str, size: u64, bytes: &[u8]) -> Result<SegmentEnd, SegmentError> {
    let not_whole = |_| SegmentError::damaged(key, "its directory does not start where it should");
    SegmentEnd::decode(key, size, bytes)?.map_err(not_whole)
}
