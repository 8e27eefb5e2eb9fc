//! OffsetForLeaderEpoch (23): a client that saw the leader change asks up to where what it read still holds.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderPartitionResult, OffsetForLeaderTopicResult,
};
use futures::future::{BoxFuture, ready};

use super::error::ApiError;
use super::{BrokerContext, answer, epochs};

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    answer(&request, |asked: OffsetForLeaderEpochRequest| {
        let topics = asked.topics.into_iter().map(|asked| {
            let partitions = asked.partitions.iter().map(|partition| result(broker, &asked.topic, partition)).collect();
            OffsetForLeaderTopicResult { topic: asked.topic, partitions }
        });
        ready(OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() })
    })
}

fn result(broker: &BrokerContext, topic: &str, asked: &OffsetForLeaderPartition) -> OffsetForLeaderPartitionResult {
    let partition = asked.partition;
    match end_of_epoch(broker, topic, asked) {
        Ok(Some((leader_epoch, end_offset))) => {
            OffsetForLeaderPartitionResult { partition, leader_epoch, end_offset, ..Default::default() }
        }
        Ok(None) => OffsetForLeaderPartitionResult { partition, ..Default::default() },
        Err(error) => OffsetForLeaderPartitionResult { partition, error_code: error.code(), ..Default::default() },
    }
}

fn end_of_epoch(
    broker: &BrokerContext,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(i32, i64)>, ApiError> {
    let place = broker.place(topic, asked.partition)?;
    place.check_leader_epoch(asked.current_leader_epoch)?;
    Ok(epochs::end_of_epoch(&place.tail.epochs(), place.tail.bounds().end, asked.leader_epoch))
}
