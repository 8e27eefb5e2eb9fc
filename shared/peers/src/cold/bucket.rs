use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use moka::future::Cache;

use super::{ColdError, ColdReader};
use chronik_format::batch::{BATCH_BYTES_MAX, BatchHeader};
use chronik_format::catalog::{CatalogReader, PartitionPage, RunEntry, SegmentEntry, TopicPage};
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_format::segment::{SegmentError, SegmentReader, certain};
use chronik_store::{SharedStore, StoreError};

/// What is read at a time of a segment without a directory, unless a batch is larger.
const REST_BYTES: u64 = 1 << 20;

/// Reads shipped records by ranges, and keeps the directories of segments within a byte limit.
#[derive(Debug)]
pub struct BucketReader {
    store: SharedStore,
    catalog: Arc<CatalogReader>,
    /// Opened segments by name.
    segments: Cache<String, SegmentReader>,
}

/// A partition as one export shows it. Runs lie side by side.
struct Shipped {
    page: Arc<TopicPage>,
    partition: usize,
}

impl BucketReader {
    /// Reads what `catalog` names; directories of segments are kept in up to `cache_bytes`.
    pub fn new(store: SharedStore, catalog: Arc<CatalogReader>, cache_bytes: u64) -> Self {
        let weigh =
            |key: &String, reader: &SegmentReader| u32::try_from(key.len() + reader.memory_bytes()).unwrap_or(u32::MAX);
        Self { store, catalog, segments: Cache::builder().max_capacity(cache_bytes).weigher(weigh).build() }
    }

    /// The partition with a run that holds `offset`, if the newest export seen has one.
    async fn shipped(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Shipped>, ColdError> {
        let Some(page) = self.catalog.topic_by_id(topic).await? else {
            return Ok(None);
        };
        let Ok(partition) = usize::try_from(partition) else {
            return Ok(None);
        };
        let shipped = Shipped { page, partition };
        let holds = |page: &PartitionPage| offset >= page.log_start && run_at(page, offset).is_some();
        Ok(shipped.partition().is_some_and(holds).then_some(shipped))
    }

    /// As [`Self::shipped`], after one refresh if need be.
    async fn shipped_or_refresh(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Shipped, ColdError> {
        if let Some(shipped) = self.shipped(topic, partition, offset).await? {
            return Ok(shipped);
        }
        self.catalog.refresh().await?;
        let shipped = self.shipped(topic, partition, offset).await?;
        shipped.ok_or(ColdError::NotInCatalog { topic, partition, offset })
    }

    async fn segment(&self, entry: &SegmentEntry) -> Result<SegmentReader, ColdError> {
        if let Some(reader) = self.segments.get(&entry.key).await {
            return Ok(reader);
        }
        let SegmentEntry { key, size, crc, directory_position } = entry;
        let reader = SegmentReader::open_known(self.store.clone(), key, *size, *directory_position, *crc).await?;
        self.segments.insert(key.clone(), reader.clone()).await;
        Ok(reader)
    }

    /// The segment of a run, which must hold just what the catalog says.
    async fn segment_of(&self, shipped: &Shipped, run: &RunEntry) -> Result<SegmentReader, ColdError> {
        let reader = self.segment(shipped.segment_entry(run)?).await?;
        let partition = shipped.partition as PartitionId;
        let fits = reader
            .row(shipped.page.id, partition)
            .is_some_and(|row| (row.offsets, row.bytes) == (run.offsets, run.bytes));
        if fits {
            return Ok(reader);
        }
        let reason =
            format!("it does not hold the run {}..={} of partition {partition}", run.offsets.first, run.offsets.last);
        Err(ColdError::Damaged { segment: reader.key().to_owned(), reason })
    }

    async fn fetch_from(&self, shipped: &Shipped, offset: Offset, max_bytes: usize) -> Result<Vec<Bytes>, ColdError> {
        let mut batches: Vec<Bytes> = Vec::new();
        let (mut next, mut bytes) = (offset, 0);
        while let Some(run) = shipped.partition().and_then(|page| run_at(page, next)) {
            let more = match self.fetch_run(shipped, run, next, max_bytes - bytes).await {
                Ok(more) => more,
                // A read that begins there gets the error.
                Err(_) if !batches.is_empty() => return Ok(batches),
                Err(error) => return Err(error),
            };
            for (last, batch) in more {
                if !batches.is_empty() && bytes + batch.len() > max_bytes {
                    return Ok(batches);
                }
                bytes += batch.len();
                next = last + 1;
                batches.push(batch);
            }
            // A rest this small is not worth another request.
            if bytes >= max_bytes / 2 {
                break;
            }
        }
        Ok(batches)
    }

    /// Batches of one run with their last offsets; see [`SegmentReader::batches`].
    async fn fetch_run(
        &self,
        shipped: &Shipped,
        run: &RunEntry,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<(Offset, Bytes)>, ColdError> {
        let segment = match self.segment_of(shipped, run).await {
            Ok(segment) => segment,
            Err(error) => {
                let rest = match error {
                    ColdError::Store(StoreError::BeyondEnd { size, .. }) => {
                        self.fetch_rest(shipped, run, size, from, max_bytes).await?
                    }
                    _ => Vec::new(),
                };
                return if rest.is_empty() { Err(error) } else { Ok(rest) };
            }
        };
        let batches = segment.batches(shipped.page.id, shipped.partition as PartitionId, from, max_bytes).await?;
        batches.into_iter().map(|batch| Ok((last_offset(&segment, &batch)?, batch))).collect()
    }

    /// The same of a segment of which only the first `size` bytes are left, and so no directory.
    async fn fetch_rest(
        &self,
        shipped: &Shipped,
        run: &RunEntry,
        size: u64,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<(Offset, Bytes)>, ColdError> {
        let key = &shipped.segment_entry(run)?.key;
        let end = size.min(run.bytes.end());
        let (mut position, mut piece, mut next) = (run.bytes.position, REST_BYTES, run.offsets.first);
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while position < end && bytes < max_bytes.max(1) {
            let start = position;
            let read = self.store.read(key, Some(start..end.min(start + piece))).await?;
            for (header, batch) in certain(read, next, shipped.epochs_of(run)) {
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

    async fn find_from(
        &self,
        shipped: &Shipped,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError> {
        let runs = shipped.partition().map_or(&[][..], |page| &page.runs);
        for run in runs.iter().filter(|run| run.offsets.last >= from && run.times.latest >= timestamp) {
            let segment = self.segment_of(shipped, run).await?;
            let partition = shipped.partition as PartitionId;
            let found = segment.find_time(shipped.page.id, partition, from.max(run.offsets.first), timestamp).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl ColdReader for BucketReader {
    async fn fetch(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ColdError> {
        let shipped = self.shipped_or_refresh(topic, partition, offset).await?;
        match self.fetch_from(&shipped, offset, max_bytes).await {
            Err(error) if error.is_missing() => {
                self.catalog.refresh().await?;
                let shipped = self.shipped_or_refresh(topic, partition, offset).await?;
                self.fetch_from(&shipped, offset, max_bytes).await
            }
            fetched => fetched,
        }
    }

    async fn offset_for_time(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError> {
        let shipped = self.shipped_or_refresh(topic, partition, from).await?;
        match self.find_from(&shipped, from, timestamp).await {
            Err(error) if error.is_missing() => {
                self.catalog.refresh().await?;
                let shipped = self.shipped_or_refresh(topic, partition, from).await?;
                self.find_from(&shipped, from, timestamp).await
            }
            found => found,
        }
    }
}

impl Shipped {
    fn partition(&self) -> Option<&PartitionPage> {
        self.page.partitions.get(self.partition)
    }

    /// The leader epochs of a run.
    fn epochs_of(&self, run: &RunEntry) -> RangeInclusive<i32> {
        let epochs = self.partition().map_or(&[][..], |page| &page.epochs);
        let at = |offset| epochs.iter().rev().find(|(_, start)| *start <= offset).map(|(epoch, _)| *epoch);
        // None if the catalog does not know.
        at(run.offsets.first).unwrap_or(0)..=at(run.offsets.last).unwrap_or(-1)
    }

    fn segment_entry(&self, run: &RunEntry) -> Result<&SegmentEntry, ColdError> {
        let (topic, partition, offset) = (self.page.id, self.partition as PartitionId, run.offsets.first);
        let entry = self.page.segments.get(run.segment as usize);
        entry.ok_or(ColdError::NotInCatalog { topic, partition, offset })
    }
}

impl ColdError {
    /// Whether a segment that the catalog names is gone: a newer catalog names others.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotFound { .. }))
    }
}

impl From<SegmentError> for ColdError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Store(error) => Self::Store(error),
            SegmentError::UnknownVersion { object, version } => Self::UnknownVersion { segment: object, version },
            SegmentError::NotHere { topic, partition, offset, .. } => Self::NotInCatalog { topic, partition, offset },
            SegmentError::Damaged { object, reason } => Self::Damaged { segment: object, reason },
            SegmentError::NotSegment { object } => {
                Self::Damaged { segment: object, reason: "it is not a segment".to_owned() }
            }
            SegmentError::Unbuildable { reason } => Self::Damaged { segment: "a new segment".to_owned(), reason },
        }
    }
}

/// The run that holds `offset`.
fn run_at(page: &PartitionPage, offset: Offset) -> Option<&RunEntry> {
    let at = page.runs.partition_point(|run| run.offsets.last < offset);
    page.runs.get(at).filter(|run| run.offsets.first <= offset)
}

fn last_offset(segment: &SegmentReader, batch: &[u8]) -> Result<Offset, ColdError> {
    let damaged = |reason: String| ColdError::Damaged { segment: segment.key().to_owned(), reason };
    BatchHeader::parse(batch).map(|header| header.last_offset()).map_err(|error| damaged(error.to_string()))
}
