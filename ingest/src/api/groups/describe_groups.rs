//! DescribeGroups (15): a group's state, and its members with what they are assigned.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember, ErrorCode};
use futures::future::BoxFuture;

use super::code;
use crate::api::{BrokerContext, answer};
use crate::groups::{GroupError, GroupView};
use crate::state::group::GroupMember;

/// Kafka's name of the state of a group that is not there; no error before KIP-1043.
const DEAD: &str = "Dead";
/// READ, DELETE and DESCRIBE as bits by their numbers: all that can be done to a group, as everybody may.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: DescribeGroupsRequest| async move {
        let mut groups = Vec::with_capacity(asked.groups.len());
        for group_id in asked.groups {
            let mut described = match broker.groups.view(&group_id).await {
                Ok(view) => described(group_id, view),
                Err(GroupError::UnknownGroup) => {
                    DescribedGroup { group_id, group_state: DEAD.into(), ..Default::default() }
                }
                Err(error) => DescribedGroup { group_id, error_code: code(error), ..Default::default() },
            };
            if asked.include_authorized_operations {
                described.authorized_operations = ALL_OPERATIONS;
            }
            groups.push(described);
        }
        DescribeGroupsResponse { groups, ..Default::default() }
    })
}

fn described(group_id: String, GroupView { state, generation }: GroupView) -> DescribedGroup {
    let member = |member: GroupMember| DescribedGroupMember {
        member_id: member.id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    DescribedGroup {
        error_code: ErrorCode::NONE,
        group_id,
        group_state: state.into(),
        protocol_type: generation.protocol_type,
        protocol_data: generation.protocol.unwrap_or_default(),
        members: generation.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
