//! Heartbeat (12): a member's sign of life; the answer says whether it has to join again.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{ErrorCode, HeartbeatRequest, HeartbeatResponse};
use futures::future::BoxFuture;

use super::code;
use crate::api::{BrokerContext, answer};
use crate::groups::MemberClaim;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: HeartbeatRequest| async move {
        let who = MemberClaim {
            member_id: asked.member_id,
            instance_id: asked.group_instance_id,
            generation: asked.generation_id,
        };
        let alive = broker.groups.heartbeat(&asked.group_id, who).await;
        HeartbeatResponse { error_code: alive.map_or_else(code, |()| ErrorCode::NONE), ..Default::default() }
    })
}
