//! OffsetDelete (47): a group forgets what it has committed for partitions of topics that it does not read.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    ErrorCode, OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use futures::future::BoxFuture;

use super::code;
use crate::api::error::ApiError;
use crate::api::{BrokerContext, answer};
use crate::groups::OffsetToForget;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: OffsetDeleteRequest| async move {
        let (offsets, mut topics) = check(&broker, &asked);
        let outcomes = match broker.groups.forget_offsets(&asked.group_id, offsets).await {
            Ok(outcomes) => outcomes,
            Err(error) => return OffsetDeleteResponse { error_code: code(error), ..Default::default() },
        };
        let each = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for (partition, outcome) in each.filter(|partition| partition.error_code.is_none()).zip(outcomes) {
            partition.error_code = outcome.map_or_else(code, |()| ErrorCode::NONE);
        }
        OffsetDeleteResponse { topics, ..Default::default() }
    })
}

/// The partitions that are there, and the answer if their offsets are forgotten.
fn check(broker: &BrokerContext, asked: &OffsetDeleteRequest) -> (Vec<OffsetToForget>, Vec<OffsetDeleteResponseTopic>) {
    let (mut offsets, mut topics) = (Vec::new(), Vec::with_capacity(asked.topics.len()));
    for topic in &asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition_index in topic.partitions.iter().map(|partition| partition.partition_index) {
            let place = broker.place(&topic.name, partition_index);
            let error_code = place.as_ref().err().map_or(ErrorCode::NONE, ApiError::code);
            partitions.push(OffsetDeleteResponsePartition { partition_index, error_code });
            offsets.extend(place.ok().map(|place| OffsetToForget {
                topic: topic.name.clone(),
                id: place.topic.id,
                partition: place.partition,
            }));
        }
        topics.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
    }
    (offsets, topics)
}
