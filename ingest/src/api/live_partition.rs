//! The partition that a request names.

use std::sync::Arc;

use chronik_format::ids::PartitionId;

use super::BrokerContext;
use super::error::ApiError;
use crate::lane::tail::{PartitionTail, TopicView};

/// A partition of a living topic.
#[derive(Clone)]
pub struct LivePartition {
    pub topic: Arc<TopicView>,
    /// The partition's number.
    pub partition: PartitionId,
    /// What is seen of the partition.
    pub tail: Arc<PartitionTail>,
}

impl LivePartition {
    /// A partition by its number.
    pub fn of(topic: &Arc<TopicView>, partition: PartitionId) -> Result<Self, ApiError> {
        let tail = topic.partition(partition).ok_or(ApiError::UnknownPartition)?.clone();
        Ok(Self { topic: topic.clone(), partition, tail })
    }

    /// Compares the leader epoch that a client believes in (-1: none) with the true one, so that neither an outdated
    /// client nor an outdated broker goes unnoticed.
    pub fn check_leader_epoch(&self, believed: i32) -> Result<(), ApiError> {
        let current = self.tail.bounds().leader_epoch;
        match believed {
            ..0 => Ok(()),
            _ if believed < current => Err(ApiError::FencedLeaderEpoch { believed, current }),
            _ if believed > current => Err(ApiError::UnknownLeaderEpoch { believed, current }),
            _ => Ok(()),
        }
    }
}

impl BrokerContext {
    /// The partition of a topic's name and a number.
    pub fn place(&self, topic: &str, partition: PartitionId) -> Result<LivePartition, ApiError> {
        let topics = self.lane.topics();
        LivePartition::of(topics.named(topic).ok_or(ApiError::UnknownTopic)?, partition)
    }
}
