//! Every message in every version against the `kafka-protocol` crate: ours written must read there as the same
//! values, and what it writes of them must be the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::field::FieldContext;
use crate::*;

const SAMPLES: u64 = 200;

/// Fields of versions beyond ours.
const ONLY_THEIRS: &[(&str, &str)] = &[
    ("TopicProduceData", "topic_id: 00000000-0000-0000-0000-000000000000, "),
    ("TopicProduceResponse", "topic_id: 00000000-0000-0000-0000-000000000000, "),
    ("FetchRequest", ", high_watermark: 9223372036854775807"),
    ("MetadataResponse", ", error_code: 0 }"),
    ("ListOffsetsRequest", ", timeout_ms: 0"),
];

fn compare<Ours, Theirs>()
where
    Ours: Message + Debug + PartialEq,
    Theirs: Encodable + Decodable + Debug,
{
    for version in Ours::VERSIONS {
        let at = FieldContext { version, flexible: Ours::API.is_flexible(version), nullable: false };
        for seed in 0..SAMPLES {
            let sample = Ours::sample(&mut StdRng::seed_from_u64(seed), at);
            let chunks = sample.encode(version);
            let bytes = Bytes::from(chunks.concat());
            assert_eq!(bytes.len(), sample.encoded_len(version), "{} v{version}", Ours::API);

            let mut rest = bytes.clone();
            let read = Theirs::decode(&mut rest, version).unwrap();
            assert!(rest.is_empty(), "{} v{version}: {} bytes left", Ours::API, rest.len());
            // Record bytes that come in pieces are one piece once decoded.
            let ours = Ours::decode(bytes.clone(), version).unwrap();
            assert_eq!(values(&format!("{ours:?}")), values(&format!("{read:?}")), "{} v{version}", Ours::API);

            let mut written = BytesMut::new();
            read.encode(&mut written, version).unwrap();
            assert_eq!(written, bytes, "{} v{version}", Ours::API);
            assert_eq!(ours.encode(version).concat(), bytes, "{} v{version}", Ours::API);
        }
    }
}

/// A value's debug text without what differs between the two crates.
fn values(debug: &str) -> String {
    let mut text = debug.replace(", unknown_tagged_fields: {}", "");
    // Ours has a name of its own, for Fetch has an `EpochEndOffset` too.
    text = text.replace("OffsetForLeaderPartitionResult", "EpochEndOffset");
    text = text.replace("RecordChunks([])", "Some(b\"\")");
    text = text.replace("RecordChunks([b", "Some(b").replace("\"])", "\")");
    for (within, field) in ONLY_THEIRS {
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
            $(compare::<$message, theirs::$message>();)*
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
}
