//! DeleteRecords (21): deletes the oldest records of partitions.
//!
//! They can't be read from the answer on; their bytes stay in the segments that they share with others.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult, ErrorCode,
};
use futures::future::{BoxFuture, join_all};

use super::error::ApiError;
use super::{BrokerContext, answer};
use crate::clock::now_ms;
use crate::lane::LaneError;
use crate::state::command::{DeleteRecords, FirstKept};

/// What a client sends for the high watermark.
const HIGH_WATERMARK: Offset = -1;
/// By partition, the offset below which records are to be deleted.
type Offsets = BTreeMap<PartitionId, Offset>;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked| async move { delete_all(&broker, asked).await })
}

/// Of a partition that is named several times the last offset counts, as with Kafka.
async fn delete_all(broker: &BrokerContext, asked: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics: BTreeMap<String, Offsets> = BTreeMap::new();
    for topic in asked.topics {
        let offsets = topic.partitions.iter().map(|partition| (partition.partition_index, partition.offset));
        topics.entry(topic.name).or_default().extend(offsets);
    }
    let deletions = topics.into_iter().map(|(name, offsets)| async move {
        let partitions = delete_of_topic(broker, &name, offsets).await;
        DeleteRecordsTopicResult { name, partitions }
    });
    DeleteRecordsResponse { topics: join_all(deletions).await, ..Default::default() }
}

async fn delete_of_topic(broker: &BrokerContext, name: &str, offsets: Offsets) -> Vec<DeleteRecordsPartitionResult> {
    let Some(topic) = broker.lane.topics().named(name).cloned() else {
        return offsets.into_keys().map(|partition| result(partition, Err(ApiError::UnknownTopic))).collect();
    };
    let is_there = |(partition, _): &(PartitionId, Offset)| topic.partition(*partition).is_some();
    let (known, unknown): (Vec<_>, Vec<_>) = offsets.into_iter().partition(is_there);
    let unknown = unknown.into_iter().map(|(partition, _)| result(partition, Err(ApiError::UnknownPartition)));
    delete_below(broker, topic.id, known).await.into_iter().chain(unknown).collect()
}

/// One command for all partitions of a topic.
async fn delete_below(
    broker: &BrokerContext,
    topic: TopicId,
    offsets: Vec<(PartitionId, Offset)>,
) -> Vec<DeleteRecordsPartitionResult> {
    if offsets.is_empty() {
        return Vec::new();
    }
    let first_kept = |(partition, offset): &(PartitionId, Offset)| FirstKept {
        partition: *partition,
        offset: Some(*offset).filter(|offset| *offset != HIGH_WATERMARK),
    };
    let delete = DeleteRecords { topic, partitions: offsets.iter().map(first_kept).collect(), at: now_ms() };
    let partitions = offsets.into_iter().map(|(partition, _)| partition);
    match broker.lane.delete_records(delete).await {
        Ok(log_starts) => partitions
            .zip(log_starts)
            .map(|(partition, log_start)| result(partition, log_start.map_err(|why| LaneError::from(why).into())))
            .collect(),
        Err(error) => {
            let error_code = ApiError::from(error).code();
            partitions.map(|partition_index| failed(partition_index, error_code)).collect()
        }
    }
}

fn result(partition_index: PartitionId, log_start: Result<Offset, ApiError>) -> DeleteRecordsPartitionResult {
    match log_start {
        Ok(low_watermark) => DeleteRecordsPartitionResult { partition_index, low_watermark, ..Default::default() },
        Err(error) => failed(partition_index, error.code()),
    }
}

/// With an error there is no low watermark.
fn failed(partition_index: PartitionId, error_code: ErrorCode) -> DeleteRecordsPartitionResult {
    DeleteRecordsPartitionResult { partition_index, low_watermark: -1, error_code }
}
