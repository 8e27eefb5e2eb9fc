//! Groups from outside: what they are, how far they have read, and where they go on. Each is asked of the broker that
//! coordinates it.

use std::collections::BTreeMap;

use chronik_format::ids::{Offset, PartitionId};
use chronik_wire::{
    DeleteGroupsRequest, DescribeGroupsRequest, DescribedGroup, ErrorCode, FindCoordinatorRequest, KeyCoordinator,
    ListGroupsRequest, Message, MetadataRequest, OffsetCommitRequest, OffsetCommitRequestPartition,
    OffsetCommitRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup, message,
};

use super::KafkaError;
use super::client::{KafkaClient, LEADER_PAUSE, LEADER_TRIES, address};
use super::connection::is_passing;

/// Groups that are described in one answer.
const DESCRIBED_TOGETHER: usize = 100;
/// The state of a group that is not there.
const DEAD: &str = "Dead";

/// Where a group has come: by topic and partition, the offset of the next record to read.
pub type CommittedOffsets = BTreeMap<(String, PartitionId), Offset>;

/// A group in a list.
#[derive(Debug)]
pub struct ListedGroup {
    pub group: String,
    /// Kafka's name of it; empty if the broker doesn't say.
    pub state: String,
    /// Empty for a group that only has offsets.
    pub protocol_type: String,
    /// `None` for a group that can't be described: one of another protocol than the classic one.
    pub members: Option<usize>,
}

impl ListedGroup {
    /// A list says less than a description, and in old versions no state.
    fn new(listed: &message::ListedGroup, described: Option<&DescribedGroup>) -> Self {
        let state = match listed.group_state.as_str() {
            "" => described.map(|group| group.group_state.clone()).unwrap_or_default(),
            state => state.to_owned(),
        };
        Self {
            group: listed.group_id.clone(),
            state,
            protocol_type: listed.protocol_type.clone(),
            members: described.map(|group| group.members.len()),
        }
    }
}

/// Who commits.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    pub member_id: &'a str,
    pub generation: i32,
}

impl Committer<'_> {
    /// Somebody who is no member, which a group without members allows.
    pub const OUTSIDE: Self = Self { member_id: "", generation: -1 };
}

impl KafkaClient {
    /// The address of the broker that coordinates a group.
    pub async fn coordinator(&mut self, group: &str) -> Result<String, KafkaError> {
        let request = FindCoordinatorRequest {
            key: group.to_owned(),
            coordinator_keys: vec![group.to_owned()],
            ..Default::default()
        };
        let mut tries = LEADER_TRIES;
        loop {
            let mut answer = self.home().await?.call(FindCoordinatorRequest::VERSIONS, &request).await?;
            let found = answer.coordinators.pop().unwrap_or(KeyCoordinator {
                host: answer.host,
                port: answer.port,
                error_code: answer.error_code,
                error_message: answer.error_message,
                ..Default::default()
            });
            tries -= 1;
            if tries == 0 || !is_passing(found.error_code) {
                let message = found.error_message.filter(|message| !message.is_empty());
                KafkaError::check(found.error_code, message, || format!("looking for the coordinator of {group}"))?;
                return Ok(address(&found.host, found.port));
            }
            tokio::time::sleep(LEADER_PAUSE).await;
        }
    }

    /// The groups of all brokers, by name.
    pub async fn groups(&mut self) -> Result<Vec<ListedGroup>, KafkaError> {
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let brokers = self.home().await?.call(MetadataRequest::VERSIONS, &request).await?.brokers;
        let mut groups = Vec::new();
        for broker in brokers {
            let connection = self.at(&address(&broker.host, broker.port)).await?;
            let answer = connection.call(ListGroupsRequest::VERSIONS, &ListGroupsRequest::default()).await?;
            KafkaError::check(answer.error_code, None, || "listing groups".to_owned())?;
            for listed in answer.groups.chunks(DESCRIBED_TOGETHER) {
                let names = listed.iter().map(|group| group.group_id.clone()).collect();
                let request = DescribeGroupsRequest { groups: names, ..Default::default() };
                let described = connection.call(DescribeGroupsRequest::VERSIONS, &request).await?.groups;
                groups.extend(listed.iter().map(|listed| {
                    let described = described.iter().find(|group| group.group_id == listed.group_id);
                    ListedGroup::new(listed, described.filter(|group| is_there(group)))
                }));
            }
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    /// A group with its members; `None` if it is not there.
    pub async fn group(&mut self, group: &str) -> Result<Option<DescribedGroup>, KafkaError> {
        let coordinator = self.coordinator(group).await?;
        let request = DescribeGroupsRequest { groups: vec![group.to_owned()], ..Default::default() };
        let answer = self.at(&coordinator).await?.call(DescribeGroupsRequest::VERSIONS, &request).await?;
        let Some(described) = answer.groups.into_iter().next() else { return Ok(None) };
        if described.error_code != ErrorCode::GROUP_ID_NOT_FOUND {
            KafkaError::check(described.error_code, None, || format!("describing group {group}"))?;
        }
        Ok(Some(described).filter(is_there))
    }

    /// Deletes a group without members, and its offsets.
    pub async fn delete_group(&mut self, group: &str) -> Result<(), KafkaError> {
        let coordinator = self.coordinator(group).await?;
        let request = DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
        let answer = self.at(&coordinator).await?.call(DeleteGroupsRequest::VERSIONS, &request).await?;
        for deleted in answer.results {
            check_group(deleted.error_code, group, || format!("deleting group {group}"))?;
        }
        Ok(())
    }

    /// All offsets that a group has committed.
    pub async fn committed(&mut self, group: &str) -> Result<CommittedOffsets, KafkaError> {
        let coordinator = self.coordinator(group).await?;
        let request = OffsetFetchRequest {
            group_id: group.to_owned(),
            topics: None,
            groups: vec![OffsetFetchRequestGroup { group_id: group.to_owned(), topics: None, ..Default::default() }],
            ..Default::default()
        };
        // Version 1 can't ask for all.
        let answer = self.at(&coordinator).await?.call(2..=*OffsetFetchRequest::VERSIONS.end(), &request).await?;
        let what = || format!("asking for the offsets of group {group}");
        KafkaError::check(answer.error_code, None, what)?;
        let mut topics = answer.topics;
        for group in answer.groups {
            KafkaError::check(group.error_code, None, what)?;
            topics.extend(group.topics);
        }
        let mut committed = CommittedOffsets::new();
        for topic in topics {
            for partition in topic.partitions {
                KafkaError::check(partition.error_code, None, what)?;
                if partition.committed_offset >= 0 {
                    committed.insert((topic.name.clone(), partition.partition_index), partition.committed_offset);
                }
            }
        }
        Ok(committed)
    }

    /// Commits offsets of one topic; durable once it returns.
    pub async fn commit(
        &mut self,
        group: &str,
        committer: Committer<'_>,
        topic: &str,
        offsets: &BTreeMap<PartitionId, Offset>,
    ) -> Result<(), KafkaError> {
        let coordinator = self.coordinator(group).await?;
        let partitions = offsets.iter().map(|(partition, offset)| OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: committer.generation,
            member_id: committer.member_id.to_owned(),
            topics: vec![OffsetCommitRequestTopic { name: topic.to_owned(), partitions: partitions.collect() }],
            ..Default::default()
        };
        let answer = self.at(&coordinator).await?.call(OffsetCommitRequest::VERSIONS, &request).await?;
        for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
            let what = || format!("committing offsets of {topic} for group {group}");
            check_group(partition.error_code, group, what)?;
        }
        Ok(())
    }
}

fn is_there(group: &DescribedGroup) -> bool {
    group.error_code.is_none() && group.group_state != DEAD
}

/// What is refused because of the group's state, with what to do.
fn check_group(code: ErrorCode, group: &str, what: impl FnOnce() -> String) -> Result<(), KafkaError> {
    match code {
        ErrorCode::GROUP_ID_NOT_FOUND => Err(KafkaError::UnknownGroup { name: group.to_owned() }),
        ErrorCode::NON_EMPTY_GROUP | ErrorCode::UNKNOWN_MEMBER_ID => {
            let message = format!("it has members, which `chronik group describe {group}` names: stop them first");
            KafkaError::check(code, Some(message), what)
        }
        code => KafkaError::check(code, None, what),
    }
}
