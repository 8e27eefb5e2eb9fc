use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use moka::future::Cache;

use super::{ColdError, ColdReader};
use chronik_format::batch::{BATCH_BYTES_MAX, BatchHeader};
use chronik_format::catalog::{
    CatalogError, CatalogReader, PageEntry, PartitionHead, RunEntry, SegmentEntry, TopicHead, TopicRuns,
};
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_format::segment::{SegmentError, SegmentReader, certain};
use chronik_format::span::OffsetSpan;
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
    head: Arc<TopicHead>,
    partition: PartitionId,
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
        let Some(head) = self.catalog.topic_by_id(topic).await? else {
            return Ok(None);
        };
        let shipped = Shipped { head, partition };
        let is_kept = shipped.partition().is_some_and(|partition| offset >= partition.log_start);
        Ok((is_kept && shipped.holds(offset)).then_some(shipped))
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

    /// The part of the partition's history with a run that holds `offset`: its open runs, or a page.
    async fn runs_at(&self, shipped: &Shipped, offset: Offset) -> Result<Option<Arc<TopicRuns>>, ColdError> {
        let Shipped { head, partition } = shipped;
        let closed = self.catalog.leaf_at(head.id, &head.pages, *partition, offset).await?;
        let runs = closed.unwrap_or_else(|| head.open.clone());
        Ok(runs.at(*partition, offset).is_some().then_some(runs))
    }

    /// The segment of a run, which must hold just what the catalog says.
    async fn segment_of(
        &self,
        shipped: &Shipped,
        runs: &TopicRuns,
        run: &RunEntry,
    ) -> Result<SegmentReader, ColdError> {
        let reader = self.segment(shipped.segment_entry(runs, run)?).await?;
        let fits = reader
            .row(shipped.head.id, shipped.partition)
            .is_some_and(|row| (row.offsets, row.bytes) == (run.offsets, run.bytes));
        if fits {
            return Ok(reader);
        }
        let (OffsetSpan { first, last }, partition) = (run.offsets, shipped.partition);
        let reason = format!("it does not hold the run {first}..={last} of partition {partition}");
        Err(ColdError::Damaged { object: reader.key().to_owned(), reason })
    }

    async fn fetch_from(&self, shipped: &Shipped, offset: Offset, max_bytes: usize) -> Result<Vec<Bytes>, ColdError> {
        let mut batches: Vec<Bytes> = Vec::new();
        let (mut next, mut bytes, mut known) = (offset, 0, None);
        loop {
            let more = match self.fetch_next(shipped, &mut known, next, max_bytes - bytes).await {
                Ok(Some(more)) => more,
                Ok(None) if batches.is_empty() => return Err(shipped.not_in_catalog(offset)),
                Ok(None) => return Ok(batches),
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
                return Ok(batches);
            }
        }
    }

    /// Batches of the run that holds `from`, with their last offsets; `None` if no run does. `known` is where the run
    /// before was found.
    async fn fetch_next(
        &self,
        shipped: &Shipped,
        known: &mut Option<Arc<TopicRuns>>,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Option<Vec<(Offset, Bytes)>>, ColdError> {
        if known.as_ref().is_none_or(|runs| runs.at(shipped.partition, from).is_none()) {
            *known = self.runs_at(shipped, from).await?;
        }
        let Some((runs, run)) = known.as_ref().and_then(|runs| Some((runs, runs.at(shipped.partition, from)?))) else {
            return Ok(None);
        };
        self.fetch_run(shipped, runs, run, from, max_bytes).await.map(Some)
    }

    /// Batches of one run with their last offsets; see [`SegmentReader::batches`].
    async fn fetch_run(
        &self,
        shipped: &Shipped,
        runs: &TopicRuns,
        run: &RunEntry,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<(Offset, Bytes)>, ColdError> {
        let segment = match self.segment_of(shipped, runs, run).await {
            Ok(segment) => segment,
            Err(error) => {
                let rest = match error {
                    ColdError::Store(StoreError::BeyondEnd { size, .. }) => {
                        let key = &shipped.segment_entry(runs, run)?.key;
                        self.fetch_rest(shipped, key, run, size, from, max_bytes).await?
                    }
                    _ => Vec::new(),
                };
                return if rest.is_empty() { Err(error) } else { Ok(rest) };
            }
        };
        let batches = segment.batches(shipped.head.id, shipped.partition, from, max_bytes).await?;
        batches.into_iter().map(|batch| Ok((last_offset(&segment, &batch)?, batch))).collect()
    }

    /// The same of the segment `key`, of which only the first `size` bytes are left, and so no directory.
    async fn fetch_rest(
        &self,
        shipped: &Shipped,
        key: &str,
        run: &RunEntry,
        size: u64,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<(Offset, Bytes)>, ColdError> {
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
        let Shipped { head, partition } = shipped;
        let may_hold = |page: &PageEntry| {
            let bounds = page.bounds.of(*partition);
            bounds.is_some_and(|bounds| bounds.offsets.last >= from && bounds.times.latest >= timestamp)
        };
        let mut pages = self.catalog.walk(head.id, head.pages.iter().cloned(), may_hold);
        while let Some((_, runs)) = pages.next_leaf().await? {
            let found = self.find_in(shipped, &runs, from, timestamp).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        self.find_in(shipped, &head.open, from, timestamp).await
    }

    async fn find_in(
        &self,
        shipped: &Shipped,
        runs: &TopicRuns,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError> {
        let (topic, partition) = (shipped.head.id, shipped.partition);
        let may_hold = |run: &&RunEntry| run.offsets.last >= from && run.times.latest >= timestamp;
        for run in runs.of(partition).iter().filter(may_hold) {
            let segment = self.segment_of(shipped, runs, run).await?;
            let found = segment.find_time(topic, partition, from.max(run.offsets.first), timestamp).await?;
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
    fn partition(&self) -> Option<&PartitionHead> {
        self.head.partition(self.partition)
    }

    fn holds(&self, offset: Offset) -> bool {
        let Self { head, partition } = self;
        head.open.at(*partition, offset).is_some() || PageEntry::holding(&head.pages, *partition, offset).is_some()
    }

    /// The leader epochs of a run.
    fn epochs_of(&self, run: &RunEntry) -> RangeInclusive<i32> {
        let epochs = self.partition().map_or(&[][..], |partition| &partition.epochs);
        let at = |offset| epochs.iter().rev().find(|(_, start)| *start <= offset).map(|(epoch, _)| *epoch);
        // None if the catalog does not know.
        at(run.offsets.first).unwrap_or(0)..=at(run.offsets.last).unwrap_or(-1)
    }

    fn segment_entry<'a>(&self, runs: &'a TopicRuns, run: &RunEntry) -> Result<&'a SegmentEntry, ColdError> {
        runs.segment_of(run).ok_or_else(|| self.not_in_catalog(run.offsets.first))
    }

    fn not_in_catalog(&self, offset: Offset) -> ColdError {
        ColdError::NotInCatalog { topic: self.head.id, partition: self.partition, offset }
    }
}

impl ColdError {
    /// Whether a page or a segment that the catalog names is gone: a newer catalog names others.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotFound { .. }))
    }
}

impl From<SegmentError> for ColdError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Store(error) => Self::Store(error),
            SegmentError::UnknownVersion { object, version } => {
                Self::UnknownVersion { object, version: version.into() }
            }
            SegmentError::NotHere { topic, partition, offset, .. } => Self::NotInCatalog { topic, partition, offset },
            SegmentError::Damaged { object, reason } => Self::Damaged { object, reason },
            SegmentError::NotSegment { object } => Self::Damaged { object, reason: "it is not a segment".to_owned() },
            SegmentError::Unbuildable { reason } => Self::Damaged { object: "a new segment".to_owned(), reason },
        }
    }
}

impl From<CatalogError> for ColdError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => Self::Store(error),
            CatalogError::UnknownVersion { object, version } => Self::UnknownVersion { object, version },
            CatalogError::Damaged { object, reason } => Self::Damaged { object, reason },
            CatalogError::Unbuildable { reason } => Self::Damaged { object: "a new export".to_owned(), reason },
        }
    }
}

fn last_offset(segment: &SegmentReader, batch: &[u8]) -> Result<Offset, ColdError> {
    let damaged = |reason: String| ColdError::Damaged { object: segment.key().to_owned(), reason };
    BatchHeader::parse(batch).map(|header| header.last_offset()).map_err(|error| damaged(error.to_string()))
}
