//! DeleteGroups (42): deletes groups without members, and what they have committed.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, ErrorCode};
use futures::future::{BoxFuture, join_all};

use super::code;
use crate::api::{BrokerContext, answer};

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: DeleteGroupsRequest| async move {
        let deleting = asked.groups_names.into_iter().map(async |group_id| {
            let deleted = broker.groups.delete(&group_id).await;
            DeletableGroupResult { group_id, error_code: deleted.map_or_else(code, |()| ErrorCode::NONE) }
        });
        DeleteGroupsResponse { results: join_all(deleting).await, ..Default::default() }
    })
}
