//! OffsetCommit (8): says how far a group has come; durable once it is answered.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    ErrorCode, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use futures::future::BoxFuture;

use super::code;
use crate::api::error::ApiError;
use crate::api::{BrokerContext, answer};
use crate::clock::now_ms;
use crate::groups::{GroupError, MemberClaim};
use crate::state::command::PartitionOffset;
use crate::state::group::CommittedOffset;

/// Bytes of the client's own words beside an offset (`offset.metadata.max.bytes`).
const METADATA_BYTES_MAX: usize = 4096;
/// Clients know GROUP_ID_NOT_FOUND here from this version on (KIP-848).
const UNKNOWN_GROUP_FROM: i16 = 9;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, version) = (broker.clone(), request.version());
    answer(&request, move |asked: OffsetCommitRequest| async move {
        let (offsets, mut topics) = check(&broker, &asked);
        if offsets.is_empty() {
            return OffsetCommitResponse { topics, ..Default::default() };
        }
        let who = MemberClaim {
            member_id: asked.member_id,
            instance_id: asked.group_instance_id,
            generation: asked.generation_id_or_member_epoch,
        };
        if let Err(error) = broker.groups.commit(&asked.group_id, who, offsets).await {
            let refused = match error {
                GroupError::UnknownGroup if version < UNKNOWN_GROUP_FROM => ErrorCode::ILLEGAL_GENERATION,
                error => code(error),
            };
            let each = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            each.filter(|partition| partition.error_code.is_none()).for_each(|p| p.error_code = refused);
        }
        OffsetCommitResponse { topics, ..Default::default() }
    })
}

/// The offsets that can be committed, and the answer if they are.
fn check(
    broker: &BrokerContext,
    asked: &OffsetCommitRequest,
) -> (Vec<PartitionOffset>, Vec<OffsetCommitResponseTopic>) {
    let (mut offsets, mut topics) = (Vec::new(), Vec::with_capacity(asked.topics.len()));
    let at = now_ms();
    for topic in &asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let checked = check_partition(broker, &topic.name, asked, at);
            let error_code = checked.as_ref().err().map_or(ErrorCode::NONE, ApiError::code);
            offsets.extend(checked);
            partitions.push(OffsetCommitResponsePartition { partition_index: asked.partition_index, error_code });
        }
        topics.push(OffsetCommitResponseTopic { name: topic.name.clone(), partitions });
    }
    (offsets, topics)
}

fn check_partition(
    broker: &BrokerContext,
    topic: &str,
    asked: &OffsetCommitRequestPartition,
    at: i64,
) -> Result<PartitionOffset, ApiError> {
    let place = broker.place(topic, asked.partition_index)?;
    let metadata = asked.committed_metadata.as_deref().unwrap_or_default();
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(ApiError::OffsetMetadata { bytes: metadata.len(), max: METADATA_BYTES_MAX });
    }
    let committed = CommittedOffset {
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: metadata.into(),
        at,
    };
    Ok(PartitionOffset { topic: place.topic.id, partition: place.partition, committed })
}
