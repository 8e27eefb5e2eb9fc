//! ListGroups (16): all groups, or those in given states.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use futures::future::BoxFuture;

use super::code;
use crate::api::{BrokerContext, answer};

/// The only type of group there is.
const CLASSIC: &str = "classic";

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: ListGroupsRequest| async move {
        let listed = match broker.groups.list().await {
            Ok(listed) => listed,
            Err(error) => return ListGroupsResponse { error_code: code(error), ..Default::default() },
        };
        let is_asked = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|asked| asked.eq_ignore_ascii_case(value))
        };
        let groups = listed
            .into_iter()
            .filter(|group| is_asked(&asked.states_filter, group.state) && is_asked(&asked.types_filter, CLASSIC));
        let groups = groups.map(|group| ListedGroup {
            group_id: group.id,
            protocol_type: group.protocol_type,
            group_state: group.state.into(),
            group_type: CLASSIC.into(),
        });
        ListGroupsResponse { groups: groups.collect(), ..Default::default() }
    })
}
