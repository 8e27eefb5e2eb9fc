//! The broker's tail for searches: see [`chronik_peers::tail`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_peers::tail::{Tail, TailError, TailPartition, TailTopic};
use tokio::time::{Instant, timeout_at};

use crate::lane::Lane;
use crate::lane::tail::{BatchBytes, PartitionTail, TopicView};
use crate::lane::tail_watch::TailWatch;
use crate::lane::watcher::TailWatcher;
use crate::reading::RecordReader;

/// Serves what the lane holds.
pub struct TailService {
    lane: Lane,
    reader: RecordReader,
}

impl TailService {
    /// Of one lane.
    pub fn new(lane: Lane, reader: RecordReader) -> Self {
        Self { lane, reader }
    }

    fn view(&self, id: TopicId) -> Result<Arc<TopicView>, TailError> {
        let topics = self.lane.topics();
        topics.get(id).cloned().ok_or(TailError::UnknownTopic { id })
    }
}

#[async_trait]
impl Tail for TailService {
    async fn topics(&self) -> Result<Vec<String>, TailError> {
        Ok(self.lane.topics().iter().map(|topic| topic.name.to_string()).collect())
    }

    async fn topic(&self, name: &str) -> Result<Option<TailTopic>, TailError> {
        Ok(self.lane.topics().named(name).map(|topic| position(topic)))
    }

    async fn moved(&self, topic: TopicId, reach: i64, wait: Duration) -> Result<TailTopic, TailError> {
        let deadline = Instant::now() + wait;
        let watcher = Arc::new(TailWatcher::default());
        let mut watches: Vec<TailWatch> = Vec::new();
        loop {
            let view = self.view(topic)?;
            // Watched before the ends are looked at, so that no growth falls between the two.
            let others = view.partitions.iter().skip(watches.len());
            watches.extend(others.map(|tail| TailWatch::new(&watcher, tail, 0)));
            watcher.take();
            let position = position(&view);
            if position.reach() > reach || timeout_at(deadline, watcher.woken()).await.is_err() {
                return Ok(position);
            }
        }
    }

    async fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, TailError> {
        let view = self.view(topic)?;
        let tail = view.partition(partition).ok_or(TailError::UnknownTopic { id: topic })?;
        let start = tail.bounds().tail_start;
        if from < start {
            return Err(TailError::TooOld { from, start });
        }
        let batches = self.reader.read(&view, partition, from, max_bytes).await;
        let batches = batches.map_err(|error| TailError::Unavailable { message: error.to_string() })?;
        Ok(batches.iter().map(BatchBytes::contiguous).collect())
    }
}

fn position(topic: &TopicView) -> TailTopic {
    let partition = |(number, tail): (usize, &Arc<PartitionTail>)| {
        let bounds = tail.bounds();
        TailPartition {
            partition: number as PartitionId,
            log_start: bounds.log_start,
            start: bounds.tail_start,
            end: bounds.end,
        }
    };
    TailTopic {
        id: topic.id,
        search_enabled: topic.config.search_enabled(),
        index: topic.config.index_settings(),
        partitions: topic.partitions.iter().enumerate().map(partition).collect(),
    }
}
