//! Membership in a group: joining, sharing the partitions out, signs of life, leaving.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_format::ids::PartitionId;
use chronik_wire::{
    ErrorCode, HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
    JoinGroupResponseMember, LeaveGroupRequest, MemberIdentity, Message, SyncGroupRequest, SyncGroupRequestAssignment,
};

use super::KafkaError;
use super::assignment::{assignment, assignment_bytes, range, subscription, subscription_bytes};
use super::client::{KafkaClient, LEADER_PAUSE};
use super::connection::is_passing;
use super::groups::Committer;

const CONSUMER: &str = "consumer";
const RANGE: &str = "range";
/// After this time without a sign of life the member is out; what Kafka's consumers give.
const SESSION: Duration = Duration::from_secs(45);
/// How long others wait for this member to join again.
const REBALANCE: Duration = Duration::from_secs(60);
/// How long a rebalance may take: a little longer than Kafka's consumers let it.
const JOIN_TIME_MAX: Duration = Duration::from_secs(310);

/// A consumer of one topic in a group, with the assignor `range`.
#[derive(Debug)]
pub struct GroupMember {
    group: String,
    topic: String,
    /// Empty until the coordinator has given one.
    id: String,
    generation: i32,
}

impl GroupMember {
    /// One that has not joined yet.
    pub fn new(group: &str, topic: &str) -> Self {
        Self { group: group.to_owned(), topic: topic.to_owned(), id: String::new(), generation: -1 }
    }

    /// As whom it commits.
    pub fn committer(&self) -> Committer<'_> {
        Committer { member_id: &self.id, generation: self.generation }
    }

    /// Joins the group's next generation; returns the partitions that are the member's in it.
    pub async fn join(&mut self, client: &mut KafkaClient) -> Result<Vec<PartitionId>, KafkaError> {
        loop {
            let joined = self.enter(client).await?;
            let is_leader = joined.leader == self.id;
            let assignments = if is_leader { shares(client, joined.members).await? } else { Vec::new() };
            let request = SyncGroupRequest {
                group_id: self.group.clone(),
                generation_id: self.generation,
                member_id: self.id.clone(),
                protocol_type: Some(CONSUMER.to_owned()),
                protocol_name: joined.protocol_name,
                assignments,
                ..Default::default()
            };
            let coordinator = client.coordinator(&self.group).await?;
            let connection = client.at(&coordinator).await?;
            let synced = connection.call_within(SyncGroupRequest::VERSIONS, &request, JOIN_TIME_MAX).await?;
            if !self.stays(synced.error_code)? {
                tokio::time::sleep(LEADER_PAUSE).await;
                continue;
            }
            let mut assigned = assignment(synced.assignment).ok_or_else(|| KafkaError::Refused {
                what: format!("taking part in group {}", self.group),
                code: ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
                message: Some("its leader assigns in a way that is not understood".to_owned()),
            })?;
            return Ok(assigned.remove(&self.topic).unwrap_or_default());
        }
    }

    /// Until all have joined.
    async fn enter(&mut self, client: &mut KafkaClient) -> Result<JoinGroupResponse, KafkaError> {
        loop {
            let request = JoinGroupRequest {
                group_id: self.group.clone(),
                session_timeout_ms: SESSION.as_millis() as i32,
                rebalance_timeout_ms: REBALANCE.as_millis() as i32,
                member_id: self.id.clone(),
                protocol_type: CONSUMER.to_owned(),
                protocols: vec![JoinGroupRequestProtocol {
                    name: RANGE.to_owned(),
                    metadata: subscription_bytes(&self.topic),
                }],
                ..Default::default()
            };
            let coordinator = client.coordinator(&self.group).await?;
            let connection = client.at(&coordinator).await?;
            let joined = connection.call_within(JoinGroupRequest::VERSIONS, &request, JOIN_TIME_MAX).await?;
            if joined.error_code == ErrorCode::MEMBER_ID_REQUIRED {
                self.id = joined.member_id;
            } else if self.stays(joined.error_code)? {
                self.id.clone_from(&joined.member_id);
                self.generation = joined.generation_id;
                return Ok(joined);
            } else {
                tokio::time::sleep(LEADER_PAUSE).await;
            }
        }
    }

    /// Gives a sign of life; `false` if the member has to join again.
    pub async fn heartbeat(&mut self, client: &mut KafkaClient) -> Result<bool, KafkaError> {
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        let coordinator = client.coordinator(&self.group).await?;
        let answer = client.at(&coordinator).await?.call(HeartbeatRequest::VERSIONS, &request).await?;
        self.stays(answer.error_code)
    }

    /// Leaves, so that others get the partitions at once.
    pub async fn leave(self, client: &mut KafkaClient) -> Result<(), KafkaError> {
        if self.id.is_empty() {
            return Ok(());
        }
        let request = LeaveGroupRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            members: vec![MemberIdentity { member_id: self.id.clone(), ..Default::default() }],
        };
        let coordinator = client.coordinator(&self.group).await?;
        let answer = client.at(&coordinator).await?.call(LeaveGroupRequest::VERSIONS, &request).await?;
        KafkaError::check(answer.error_code, None, || format!("leaving group {}", self.group))
    }

    /// Whether the coordinator's answer lets the member stay in its generation; an error if it can't join another one
    /// either.
    pub fn stays(&mut self, code: ErrorCode) -> Result<bool, KafkaError> {
        match code {
            ErrorCode::NONE => return Ok(true),
            ErrorCode::UNKNOWN_MEMBER_ID => self.id.clear(),
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => {}
            code if is_passing(code) => {}
            code => {
                let message = (code == ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
                    .then(|| format!("its members do not know the assignor {RANGE}, or are no consumers"));
                KafkaError::check(code, message, || format!("taking part in group {}", self.group))?;
            }
        }
        Ok(false)
    }
}

/// What the leader assigns: each topic's partitions in ranges.
async fn shares(
    client: &mut KafkaClient,
    mut members: Vec<JoinGroupResponseMember>,
) -> Result<Vec<SyncGroupRequestAssignment>, KafkaError> {
    // Static members first, as Kafka orders them, so that leaders of either kind assign alike.
    members.sort_by(|a, b| {
        let order = |m: &JoinGroupResponseMember| (m.group_instance_id.is_none(), m.group_instance_id.clone());
        order(a).cmp(&order(b)).then_with(|| a.member_id.cmp(&b.member_id))
    });
    let mut subscribers = BTreeMap::<String, Vec<String>>::new();
    for member in &members {
        for topic in subscription(member.metadata.clone()).unwrap_or_default() {
            subscribers.entry(topic).or_default().push(member.member_id.clone());
        }
    }
    let mut assigned: BTreeMap<_, _> = members.into_iter().map(|m| (m.member_id, BTreeMap::new())).collect();
    for (topic, members) in subscribers {
        let partitions = match client.topic(&topic, false).await {
            Err(KafkaError::UnknownTopic { .. }) => 0,
            found => found?.leaders.len(),
        };
        for (member, partitions) in members.iter().zip(range(partitions, members.len())) {
            if let Some(assigned) = assigned.get_mut(member).filter(|_| !partitions.is_empty()) {
                assigned.insert(topic.clone(), partitions.collect());
            }
        }
    }
    let share =
        |(member_id, assigned)| SyncGroupRequestAssignment { member_id, assignment: assignment_bytes(&assigned) };
    Ok(assigned.into_iter().map(share).collect())
}
