//! CreateTopics (19). Any replication factor is accepted, as clients ask for 3 by habit; the answer says 1.

use std::collections::HashMap;
use std::sync::Arc;

use chronik_format::ids::TopicId;
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use futures::future::{BoxFuture, join_all};
use uuid::Uuid;

use super::configs::{ConfigEntry, topic_entries};
use super::error::ApiError;
use super::{BROKER_ID, BrokerContext, answer, topic_name};
use crate::lane::LaneError;
use crate::state::command::{Command, CreateTopic};
use crate::state::refusal::CommandRefusal;
use crate::state::topic_config::{ConfigError, TopicConfig};

/// The most partitions that a topic, and all topics of one request, can have.
pub const PARTITIONS_MAX: i32 = 10_000;
/// Replicas of every topic.
const REPLICATION_FACTOR: i16 = 1;
/// "Your default", for partitions and replicas.
const DEFAULT: i32 = -1;
/// Defaults can be asked for from this version on (KIP-464).
const DEFAULTS_FROM: i16 = 4;

/// A topic that can be created.
#[derive(Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// A name that topics can have.
    pub name: String,
    /// At least 1.
    pub partitions: i32,
    /// Its settings.
    pub config: TopicConfig,
}

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, version) = (broker.clone(), request.version());
    answer(&request, move |asked| async move { create_all(&broker, asked, version).await })
}

/// Creates a topic and returns its identity, which no topic had before.
pub async fn create(broker: &BrokerContext, new: NewTopic) -> Result<TopicId, ApiError> {
    let id = TopicId(Uuid::now_v7());
    let NewTopic { name, partitions, config } = new;
    broker.lane.propose(Command::CreateTopic(CreateTopic { id, name, partitions, config })).await?;
    Ok(id)
}

async fn create_all(broker: &BrokerContext, asked: CreateTopicsRequest, version: i16) -> CreateTopicsResponse {
    let checked = check_all(asked.topics, version, broker.num_partitions);
    let create = |(name, checked)| create_one(broker, name, checked, asked.validate_only);
    let topics = join_all(checked.into_iter().map(create)).await;
    CreateTopicsResponse { topics, ..Default::default() }
}

async fn create_one(
    broker: &BrokerContext,
    name: String,
    checked: Result<NewTopic, ApiError>,
    validate_only: bool,
) -> CreatableTopicResult {
    let created = async {
        let new = checked?;
        if broker.lane.topics().named(&name).is_some() {
            return Err(ApiError::from(LaneError::from(CommandRefusal::TopicExists)));
        }
        let partitions = new.partitions;
        let configs = described(&new.config);
        let id = if validate_only { TopicId::default() } else { create(broker, new).await? };
        Ok((id, partitions, configs))
    };
    match created.await {
        Ok((id, num_partitions, configs)) => CreatableTopicResult {
            name,
            topic_id: id.0,
            error_message: None,
            num_partitions,
            replication_factor: REPLICATION_FACTOR,
            configs: Some(configs),
            ..Default::default()
        },
        Err(error) => CreatableTopicResult {
            name,
            error_code: error.code(),
            error_message: Some(error.to_string()),
            ..Default::default()
        },
    }
}

fn described(config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    let setting = |entry: ConfigEntry| CreatableTopicConfigs {
        name: entry.name,
        value: Some(entry.value),
        read_only: entry.is_read_only,
        config_source: entry.source as i8,
        is_sensitive: false,
    };
    topic_entries(config).into_iter().map(setting).collect()
}

/// Each name of the request once, and what is to be created under it.
fn check_all(
    asked: Vec<CreatableTopic>,
    version: i16,
    default_partitions: i32,
) -> Vec<(String, Result<NewTopic, ApiError>)> {
    let mut times: HashMap<String, usize> = HashMap::new();
    for topic in &asked {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut partitions_left = PARTITIONS_MAX;
    let check_once = |topic: CreatableTopic| {
        let times = times.remove(&topic.name)?;
        let name = topic.name.clone();
        let checked = match times {
            1 => check(topic, version, default_partitions).and_then(|new| within(&mut partitions_left, new)),
            _ => Err(ApiError::Request { reason: "the topic is named several times" }),
        };
        Some((name, checked))
    };
    asked.into_iter().filter_map(check_once).collect()
}

/// One request creates a bounded number of partitions, as with Kafka.
fn within(partitions_left: &mut i32, new: NewTopic) -> Result<NewTopic, ApiError> {
    if new.partitions > *partitions_left {
        return Err(ApiError::PartitionsTogether { max: PARTITIONS_MAX });
    }
    *partitions_left -= new.partitions;
    Ok(new)
}

fn check(asked: CreatableTopic, version: i16, default_partitions: i32) -> Result<NewTopic, ApiError> {
    topic_name::check(&asked.name)?;
    let partitions = match asked.num_partitions {
        DEFAULT if !asked.assignments.is_empty() => assigned(&asked.assignments)?,
        _ if !asked.assignments.is_empty() => {
            return Err(ApiError::Request { reason: "a manual assignment goes with -1 partitions" });
        }
        DEFAULT if version >= DEFAULTS_FROM => default_partitions,
        partitions => partitions,
    };
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        return Err(ApiError::Partitions { partitions, max: PARTITIONS_MAX });
    }
    let factor = asked.replication_factor;
    if factor < 1 && i32::from(factor) != DEFAULT {
        return Err(ApiError::ReplicationFactor { factor });
    }
    let entry = |name: String, value: Option<String>| match value {
        Some(value) => Ok((name, value)),
        None => Err(ConfigError::Value { name, value: "null".into(), accepted: "a value" }),
    };
    let entries: Result<Vec<_>, _> = asked.configs.into_iter().map(|config| entry(config.name, config.value)).collect();
    Ok(NewTopic { name: asked.name, partitions, config: TopicConfig::new(entries?)? })
}

/// The number of partitions of a manual assignment, which can only be what would be assigned anyway.
fn assigned(assignments: &[CreatableReplicaAssignment]) -> Result<i32, ApiError> {
    let count = i32::try_from(assignments.len()).unwrap_or(i32::MAX);
    let mut numbers: Vec<_> = assignments.iter().map(|assignment| assignment.partition_index).collect();
    numbers.sort_unstable();
    let is_ours = assignments.iter().all(|assignment| assignment.broker_ids == [BROKER_ID]);
    if is_ours && numbers.into_iter().eq(0..count) { Ok(count) } else { Err(ApiError::ReplicaAssignment) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use chronik_wire::{CreatableTopicConfig, ErrorCode};

    use super::*;

    fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
        CreatableTopic { name: name.into(), num_partitions, replication_factor, ..Default::default() }
    }

    fn with_config(name: &str, value: Option<&str>) -> CreatableTopic {
        let config = CreatableTopicConfig { name: name.into(), value: value.map(Into::into) };
        CreatableTopic { configs: vec![config], ..topic("a", 1, 1) }
    }

    fn with_assignments(num_partitions: i32, assignments: &[(i32, &[i32])]) -> CreatableTopic {
        let assignment = |(partition_index, brokers): &(i32, &[i32])| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: brokers.to_vec(),
        };
        CreatableTopic { assignments: assignments.iter().map(assignment).collect(), ..topic("a", num_partitions, -1) }
    }

    #[test]
    fn a_topic_has_the_partitions_asked_for_or_the_default() {
        for (asked, version, partitions) in [
            (topic("a", 3, 1), 2, 3),
            (topic("a", 10_000, 3), 7, 10_000),
            (topic("a", -1, -1), 4, 6),
            (with_assignments(-1, &[(1, &[1]), (0, &[1])]), 2, 2),
        ] {
            assert_eq!(check(asked, version, 6).unwrap().partitions, partitions);
        }
    }

    #[test]
    fn what_can_not_be_has_the_code_that_kafka_gives() {
        for (asked, version, code) in [
            (topic("a b", 1, 1), 7, ErrorCode::INVALID_TOPIC_EXCEPTION),
            (topic("a", 0, 1), 7, ErrorCode::INVALID_PARTITIONS),
            (topic("a", -2, 1), 7, ErrorCode::INVALID_PARTITIONS),
            (topic("a", -1, 1), 3, ErrorCode::INVALID_PARTITIONS),
            (topic("a", 10_001, 1), 7, ErrorCode::INVALID_PARTITIONS),
            (topic("a", 1, 0), 7, ErrorCode::INVALID_REPLICATION_FACTOR),
            (topic("a", 1, -2), 7, ErrorCode::INVALID_REPLICATION_FACTOR),
            (with_config("retention.bits", Some("1")), 7, ErrorCode::INVALID_CONFIG),
            (with_config("max.message.bytes", Some("many")), 7, ErrorCode::INVALID_CONFIG),
            (with_config("max.message.bytes", None), 7, ErrorCode::INVALID_CONFIG),
            (with_assignments(2, &[(0, &[1]), (1, &[1])]), 7, ErrorCode::INVALID_REQUEST),
            (with_assignments(-1, &[(0, &[2])]), 7, ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (with_assignments(-1, &[(0, &[1, 2])]), 7, ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (with_assignments(-1, &[(1, &[1])]), 7, ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (with_assignments(-1, &[(0, &[1]), (0, &[1])]), 7, ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        ] {
            let shown = format!("{asked:?}");
            assert_eq!(check(asked, version, 6).unwrap_err().code(), code, "{shown}");
        }
    }

    #[test]
    fn a_name_is_answered_once_and_a_request_creates_so_many_partitions_and_no_more() {
        let asked = [("a", 1), ("b", 9_999), ("a", 1), ("c", 1), ("d", 1)];
        let asked = asked.map(|(name, partitions)| topic(name, partitions, 1));
        let checked = check_all(asked.to_vec(), 7, 1);
        let codes: Vec<_> = checked
            .iter()
            .map(|(name, checked)| (name.as_str(), checked.as_ref().map_or_else(ApiError::code, |_| ErrorCode::NONE)))
            .collect();
        let expected = [
            ("a", ErrorCode::INVALID_REQUEST),
            ("b", ErrorCode::NONE),
            ("c", ErrorCode::NONE),
            ("d", ErrorCode::POLICY_VIOLATION),
        ];
        assert_eq!(codes, expected);
    }
}
