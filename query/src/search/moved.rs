//! Batches that an archive places where they were when it was made: compaction may have written them elsewhere since.

use chronik_format::catalog::{SegmentEntry, TopicRuns};
use chronik_format::ids::TopicId;
use chronik_format::segment::{SegmentError, SegmentReader};
use chronik_store::{SharedStore, StoreError};
use moka::future::Cache;

use super::patience::patiently;
use crate::archive::CandidateBatch;

/// Finds batches by the directories of the segments that the catalog names, which are kept within a byte limit.
#[derive(Debug)]
pub(crate) struct MovedBatches {
    store: SharedStore,
    /// Opened segments by name.
    segments: Cache<String, SegmentReader>,
}

impl MovedBatches {
    pub(crate) fn new(store: SharedStore, cache_bytes: u64) -> Self {
        let weigh =
            |key: &String, reader: &SegmentReader| u32::try_from(key.len() + reader.memory_bytes()).unwrap_or(u32::MAX);
        Self { store, segments: Cache::builder().max_capacity(cache_bytes).weigher(weigh).build() }
    }

    /// Has every batch lie where the catalog says: in another segment its place is that of the chunk that it is in.
    pub(crate) async fn locate(
        &self,
        topic: TopicId,
        runs: &TopicRuns,
        batches: &mut [CandidateBatch],
    ) -> Result<(), SegmentError> {
        for batch in batches {
            let run = runs.at(batch.partition, batch.base_offset);
            let Some(segment) = run.and_then(|run| runs.segment_of(run)).filter(|now| now.key != batch.segment_key)
            else {
                continue;
            };
            let chunk = self.open(segment).await?.chunk_holding(topic, batch.partition, batch.base_offset)?;
            (batch.position, batch.length) = (chunk.position, chunk.length);
            batch.segment_key.clone_from(&segment.key);
        }
        Ok(())
    }

    async fn open(&self, entry: &SegmentEntry) -> Result<SegmentReader, SegmentError> {
        if let Some(reader) = self.segments.get(&entry.key).await {
            return Ok(reader);
        }
        let SegmentEntry { key, size, crc, directory_position, .. } = entry;
        let open = || SegmentReader::open_known(self.store.clone(), key, *size, *directory_position, *crc);
        let may_pass = |error: &SegmentError| matches!(error, SegmentError::Store(StoreError::Unavailable { .. }));
        let reader = patiently(open, may_pass).await.inspect_err(|error| {
            if !matches!(error, SegmentError::Store(_)) {
                self.store.distrust(key);
            }
        })?;
        self.segments.insert(key.clone(), reader.clone()).await;
        Ok(reader)
    }
}
