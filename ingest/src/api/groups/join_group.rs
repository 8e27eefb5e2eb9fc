//! JoinGroup (11): asks to be a member of a group's next generation.

use std::net::SocketAddr;
use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{ErrorCode, JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use futures::future::BoxFuture;
use uuid::Uuid;

use super::code;
use crate::api::{BrokerContext, answer};
use crate::groups::{GroupError, GroupProtocol, JoinAnswer, JoinRequest, millis};

/// A new member is told its id first from this version on (KIP-394).
const MEMBER_ID_FROM: i16 = 4;
/// A failed answer has no protocol name from this version on.
const NO_PROTOCOL_FROM: i16 = 7;
/// A leader can be told that the assignment stands from this version on (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// Bytes of a client's name in the ids of its members: older versions carry no long ones.
const MEMBER_NAME_BYTES_MAX: usize = 1024;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, version, peer) = (broker.clone(), request.version(), request.peer);
    let client_id = request.header.client_id.clone().unwrap_or_default();
    answer(&request, move |asked: JoinGroupRequest| async move {
        let (group, member_id) = (asked.group_id.clone(), asked.member_id.clone());
        match broker.groups.join(&group, join(asked, client_id, peer, version)).await {
            Ok(joined) => response(joined),
            Err(error) => refusal(error, member_id, version),
        }
    })
}

fn join(asked: JoinGroupRequest, client_id: String, peer: SocketAddr, version: i16) -> JoinRequest {
    let session_timeout = millis(asked.session_timeout_ms);
    let rebalance_timeout =
        if asked.rebalance_timeout_ms < 0 { session_timeout } else { millis(asked.rebalance_timeout_ms) };
    let named_by = asked.group_instance_id.as_deref().unwrap_or(&client_id);
    let named_by = &named_by[..named_by.floor_char_boundary(MEMBER_NAME_BYTES_MAX)];
    JoinRequest {
        new_member_id: format!("{named_by}-{}", Uuid::new_v4()),
        member_id: asked.member_id,
        instance_id: asked.group_instance_id,
        client_id,
        client_host: format!("/{}", peer.ip()),
        session_timeout,
        rebalance_timeout,
        protocol_type: asked.protocol_type,
        protocols: asked
            .protocols
            .into_iter()
            .map(|protocol| GroupProtocol { name: protocol.name, metadata: protocol.metadata })
            .collect(),
        needs_id: version >= MEMBER_ID_FROM,
        can_skip_assignment: version >= SKIP_ASSIGNMENT_FROM,
    }
}

fn response(joined: JoinAnswer) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        metadata: member.metadata,
    });
    JoinGroupResponse {
        error_code: ErrorCode::NONE,
        generation_id: joined.generation,
        protocol_type: Some(joined.protocol_type),
        protocol_name: joined.protocol,
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: members.collect(),
        ..Default::default()
    }
}

fn refusal(error: GroupError, member_id: String, version: i16) -> JoinGroupResponse {
    let member_id = match &error {
        GroupError::MemberIdRequired { member_id } => member_id.clone(),
        _ => member_id,
    };
    let protocol_name = (version < NO_PROTOCOL_FROM).then(String::new);
    JoinGroupResponse { error_code: code(error), member_id, protocol_name, ..Default::default() }
}
