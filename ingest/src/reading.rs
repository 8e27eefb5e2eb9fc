//! Reads records wherever they lie: tail in memory, write-ahead log, segments.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use chronik_core::batch::{self, BatchHeader};
use chronik_core::cold::{ColdError, SharedColdReader};
use chronik_core::ids::{Offset, PartitionId, Timestamp};

use crate::lane::LaneHandle;
use crate::lane::tail::{BatchBytes, TailBatch, TopicView};
use crate::metrics::FetchMetrics;
use crate::wal::{WalError, WalReader};

/// Bytes of records that are read at once to see when they happened, unless a single batch is larger.
const TIME_BYTES: usize = 1 << 20;

/// Why acknowledged records could not be read. Always worth another try; never a reason to skip one.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The write-ahead log could not be read.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The bucket could not be read.
    #[error(transparent)]
    Cold(#[from] ColdError),
    /// The write-ahead log gave other bytes than were written.
    #[error("batch at offset {offset} in the write-ahead log is damaged: {reason}")]
    Damaged {
        /// Where it should begin.
        offset: Offset,
        /// What does not fit.
        reason: String,
    },
    /// The task that read was aborted.
    #[error("reading was aborted")]
    Aborted,
}

/// Reads partitions of one lane.
#[derive(Clone)]
pub struct RecordReader {
    lane: LaneHandle,
    cold: SharedColdReader,
    metrics: FetchMetrics,
}

impl RecordReader {
    /// Reads what `lane` holds, and older records through `cold`.
    pub fn new(lane: LaneHandle, cold: SharedColdReader, metrics: FetchMetrics) -> Self {
        Self { lane, cold, metrics }
    }

    /// Whole batches in offset order, the first one containing `from`, at most about `max_bytes` but at least one;
    /// empty at the end. `from` lies between the partition's log start and its end. What lies before something that
    /// can't be read is returned: only what can't be read at `from` itself is an error.
    pub async fn read(
        &self,
        topic: &TopicView,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<BatchBytes>, ReadError> {
        let Some(tail) = topic.partition(partition) else {
            return Ok(Vec::new());
        };
        if let Ok(batches) = tail.batches(from, max_bytes) {
            match self.read_log(batches).await {
                Err(ReadError::Wal(WalError::Gone { .. })) => {}
                read => {
                    self.metrics.wal_hit();
                    return read;
                }
            }
        }
        let _timer = self.metrics.cold_seconds.start_timer();
        let batches = self.cold.fetch(topic.id, partition, from, max_bytes).await?;
        self.metrics.segment_hit();
        Ok(batches.into_iter().map(BatchBytes::from_whole).collect())
    }

    /// Offset and timestamp of the first record at or after the log start whose timestamp is at least `timestamp`. What is not in
    /// the bucket yet is read through.
    pub async fn offset_for_time(
        &self,
        topic: &TopicView,
        partition: PartitionId,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let Some(tail) = topic.partition(partition) else {
            return Ok(None);
        };
        let bounds = tail.bounds();
        if bounds.tail_start > bounds.log_start {
            let _timer = self.metrics.cold_seconds.start_timer();
            let found = self
                .cold
                .offset_for_time(topic.id, partition, bounds.log_start, timestamp)
                .await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let mut from = bounds.tail_start.max(bounds.log_start);
        while from < bounds.end {
            let (batches, next) = self.piece(topic, partition, from).await?;
            let mut find = move |batch: &BatchBytes| batch::find_time(&batch.contiguous(), from, timestamp);
            let found = aside(move || batches.iter().find_map(&mut find)).await?;
            if found.is_some() {
                return Ok(found);
            }
            from = next;
        }
        Ok(None)
    }

    /// The latest timestamp of the records at these offsets, all of which are read.
    pub async fn latest_timestamp(
        &self,
        topic: &TopicView,
        partition: PartitionId,
        offsets: Range<Offset>,
    ) -> Result<Option<Timestamp>, ReadError> {
        let (mut latest, mut from) = (None, offsets.start);
        while from < offsets.end {
            let (batches, next) = self.piece(topic, partition, from).await?;
            let of_batch = |batch: &BatchBytes| batch::latest_timestamp(&batch.contiguous());
            let here = aside(move || batches.iter().filter_map(of_batch).max()).await?;
            latest = latest.max(here);
            from = next;
        }
        Ok(latest)
    }

    /// Some batches from the one that holds `from` on, and the offset at which to go on.
    async fn piece(
        &self,
        topic: &TopicView,
        partition: PartitionId,
        from: Offset,
    ) -> Result<(Vec<BatchBytes>, Offset), ReadError> {
        let batches = self.read(topic, partition, from, TIME_BYTES).await?;
        let header = batches.last().and_then(|last| BatchHeader::parse(&last.head).ok());
        let next = header.map_or(Offset::MAX, |header| header.last_offset().saturating_add(1));
        Ok((batches, next))
    }

    async fn read_log(&self, batches: Vec<TailBatch>) -> Result<Vec<BatchBytes>, ReadError> {
        if batches.iter().all(|batch| batch.bytes.is_some()) {
            return Ok(batches.into_iter().filter_map(|batch| batch.bytes).collect());
        }
        let wal = self.lane.wal().clone();
        aside(move || until_failure(batches.into_iter().map(|batch| read_batch(&wal, batch)))).await?
    }
}

/// Does what blocks, or computes for long, off the runtime's threads.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ReadError::Aborted)
}

/// What comes before a failure; the failure itself only if it is the first.
fn until_failure<T, E>(read: impl Iterator<Item = Result<T, E>>) -> Result<Vec<T>, E> {
    let mut batches = Vec::new();
    for batch in read {
        match batch {
            Ok(batch) => batches.push(batch),
            Err(_) if !batches.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(batches)
}

fn read_batch(wal: &WalReader, batch: TailBatch) -> Result<BatchBytes, ReadError> {
    if let Some(bytes) = batch.bytes {
        return Ok(bytes);
    }
    let bytes = wal.read(batch.file, batch.position, batch.length as usize)?;
    let damaged = |reason: String| ReadError::Damaged {
        offset: batch.base_offset,
        reason,
    };
    let header = batch::verify(&bytes).map_err(|error| damaged(error.to_string()))?;
    if header.base_offset != batch.base_offset {
        return Err(damaged(format!("it begins with offset {}", header.base_offset)));
    }
    Ok(BatchBytes::from_whole(bytes))
}

impl BatchBytes {
    /// A stored batch, which is in one piece.
    pub fn from_whole(mut whole: Bytes) -> Self {
        let head = whole.split_to(batch::HEADER_LENGTH.min(whole.len()));
        Self { head, body: whole }
    }

    /// The batch in one piece; copies.
    pub fn contiguous(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.length());
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.body);
        whole.freeze()
    }
}
