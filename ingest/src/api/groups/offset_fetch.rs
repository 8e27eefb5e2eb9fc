//! OffsetFetch (9): how far a group has come.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    ErrorCode, OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use futures::future::BoxFuture;

use super::code;
use crate::api::{BrokerContext, answer};
use crate::state::LaneState;
use crate::state::group::{CommittedOffset, GroupState};

/// Clients ask for several groups at once from this version on (KIP-709).
const SEVERAL_FROM: i16 = 8;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, version) = (broker.clone(), request.version());
    answer(&request, move |asked: OffsetFetchRequest| async move {
        let state = broker.groups.state().await;
        let fetch = |group_id: String, topics: Option<Vec<OffsetFetchRequestTopic>>| match &state {
            Ok(state) => {
                let topics = offsets(state, &group_id, topics);
                OffsetFetchResponseGroup { group_id, topics, error_code: ErrorCode::NONE }
            }
            Err(error) => OffsetFetchResponseGroup { group_id, error_code: code(error.clone()), ..Default::default() },
        };
        if version >= SEVERAL_FROM {
            let groups = asked.groups.into_iter().map(|asked| fetch(asked.group_id, asked.topics));
            return OffsetFetchResponse { groups: groups.collect(), ..Default::default() };
        }
        let OffsetFetchResponseGroup { topics, error_code, .. } = fetch(asked.group_id, asked.topics);
        OffsetFetchResponse { topics, error_code, ..Default::default() }
    })
}

/// Of the topics asked for, or of all that the group has committed.
fn offsets(
    state: &LaneState,
    group: &str,
    topics: Option<Vec<OffsetFetchRequestTopic>>,
) -> Vec<OffsetFetchResponseTopic> {
    let group = state.groups.get(group).map(Arc::as_ref);
    match topics {
        None => group.map(|group| all_offsets(state, group)).unwrap_or_default(),
        Some(topics) => topics.into_iter().map(|asked| offsets_of(state, group, asked)).collect(),
    }
}

fn offsets_of(
    state: &LaneState,
    group: Option<&GroupState>,
    asked: OffsetFetchRequestTopic,
) -> OffsetFetchResponseTopic {
    let id = state.names.get(asked.name.as_str());
    let committed = |partition| group?.offsets.get(&(*id?, partition));
    let partitions = asked.partition_indexes.into_iter().map(|partition| response(partition, committed(partition)));
    OffsetFetchResponseTopic { partitions: partitions.collect(), name: asked.name }
}

fn all_offsets(state: &LaneState, group: &GroupState) -> Vec<OffsetFetchResponseTopic> {
    let mut topics = BTreeMap::<&Arc<str>, Vec<_>>::new();
    for ((topic, partition), committed) in &group.offsets {
        if let Some(topic) = state.topics.get(topic) {
            topics.entry(&topic.name).or_default().push(response(*partition, Some(committed)));
        }
    }
    let response = |(name, partitions): (&Arc<str>, _)| OffsetFetchResponseTopic { name: name.to_string(), partitions };
    topics.into_iter().map(response).collect()
}

/// A partition without an offset has -1, and that is no error.
fn response(partition_index: i32, committed: Option<&CommittedOffset>) -> OffsetFetchResponsePartition {
    let nothing = OffsetFetchResponsePartition { partition_index, committed_offset: -1, ..Default::default() };
    committed.map_or(nothing.clone(), |committed| OffsetFetchResponsePartition {
        committed_offset: committed.offset,
        committed_leader_epoch: committed.leader_epoch,
        metadata: Some(committed.metadata.to_string()),
        ..nothing
    })
}
