//! LeaveGroup (13): members go, and do not wait for their sessions to end.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{ErrorCode, LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};
use futures::future::BoxFuture;

use super::code;
use crate::api::{BrokerContext, answer};
use crate::groups::LeavingMember;

/// Several members leave by one request from this version on (KIP-345).
const SEVERAL_FROM: i16 = 3;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, version) = (broker.clone(), request.version());
    answer(&request, move |mut asked: LeaveGroupRequest| async move {
        if version < SEVERAL_FROM {
            asked.members = vec![MemberIdentity { member_id: asked.member_id, ..Default::default() }];
        }
        let leave = |member: &MemberIdentity| LeavingMember {
            member_id: member.member_id.clone(),
            instance_id: member.group_instance_id.clone(),
        };
        let left = match broker.groups.leave(&asked.group_id, asked.members.iter().map(leave).collect()).await {
            Ok(left) => left.into_iter().map(|left| left.map_or_else(code, |()| ErrorCode::NONE)),
            Err(error) => return LeaveGroupResponse { error_code: code(error), ..Default::default() },
        };
        let members = asked.members.into_iter().zip(left).map(|(member, error_code)| MemberResponse {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error_code,
        });
        let members: Vec<_> = members.collect();
        let sole = members.first().map_or(ErrorCode::NONE, |member| member.error_code);
        let error_code = if version < SEVERAL_FROM { sole } else { ErrorCode::NONE };
        LeaveGroupResponse { error_code, members, ..Default::default() }
    })
}
