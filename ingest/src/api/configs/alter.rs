//! What the two ways to change settings have in common.

use std::collections::HashMap;

use chronik_wire::{AlterConfigsResourceResponse, ErrorCode};
use futures::future::join_all;

use super::ConfigResource;
use crate::api::BrokerContext;
use crate::api::error::ApiError;
use crate::state::command::{AlterTopicConfig, Command};
use crate::state::topic_config::ConfigChange;

/// A change that is asked for.
pub struct Alteration {
    pub resource_type: i8,
    /// The topic's name, or the broker's number.
    pub resource_name: String,
    /// Of a topic; or why there can't be such a change.
    pub change: Result<ConfigChange, ApiError>,
}

impl Alteration {
    fn key(&self) -> (i8, String) {
        (self.resource_type, self.resource_name.clone())
    }
}

/// Changes every resource that is named once. Of one resource everything is changed, or nothing.
pub async fn alter_all(
    broker: &BrokerContext,
    asked: Vec<Alteration>,
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse> {
    let mut times: HashMap<(i8, String), usize> = HashMap::new();
    for alteration in &asked {
        *times.entry(alteration.key()).or_default() += 1;
    }
    let once = asked.into_iter().filter_map(|alteration| {
        let times = times.remove(&alteration.key())?;
        Some((alteration, times))
    });
    join_all(once.map(|(alteration, times)| alter(broker, alteration, times, validate_only))).await
}

async fn alter(
    broker: &BrokerContext,
    Alteration { resource_type, resource_name, change }: Alteration,
    times: usize,
    validate_only: bool,
) -> AlterConfigsResourceResponse {
    let altered = async {
        if times > 1 {
            return Err(ApiError::Request { reason: "the resource is named several times" });
        }
        let ConfigResource::Topic(topic) = ConfigResource::find(broker, resource_type, &resource_name)? else {
            return Err(ApiError::Request {
                reason: "the broker's settings are given at its start, by flag or variable",
            });
        };
        let change = change?;
        topic.config.changed(&change)?;
        if !validate_only {
            broker.lane.propose(Command::AlterTopicConfig(AlterTopicConfig { topic: topic.id, change })).await?;
        }
        Ok(())
    };
    let (error_code, error_message) = match altered.await {
        Ok(()) => (ErrorCode::NONE, None),
        Err(error) => (error.code(), Some(error.to_string())),
    };
    AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
}
