//! One walk through the decoder for any bytes: what the fuzz target runs, and the tests over random input.

use std::fmt::Debug;

use bytes::Bytes;

use crate::*;

/// Decodes a request's frame (without its length) and the same body as a response of that API.
///
/// # Panics
/// If a decoded body does not come back from its own encoding, or is longer than [`Message::encoded_len`] says.
pub fn request(frame: &[u8]) -> Result<(), DecodeError> {
    let mut body = Bytes::copy_from_slice(frame);
    let header = RequestHeader::decode(&mut body)?;
    let version = header.api_version;
    match header.api() {
        Some(ApiKey::ApiVersions) => both::<ApiVersionsRequest>(body, version),
        Some(ApiKey::Metadata) => both::<MetadataRequest>(body, version),
        Some(ApiKey::Produce) => both::<ProduceRequest>(body, version),
        Some(ApiKey::Fetch) => both::<FetchRequest>(body, version),
        Some(ApiKey::ListOffsets) => both::<ListOffsetsRequest>(body, version),
        Some(ApiKey::CreateTopics) => both::<CreateTopicsRequest>(body, version),
        Some(ApiKey::DeleteTopics) => both::<DeleteTopicsRequest>(body, version),
        Some(ApiKey::OffsetForLeaderEpoch) => both::<OffsetForLeaderEpochRequest>(body, version),
        Some(ApiKey::FindCoordinator) => both::<FindCoordinatorRequest>(body, version),
        Some(ApiKey::Heartbeat) => both::<HeartbeatRequest>(body, version),
        Some(ApiKey::InitProducerId) => both::<InitProducerIdRequest>(body, version),
        Some(ApiKey::JoinGroup) => both::<JoinGroupRequest>(body, version),
        Some(ApiKey::LeaveGroup) => both::<LeaveGroupRequest>(body, version),
        Some(ApiKey::OffsetCommit) => both::<OffsetCommitRequest>(body, version),
        Some(ApiKey::OffsetFetch) => both::<OffsetFetchRequest>(body, version),
        Some(ApiKey::SyncGroup) => both::<SyncGroupRequest>(body, version),
        Some(ApiKey::AlterConfigs) => both::<AlterConfigsRequest>(body, version),
        Some(ApiKey::CreatePartitions) => both::<CreatePartitionsRequest>(body, version),
        Some(ApiKey::DeleteGroups) => both::<DeleteGroupsRequest>(body, version),
        Some(ApiKey::DeleteRecords) => both::<DeleteRecordsRequest>(body, version),
        Some(ApiKey::DescribeCluster) => both::<DescribeClusterRequest>(body, version),
        Some(ApiKey::DescribeConfigs) => both::<DescribeConfigsRequest>(body, version),
        Some(ApiKey::DescribeGroups) => both::<DescribeGroupsRequest>(body, version),
        Some(ApiKey::IncrementalAlterConfigs) => both::<IncrementalAlterConfigsRequest>(body, version),
        Some(ApiKey::ListGroups) => both::<ListGroupsRequest>(body, version),
        Some(ApiKey::OffsetDelete) => both::<OffsetDeleteRequest>(body, version),
        _ => Ok(()),
    }
}

fn both<R>(body: Bytes, version: i16) -> Result<(), DecodeError>
where
    R: RequestMessage + Debug + PartialEq,
    R::Response: Debug + PartialEq,
{
    let request = round_trip::<R>(body.clone(), version);
    let response = round_trip::<R::Response>(body, version);
    request.and(response)
}

fn round_trip<M: Message + Debug + PartialEq>(body: Bytes, version: i16) -> Result<(), DecodeError> {
    let message = M::decode(body, version)?;
    let encoded = message.encode(version).concat();
    assert_eq!(encoded.len(), message.encoded_len(version));
    assert_eq!(M::decode(encoded.into(), version).as_ref(), Ok(&message));
    Ok(())
}
