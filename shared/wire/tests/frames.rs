//! Frames captured between unmodified clients and Apache Kafka brokers: all must be read, and written again
//! as the same bytes. `CHRONIK_WIRE_FRAMES` names another folder of them to check as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chronik_wire::*;

fn request_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            request_files(&path, found);
        } else if path.to_string_lossy().ends_with(".req.bin") {
            found.push(path);
        }
    }
}

/// The frame without its length, or `None` where the capture did not get the whole of it.
fn frame(file: &Path) -> Option<Bytes> {
    let bytes = std::fs::read(file).ok()?;
    let length = i32::from_be_bytes(bytes.get(..4)?.try_into().unwrap());
    (bytes.len() - 4 == length as usize).then(|| Bytes::from(bytes).slice(4..))
}

fn check<R: RequestMessage>(
    header: &RequestHeader,
    body: Bytes,
    sent: &Bytes,
    answer: Option<Bytes>,
    file: &Path,
) -> bool {
    let version = header.api_version;
    if !R::VERSIONS.contains(&version) {
        return false;
    }
    let name = file.display();
    let request = R::decode(body, version).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = frame::request(header.correlation_id, header.client_id.as_deref(), version, &request).concat();
    let (same, stray) = sent.split_at(written.len() - 4);
    assert_eq!(same, &written[4..], "{name}");
    let from_librdkafka = R::API == ApiKey::Metadata && version >= 9 && stray == [0, 0, 0];
    assert!(stray.is_empty() || from_librdkafka, "{name}: {stray:?} at the end");

    if let Some(answer) = answer {
        let name = name.to_string().replace(".req.", ".resp.");
        let (correlation_id, response) = frame::decode_response::<R::Response>(answer.clone(), version)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(correlation_id, header.correlation_id, "{name}");
        let written = frame::response(R::API, version, correlation_id, response.encode(version)).concat();
        assert_eq!(answer, written[4..], "{name}");
    }
    true
}

/// The APIs and versions that were found in `folder`.
fn check_folder(folder: &Path) -> BTreeSet<(ApiKey, i16)> {
    let mut files = Vec::new();
    request_files(folder, &mut files);
    let mut seen = BTreeSet::new();
    let mut checked = 0;
    for file in files {
        let Some(sent) = frame(&file) else { continue };
        let answer = frame(Path::new(&file.to_string_lossy().replace(".req.bin", ".resp.bin")));
        let mut body = sent.clone();
        let header = RequestHeader::decode(&mut body).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let Some(api) = header.api() else { continue };
        let ours = match api {
            ApiKey::ApiVersions => check::<ApiVersionsRequest>(&header, body, &sent, answer, &file),
            ApiKey::Metadata => check::<MetadataRequest>(&header, body, &sent, answer, &file),
            ApiKey::Produce => check::<ProduceRequest>(&header, body, &sent, answer, &file),
            ApiKey::Fetch => check::<FetchRequest>(&header, body, &sent, answer, &file),
            ApiKey::ListOffsets => check::<ListOffsetsRequest>(&header, body, &sent, answer, &file),
            ApiKey::CreateTopics => check::<CreateTopicsRequest>(&header, body, &sent, answer, &file),
            ApiKey::DeleteTopics => check::<DeleteTopicsRequest>(&header, body, &sent, answer, &file),
            ApiKey::OffsetForLeaderEpoch => check::<OffsetForLeaderEpochRequest>(&header, body, &sent, answer, &file),
            ApiKey::FindCoordinator => check::<FindCoordinatorRequest>(&header, body, &sent, answer, &file),
            ApiKey::Heartbeat => check::<HeartbeatRequest>(&header, body, &sent, answer, &file),
            ApiKey::InitProducerId => check::<InitProducerIdRequest>(&header, body, &sent, answer, &file),
            ApiKey::JoinGroup => check::<JoinGroupRequest>(&header, body, &sent, answer, &file),
            ApiKey::LeaveGroup => check::<LeaveGroupRequest>(&header, body, &sent, answer, &file),
            ApiKey::OffsetCommit => check::<OffsetCommitRequest>(&header, body, &sent, answer, &file),
            ApiKey::OffsetFetch => check::<OffsetFetchRequest>(&header, body, &sent, answer, &file),
            ApiKey::SyncGroup => check::<SyncGroupRequest>(&header, body, &sent, answer, &file),
            ApiKey::AlterConfigs => check::<AlterConfigsRequest>(&header, body, &sent, answer, &file),
            ApiKey::CreatePartitions => check::<CreatePartitionsRequest>(&header, body, &sent, answer, &file),
            ApiKey::DeleteGroups => check::<DeleteGroupsRequest>(&header, body, &sent, answer, &file),
            ApiKey::DeleteRecords => check::<DeleteRecordsRequest>(&header, body, &sent, answer, &file),
            ApiKey::DescribeCluster => check::<DescribeClusterRequest>(&header, body, &sent, answer, &file),
            ApiKey::DescribeConfigs => check::<DescribeConfigsRequest>(&header, body, &sent, answer, &file),
            ApiKey::DescribeGroups => check::<DescribeGroupsRequest>(&header, body, &sent, answer, &file),
            ApiKey::IncrementalAlterConfigs => {
                check::<IncrementalAlterConfigsRequest>(&header, body, &sent, answer, &file)
            }
            ApiKey::ListGroups => check::<ListGroupsRequest>(&header, body, &sent, answer, &file),
            ApiKey::OffsetDelete => check::<OffsetDeleteRequest>(&header, body, &sent, answer, &file),
            _ => false,
        };
        if ours {
            seen.insert((api, header.api_version));
            checked += 1;
        }
    }
    println!("{}: {checked} requests, {} APIs and versions", folder.display(), seen.len());
    seen
}

#[test]
fn genuine_frames_come_back_as_the_same_bytes() {
    let seen = check_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames"));
    let versions = |api| seen.iter().filter(|(key, _)| *key == api).map(|(_, version)| *version).collect::<Vec<_>>();
    assert_eq!(versions(ApiKey::ApiVersions), [0, 1, 2, 3, 4]);
    assert_eq!(versions(ApiKey::Metadata), [0, 1, 2, 4, 5, 6, 8, 11, 12]);
    assert_eq!(versions(ApiKey::Produce), [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(versions(ApiKey::Fetch), [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 16, 17]);
    assert_eq!(versions(ApiKey::ListOffsets), [0, 1, 2, 3, 5, 6, 7, 9]);
    assert_eq!(versions(ApiKey::CreateTopics), [1, 2, 3, 4, 5, 7]);
    assert_eq!(versions(ApiKey::DeleteTopics), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(versions(ApiKey::OffsetForLeaderEpoch), [4]);
    assert_eq!(versions(ApiKey::DescribeCluster), [1]);
    assert_eq!(versions(ApiKey::DescribeConfigs), [1, 4]);
    assert_eq!(versions(ApiKey::FindCoordinator), [0, 1, 2, 3, 6]);
    assert_eq!(versions(ApiKey::Heartbeat), [0, 1, 2, 3, 4]);
    assert_eq!(versions(ApiKey::InitProducerId), [0, 1, 4, 5]);
    assert_eq!(versions(ApiKey::JoinGroup), [0, 1, 2, 3, 5, 7, 8, 9]);
    assert_eq!(versions(ApiKey::LeaveGroup), [0, 1, 2, 3, 4, 5]);
    assert_eq!(versions(ApiKey::OffsetCommit), [1, 2, 3, 4, 5, 7, 8, 9]);
    assert_eq!(versions(ApiKey::OffsetFetch), [1, 2, 3, 4, 5, 7, 8, 9]);
    assert_eq!(versions(ApiKey::SyncGroup), [0, 1, 2, 3, 5]);

    if let Some(folder) = std::env::var_os("CHRONIK_WIRE_FRAMES") {
        check_folder(Path::new(&folder));
    }
}

/// How each of nine fetches was answered: its epoch, the error of all, and how many partitions are told.
fn fetches(client: &str) -> Vec<(i32, ErrorCode, usize)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames").join(client);
    let fetch = |number: i32| {
        let mut sent = frame(&folder.join(format!("Fetch_v17_{number}.req.bin"))).unwrap();
        let header = RequestHeader::decode(&mut sent).unwrap();
        let asked = FetchRequest::decode(sent, header.api_version).unwrap();
        let answer = frame(&folder.join(format!("Fetch_v17_{number}.resp.bin"))).unwrap();
        let (_, answer) = frame::decode_response::<FetchResponse>(answer, header.api_version).unwrap();
        let told = answer.responses.iter().map(|topic| topic.partitions.len()).sum();
        (asked.session_epoch, answer.error_code, told)
    };
    (1..10).map(fetch).collect()
}

/// Of three partitions, those are told that have records; then the session is gone, and another one begins.
#[test]
fn genuine_fetch_sessions_tell_what_has_changed() {
    let told =
        [(0, 3), (1, 1), (2, 1), (3, 1), (4, 2), (5, 1), (6, 0)].map(|(epoch, told)| (epoch, ErrorCode::NONE, told));
    let gone = [(7, ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0), (0, ErrorCode::NONE, 3)];
    for client in ["sessions-java-4.3.1", "sessions-franz-1.22.2"] {
        assert_eq!(fetches(client), [&told[..], &gone].concat(), "{client}");
    }
}
