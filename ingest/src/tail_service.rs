//! The broker's tail for searches: see [`chronik_core::tail`].

use async_trait::async_trait;
use bytes::Bytes;
use chronik_core::ids::{Offset, PartitionId, TopicId};
use chronik_core::tail::{Tail, TailError, TailPartition, TailTopic};

use crate::lane::LaneHandle;
use crate::lane::tail::BatchBytes;
use crate::reading::RecordReader;

/// Serves what the lane holds.
pub struct TailService {
    lane: LaneHandle,
    reader: RecordReader,
}

impl TailService {
    /// Of one lane.
    pub fn new(lane: LaneHandle, reader: RecordReader) -> Self {
        Self { lane, reader }
    }
}

#[async_trait]
impl Tail for TailService {
    async fn topics(&self) -> Result<Vec<String>, TailError> {
        Ok(self.lane.topics().iter().map(|topic| topic.name.clone()).collect())
    }

    async fn topic(&self, name: &str) -> Result<Option<TailTopic>, TailError> {
        let topics = self.lane.topics();
        let Some(topic) = topics.named(name) else {
            return Ok(None);
        };
        let partition = |(number, tail): (usize, &std::sync::Arc<crate::lane::tail::PartitionTail>)| {
            let bounds = tail.bounds();
            TailPartition {
                partition: number as PartitionId,
                log_start: bounds.log_start,
                start: bounds.tail_start,
                end: bounds.end,
            }
        };
        Ok(Some(TailTopic {
            id: topic.id,
            search_enabled: topic.config.search_enabled(),
            partitions: topic.partitions.iter().enumerate().map(partition).collect(),
        }))
    }

    async fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, TailError> {
        let view = self
            .lane
            .topics()
            .get(topic)
            .cloned()
            .ok_or(TailError::UnknownTopic { id: topic })?;
        let tail = view.partition(partition).ok_or(TailError::UnknownTopic { id: topic })?;
        let start = tail.bounds().tail_start;
        if from < start {
            return Err(TailError::TooOld { from, start });
        }
        let batches = self.reader.read(&view, partition, from, max_bytes).await;
        let batches = batches.map_err(|error| TailError::Unavailable {
            message: error.to_string(),
        })?;
        Ok(batches.iter().map(BatchBytes::contiguous).collect())
    }
}
