//! SyncGroup (14): asks for a member's share of the partitions; the leader brings everyone's.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{SyncGroupRequest, SyncGroupResponse};
use futures::future::BoxFuture;

use super::code;
use crate::api::{BrokerContext, answer};
use crate::groups::{MemberClaim, SyncRequest};

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: SyncGroupRequest| async move {
        let sync = SyncRequest {
            who: MemberClaim {
                member_id: asked.member_id,
                instance_id: asked.group_instance_id,
                generation: asked.generation_id,
            },
            protocol_type: asked.protocol_type,
            protocol: asked.protocol_name,
            assignments: asked.assignments.into_iter().map(|given| (given.member_id, given.assignment)).collect(),
        };
        match broker.groups.sync(&asked.group_id, sync).await {
            Ok(synced) => SyncGroupResponse {
                protocol_type: Some(synced.protocol_type),
                protocol_name: synced.protocol,
                assignment: synced.assignment,
                ..Default::default()
            },
            Err(error) => SyncGroupResponse { error_code: code(error), ..Default::default() },
        }
    })
}
