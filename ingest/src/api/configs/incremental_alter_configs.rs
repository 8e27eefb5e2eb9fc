//! IncrementalAlterConfigs (44): changes single settings of a topic; all others stay.

use std::collections::HashSet;
use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource, IncrementalAlterConfigsResponse,
    IncrementalAlterableConfig,
};
use futures::future::BoxFuture;

use super::alter::{Alteration, alter_all};
use crate::api::error::ApiError;
use crate::api::{BrokerContext, answer};
use crate::state::topic_config::{ConfigChange, ConfigError, TopicSetting, ValueKind};

/// Kafka's numbers for what is done to a setting.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked: IncrementalAlterConfigsRequest| async move {
        let alterations = asked.resources.into_iter().map(alteration).collect();
        let responses = alter_all(&broker, alterations, asked.validate_only).await;
        IncrementalAlterConfigsResponse { responses, ..Default::default() }
    })
}

fn alteration(asked: IncrementalAlterConfigsResource) -> Alteration {
    let change = change(asked.configs);
    Alteration { resource_type: asked.resource_type, resource_name: asked.resource_name, change }
}

fn change(asked: Vec<IncrementalAlterableConfig>) -> Result<ConfigChange, ApiError> {
    let mut names = HashSet::new();
    if !asked.iter().all(|config| names.insert(&config.name)) {
        return Err(ApiError::Request { reason: "each setting is named once" });
    }
    let values: Result<Vec<_>, _> = asked.into_iter().map(value).collect();
    Ok(ConfigChange::new(false, values?)?)
}

/// A setting and what its value is to be; `None` for its default.
fn value(asked: IncrementalAlterableConfig) -> Result<(String, Option<String>), ApiError> {
    let name = asked.name;
    let value = match (asked.config_operation, asked.value) {
        (DELETE, _) => None,
        (SET, Some(value)) => Some(value),
        (operation @ (APPEND | SUBTRACT), Some(words)) => Some(changed_list(&name, operation, &words)?),
        (SET | APPEND | SUBTRACT, None) => return Err(ApiError::Request { reason: "a value is needed, not null" }),
        _ => {
            return Err(ApiError::Request {
                reason: "a setting is set (0), deleted (1), appended to (2) or subtracted from (3)",
            });
        }
    };
    Ok((name, value))
}

/// A list with more words, or fewer. All lists there are can only be what they are by default, so what comes of it does
/// not depend on the topic.
fn changed_list(name: &str, operation: i8, words: &str) -> Result<String, ConfigError> {
    let setting = TopicSetting::named(name).filter(|setting| setting.kind == ValueKind::List && setting.is_fixed);
    let mut list: Vec<&str> = setting.ok_or_else(|| ConfigError::no_list(name))?.default.split(',').collect();
    for word in words.split(',').map(str::trim) {
        list.retain(|held| *held != word);
        if operation == APPEND {
            list.push(word);
        }
    }
    Ok(list.join(","))
}
