//! Metadata (3): the broker, its topics, and on the way the creation of those that are missing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chronik_format::ids::TopicId;
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    ErrorCode, MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use futures::future::{BoxFuture, join_all};

use super::create_topics::{NewTopic, PARTITIONS_MAX, create};
use super::error::ApiError;
use super::{BROKER_ID, BrokerContext, answer, topic_name};
use crate::lane::LaneError;
use crate::lane::tail::TopicView;
use crate::listener::Address;
use crate::state::refusal::CommandRefusal;
use crate::state::topic_config::TopicConfig;

/// Topics can be asked for by id from this version on; before, ids are ignored.
const IDS_FROM: i16 = 12;

/// What a client may do where nobody is refused: the bits of Kafka's operations, of which a topic has READ, WRITE, CREATE,
/// DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS, ...
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// ... and a cluster CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS and IDEMPOTENT_WRITE.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, version, address) = (broker.clone(), request.version(), broker.advertised_to(&request));
    answer(&request, move |asked| async move { metadata(&broker, address, asked, version).await })
}

async fn metadata(
    broker: &BrokerContext,
    Address { host, port }: Address,
    asked: MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let mut topics = match asked.topics {
        Some(topics) if version > 0 || !topics.is_empty() => {
            let may_create = broker.auto_create_topics && asked.allow_auto_topic_creation;
            named_topics(broker, topics, version, may_create).await
        }
        _ => all_topics(broker),
    };
    if asked.include_topic_authorized_operations {
        let known = topics.iter_mut().filter(|topic| topic.error_code == ErrorCode::NONE);
        known.for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    let mut answer = MetadataResponse {
        brokers: vec![MetadataResponseBroker { node_id: BROKER_ID, host, port: port.into(), rack: None }],
        cluster_id: Some(broker.cluster.to_string()),
        controller_id: BROKER_ID,
        topics,
        ..Default::default()
    };
    if asked.include_cluster_authorized_operations {
        answer.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    answer
}

fn all_topics(broker: &BrokerContext) -> Vec<MetadataResponseTopic> {
    let mut topics: Vec<_> = broker.lane.topics().iter().map(|topic| described(topic)).collect();
    topics.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    topics
}

/// What each topic is, those asked for several times once.
async fn named_topics(
    broker: &BrokerContext,
    asked: Vec<MetadataRequestTopic>,
    version: i16,
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let ask = |topic: MetadataRequestTopic| match topic.topic_id {
        id if version >= IDS_FROM && !id.is_nil() => Ask::Id(TopicId(id)),
        _ => topic.name.map_or(Ask::Nothing, Ask::Name),
    };
    let mut seen = HashSet::new();
    let asked: Vec<_> = asked.into_iter().map(ask).filter(|ask| seen.insert(ask.clone())).collect();
    let mut refused = if may_create { create_missing(broker, &asked).await } else { HashMap::new() };
    let topics = broker.lane.topics();
    let answer = |ask: Ask| match ask {
        Ask::Name(name) => match topics.named(&name) {
            Some(topic) => described(topic),
            None => unknown(missing(&name, refused.remove(&name)), Some(name), TopicId::default()),
        },
        Ask::Id(id) => match topics.get(id) {
            Some(topic) => described(topic),
            None => unknown(ApiError::UnknownTopicId, None, id),
        },
        Ask::Nothing => unknown(ApiError::Request { reason: "no name" }, None, TopicId::default()),
    };
    asked.into_iter().map(answer).collect()
}

/// How a topic is asked for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Ask {
    Name(String),
    Id(TopicId),
    /// By neither name nor id.
    Nothing,
}

/// Creates topics that are asked for by name and don't exist; returns why some were not. Where another client is
/// faster, its topic is the one.
async fn create_missing(broker: &BrokerContext, asked: &[Ask]) -> HashMap<String, ApiError> {
    let most = (PARTITIONS_MAX / broker.num_partitions.max(1)).max(1) as usize;
    let missing: BTreeSet<String> = {
        let topics = broker.lane.topics();
        let names = asked.iter().filter_map(|ask| if let Ask::Name(name) = ask { Some(name) } else { None });
        let missing = names.filter(|name| topics.named(name).is_none() && topic_name::check(name).is_ok());
        missing.take(most).cloned().collect()
    };
    let create = |name: String| async move {
        let new = NewTopic { name: name.clone(), partitions: broker.num_partitions, config: TopicConfig::default() };
        match create(broker, new).await {
            Ok(_) | Err(ApiError::Lane(LaneError::Refused(CommandRefusal::TopicExists))) => None,
            Err(error) => Some((name, error)),
        }
    };
    join_all(missing.into_iter().map(create)).await.into_iter().flatten().collect()
}

fn missing(name: &str, refused: Option<ApiError>) -> ApiError {
    match topic_name::check(name) {
        Err(error) => error.into(),
        Ok(()) => refused.unwrap_or(ApiError::UnknownTopic),
    }
}

fn described(topic: &TopicView) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(partition_index, tail)| MetadataResponsePartition {
        partition_index,
        leader_id: BROKER_ID,
        leader_epoch: tail.bounds().leader_epoch,
        replica_nodes: vec![BROKER_ID],
        isr_nodes: vec![BROKER_ID],
        ..Default::default()
    });
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id.0,
        partitions: partitions.collect(),
        ..Default::default()
    }
}

fn unknown(error: ApiError, name: Option<String>, id: TopicId) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: error.code(), name, topic_id: id.0, ..Default::default() }
}
