//! DescribeConfigs (32): settings of topics and the broker, and where their values come from.

use std::collections::HashSet;
use std::sync::Arc;

use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym, ErrorCode,
};
use futures::future::{BoxFuture, ready};

use super::entry::{ConfigEntry, ConfigSource};
use super::{ConfigResource, topic_entries};
use crate::api::error::ApiError;
use crate::api::{BrokerContext, answer};

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked| ready(describe_all(&broker, asked)))
}

/// Describes each resource once, so that the answer is bounded by what there is.
fn describe_all(broker: &BrokerContext, asked: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let mut seen = HashSet::new();
    let (synonyms, documentation) = (asked.include_synonyms, asked.include_documentation);
    let once = asked
        .resources
        .into_iter()
        .filter(|resource| seen.insert((resource.resource_type, resource.resource_name.clone())));
    let results = once.map(|resource| match entries(broker, &resource) {
        Ok(entries) => DescribeConfigsResult {
            error_message: None,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: entries.into_iter().map(|entry| described(entry, synonyms, documentation)).collect(),
            error_code: ErrorCode::NONE,
        },
        Err(error) => DescribeConfigsResult {
            error_code: error.code(),
            error_message: Some(error.to_string()),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: Vec::new(),
        },
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

/// The settings that are asked for: all, if none is named.
fn entries(broker: &BrokerContext, asked: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, ApiError> {
    let mut entries = match ConfigResource::find(broker, asked.resource_type, &asked.resource_name)? {
        ConfigResource::Topic(topic) => topic_entries(&topic.config),
        ConfigResource::Broker => broker.config.entries().to_vec(),
        ConfigResource::AllBrokers => Vec::new(),
    };
    if let Some(names) = asked.configuration_keys.as_ref().filter(|names| !names.is_empty()) {
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        entries.retain(|entry| names.contains(entry.name.as_str()));
    }
    Ok(entries)
}

fn described(entry: ConfigEntry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let synonym = |name: &str, value: &str, source: ConfigSource| DescribeConfigsSynonym {
        name: name.into(),
        value: Some(value.into()),
        source: source as i8,
    };
    let default = entry.default.map(|(name, value)| synonym(name, value, ConfigSource::Default));
    let is_given = default.is_none() || entry.source != ConfigSource::Default;
    let given = is_given.then(|| synonym(&entry.name, &entry.value, entry.source));
    let values = given.into_iter().chain(default);
    DescribeConfigsResourceResult {
        synonyms: if synonyms { values.collect() } else { Vec::new() },
        documentation: documentation.then(|| entry.meaning.into()),
        is_default: entry.source == ConfigSource::Default,
        config_source: entry.source as i8,
        config_type: entry.kind as i8,
        read_only: entry.is_read_only,
        is_sensitive: false,
        name: entry.name,
        value: Some(entry.value),
    }
}
