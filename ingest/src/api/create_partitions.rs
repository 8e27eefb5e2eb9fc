//! CreatePartitions (37): adds partitions to topics.

use std::collections::HashMap;
use std::sync::Arc;

use chronik_format::ids::TopicId;
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult, ErrorCode,
};
use futures::future::{BoxFuture, join_all};

use super::create_topics::PARTITIONS_MAX;
use super::error::ApiError;
use super::{BROKER_ID, BrokerContext, answer};
use crate::lane::LaneError;
use crate::state::command::{AddPartitions, Command};
use crate::state::refusal::CommandRefusal;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let broker = broker.clone();
    answer(&request, move |asked| async move { create_all(&broker, asked).await })
}

async fn create_all(broker: &BrokerContext, asked: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let create = |(name, checked)| create_one(broker, name, checked, asked.validate_only);
    let results = join_all(check_all(broker, asked.topics).into_iter().map(create)).await;
    CreatePartitionsResponse { results, ..Default::default() }
}

async fn create_one(
    broker: &BrokerContext,
    name: String,
    checked: Result<AddPartitions, ApiError>,
    validate_only: bool,
) -> CreatePartitionsTopicResult {
    let created = async {
        let add = checked?;
        if !validate_only {
            broker.lane.propose(Command::AddPartitions(add)).await?;
        }
        Ok::<_, ApiError>(())
    };
    let (error_code, error_message) = match created.await {
        Ok(()) => (ErrorCode::NONE, None),
        Err(error) => (error.code(), Some(error.to_string())),
    };
    CreatePartitionsTopicResult { name, error_code, error_message }
}

/// Each name of the request once, and what is to be added under it.
fn check_all(
    broker: &BrokerContext,
    asked: Vec<CreatePartitionsTopic>,
) -> Vec<(String, Result<AddPartitions, ApiError>)> {
    let mut times: HashMap<String, usize> = HashMap::new();
    for topic in &asked {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut partitions_left = PARTITIONS_MAX;
    let check_once = |topic: CreatePartitionsTopic| {
        let times = times.remove(&topic.name)?;
        let checked = match times {
            1 => check(broker, &topic, &mut partitions_left),
            _ => Err(ApiError::Request { reason: "the topic is named several times" }),
        };
        Some((topic.name, checked))
    };
    asked.into_iter().filter_map(check_once).collect()
}

/// One request creates a bounded number of partitions, as with Kafka.
fn check(
    broker: &BrokerContext,
    asked: &CreatePartitionsTopic,
    partitions_left: &mut i32,
) -> Result<AddPartitions, ApiError> {
    let (topic, partitions): (TopicId, usize) = {
        let topics = broker.lane.topics();
        let topic = topics.named(&asked.name).ok_or(ApiError::UnknownTopic)?;
        (topic.id, topic.partitions.len())
    };
    let count = asked.count;
    if !(1..=PARTITIONS_MAX).contains(&count) {
        return Err(ApiError::Partitions { partitions: count, max: PARTITIONS_MAX });
    }
    let more = count.saturating_sub(i32::try_from(partitions).unwrap_or(i32::MAX));
    if more <= 0 {
        return Err(LaneError::from(CommandRefusal::HasPartitions { partitions }).into());
    }
    if more > *partitions_left {
        return Err(ApiError::PartitionsTogether { max: PARTITIONS_MAX });
    }
    // Some clients have an empty list for "choose yourself".
    let assigned = asked.assignments.as_ref().filter(|assigned| !assigned.is_empty());
    let is_ours =
        |assigned: &Vec<CreatePartitionsAssignment>| assigned.len() == more as usize && assigned.iter().all(is_here);
    if !assigned.is_none_or(is_ours) {
        return Err(ApiError::ReplicaAssignment);
    }
    *partitions_left -= more;
    Ok(AddPartitions { topic, count })
}

/// A manual assignment can only be what would be assigned anyway.
fn is_here(assignment: &CreatePartitionsAssignment) -> bool {
    assignment.broker_ids == [BROKER_ID]
}
