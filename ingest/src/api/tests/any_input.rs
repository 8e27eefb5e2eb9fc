use chronik_format::batch::{MessageMagic, messages_of_batches};
use chronik_wire::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig, CreatePartitionsRequest, CreatePartitionsTopic,
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, DeleteTopicState, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeConfigsResource, ForgottenTopic,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource, IncrementalAlterableConfig, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic, MetadataRequest, MetadataRequestTopic, OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use futures::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::*;

type Call = fn(&Served, i16, Bytes) -> BoxFuture<'static, RequestOutcome>;

/// A body that means something to its API in its version.
#[derive(Clone)]
struct Seed {
    call: Call,
    version: i16,
    body: Vec<u8>,
}

fn call<R: chronik_wire::RequestMessage>(
    served: &Served,
    version: i16,
    body: Bytes,
) -> BoxFuture<'static, RequestOutcome> {
    let frame_bytes = body.len();
    served.table.call(arrived::<R>(version, body, frame_bytes))
}

fn all_versions<R: chronik_wire::RequestMessage>(request: R) -> impl Iterator<Item = Seed> {
    R::VERSIONS.map(move |version| Seed { call: call::<R>, version, body: request.encode(version).concat() })
}

fn seeds() -> Vec<Seed> {
    let name = || "t".to_owned();
    let sent = batch(&[(1, "a"), (2, "b")]);
    let produces = all_versions(produce(1, "t", &[(0, &sent), (1, &sent)]));
    let messages = messages_of_batches([sent], MessageMagic::V1, 0, usize::MAX, true).unwrap();
    let old_produces = all_versions(produce(1, "t", &[(0, &messages)]));
    let forgotten = ForgottenTopic { topic: name(), partitions: vec![1], ..Default::default() };
    let session = FetchRequest {
        session_epoch: 0,
        forgotten_topics_data: vec![forgotten],
        ..fetch("t", &[(0, 0), (1, 0), (0, 1)])
    };
    let waiting = FetchRequest { max_wait_ms: LONG_MS, min_bytes: 1 << 20, ..fetch("t", &[(0, 0), (1, 0)]) };
    let partitions = [-5, -1, 1].map(|timestamp| ListOffsetsPartition { timestamp, ..Default::default() }).to_vec();
    let lists =
        ListOffsetsRequest { topics: vec![ListOffsetsTopic { name: name(), partitions }], ..Default::default() };
    let topic = MetadataRequestTopic { name: Some(name()), ..Default::default() };
    let metadata = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let new = CreatableTopic { name: "u".into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let creates = CreateTopicsRequest { topics: vec![new], ..Default::default() };
    let deletes = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("u".into()), ..Default::default() }],
        topic_names: vec!["u".into()],
        ..Default::default()
    };
    let partitions =
        [(0, 1), (1, -1)].map(|(partition_index, offset)| DeleteRecordsPartition { partition_index, offset });
    let deleted = DeleteRecordsTopic { name: name(), partitions: partitions.to_vec() };
    let deletions = DeleteRecordsRequest { topics: vec![deleted], timeout_ms: 1000 };
    let epochs = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic { topic: name(), partitions: vec![OffsetForLeaderPartition::default()] }],
        ..Default::default()
    };
    let configs = [(2, "t"), (4, "1")].map(|(resource_type, name)| DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: None,
    });
    let configs = DescribeConfigsRequest { resources: configs.to_vec(), ..Default::default() };
    let change = IncrementalAlterConfigsResource {
        resource_type: 2,
        resource_name: name(),
        configs: vec![IncrementalAlterableConfig {
            name: "segment.ms".into(),
            value: Some("1".into()),
            ..Default::default()
        }],
    };
    let changes = IncrementalAlterConfigsRequest { resources: vec![change], validate_only: false };
    let replaced = AlterConfigsResource {
        resource_type: 2,
        resource_name: name(),
        configs: vec![AlterableConfig { name: "segment.ms".into(), value: Some("1".into()) }],
    };
    let replacements = AlterConfigsRequest { resources: vec![replaced], validate_only: false };
    let more = CreatePartitionsTopic { name: name(), count: 3, assignments: None };
    let partitions = CreatePartitionsRequest { topics: vec![more], ..Default::default() };
    produces
        .chain(old_produces)
        .chain(all_versions(waiting))
        .chain(all_versions(session))
        .chain(all_versions(lists))
        .chain(all_versions(metadata))
        .chain(all_versions(creates))
        .chain(all_versions(deletes))
        .chain(all_versions(deletions))
        .chain(all_versions(epochs))
        .chain(all_versions(DescribeClusterRequest::default()))
        .chain(all_versions(configs))
        .chain(all_versions(partitions))
        .chain(all_versions(changes))
        .chain(all_versions(replacements))
        .collect()
}

#[test]
fn no_input_makes_a_handler_panic() {
    let runtime = Runtime::new().unwrap();
    let served = runtime.block_on(async {
        let served = Served::start().await;
        served.create("t", 2, &[]).await;
        served.produce(9, "t", &batch(&[(1, "a"), (2, "b")])).await;
        served
    });
    let seeds = seeds();
    let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let cut = prop_oneof![4 => Just(usize::MAX), 1 => 0usize..100];
    let mut runner = TestRunner::new(Config::with_cases(3_000));
    let run = runner.run(&(any::<prop::sample::Index>(), flips, cut), |(seed, flips, cut)| {
        let Seed { call, version, mut body } = seed.get(&seeds).clone();
        for (at, byte) in flips {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body.truncate(cut);
        let _runs_in = runtime.enter();
        // What waits is dropped, as when its connection ends.
        let _ = call(&served, version, body.into()).now_or_never();
        Ok(())
    });
    run.unwrap();
    // The lane survived it, too; what was created or deleted on the way is another matter.
    let produced = runtime.block_on(async {
        served.create("alive", 1, &[]).await;
        served.produce(9, "alive", &batch(&[(1, "a")])).await
    });
    assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, 0));
}
