//! One walk through the decoder for any bytes: what the fuzz targets run, and the tests over random input.

use std::fmt::Debug;

use bytes::Bytes;

use crate::*;

macro_rules! exercised {
    ($($request:ident)*) => {
        /// The APIs that there are messages of.
        pub const APIS: &[ApiKey] = &[$($request::API),*];

        /// Decodes a body as a request and as a response of an API.
        ///
        /// # Panics
        /// If a decoded body does not come back from its own encoding, or is longer than [`Message::encoded_len`] says.
        pub fn body(api: ApiKey, version: i16, body: Bytes) -> Result<(), DecodeError> {
            match api {
                $($request::API => both::<$request>(body, version),)*
                _ => Ok(()),
            }
        }
    };
}

exercised! {
    ApiVersionsRequest
    MetadataRequest
    ProduceRequest
    FetchRequest
    ListOffsetsRequest
    CreateTopicsRequest
    DeleteTopicsRequest
    OffsetForLeaderEpochRequest
    FindCoordinatorRequest
    HeartbeatRequest
    InitProducerIdRequest
    JoinGroupRequest
    LeaveGroupRequest
    OffsetCommitRequest
    OffsetFetchRequest
    SyncGroupRequest
    AlterConfigsRequest
    CreatePartitionsRequest
    DeleteGroupsRequest
    DeleteRecordsRequest
    DescribeClusterRequest
    DescribeConfigsRequest
    DescribeGroupsRequest
    IncrementalAlterConfigsRequest
    ListGroupsRequest
    OffsetDeleteRequest
}

/// Decodes a request's frame (without its length); see [`body`].
pub fn request(frame: &[u8]) -> Result<(), DecodeError> {
    let mut bytes = Bytes::copy_from_slice(frame);
    let header = RequestHeader::decode(&mut bytes)?;
    header.api().map_or(Ok(()), |api| body(api, header.api_version, bytes))
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
