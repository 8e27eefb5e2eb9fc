//! Every message in every version against two releases of the `kafka-protocol` crate, the older of which knows the
//! versions that Kafka 4 dropped: ours written must read there as the same values, and what it writes of them must be
//! the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::field::FieldContext;
use crate::*;

const SAMPLES: u64 = 200;

/// Fields that only one side knows, or one release: of versions beyond ours, and of versions that Kafka dropped.
const DIFFERENT: &[(&str, &str)] = &[
    ("TopicProduceData", "topic_id: 00000000-0000-0000-0000-000000000000, "),
    ("TopicProduceResponse", "topic_id: 00000000-0000-0000-0000-000000000000, "),
    ("OffsetCommitRequestTopic", "topic_id: 00000000-0000-0000-0000-000000000000, "),
    ("OffsetCommitResponseTopic", "topic_id: 00000000-0000-0000-0000-000000000000, "),
    ("OffsetFetchRequestTopic", "topic_id: 00000000-0000-0000-0000-000000000000, "),
    ("OffsetFetchResponseTopic", "topic_id: 00000000-0000-0000-0000-000000000000, "),
    ("FetchRequest", ", high_watermark: 9223372036854775807"),
    ("MetadataResponse", ", error_code: 0 }"),
    ("ListOffsetsRequest", ", timeout_ms: 0"),
    ("ListOffsetsRequest", ", max_num_offsets: 1"),
    ("ListOffsetsResponse", "old_style_offsets: [], "),
    ("DescribeGroupsResponse", "error_message: None, "),
    ("DescribeClusterRequest", ", include_fenced_brokers: false"),
    ("DescribeClusterResponse", ", is_fenced: false"),
    ("DescribeConfigsResponse", "is_default: false, "),
    ("OffsetCommitRequest", ", commit_timestamp: -1"),
    ("InitProducerIdRequest", ", enable_2_pc: false, keep_prepared_txn: false"),
    ("InitProducerIdResponse", ", ongoing_txn_producer_id: -1, ongoing_txn_producer_epoch: -1"),
];

/// Structs that have a name of their own with us, or one where Kafka has two.
const RENAMED: &[(&str, &str)] = &[
    ("OffsetForLeaderPartitionResult", "EpochEndOffset"),
    ("IncrementalAlterConfigsResource", "AlterConfigsResource"),
    ("IncrementalAlterableConfig", "AlterableConfig"),
    ("KeyCoordinator", "Coordinator"),
    ("OffsetFetchRequestTopics", "OffsetFetchRequestTopic"),
    ("OffsetFetchResponseTopics", "OffsetFetchResponseTopic"),
    ("OffsetFetchResponsePartitions", "OffsetFetchResponsePartition"),
];

/// What a release of the crate knows of a message.
struct Oracle {
    versions: RangeInclusive<i16>,
    /// A body's values as debug text, and the same body written anew.
    reread: fn(&mut Bytes, i16) -> (String, BytesMut),
}

macro_rules! oracle {
    ($release:ident, $message:ident) => {{
        use $release::messages::$message;
        use $release::protocol::{Decodable, Encodable, Message};
        Oracle {
            versions: $message::VERSIONS.min..=$message::VERSIONS.max,
            reread: |body, version| {
                let read = $message::decode(body, version).unwrap();
                let mut written = BytesMut::new();
                read.encode(&mut written, version).unwrap();
                (format!("{read:?}"), written)
            },
        }
    }};
}

fn compare<Ours: Message + Debug>(oracles: &[Oracle]) {
    let mut compared = BTreeSet::new();
    for version in Ours::VERSIONS {
        let at = FieldContext { version, flexible: Ours::API.is_flexible(version), nullable: false };
        for oracle in oracles.iter().filter(|oracle| oracle.versions.contains(&version)) {
            for seed in 0..SAMPLES {
                let sample = Ours::sample(&mut StdRng::seed_from_u64(seed), at);
                let bytes = Bytes::from(sample.encode(version).concat());
                assert_eq!(bytes.len(), sample.encoded_len(version), "{} v{version}", Ours::API);

                let mut rest = bytes.clone();
                let (theirs, written) = (oracle.reread)(&mut rest, version);
                assert!(rest.is_empty(), "{} v{version}: {} bytes left", Ours::API, rest.len());
                // Record bytes that come in pieces are one piece once decoded.
                let ours = Ours::decode(bytes.clone(), version).unwrap();
                assert_eq!(values(&format!("{ours:?}")), values(&theirs), "{} v{version}", Ours::API);
                assert_eq!(written, bytes, "{} v{version}", Ours::API);
                assert_eq!(ours.encode(version).concat(), bytes, "{} v{version}", Ours::API);
            }
            compared.insert(version);
        }
    }
    assert!(Ours::VERSIONS.eq(compared), "{}: a version that no oracle knows", Ours::API);
}

/// A value's debug text without what differs between the crates.
fn values(debug: &str) -> String {
    let mut text = debug.replace(", unknown_tagged_fields: {}", "");
    for (one, other) in RENAMED {
        text = text.replace(one, other);
    }
    text = text.replace("RecordChunks([])", "Some(b\"\")");
    text = text.replace("RecordChunks([b", "Some(b").replace("\"])", "\")");
    for (within, field) in DIFFERENT {
        if !text.contains(within) {
            continue;
        }
        let end = if field.ends_with('}') { " }" } else { "" };
        text = text.replace(field, end);
    }
    text
}

macro_rules! compare {
    ($($test:ident: $($message:ident)*;)*) => {$(
        #[test]
        fn $test() {
            $(compare::<$message>(&[oracle!(kafka_protocol, $message), oracle!(kafka_protocol_015, $message)]);)*
        }
    )*};
}

compare! {
    api_versions: ApiVersionsRequest ApiVersionsResponse;
    metadata: MetadataRequest MetadataResponse;
    produce: ProduceRequest ProduceResponse;
    fetch: FetchRequest FetchResponse;
    list_offsets: ListOffsetsRequest ListOffsetsResponse;
    create_topics: CreateTopicsRequest CreateTopicsResponse;
    delete_topics: DeleteTopicsRequest DeleteTopicsResponse;
    offset_for_leader_epoch: OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
    find_coordinator: FindCoordinatorRequest FindCoordinatorResponse;
    heartbeat: HeartbeatRequest HeartbeatResponse;
    init_producer_id: InitProducerIdRequest InitProducerIdResponse;
    join_group: JoinGroupRequest JoinGroupResponse;
    leave_group: LeaveGroupRequest LeaveGroupResponse;
    offset_commit: OffsetCommitRequest OffsetCommitResponse;
    offset_fetch: OffsetFetchRequest OffsetFetchResponse;
    sync_group: SyncGroupRequest SyncGroupResponse;
    alter_configs: AlterConfigsRequest AlterConfigsResponse;
    create_partitions: CreatePartitionsRequest CreatePartitionsResponse;
    delete_groups: DeleteGroupsRequest DeleteGroupsResponse;
    delete_records: DeleteRecordsRequest DeleteRecordsResponse;
    describe_cluster: DescribeClusterRequest DescribeClusterResponse;
    describe_configs: DescribeConfigsRequest DescribeConfigsResponse;
    describe_groups: DescribeGroupsRequest DescribeGroupsResponse;
    incremental_alter_configs: IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
    list_groups: ListGroupsRequest ListGroupsResponse;
    offset_delete: OffsetDeleteRequest OffsetDeleteResponse;
}
