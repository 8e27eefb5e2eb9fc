use chronik_wire::DeleteTopicsRequest;
use chronik_wire::{CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic, DeleteTopicState};

use super::*;

fn asked(topics: &[(&str, i32)]) -> CreatePartitionsRequest {
    let topic =
        |(name, count): &(&str, i32)| CreatePartitionsTopic { name: (*name).into(), count: *count, assignments: None };
    CreatePartitionsRequest { topics: topics.iter().map(topic).collect(), ..Default::default() }
}

fn assigned(name: &str, count: i32, brokers: &[&[i32]]) -> CreatePartitionsRequest {
    let assignment = |brokers: &&[i32]| CreatePartitionsAssignment { broker_ids: brokers.to_vec() };
    let mut asked = asked(&[(name, count)]);
    asked.topics[0].assignments = Some(brokers.iter().map(assignment).collect());
    asked
}

fn partitions(served: &Served, topic: &str) -> usize {
    served.lane.topics().named(topic).unwrap().partitions.len()
}

#[tokio::test]
async fn partitions_are_added_in_every_version_and_have_records() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    for version in CreatePartitionsRequest::VERSIONS {
        let count = 2 + version;
        let check = CreatePartitionsRequest { validate_only: true, ..asked(&[("t", count.into())]) };
        assert_eq!(served.ask(version, check).await.results[0].error_code, ErrorCode::NONE);
        assert_eq!(partitions(&served, "t"), count as usize - 1, "it was to be checked only");
        let added = served.ask(version, asked(&[("t", count.into())])).await.results.remove(0);
        assert_eq!((added.error_code, added.error_message), (ErrorCode::NONE, None));
        assert_eq!(partitions(&served, "t"), count as usize);
    }
    let sent = batch(&[(2, "b")]);
    let mut produced = served.ask(9, produce(1, "t", &[(4, &sent)])).await;
    assert_eq!(produced.responses.remove(0).partition_responses.remove(0).error_code, ErrorCode::NONE);
    let read = served.ask(11, fetch("t", &[(0, 0), (4, 0)])).await.responses.remove(0);
    let ends: Vec<_> = read.partitions.iter().map(|partition| partition.high_watermark).collect();
    assert_eq!(ends, [1, 1], "what was there stays");
}

#[tokio::test]
async fn who_waits_for_records_is_not_left_behind() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let waiting = FetchRequest { max_wait_ms: LONG_MS, min_bytes: 1, ..fetch("t", &[(0, 0)]) };
    let mut answer = served.call(11, &waiting);
    assert!(futures::poll!(&mut answer).is_pending());
    assert_eq!(served.ask(3, asked(&[("t", 2)])).await.results[0].error_code, ErrorCode::NONE);
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    let read = response::<FetchRequest>(11, answer.await);
    assert_eq!(read.responses[0].partitions[0].high_watermark, 1);
}

#[tokio::test]
async fn who_waits_for_records_learns_of_the_end_of_a_topic_that_has_grown() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let waiting = FetchRequest { max_wait_ms: LONG_MS, min_bytes: 1, ..fetch("t", &[(0, 0)]) };
    let mut answer = served.call(11, &waiting);
    assert!(futures::poll!(&mut answer).is_pending());
    served.ask(3, asked(&[("t", 2)])).await;
    let deleted = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".into()), ..Default::default() }],
        ..Default::default()
    };
    served.ask(6, deleted).await;
    let read = response::<FetchRequest>(11, answer.await);
    assert_eq!(read.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test]
async fn what_can_not_be_added_has_the_code_that_kafka_gives() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    for (request, code) in [
        (asked(&[("absent", 3)]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (asked(&[("t", 2)]), ErrorCode::INVALID_PARTITIONS),
        (asked(&[("t", 1)]), ErrorCode::INVALID_PARTITIONS),
        (asked(&[("t", -1)]), ErrorCode::INVALID_PARTITIONS),
        (asked(&[("t", 10_001)]), ErrorCode::INVALID_PARTITIONS),
        (asked(&[("t", 3), ("t", 4)]), ErrorCode::INVALID_REQUEST),
        (assigned("t", 4, &[&[1]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned("t", 3, &[&[2]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned("t", 3, &[&[1, 2]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
    ] {
        let shown = format!("{request:?}");
        let results = served.ask(3, request).await.results;
        assert_eq!((results.len(), results[0].error_code), (1, code), "{shown}");
        assert!(results[0].error_message.is_some());
    }
    served.create("u", 1, &[]).await;
    let together =
        served.ask(3, CreatePartitionsRequest { validate_only: true, ..asked(&[("t", 9_000), ("u", 9_000)]) });
    let codes: Vec<_> = together.await.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::POLICY_VIOLATION]);
    assert_eq!(partitions(&served, "t"), 2);
    for (count, brokers) in [(3, &[&[1][..]][..]), (5, &[&[1], &[1]]), (6, &[])] {
        assert_eq!(served.ask(3, assigned("t", count, brokers)).await.results[0].error_code, ErrorCode::NONE);
        assert_eq!(partitions(&served, "t"), count as usize);
    }
}
