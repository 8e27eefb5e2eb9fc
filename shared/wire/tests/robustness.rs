//! Bytes that no client would send: the decoder answers with an error or a message, and never panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use bytes::Bytes;
use chronik_wire::{ApiKey, DecodeError, FetchRequest, Message, MetadataRequest, ProduceRequest, exercise};
use proptest::prelude::*;

fn genuine_requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for client in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames")).unwrap() {
        let client = client.unwrap().path();
        if !client.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(client).unwrap() {
            let file = file.unwrap().path();
            if file.to_string_lossy().ends_with(".req.bin") {
                requests.push(std::fs::read(file).unwrap()[4..].to_vec());
            }
        }
    }
    requests.sort();
    requests
}

#[test]
fn every_truncation_of_a_genuine_request_is_refused_or_read() {
    for request in genuine_requests() {
        for end in 0..request.len() {
            let _ = exercise::request(&request[..end]);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_genuine_request_is_refused_or_read() {
    for mut request in genuine_requests() {
        for bit in 0..request.len().min(512) * 8 {
            request[bit / 8] ^= 1 << (bit % 8);
            let _ = exercise::request(&request);
            request[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = exercise::request(&bytes);
    }

    #[test]
    fn any_body_behind_a_header(
        api in prop::sample::select(exercise::APIS),
        version in 0i16..18,
        // Small bytes make lengths that fit, so that the walk gets deep.
        body in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200),
    ) {
        let mut frame = Vec::new();
        frame.extend(api.key().to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0xff, 0xff]);
        if api.is_flexible(version) {
            frame.push(0);
        }
        frame.extend(body);
        let _ = exercise::request(&frame);
    }
}

#[test]
fn an_array_longer_than_its_message_reserves_nothing() {
    let claims = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0]);
    assert_eq!(MetadataRequest::decode(claims, 1), Err(DecodeError::TooManyElements { count: 0x7fff_ffff, left: 2 }));
}

#[test]
fn a_frame_of_tiny_elements_stops_at_the_bound() {
    let mut body = (2_000_000i32).to_be_bytes().to_vec();
    body.resize(4 + 2 * 2_000_000, 0);
    assert_eq!(
        MetadataRequest::decode(body.into(), 1),
        Err(DecodeError::TooManyElements { count: 2_000_000, left: 1 << 20 })
    );
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    let null = Bytes::from_static(&[0xff; 4]);
    assert_eq!(MetadataRequest::decode(null.clone(), 0), Err(DecodeError::UnexpectedNull));
    assert_eq!(MetadataRequest::decode(null, 1).unwrap().topics, None);
}

#[test]
fn versions_outside_the_table_are_refused() {
    for version in [-1, 12] {
        let refused = DecodeError::UnsupportedVersion { api: ApiKey::Produce, version };
        assert_eq!(ProduceRequest::decode(Bytes::new(), version), Err(refused));
    }
}

#[test]
fn bytes_after_the_end_and_unknown_tags_are_ignored() {
    let request = FetchRequest { max_wait_ms: 500, ..FetchRequest::default() };
    let mut body = request.encode(12).concat();
    assert_eq!(body.pop(), Some(0), "no tagged fields");
    // Two fields of tags beyond the table, then bytes that belong to nothing.
    body.extend([2, 30, 1, 0xaa, 31, 0, 0, 0, 0]);
    assert_eq!(FetchRequest::decode(body.into(), 12), Ok(request));
}

#[test]
fn record_bytes_are_slices_of_the_frame() {
    let records = Bytes::from(vec![42; 5000]);
    let mut body = vec![0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 3];
    body.extend(5000i32.to_be_bytes());
    body.extend(&records);
    let body = Bytes::from(body);
    let request = ProduceRequest::decode(body.clone(), 3).unwrap();
    let read = request.topic_data[0].partition_data[0].records.clone().unwrap();
    assert_eq!(read, records);
    assert_eq!(read.as_ptr(), body[27..].as_ptr());
    assert!(request.encode(3).iter().any(|chunk| chunk.as_ptr() == read.as_ptr()));
}
