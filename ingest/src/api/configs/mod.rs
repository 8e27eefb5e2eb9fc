//! The APIs of settings, one a file: those of topics are described and changed, those of the broker are described.

mod alter;
pub mod alter_configs;
pub mod broker_config;
pub mod describe_configs;
mod entry;
pub mod incremental_alter_configs;

pub use self::entry::{ConfigEntry, topic_entries};

use std::sync::Arc;

use super::error::ApiError;
use super::{BROKER_ID, BrokerContext, topic_name};
use crate::lane::tail::TopicView;

/// Kafka's numbers for what has settings.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// What has settings.
enum ConfigResource {
    Topic(Arc<TopicView>),
    /// The one broker.
    Broker,
    /// What holds for all brokers unless they say otherwise: nothing does.
    AllBrokers,
}

impl ConfigResource {
    /// What a request names.
    fn find(broker: &BrokerContext, resource_type: i8, name: &str) -> Result<Self, ApiError> {
        match resource_type {
            TOPIC => {
                topic_name::check(name)?;
                let topics = broker.lane.topics();
                topics.named(name).cloned().map(Self::Topic).ok_or(ApiError::UnknownTopic)
            }
            BROKER if name.is_empty() => Ok(Self::AllBrokers),
            BROKER if name == BROKER_ID.to_string() => Ok(Self::Broker),
            BROKER => Err(ApiError::Request { reason: "the one broker has the id 1" }),
            _ => Err(ApiError::Request { reason: "only topics (2) and the broker (4) have settings" }),
        }
    }
}
