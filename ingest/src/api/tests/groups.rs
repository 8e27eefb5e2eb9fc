//! Consumer groups, by what clients send.

use chronik_wire::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, MemberIdentity,
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetDeleteRequest,
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup,
    OffsetFetchRequestTopic, SyncGroupRequest, SyncGroupRequestAssignment,
};

use super::*;

fn join(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"topics") }],
        ..Default::default()
    }
}

fn sync(joined: &JoinGroupResponse, share: &'static [u8]) -> SyncGroupRequest {
    let assignment = Bytes::from_static(share);
    let given = SyncGroupRequestAssignment { member_id: joined.member_id.clone(), assignment };
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![given],
        ..Default::default()
    }
}

/// A sole member of the group, with its share.
async fn member(served: &Served, version: i16) -> JoinGroupResponse {
    let first = served.ask(version, join("")).await;
    let joined = if version < 4 {
        first
    } else {
        assert_eq!((first.error_code, first.member_id.is_empty()), (ErrorCode::MEMBER_ID_REQUIRED, false));
        served.ask(version, join(&first.member_id)).await
    };
    assert_eq!((joined.error_code, &joined.leader), (ErrorCode::NONE, &joined.member_id));
    assert_eq!((joined.members.len(), joined.protocol_name.as_deref()), (1, Some("range")));
    assert_eq!(joined.members[0].metadata, "topics");
    joined
}

async fn commit(served: &Served, version: i16, who: Option<&JoinGroupResponse>, offset: i64) -> ErrorCode {
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset,
        committed_metadata: Some("mine".into()),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition(0), partition(7)] };
    let asked = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: who.map_or(-1, |joined| joined.generation_id),
        member_id: who.map_or_else(String::new, |joined| joined.member_id.clone()),
        topics: vec![topic],
        ..Default::default()
    };
    let partitions = served.ask(version, asked).await.topics.remove(0).partitions;
    assert_eq!(partitions[1].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    partitions[0].error_code
}

async fn committed(served: &Served, version: i16) -> i64 {
    let topics = || Some(vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0, 1] }]);
    let asked = if version < 8 {
        OffsetFetchRequest { group_id: "g".into(), topics: topics(), ..Default::default() }
    } else {
        let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: topics(), ..Default::default() };
        OffsetFetchRequest { groups: vec![group], ..Default::default() }
    };
    let mut answer = served.ask(version, asked).await;
    if version >= 8 {
        answer.topics = answer.groups.remove(0).topics;
    }
    let partitions = &answer.topics[0].partitions;
    assert_eq!((partitions[1].committed_offset, partitions[1].error_code), (-1, ErrorCode::NONE));
    partitions[0].committed_offset
}

#[tokio::test]
async fn this_broker_coordinates_every_group() {
    let served = Served::start().await;
    for version in FindCoordinatorRequest::VERSIONS {
        let asked = |key_type| FindCoordinatorRequest {
            key: "g".into(),
            key_type,
            coordinator_keys: vec!["g".into(), "h".into()],
        };
        let found = served.ask(version, asked(0)).await;
        if version < 4 {
            assert_eq!((found.error_code, found.node_id, found.host.as_str()), (ErrorCode::NONE, 1, "broker.test"));
        } else {
            let keys: Vec<_> = found.coordinators.iter().map(|one| (one.key.as_str(), one.node_id, one.port)).collect();
            assert_eq!(keys, [("g", 1, 9092), ("h", 1, 9092)]);
        }
        for (key_type, code) in [(1, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED), (2, ErrorCode::INVALID_REQUEST)]
        {
            let refused = served.ask(version, asked(key_type)).await;
            let refused = if version < 4 { refused.error_code } else { refused.coordinators[1].error_code };
            assert_eq!(refused, if version == 0 { ErrorCode::NONE } else { code }, "v{version} has types from 1 on");
        }
    }
}

#[tokio::test]
async fn a_member_joins_syncs_lives_commits_and_leaves_in_every_version() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    for version in JoinGroupRequest::VERSIONS {
        let joined = member(&served, version).await;
        assert_eq!(commit(&served, 8, Some(&joined), 1).await, ErrorCode::REBALANCE_IN_PROGRESS);
        let synced = served.ask(version.min(5), sync(&joined, b"all")).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (ErrorCode::NONE, &b"all"[..]));
        let heartbeat = |generation_id| HeartbeatRequest {
            group_id: "g".into(),
            generation_id,
            member_id: joined.member_id.clone(),
            ..Default::default()
        };
        let alive = served.ask(version.min(4), heartbeat(joined.generation_id)).await;
        assert_eq!(alive.error_code, ErrorCode::NONE);
        let late = served.ask(version.min(4), heartbeat(joined.generation_id - 1)).await;
        assert_eq!(late.error_code, ErrorCode::ILLEGAL_GENERATION);
        let offset = 10 + i64::from(version);
        assert_eq!(commit(&served, version.max(1), Some(&joined), offset).await, ErrorCode::NONE);
        assert_eq!(committed(&served, version).await, offset);
        assert_eq!(commit(&served, 8, None, 5).await, ErrorCode::UNKNOWN_MEMBER_ID, "it is no member");
        let identity = MemberIdentity { member_id: joined.member_id.clone(), ..Default::default() };
        let member_id = joined.member_id.clone();
        let leave = LeaveGroupRequest { group_id: "g".into(), member_id, members: vec![identity] };
        let left = served.ask(version.min(5), leave.clone()).await;
        assert_eq!(
            (left.error_code, left.members.first().map_or(ErrorCode::NONE, |m| m.error_code)),
            Default::default()
        );
        let again = served.ask(version.min(5), leave).await;
        let again = if version < 3 { again.error_code } else { again.members[0].error_code };
        assert_eq!(again, ErrorCode::UNKNOWN_MEMBER_ID);
    }
}

#[tokio::test]
async fn clients_without_a_group_commit_and_strangers_do_not() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    assert_eq!(committed(&served, 7).await, -1, "nothing is committed, and that is no error");
    for version in OffsetCommitRequest::VERSIONS {
        assert_eq!(commit(&served, version, None, version.into()).await, ErrorCode::NONE);
        assert_eq!(committed(&served, version).await, i64::from(version));
    }
    let stranger = JoinGroupResponse { member_id: "x".into(), generation_id: 3, ..Default::default() };
    for (version, code) in [(8, ErrorCode::ILLEGAL_GENERATION), (9, ErrorCode::GROUP_ID_NOT_FOUND)] {
        assert_eq!(commit(&served, version, Some(&stranger), 1).await, code);
    }
    assert_eq!(commit(&served, 8, None, 9).await, ErrorCode::NONE);
    let all = OffsetFetchRequest { group_id: "g".into(), topics: None, ..Default::default() };
    let mut all = served.ask(7, all).await;
    let topic = all.topics.remove(0);
    assert_eq!((topic.name.as_str(), topic.partitions.len(), topic.partitions[0].committed_offset), ("t", 1, 9));
    assert_eq!(topic.partitions[0].metadata.as_deref(), Some("mine"));
}

#[tokio::test]
async fn a_group_without_an_id_has_offsets_and_no_members() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 7,
        ..OffsetCommitRequestPartition::default()
    };
    let topics = vec![OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition] }];
    for version in OffsetCommitRequest::VERSIONS {
        let asked = OffsetCommitRequest {
            generation_id_or_member_epoch: -1,
            topics: topics.clone(),
            ..OffsetCommitRequest::default()
        };
        let committed = served.ask(version, asked).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, ErrorCode::NONE, "v{version}");
    }
    let topics = Some(vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] }]);
    let fetched = served.ask(7, OffsetFetchRequest { topics, ..Default::default() }).await;
    assert_eq!(fetched.topics[0].partitions[0].committed_offset, 7);
    let described = served.ask(5, DescribeGroupsRequest { groups: vec![String::new()], ..Default::default() }).await;
    let group = &described.groups[0];
    assert_eq!((group.error_code, group.group_state.as_str()), (ErrorCode::NONE, "Empty"));
    let listed = served.ask(4, ListGroupsRequest::default()).await;
    assert_eq!(listed.groups.iter().map(|group| group.group_id.as_str()).collect::<Vec<_>>(), [""]);

    let invalid = ErrorCode::INVALID_GROUP_ID;
    let nameless = JoinGroupRequest { group_id: String::new(), ..join("") };
    assert_eq!(served.ask(5, nameless).await.error_code, invalid);
    assert_eq!(served.ask(3, SyncGroupRequest::default()).await.error_code, invalid);
    assert_eq!(served.ask(3, HeartbeatRequest::default()).await.error_code, invalid);
    assert_eq!(served.ask(2, LeaveGroupRequest::default()).await.error_code, invalid);
    assert_eq!(served.ask(0, OffsetDeleteRequest::default()).await.error_code, invalid);

    let deleted = served.ask(2, DeleteGroupsRequest { groups_names: vec![String::new()] }).await;
    assert_eq!(deleted.results[0].error_code, ErrorCode::NONE);
    assert_eq!(served.ask(4, ListGroupsRequest::default()).await.groups, []);
}

#[tokio::test]
async fn requests_that_name_no_group_or_unknown_ones_have_their_codes() {
    let served = Served::start().await;
    let nameless = JoinGroupRequest { group_id: String::new(), ..join("") };
    assert_eq!(served.ask(5, nameless).await.error_code, ErrorCode::INVALID_GROUP_ID);
    let hasty = JoinGroupRequest { session_timeout_ms: 1, ..join("") };
    assert_eq!(served.ask(5, hasty).await.error_code, ErrorCode::INVALID_SESSION_TIMEOUT);
    let stranger = served.ask(9, join("x")).await;
    assert_eq!(
        (stranger.error_code, stranger.protocol_name, stranger.member_id.as_str()),
        (ErrorCode::UNKNOWN_MEMBER_ID, None, "x")
    );
    let heartbeat = HeartbeatRequest { group_id: "g".into(), ..Default::default() };
    assert_eq!(served.ask(3, heartbeat).await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn consumers_that_read_nothing_write_nothing_by_committing_the_same() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    assert_eq!(commit(&served, 8, None, 5).await, ErrorCode::NONE);
    let applied = served.lane.progress().borrow().applied;
    for _ in 0..3 {
        assert_eq!(commit(&served, 8, None, 5).await, ErrorCode::NONE);
    }
    assert_eq!(served.lane.progress().borrow().applied, applied);
    assert_eq!(commit(&served, 8, None, 4).await, ErrorCode::NONE);
    assert_eq!((served.lane.progress().borrow().applied, committed(&served, 7).await), (applied + 1, 4));
}

async fn list(served: &Served, states: &[&str]) -> Vec<(String, String, String)> {
    let states_filter = states.iter().map(|state| state.to_string()).collect();
    let listed = served.ask(5, ListGroupsRequest { states_filter, ..Default::default() }).await;
    listed.groups.into_iter().map(|group| (group.group_id, group.protocol_type, group.group_state)).collect()
}

#[tokio::test]
async fn groups_are_listed_and_described_with_their_members() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    let describe = DescribeGroupsRequest { groups: vec!["g".into()], include_authorized_operations: true };
    for version in DescribeGroupsRequest::VERSIONS {
        let group = served.ask(version, describe.clone()).await.groups.remove(0);
        assert_eq!((group.error_code, group.group_state.as_str()), (ErrorCode::NONE, "Dead"));
    }
    assert!(list(&served, &[]).await.is_empty());
    let joined = member(&served, 5).await;
    let completing = ("g".to_string(), "consumer".to_string(), "CompletingRebalance".to_string());
    assert_eq!(list(&served, &[]).await, [completing]);
    let group = served.ask(5, describe.clone()).await.groups.remove(0);
    assert_eq!((group.group_state.as_str(), group.members[0].member_metadata.len()), ("CompletingRebalance", 0));
    served.ask(5, sync(&joined, b"all")).await;
    for version in DescribeGroupsRequest::VERSIONS {
        let group = served.ask(version, describe.clone()).await.groups.remove(0);
        assert_eq!((group.group_state.as_str(), group.protocol_data.as_str()), ("Stable", "range"));
        let member = &group.members[0];
        assert_eq!((&member.member_id, member.client_id.as_str()), (&joined.member_id, "test"));
        assert_eq!(member.client_host, "/127.0.0.1");
        assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (&b"topics"[..], &b"all"[..]));
        assert_eq!(group.authorized_operations, if version < 3 { i32::MIN } else { 328 });
    }
    let stable = [("g".to_string(), "consumer".to_string(), "Stable".to_string())];
    for states in [&[][..], &["stable"], &["Stable", "Empty"]] {
        assert_eq!(list(&served, states).await, stable);
    }
    assert!(list(&served, &["Empty"]).await.is_empty());
}

#[tokio::test]
async fn a_group_is_deleted_once_its_members_are_gone_and_its_offsets_with_it() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    let delete = || DeleteGroupsRequest { groups_names: vec!["g".into()] };
    for version in DeleteGroupsRequest::VERSIONS {
        let unknown = served.ask(version, delete()).await.results.remove(0);
        assert_eq!(unknown.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    }
    let joined = member(&served, 2).await;
    served.ask(3, sync(&joined, b"all")).await;
    assert_eq!(commit(&served, 2, Some(&joined), 5).await, ErrorCode::NONE);
    assert_eq!(served.ask(2, delete()).await.results[0].error_code, ErrorCode::NON_EMPTY_GROUP);
    let leave = LeaveGroupRequest { group_id: "g".into(), member_id: joined.member_id, ..Default::default() };
    assert_eq!(served.ask(2, leave).await.error_code, ErrorCode::NONE);
    assert_eq!(list(&served, &[]).await, [("g".to_string(), "consumer".to_string(), "Empty".to_string())]);
    assert_eq!(served.ask(2, delete()).await.results[0].error_code, ErrorCode::NONE);
    assert!(list(&served, &[]).await.is_empty());
    assert_eq!(committed(&served, 5).await, -1);
}

#[tokio::test]
async fn offsets_are_forgotten_for_topics_that_nobody_is_subscribed_to() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    let forget = || {
        let partitions = [0, 7].map(|partition_index| OffsetDeleteRequestPartition { partition_index });
        let topic = OffsetDeleteRequestTopic { name: "t".into(), partitions: partitions.to_vec() };
        OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic] }
    };
    assert_eq!(served.ask(0, forget()).await.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(commit(&served, 2, None, 5).await, ErrorCode::NONE);
    served.ask(0, forget()).await;
    assert_eq!(committed(&served, 5).await, -1);
    assert_eq!(list(&served, &[]).await, [("g".to_string(), String::new(), "Empty".to_string())], "it stays");
    assert_eq!(commit(&served, 2, None, 5).await, ErrorCode::NONE);
    for (subscription, code) in [
        (&b"\x00\x01\x00\x00\x00\x01\x00\x01t"[..], ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC),
        (b"\x00\x01\x00\x00\x00\x01\x00\x01x", ErrorCode::NONE),
    ] {
        let protocols =
            vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(subscription) }];
        let joined = served.ask(2, JoinGroupRequest { protocols, ..join("") }).await;
        served.ask(3, sync(&joined, b"all")).await;
        let forgotten = served.ask(0, forget()).await;
        let codes: Vec<_> = forgotten.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert_eq!(codes, [code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
        let leave = LeaveGroupRequest { group_id: "g".into(), member_id: joined.member_id, ..Default::default() };
        served.ask(2, leave).await;
    }
    assert_eq!(committed(&served, 5).await, -1);
    let nothing = OffsetDeleteRequest { group_id: "g".into(), topics: Vec::new() };
    assert_eq!(served.ask(0, nothing).await.error_code, ErrorCode::NONE);
    let unknown = OffsetDeleteRequest { group_id: "h".into(), topics: Vec::new() };
    assert_eq!(served.ask(0, unknown).await.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[tokio::test]
async fn members_of_all_groups_together_take_no_more_than_they_may() {
    let served = Served::start().await;
    let join = |group: usize| JoinGroupRequest {
        group_id: group.to_string(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from(vec![0; 15 << 20]) }],
        ..join("")
    };
    let mut joined = Vec::new();
    for group in 0..17 {
        joined.push(served.ask(3, join(group)).await);
        assert_eq!(joined[group].error_code, ErrorCode::NONE, "{group}");
    }
    assert_eq!(served.ask(3, join(17)).await.error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    let member_id = joined.remove(0).member_id;
    let leave = LeaveGroupRequest { group_id: "0".into(), member_id, ..Default::default() };
    assert_eq!(served.ask(2, leave).await.error_code, ErrorCode::NONE);
    assert_eq!(served.ask(3, join(17)).await.error_code, ErrorCode::NONE);
}
