//! Which offsets of a group are out of use (`OffsetExpirationCondition` of Apache Kafka).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, Bytes};
use chronik_format::ids::Timestamp;

use crate::state::LaneState;
use crate::state::command::ForgottenOffset;
use crate::state::group::{Generation, GroupState};

/// The members' protocol whose metadata says which topics they read.
const CONSUMER: &str = "consumer";

/// The offsets to forget: those of topics that are gone; and those that were committed `retention` ago by a group that has
/// had no members for as long, or for topics that none of its members is subscribed to. `members`: the generation as it is
/// now, where there is one.
pub fn unused(
    saved: &GroupState,
    members: Option<&Generation>,
    state: &LaneState,
    retention: Duration,
    now: Timestamp,
) -> Vec<ForgottenOffset> {
    let generation = members.unwrap_or(&saved.generation);
    let in_use = (!generation.members.is_empty()).then(|| subscriptions(generation));
    let empty_since = if generation.protocol_type.is_empty() { 0 } else { saved.generation.since };
    let oldest = now.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
    let is_unused = |topic: Option<&str>, at: Timestamp| match (topic, &in_use) {
        (None, _) => true,
        (_, None) => at.max(empty_since) <= oldest,
        (_, Some(None)) => false,
        (Some(topic), Some(Some(subscribed))) => at <= oldest && !subscribed.contains(topic),
    };
    let offsets = saved.offsets.iter().filter(|((topic, _), committed)| {
        let name = state.topics.get(topic).map(|topic| &*topic.name);
        is_unused(name, committed.at)
    });
    offsets
        .map(|((topic, partition), committed)| ForgottenOffset {
            topic: *topic,
            partition: *partition,
            committed_at: Some(committed.at),
        })
        .collect()
}

/// The topics that a group's members are subscribed to; `None` if that can't be told: they are no consumers, or one of them
/// speaks of it in a way that is not known.
pub fn subscriptions(generation: &Generation) -> Option<BTreeSet<String>> {
    if generation.protocol_type != CONSUMER {
        return None;
    }
    let mut subscribed = BTreeSet::new();
    for member in &generation.members {
        subscribed.extend(subscribed_topics(member.metadata.clone())?);
    }
    Some(subscribed)
}

/// `ConsumerProtocolSubscription`: version i16, topics, and more that differs from version to version.
fn subscribed_topics(mut metadata: Bytes) -> Option<Vec<String>> {
    let _version = metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        if length > metadata.len() {
            return None;
        }
        topics.push(String::from_utf8(metadata.split_to(length).into()).ok()?);
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use chronik_format::ids::{Incarnation, TopicId};
    use uuid::Uuid;

    use super::*;
    use crate::state::command::{Command, CreateTopic};
    use crate::state::group::{CommittedOffset, GroupMember};
    use crate::state::topic_config::TopicConfig;

    const RETENTION: Duration = Duration::from_millis(1000);

    fn topic(number: u128) -> TopicId {
        TopicId(Uuid::from_u128(number))
    }

    fn state() -> LaneState {
        let mut state = LaneState::new(Incarnation(1));
        for (number, name) in [(1, "read"), (2, "left")] {
            let create =
                CreateTopic { id: topic(number), name: name.into(), partitions: 1, config: TopicConfig::default() };
            state.apply_frame(1, &[Command::CreateTopic(create)]);
        }
        state
    }

    /// Offsets committed at 0 for `read`, `left` and a topic that is gone.
    fn group(protocol_type: &str, since: Timestamp) -> GroupState {
        let committed = || CommittedOffset { offset: 5, leader_epoch: -1, metadata: "".into(), at: 0 };
        let offsets = [1, 2, 3].map(|number| ((topic(number), 0), committed()));
        let generation = Generation { protocol_type: protocol_type.into(), since, ..Generation::default() };
        GroupState { generation, offsets: offsets.into_iter().collect() }
    }

    fn stable(protocol_type: &str, metadata: &'static [u8]) -> Generation {
        let member = GroupMember {
            id: "m".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout_ms: 1,
            rebalance_timeout_ms: 1,
            metadata: Bytes::from_static(metadata),
            assignment: Bytes::new(),
        };
        Generation { protocol_type: protocol_type.into(), members: vec![member], ..Generation::default() }
    }

    fn forgotten(group: &GroupState, members: Option<&Generation>, now: Timestamp) -> Vec<u128> {
        let forgotten = unused(group, members, &state(), RETENTION, now);
        forgotten.iter().map(|offset| offset.topic.0.as_u128()).collect()
    }

    #[test]
    fn offsets_expire_from_when_the_last_member_left_or_from_their_commit() {
        let simple = group("", 0);
        assert_eq!(forgotten(&simple, None, 999), [3], "the topic is gone");
        assert_eq!(forgotten(&simple, None, 1000), [1, 2, 3]);
        let left_at_500 = group("consumer", 500);
        assert_eq!(forgotten(&left_at_500, None, 1499), [3]);
        assert_eq!(forgotten(&left_at_500, None, 1500), [1, 2, 3]);
    }

    #[test]
    fn members_keep_the_offsets_of_what_they_read() {
        let subscribed = stable("consumer", b"\x00\x03\x00\x00\x00\x01\x00\x04read\xff\xff");
        assert_eq!(forgotten(&group("consumer", 0), Some(&subscribed), 5000), [2, 3]);
        for unknown in [stable("connect", b""), stable("consumer", b"\x00\x01\x00\x00\x00\x01\x00\x09read")] {
            assert_eq!(forgotten(&group("consumer", 0), Some(&unknown), 5000), [3]);
        }
    }
}
