//! Settings of topics: those that a topic has of its own, and changes of them.

use std::collections::BTreeMap;

use chronik_wire::{
    DescribeConfigsRequest, DescribeConfigsResource, ErrorCode, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource, IncrementalAlterableConfig, Message,
};

use super::KafkaError;
use super::client::KafkaClient;

/// Kafka's number for what has settings.
const TOPIC: i8 = 2;
/// Kafka's number for where a value comes from, if it is the topic's own.
const OF_TOPIC: i8 = 1;
/// Kafka's numbers for what happens to a setting.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// A setting that gets a value, or its default again.
#[derive(Debug)]
pub struct SettingChange {
    pub name: String,
    pub value: Option<String>,
}

impl KafkaClient {
    /// The settings that a topic has of its own, by name.
    pub async fn topic_settings(&mut self, topic: &str) -> Result<BTreeMap<String, String>, KafkaError> {
        let resource =
            DescribeConfigsResource { resource_type: TOPIC, resource_name: topic.to_owned(), configuration_keys: None };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        // Version 0 says only what is a default, which a topic can have set too.
        let versions = 1..=*DescribeConfigsRequest::VERSIONS.end();
        let answer = self.home().await?.call(versions, &request).await?;
        let mut settings = BTreeMap::new();
        for described in answer.results {
            check(topic, described.error_code, described.error_message, "asking for the settings of")?;
            let own = described.configs.into_iter().filter(|config| config.config_source == OF_TOPIC);
            settings.extend(own.map(|config| (config.name, config.value.unwrap_or_default())));
        }
        Ok(settings)
    }

    /// Changes settings of a topic, all or none.
    pub async fn alter_topic(
        &mut self,
        topic: &str,
        changes: impl IntoIterator<Item = SettingChange>,
    ) -> Result<(), KafkaError> {
        let configs = changes.into_iter().map(|SettingChange { name, value }| IncrementalAlterableConfig {
            name,
            config_operation: if value.is_some() { SET } else { DELETE },
            value,
        });
        let resource = IncrementalAlterConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.to_owned(),
            configs: configs.collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let answer = self.home().await?.call(IncrementalAlterConfigsRequest::VERSIONS, &request).await?;
        for altered in answer.responses {
            check(topic, altered.error_code, altered.error_message, "changing")?;
        }
        Ok(())
    }
}

fn check(topic: &str, code: ErrorCode, message: Option<String>, doing: &str) -> Result<(), KafkaError> {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Err(KafkaError::UnknownTopic { name: topic.to_owned() }),
        code => KafkaError::check(code, message, || format!("{doing} topic {topic}")),
    }
}
