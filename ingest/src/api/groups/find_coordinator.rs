//! FindCoordinator (10): there is one broker, and it coordinates all groups.

use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{ErrorCode, FindCoordinatorRequest, FindCoordinatorResponse, KeyCoordinator};
use futures::future::{BoxFuture, ready};

use crate::api::error::ApiError;
use crate::api::{BROKER_ID, BrokerContext, answer};
use crate::listener::Address;

/// Asks for a consumer group's coordinator.
const GROUP: i8 = 0;
/// Asks for a transactional producer's coordinator.
const TRANSACTION: i8 = 1;
/// Clients ask for several at once from this version on (KIP-699).
const BATCHED_FROM: i16 = 4;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (address, version) = (broker.advertised_to(&request), request.version());
    answer(&request, move |asked: FindCoordinatorRequest| {
        ready(if version < BATCHED_FROM { one(&address, &asked) } else { several(&address, asked) })
    })
}

fn one(address: &Address, asked: &FindCoordinatorRequest) -> FindCoordinatorResponse {
    let found = coordinator(address, asked.key_type, asked.key.clone());
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

fn several(address: &Address, asked: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let found = asked.coordinator_keys.into_iter().map(|key| coordinator(address, asked.key_type, key));
    FindCoordinatorResponse { coordinators: found.collect(), ..Default::default() }
}

fn coordinator(address: &Address, key_type: i8, key: String) -> KeyCoordinator {
    let error = match key_type {
        GROUP => None,
        TRANSACTION => Some(ApiError::Transactional),
        _ => Some(ApiError::Request { reason: "only groups and transactions have coordinators here" }),
    };
    match error {
        None => KeyCoordinator {
            key,
            node_id: BROKER_ID,
            host: address.host.clone(),
            port: address.port.into(),
            error_code: ErrorCode::NONE,
            error_message: None,
        },
        Some(error) => KeyCoordinator {
            key,
            node_id: -1,
            host: String::new(),
            port: -1,
            error_code: error.code(),
            error_message: Some(error.to_string()),
        },
    }
}
