//! DeleteTopics (20): topics are gone at once; their bytes stay in the segments that they share with others.

use std::collections::HashMap;
use std::sync::Arc;

use chronik_format::ids::TopicId;
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use futures::future::{BoxFuture, join_all};
use uuid::Uuid;

use super::error::ApiError;
use super::{BrokerContext, answer};
use crate::clock::now_ms;
use crate::lane::tail::TopicView;
use crate::state::command::{Command, DeleteTopic};

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, |asked| async move { delete_all(&broker, asked).await })
}

async fn delete_all(broker: &BrokerContext, asked: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = asked.topic_names.into_iter().map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let mut times: HashMap<(Option<String>, Uuid), usize> = HashMap::new();
    let topics: Vec<_> = asked.topics.into_iter().chain(by_name).collect();
    for topic in &topics {
        *times.entry(key(topic)).or_default() += 1;
    }
    // One answer for what is named several times, as with Kafka.
    let once = topics.into_iter().filter_map(|topic| times.remove(&key(&topic)).map(|times| (topic, times)));
    let responses = join_all(once.map(|(topic, times)| delete(broker, topic, times))).await;
    DeleteTopicsResponse { responses, ..Default::default() }
}

fn key(topic: &DeleteTopicState) -> (Option<String>, Uuid) {
    (topic.name.clone(), topic.topic_id)
}

async fn delete(broker: &BrokerContext, asked: DeleteTopicState, times: usize) -> DeletableTopicResult {
    let deleted = async {
        if times > 1 {
            return Err(ApiError::Request { reason: "the topic is named several times" });
        }
        let topic = find(broker, &asked)?;
        broker.lane.propose(Command::DeleteTopic(DeleteTopic { id: topic.id, at: now_ms() })).await?;
        Ok(topic)
    };
    match deleted.await {
        Ok(topic) => {
            DeletableTopicResult { name: Some(topic.name.to_string()), topic_id: topic.id.0, ..Default::default() }
        }
        Err(error) => DeletableTopicResult {
            name: asked.name,
            topic_id: asked.topic_id,
            error_code: error.code(),
            error_message: Some(error.to_string()),
        },
    }
}

fn find(broker: &BrokerContext, asked: &DeleteTopicState) -> Result<Arc<TopicView>, ApiError> {
    let topics = broker.lane.topics();
    match (&asked.name, asked.topic_id) {
        (Some(name), id) if id.is_nil() => topics.named(name).cloned().ok_or(ApiError::UnknownTopic),
        (None, id) if !id.is_nil() => topics.get(TopicId(id)).cloned().ok_or(ApiError::UnknownTopicId),
        _ => Err(ApiError::Request { reason: "a topic is deleted by its name or by its id" }),
    }
}
