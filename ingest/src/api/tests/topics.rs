use chronik_wire::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, MetadataRequest, MetadataRequestTopic,
    MetadataResponse,
};
use futures::future::join;
use uuid::Uuid;

use super::*;

fn named(names: &[&str]) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
    MetadataRequest { topics: Some(names.iter().map(topic).collect()), ..Default::default() }
}

fn only_existing(asked: MetadataRequest) -> MetadataRequest {
    MetadataRequest { allow_auto_topic_creation: false, ..asked }
}

fn codes(answer: &MetadataResponse) -> Vec<(Option<&str>, ErrorCode)> {
    answer.topics.iter().map(|topic| (topic.name.as_deref(), topic.error_code)).collect()
}

#[tokio::test]
async fn metadata_names_the_one_broker_and_its_topics_in_every_version() {
    let served = Served::start().await;
    let id = served.create("b", 3, &[]).await;
    served.create("a", 1, &[]).await;
    for version in MetadataRequest::VERSIONS {
        let answer = served.ask(version, named(&["b"])).await;
        let broker = &answer.brokers[0];
        assert_eq!((broker.node_id, broker.host.as_str(), broker.port), (1, "broker.test", 9092));
        assert_eq!(answer.controller_id, if version >= 1 { 1 } else { -1 });
        let topic = &answer.topics[0];
        assert_eq!((topic.name.as_deref(), topic.error_code), (Some("b"), ErrorCode::NONE));
        assert_eq!(topic.topic_id, if version >= 10 { id } else { Uuid::nil() });
        assert_eq!(topic.partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>(), [0, 1, 2]);
        for partition in &topic.partitions {
            assert_eq!(partition.leader_epoch, if version >= 7 { 1 } else { -1 });
            assert_eq!((partition.leader_id, &partition.replica_nodes, &partition.isr_nodes), (1, &vec![1], &vec![1]));
        }
    }
    let all = [(Some("a"), ErrorCode::NONE), (Some("b"), ErrorCode::NONE)];
    assert_eq!(codes(&served.ask(0, named(&[])).await), all);
    assert_eq!(codes(&served.ask(1, named(&[])).await), []);
    assert_eq!(codes(&served.ask(1, MetadataRequest { topics: None, ..Default::default() }).await), all);
    assert_eq!(codes(&served.ask(9, named(&["a", "b", "a"])).await), all);
}

#[tokio::test]
async fn metadata_says_what_a_client_may_do_if_it_asks() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    for (include, cluster, topic) in [(false, i32::MIN, i32::MIN), (true, 8096, 3576)] {
        let asked = MetadataRequest {
            include_cluster_authorized_operations: include,
            include_topic_authorized_operations: include,
            ..only_existing(named(&["t", "absent"]))
        };
        let answer = served.ask(8, asked).await;
        assert_eq!(answer.cluster_authorized_operations, cluster);
        let topics: Vec<_> = answer.topics.iter().map(|topic| topic.topic_authorized_operations).collect();
        assert_eq!(topics, [topic, i32::MIN]);
    }
}

#[tokio::test]
async fn a_missing_topic_is_created_if_broker_and_client_want_it() {
    let served = Served::start().await;
    for (version, asked, code) in [
        (12, only_existing(named(&["t"])), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (12, named(&["a b"]), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (12, only_existing(named(&[".."])), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (3, only_existing(named(&["old"])), ErrorCode::NONE),
        (12, named(&["t"]), ErrorCode::NONE),
    ] {
        let answer = served.ask(version, asked).await;
        assert_eq!(answer.topics[0].error_code, code);
        assert_eq!(answer.topics[0].partitions.len(), if code.is_none() { 2 } else { 0 });
    }
    let strict = Served::with(|broker| broker.auto_create_topics = false).await;
    assert_eq!(codes(&strict.ask(12, named(&["t"])).await), [(Some("t"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
}

#[tokio::test]
async fn clients_that_create_the_same_topic_at_once_share_it() {
    let served = Served::start().await;
    let (one, other) = join(served.ask(12, named(&["t", "u"])), served.ask(12, named(&["t"]))).await;
    assert_eq!(codes(&one), [(Some("t"), ErrorCode::NONE), (Some("u"), ErrorCode::NONE)]);
    assert_eq!(codes(&other), [(Some("t"), ErrorCode::NONE)]);
    assert_eq!(one.topics[0].topic_id, other.topics[0].topic_id);
}

#[tokio::test]
async fn topics_are_asked_for_by_id_where_the_version_has_it() {
    let served = Served::start().await;
    let id = served.create("t", 1, &[]).await;
    let by_id = |topic_id, name: Option<&str>| {
        let topic = MetadataRequestTopic { topic_id, name: name.map(Into::into) };
        MetadataRequest { topics: Some(vec![topic]), ..Default::default() }
    };
    assert_eq!(codes(&served.ask(12, by_id(id, None)).await), [(Some("t"), ErrorCode::NONE)]);
    let unknown = served.ask(12, by_id(Uuid::from_u128(1), None)).await;
    assert_eq!(codes(&unknown), [(None, ErrorCode::UNKNOWN_TOPIC_ID)]);
    assert_eq!(unknown.topics[0].topic_id, Uuid::from_u128(1));
    assert_eq!(codes(&served.ask(10, by_id(Uuid::from_u128(1), Some("t"))).await), [(Some("t"), ErrorCode::NONE)]);
    assert_eq!(codes(&served.ask(11, by_id(id, None)).await), [(Some(""), ErrorCode::INVALID_REQUEST)]);
    assert_eq!(codes(&served.ask(12, by_id(Uuid::nil(), None)).await), [(None, ErrorCode::INVALID_REQUEST)]);
}

#[tokio::test]
async fn a_created_topic_is_answered_as_it_is_in_every_version() {
    let served = Served::start().await;
    for version in 2..=7 {
        let config = CreatableTopicConfig { name: "search.enabled".into(), value: Some("false".into()) };
        let topic = CreatableTopic {
            name: format!("t{version}"),
            num_partitions: 3,
            replication_factor: 3,
            configs: vec![config],
            ..Default::default()
        };
        let check = CreateTopicsRequest { topics: vec![topic.clone()], validate_only: true, ..Default::default() };
        let create = CreateTopicsRequest { validate_only: false, ..check.clone() };
        assert_eq!(served.ask(version, check).await.topics[0].error_code, ErrorCode::NONE);
        let created = &served.ask(version, create.clone()).await.topics[0];
        assert_eq!((created.error_code, &created.error_message), (ErrorCode::NONE, &None));
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (3, 1));
            let configs = created.configs.as_ref().unwrap();
            let given = configs.iter().filter(|config| config.config_source == 1);
            let given: Vec<_> = given.map(|config| (config.name.as_str(), config.value.as_deref())).collect();
            assert_eq!(given, [("search.enabled", Some("false"))]);
            assert!(configs.len() > 10, "defaults, too");
        }
        assert_eq!(created.topic_id.is_nil(), version < 7);
        let again = &served.ask(version, create).await.topics[0];
        assert_eq!(again.error_code, ErrorCode::TOPIC_ALREADY_EXISTS);
        assert!(again.error_message.is_some());
    }
}

async fn delete(served: &Served, version: i16, asked: DeleteTopicsRequest) -> Vec<DeletableTopicResult> {
    served.ask(version, asked).await.responses
}

fn by_name(names: &[&str]) -> DeleteTopicsRequest {
    let state = |name: &&str| DeleteTopicState { name: Some((*name).into()), ..Default::default() };
    DeleteTopicsRequest {
        topics: names.iter().map(state).collect(),
        topic_names: names.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    }
}

fn by_state(name: Option<&str>, topic_id: Uuid) -> DeleteTopicsRequest {
    let topics = vec![DeleteTopicState { name: name.map(Into::into), topic_id }];
    DeleteTopicsRequest { topics, ..Default::default() }
}

#[tokio::test]
async fn a_topic_that_is_created_again_is_another_one() {
    let served = Served::start().await;
    let first = served.create("t", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    let deleted = &delete(&served, 6, by_name(&["t"])).await[0];
    assert_eq!((deleted.error_code, deleted.name.as_deref(), deleted.topic_id), (ErrorCode::NONE, Some("t"), first));
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(served.produce(9, "t", &batch(&[(1, "a")])).await.error_code, unknown);

    let second = served.create("t", 1, &[]).await;
    assert_ne!(first, second);
    let mut asked = fetch("t", &[(0, 0)]);
    asked.topics[0].topic_id = first;
    assert_eq!(served.ask(13, asked).await.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(served.fetch(12, "t", 0).await.high_watermark, 0);
    assert_eq!(delete(&served, 6, by_state(None, second)).await[0].name.as_deref(), Some("t"));
}

#[tokio::test]
async fn what_can_not_be_deleted_has_its_code() {
    let served = Served::start().await;
    let id = served.create("t", 1, &[]).await;
    for version in 1..=6 {
        let twice = delete(&served, version, by_name(&["t", "t", "u"])).await;
        let codes: Vec<_> = twice.iter().map(|topic| (topic.name.as_deref(), topic.error_code)).collect();
        let expected = [(Some("t"), ErrorCode::INVALID_REQUEST), (Some("u"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)];
        assert_eq!(codes, expected, "v{version}");
    }
    for (asked, code) in [
        (by_state(None, Uuid::from_u128(1)), ErrorCode::UNKNOWN_TOPIC_ID),
        (by_state(Some("t"), id), ErrorCode::INVALID_REQUEST),
        (by_state(None, Uuid::nil()), ErrorCode::INVALID_REQUEST),
    ] {
        assert_eq!(delete(&served, 6, asked).await[0].error_code, code);
    }
    assert_eq!(delete(&served, 1, by_name(&["t"])).await[0].error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn settings_too_large_are_their_topics_trouble_and_no_request_outgrows_the_log() {
    let served = Served::start().await;
    let topic = |name: String, bytes: usize| CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        configs: (0..bytes.div_ceil(4000))
            .map(|number| CreatableTopicConfig { name: format!("segment.{number}"), value: Some("x".repeat(4000)) })
            .collect(),
        ..Default::default()
    };
    let huge = CreatableTopicConfig { name: "segment.bytes".into(), value: Some("1".repeat(32_000)) };
    let huge = |name: &str| CreatableTopic { configs: vec![huge.clone()], ..topic(name.into(), 0) };
    let answer = served
        .ask(
            7,
            CreateTopicsRequest {
                topics: vec![huge("a"), huge("b"), topic("c".into(), 1 << 20), topic("d".into(), 16_000)],
                ..Default::default()
            },
        )
        .await;
    let codes: Vec<_> = answer.topics.iter().map(|topic| topic.error_code).collect();
    let refused = ErrorCode::INVALID_CONFIG;
    assert_eq!(codes, [refused, refused, refused, ErrorCode::NONE]);

    // More than a frame of the log can hold, in topics that are each as they may be.
    let many = CreateTopicsRequest {
        topics: (0..2700).map(|number| topic(format!("many-{number}"), 16_000)).collect(),
        ..Default::default()
    };
    let answer = served.ask(7, many).await;
    assert!(answer.topics.iter().all(|topic| topic.error_code == ErrorCode::NONE));
    let produced = served.produce(9, "many-2699", &batch(&[(1, "a")])).await;
    assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, 0));
}
