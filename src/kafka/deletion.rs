//! Topics that are deleted, and records from the start of their partitions.

use std::collections::{BTreeMap, HashMap};

use chronik_format::ids::{Offset, PartitionId};
use chronik_wire::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, DeleteTopicState, DeleteTopicsRequest, Message,
};

use super::KafkaError;
use super::client::{KafkaClient, TopicLeaders};

/// How long a broker may take for it, ms.
const TIMEOUT_MS: i32 = 30_000;

impl KafkaClient {
    /// Deletes topics; returns why some of them stay, by name.
    pub async fn delete_topics(&mut self, topics: &[String]) -> Result<BTreeMap<String, KafkaError>, KafkaError> {
        let by_name = |name: &String| DeleteTopicState { name: Some(name.clone()), ..Default::default() };
        let request = DeleteTopicsRequest {
            topics: topics.iter().map(by_name).collect(),
            topic_names: topics.to_vec(),
            timeout_ms: TIMEOUT_MS,
        };
        let answer = self.home().await?.call(DeleteTopicsRequest::VERSIONS, &request).await?;
        let mut refusals = BTreeMap::new();
        for deleted in answer.responses {
            let name = deleted.name.unwrap_or_default();
            let what = || format!("deleting topic {name}");
            if let Err(refusal) = KafkaError::check(deleted.error_code, deleted.error_message, what) {
                refusals.insert(name, refusal);
            }
        }
        Ok(refusals)
    }

    /// Deletes what lies below an offset of each partition; returns where their logs start then, and why the others
    /// stay as they are.
    pub async fn delete_records(
        &mut self,
        topic: &TopicLeaders,
        before: &BTreeMap<PartitionId, Offset>,
    ) -> Result<(HashMap<PartitionId, Offset>, Vec<KafkaError>), KafkaError> {
        let (mut log_starts, mut refusals) = (HashMap::new(), Vec::new());
        let wanted: Vec<PartitionId> = before.keys().copied().collect();
        for (leader, partitions) in topic.by_leader(&wanted)? {
            let partitions = partitions
                .into_iter()
                .map(|partition_index| DeleteRecordsPartition { partition_index, offset: before[&partition_index] });
            let topics = vec![DeleteRecordsTopic { name: topic.name.clone(), partitions: partitions.collect() }];
            let request = DeleteRecordsRequest { topics, timeout_ms: TIMEOUT_MS };
            let answer = self.at(&leader).await?.call(DeleteRecordsRequest::VERSIONS, &request).await?;
            for deleted in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
                let partition = deleted.partition_index;
                let what = || format!("deleting records of partition {partition} of {}", topic.name);
                match KafkaError::check(deleted.error_code, None, what) {
                    Ok(()) => drop(log_starts.insert(partition, deleted.low_watermark)),
                    Err(refusal) => refusals.push(refusal),
                }
            }
        }
        Ok((log_starts, refusals))
    }
}
