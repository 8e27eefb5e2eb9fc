//! AlterConfigs (33): gives a topic other settings; those that are not named go back to their default.

use std::collections::HashSet;
use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse, AlterableConfig};
use futures::future::BoxFuture;

use super::alter::{Alteration, alter_all};
use crate::api::error::ApiError;
use crate::api::{BrokerContext, answer};
use crate::state::topic_config::ConfigChange;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: AlterConfigsRequest| async move {
        let alterations = asked.resources.into_iter().map(alteration).collect();
        let responses = alter_all(&broker, alterations, asked.validate_only).await;
        AlterConfigsResponse { responses, ..Default::default() }
    })
}

fn alteration(asked: AlterConfigsResource) -> Alteration {
    let change = change(asked.configs);
    Alteration { resource_type: asked.resource_type, resource_name: asked.resource_name, change }
}

fn change(asked: Vec<AlterableConfig>) -> Result<ConfigChange, ApiError> {
    let mut names = HashSet::new();
    let all_once = asked.iter().all(|config| names.insert(&config.name));
    if !all_once || asked.iter().any(|config| config.value.is_none()) {
        return Err(ApiError::Request { reason: "each setting is named once, with a value" });
    }
    Ok(ConfigChange::new(true, asked.into_iter().map(|config| (config.name, config.value)))?)
}
