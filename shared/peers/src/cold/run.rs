//! Finds and reads runs.
//!
//! The catalog says where its batches are. A small run is read whole, and each batch is checked by itself; the
//! segment's directory is read to find a place within a large one, and to tell where a damaged one is damaged.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use tokio_util::task::AbortOnDropHandle;

use super::ColdError;
use super::cutter::{PlacedBatch, RunCutter};
use super::shipped::ShippedPartition;
use chronik_format::batch::{BATCH_BYTES_MAX, BatchHeader, find_time};
use chronik_format::catalog::{CatalogReader, RunEntry, SegmentEntry, TopicRuns};
use chronik_format::ids::{Offset, Timestamp};
use chronik_format::segment::{DirectoryRow, SegmentReader, certain};
use chronik_format::span::OffsetSpan;
use chronik_store::{SharedStore, StoreError};

/// Bytes of a run that is read whole, wherever in it its reader begins.
pub(super) const SMALL_BYTES: u64 = 1 << 20;
/// What is read at a time of a segment without a directory, unless a batch is larger.
const REST_BYTES: u64 = 1 << 20;

/// A run, and the segment that holds it.
#[derive(Debug)]
pub(super) struct LocatedRun {
    pub run: RunEntry,
    pub segment: SegmentEntry,
}

/// Where in a run a reader begins: at a batch, at or before the one that it wants.
pub(super) struct RunPlace {
    pub position: u64,
    /// The batch's base offset.
    pub offset: Offset,
}

impl LocatedRun {
    fn is_small(&self) -> bool {
        self.run.bytes.length <= SMALL_BYTES
    }
}

/// Reads runs by ranges, and keeps the directories of segments within a byte limit.
#[derive(Debug)]
pub(super) struct RunReader {
    store: SharedStore,
    catalog: Arc<CatalogReader>,
    /// Opened segments by name.
    segments: Cache<String, SegmentReader>,
}

impl RunReader {
    /// Reads what `catalog` names; directories of segments are kept in up to `cache_bytes`.
    pub(super) fn new(store: SharedStore, catalog: Arc<CatalogReader>, cache_bytes: u64) -> Self {
        let weigh =
            |key: &String, reader: &SegmentReader| u32::try_from(key.len() + reader.memory_bytes()).unwrap_or(u32::MAX);
        Self { store, catalog, segments: Cache::builder().max_capacity(cache_bytes).weigher(weigh).build() }
    }

    /// The run that holds `offset` or, if no record has it, the next one. `known` is the part of the partition's
    /// history that had the last one, and has this one afterwards: its open runs, or a page.
    pub(super) async fn at(
        &self,
        shipped: &ShippedPartition,
        known: &mut Option<Arc<TopicRuns>>,
        offset: Offset,
    ) -> Result<Option<LocatedRun>, ColdError> {
        let ShippedPartition { head, partition } = shipped;
        if known.as_ref().is_none_or(|runs| runs.at(*partition, offset).is_none()) {
            let closed = self.catalog.leaf_at(head.id, &head.pages, *partition, offset).await?;
            *known = Some(closed.unwrap_or_else(|| head.open.clone()));
        }
        let Some((runs, run)) = known.as_ref().and_then(|runs| Some((runs, runs.reaching(*partition, offset)?))) else {
            return Ok(None);
        };
        let segment = shipped.segment_entry(runs, run)?.clone();
        Ok(Some(LocatedRun { run: run.clone(), segment }))
    }

    /// What is kept of an object that is damaged is not used again.
    pub(super) fn distrust(&self, error: &ColdError) {
        if let ColdError::Damaged { object, .. } | ColdError::UnknownVersion { object, .. } = error {
            self.store.distrust(object);
        }
    }

    /// Begins to read a range of a segment.
    pub(super) fn begin_read(&self, segment: &str, range: Range<u64>) -> AbortOnDropHandle<Result<Bytes, StoreError>> {
        let (store, segment) = (self.store.clone(), segment.to_owned());
        AbortOnDropHandle::new(tokio::spawn(async move { store.read(&segment, Some(range)).await }))
    }

    /// Batches from the one that holds `from` on, at most about `max_bytes` but at least one.
    pub(super) async fn fetch(
        &self,
        shipped: &ShippedPartition,
        located: &LocatedRun,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<PlacedBatch>, ColdError> {
        if let Some(batches) = self.small_run(shipped, located).await? {
            return Ok(wanted(batches, from, max_bytes, located.run.bytes.length));
        }
        let segment = match self.segment_of(shipped, located).await {
            Ok(segment) => segment,
            Err(error) => {
                let rest = match error {
                    ColdError::Store(StoreError::BeyondEnd { size, .. }) => {
                        self.fetch_rest(shipped, located, size, from, max_bytes).await?
                    }
                    _ => Vec::new(),
                };
                return if rest.is_empty() { Err(error) } else { Ok(rest) };
            }
        };
        let batches = segment.batches(shipped.head.id, shipped.partition, from, max_bytes).await?;
        batches.into_iter().map(|batch| Ok((last_offset(&segment, &batch)?, batch))).collect()
    }

    /// As [`ColdReader::offset_for_time`](super::ColdReader::offset_for_time), in one run.
    pub(super) async fn find(
        &self,
        shipped: &ShippedPartition,
        located: &LocatedRun,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError> {
        if let Some(batches) = self.small_run(shipped, located).await? {
            // Decompression leaves the runtime's threads.
            let find = move || batches.iter().find_map(|(_, batch)| find_time(batch, from, timestamp));
            let found = tokio::task::spawn_blocking(find).await;
            return found.map_err(|_| located.damaged("its records can't be looked at"));
        }
        let segment = self.segment_of(shipped, located).await?;
        let from = from.max(located.run.offsets.first);
        Ok(segment.find_time(shipped.head.id, shipped.partition, from, timestamp).await?)
    }

    /// Where to begin for a reader that wants `from`.
    pub(super) async fn place_in(
        &self,
        shipped: &ShippedPartition,
        located: &LocatedRun,
        from: Offset,
    ) -> Result<RunPlace, ColdError> {
        let RunEntry { offsets, bytes, .. } = located.run;
        let start = RunPlace { position: bytes.position, offset: offsets.first };
        if from == offsets.first || located.is_small() {
            return Ok(start);
        }
        let segment = self.segment_of(shipped, located).await?;
        let row = segment.row(shipped.head.id, shipped.partition);
        let chunks = row.map_or(&[][..], |row| segment.directory().chunks(row));
        let before = chunks.partition_point(|chunk| chunk.offset <= from).checked_sub(1);
        // A run of several in a row may begin within a chunk.
        let chunk = before.and_then(|at| chunks.get(at)).filter(|chunk| chunk.position >= bytes.position);
        Ok(chunk.map_or(start, |chunk| RunPlace { position: chunk.position, offset: chunk.offset }))
    }

    /// All of a small run, if it is certain to be what was written.
    async fn small_run(
        &self,
        shipped: &ShippedPartition,
        located: &LocatedRun,
    ) -> Result<Option<Vec<PlacedBatch>>, ColdError> {
        let RunEntry { offsets, bytes, .. } = located.run;
        if !located.is_small() {
            return Ok(None);
        }
        match self.store.read(&located.segment.key, Some(bytes.range())).await {
            Ok(read) => Ok(RunCutter::new(offsets.first)
                .cut(read, Some(offsets.last), |offset, epoch| shipped.may_have(offset, epoch))),
            Err(StoreError::BeyondEnd { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn open(&self, entry: &SegmentEntry) -> Result<SegmentReader, ColdError> {
        if let Some(reader) = self.segments.get(&entry.key).await {
            return Ok(reader);
        }
        let SegmentEntry { key, size, crc, directory_position, .. } = entry;
        let reader = SegmentReader::open_known(self.store.clone(), key, *size, *directory_position, *crc).await?;
        self.segments.insert(key.clone(), reader.clone()).await;
        Ok(reader)
    }

    /// The segment of a run, which must hold just what the catalog says.
    async fn segment_of(&self, shipped: &ShippedPartition, located: &LocatedRun) -> Result<SegmentReader, ColdError> {
        let LocatedRun { run, segment } = located;
        let reader = self.open(segment).await?;
        let row = reader.row(shipped.head.id, shipped.partition);
        if row.is_some_and(|row| holds(row, run)) {
            return Ok(reader);
        }
        let (OffsetSpan { first, last }, partition) = (run.offsets, shipped.partition);
        Err(located.damaged(&format!("it does not hold the run {first}..={last} of partition {partition}")))
    }

    /// Batches of a segment of which only the first `size` bytes are left, and so no directory.
    async fn fetch_rest(
        &self,
        shipped: &ShippedPartition,
        located: &LocatedRun,
        size: u64,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<PlacedBatch>, ColdError> {
        let LocatedRun { run, segment } = located;
        let end = size.min(run.bytes.end());
        let (mut position, mut piece, mut next) = (run.bytes.position, REST_BYTES, run.offsets.first);
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while position < end && bytes < max_bytes.max(1) {
            let start = position;
            let read = self.store.read(&segment.key, Some(start..end.min(start + piece))).await?;
            for (header, batch) in certain(read, next, |offset, epoch| shipped.may_have(offset, epoch)) {
                position += batch.len() as u64;
                next = header.last_offset() + 1;
                if next <= from {
                    continue;
                }
                if !batches.is_empty() && bytes + batch.len() > max_bytes {
                    return Ok(batches);
                }
                bytes += batch.len();
                batches.push((header.last_offset(), batch));
            }
            let is_all = start + piece >= end || piece >= BATCH_BYTES_MAX as u64;
            match (position > start, is_all) {
                (true, _) => piece = REST_BYTES,
                (false, false) => piece *= 2,
                (false, true) => break,
            }
        }
        Ok(batches)
    }
}

/// Whether a row is just a run, or several of which this is one, as in a segment of level 1.
fn holds(row: &DirectoryRow, run: &RunEntry) -> bool {
    let (DirectoryRow { offsets, bytes, .. }, OffsetSpan { first, last }) = (row, run.offsets);
    let begins = offsets.first <= first && bytes.position <= run.bytes.position;
    let ends = last <= offsets.last && run.bytes.end() <= bytes.end();
    let is_first = (offsets.first == first) == (bytes.position == run.bytes.position);
    let is_last = (offsets.last == last) == (bytes.end() == run.bytes.end());
    begins && ends && is_first && is_last
}

/// Those of a read of `read_bytes` that a reader gets. Few of many are copied: they may wait for their client for long,
/// and would keep all that was read.
fn wanted(batches: Vec<PlacedBatch>, from: Offset, max_bytes: usize, read_bytes: u64) -> Vec<PlacedBatch> {
    let mut bytes = 0;
    let behind = batches.into_iter().skip_while(|(last, _)| *last < from);
    let fit = behind.enumerate().take_while(|(at, (_, batch))| {
        bytes += batch.len();
        *at == 0 || bytes <= max_bytes
    });
    let taken: Vec<PlacedBatch> = fit.map(|(_, batch)| batch).collect();
    let taken_bytes: usize = taken.iter().map(|(_, batch)| batch.len()).sum();
    if (taken_bytes as u64) < read_bytes / 2 {
        return taken.into_iter().map(|(last, batch)| (last, Bytes::copy_from_slice(&batch))).collect();
    }
    taken
}

fn last_offset(segment: &SegmentReader, batch: &[u8]) -> Result<Offset, ColdError> {
    let damaged = |reason: String| ColdError::Damaged { object: segment.key().to_owned(), reason };
    BatchHeader::parse(batch).map(|header| header.last_offset()).map_err(|error| damaged(error.to_string()))
}

impl LocatedRun {
    fn damaged(&self, reason: &str) -> ColdError {
        ColdError::Damaged { object: self.segment.key.clone(), reason: reason.to_owned() }
    }
}
