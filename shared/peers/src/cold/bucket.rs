use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::ahead::{ReadAhead, ReaderPlace, Returned};
use super::run::{LocatedRun, RunReader};
use super::sequential::SequentialReader;
use super::shipped::ShippedPartition;
use super::{ColdError, ColdReader};
use chronik_format::catalog::{CatalogError, CatalogReader, PageEntry, RunEntry, TopicRuns};
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_format::segment::SegmentError;
use chronik_service::telemetry::Metrics;
use chronik_store::{SharedStore, StoreError};

/// Reads shipped records, as the newest catalog names them, and reads ahead for who goes on where an answer ended.
#[derive(Debug)]
pub struct BucketReader {
    pub(super) catalog: Arc<CatalogReader>,
    runs: RunReader,
    ahead: ReadAhead,
}

impl BucketReader {
    /// Reads what `catalog` names; directories of segments are kept in up to `cache_bytes`. Nothing is read ahead.
    pub fn new(store: SharedStore, catalog: Arc<CatalogReader>, cache_bytes: u64) -> Self {
        let runs = RunReader::new(store, catalog.clone(), cache_bytes);
        Self { catalog, runs, ahead: ReadAhead::new(0, &Metrics::new()) }
    }

    /// The same, reading ahead up to `bytes` for all readers together.
    pub fn reading_ahead(self, bytes: usize, metrics: &Metrics) -> Self {
        Self { ahead: ReadAhead::new(bytes, metrics), ..self }
    }

    /// The partition with a run that holds `offset`, or one behind it, if the newest export seen has one.
    async fn shipped(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<ShippedPartition>, ColdError> {
        let Some(head) = self.catalog.topic_by_id(topic).await? else {
            return Ok(None);
        };
        let shipped = ShippedPartition { head, partition };
        Ok(shipped.keeps(offset).then_some(shipped))
    }

    /// As [`Self::shipped`], after one refresh if need be.
    async fn shipped_or_refresh(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<ShippedPartition, ColdError> {
        if let Some(shipped) = self.shipped(topic, partition, offset).await? {
            return Ok(shipped);
        }
        self.catalog.refresh().await?;
        let shipped = self.shipped(topic, partition, offset).await?;
        shipped.ok_or(ColdError::NotInCatalog { topic, partition, offset })
    }

    /// The reader whose last answer ended at a place.
    async fn returned(&self, shipped: &ShippedPartition, place: ReaderPlace) -> Option<SequentialReader> {
        match self.ahead.resume(place)? {
            Returned::Again(reader) => Some(reader),
            // What keeps it from being read ahead for is told by the read itself.
            Returned::Once => SequentialReader::begin(&self.runs, self.ahead.hold(), shipped, place.offset).await.ok(),
        }
    }

    /// Batches from the one that holds `offset` on, of one run.
    async fn fetch_from(
        &self,
        shipped: &ShippedPartition,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Vec<(Offset, Bytes)>, ColdError> {
        let located = self.runs.at(shipped, &mut None, offset).await?;
        let located = located.ok_or_else(|| shipped.not_in_catalog(offset))?;
        let from = offset.max(located.run.offsets.first);
        let fetched = self.runs.fetch(shipped, &located, from, max_bytes).await;
        fetched.inspect_err(|error| self.runs.distrust(error))
    }

    async fn find_from(
        &self,
        shipped: &ShippedPartition,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError> {
        let ShippedPartition { head, partition } = shipped;
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
        shipped: &ShippedPartition,
        runs: &TopicRuns,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError> {
        let may_hold = |run: &&RunEntry| run.offsets.last >= from && run.times.latest >= timestamp;
        for run in runs.of(shipped.partition).iter().filter(may_hold) {
            let located = LocatedRun { run: run.clone(), segment: shipped.segment_entry(runs, run)?.clone() };
            let found = self.runs.find(shipped, &located, from, timestamp).await;
            let found = found.inspect_err(|error| self.runs.distrust(error))?;
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
        let place = |offset| ReaderPlace { topic, partition, offset };
        let (mut batches, mut goes_on) = (Vec::new(), None);
        if let Some(reader) = self.returned(&shipped, place(offset)).await {
            (batches, goes_on) = reader.read(&self.runs, &shipped, offset, max_bytes).await;
        }
        if batches.is_empty() {
            goes_on = None;
            batches = match self.fetch_from(&shipped, offset, max_bytes).await {
                Err(error) if error.is_missing() => {
                    self.catalog.refresh().await?;
                    let shipped = self.shipped_or_refresh(topic, partition, offset).await?;
                    self.fetch_from(&shipped, offset, max_bytes).await?
                }
                fetched => fetched?,
            };
        }
        if let Some((last, _)) = batches.last() {
            self.ahead.park(place(last + 1), goes_on);
        }
        Ok(batches.into_iter().map(|(_, batch)| batch).collect())
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
